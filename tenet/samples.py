"""Settings for a user's own stack, from its voxel size and optics."""

from tenet.config import DATASETS, Experiment, ModelParams, parse_experiment, parse_params
from tenet.errors import TenetError
from tenet.sections import merge
from tenet.simulation import model_fwhm_um


def sample_experiment(
    base: Experiment,
    voxel_size_um: tuple[float, float, float],
    *,
    where: str,
    na: float | None = None,
    wavelength_um: float | None = None,
    immersion_index: float | None = None,
    photons: int | None = None,
) -> Experiment:
    """An experiment whose grid and optics are those of a stack.

    The scale is the axial step over the lateral one, rounded; crops are fitted to it; the PSF grid
    spans five theoretical full widths at half maximum along z and four across.

    Parameters
    ----------
    base : Experiment
        Everything that the stack does not say.
    voxel_size_um : tuple of float
        Voxel size along z, y, x.
    where : str
        Name of the stack, for errors.
    na, wavelength_um, immersion_index, photons
        Optics; those of `base` where not given.

    Returns
    -------
    Experiment

    Raises
    ------
    TenetError
        If pixels are not square, or the optics impossible.
    """
    z_um, y_um, x_um = voxel_size_um
    if abs(y_um - x_um) > 0.02 * x_um:
        raise TenetError(
            f"{where}: pixels of {y_um:g} x {x_um:g} µm are not square: resample first"
        )
    optics = {
        "NA": na,
        "wavelength": wavelength_um,
        "ni": immersion_index,
        "ni0": immersion_index,
        "photons": photons,
    }
    params = {
        **{key: value for key, value in optics.items() if value is not None},
        "res_axial": z_um,
        "res_lateral": x_um,
        "scale": max(round(z_um / x_um), 1),
    }
    data = merge(base.model_dump(mode="json"), {"params": params})
    fitted = parse_params(data["params"], where=f"{where}: params")
    size_z, size_yx = _psf_size(fitted)
    data = merge(data, {"params": {"size_z": size_z, "size_y": size_yx, "size_x": size_yx}})
    for section in DATASETS:
        crop = [
            max(round(n / d), 1) * d
            for n, d in zip(data[section]["cropsize"], fitted.divisor_zyx, strict=True)
        ]
        data[section] |= {"cropsize": crop, "scale": None}
    return parse_experiment(data, where=where)


def _psf_size(params: ModelParams) -> tuple[int, int]:
    """Planes and columns of a PSF grid that holds the model PSF; both odd."""
    width = model_fwhm_um(params.model_psf(), params)
    step_z, _, step_x = params.fine_voxel_size_um
    return _odd(5 * width["axial"] / step_z, 301), _odd(4 * width["lateral"] / step_x, 101)


def _odd(size: float, most: int) -> int:
    return min(2 * int(size / 2) + 1, most)
