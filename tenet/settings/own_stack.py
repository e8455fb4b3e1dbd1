"""Settings for a user's own stacks, from their voxel size, shape and optics."""

import math
from collections.abc import Sequence
from typing import Any

from tenet.errors import TenetError
from tenet.io.stack import check_voxel_size
from tenet.physics.extent import Extent, line_extent
from tenet.physics.optics import model_fwhm_um
from tenet.settings.schema import DATASETS, Experiment, ModelParams, parse_experiment, parse_params
from tenet.settings.sections import merge
from tenet.types import Triple, VoxelSize

#: Data sets that are cut from raw stacks.
RAW_DATASETS = ("train_dataset", "val_dataset")
#: Fewer planes show too little of the blur along z.
LEAST_PLANES = 8
#: Least and greatest mean thickness of structures that can be told, in pixels.
THICKNESSES = 1, 40
#: Most fine planes for each recorded plane, because more cannot be filled in.
MOST_SCALE = 32


def sample_experiment(
    base: Experiment,
    voxel_size_um: tuple[float, float, float],
    *,
    where: str,
    zyx_shape: Triple | None = None,
    na: float | None = None,
    wavelength_um: float | None = None,
    immersion_index: float | None = None,
    photons: int | None = None,
) -> Experiment:
    """An experiment whose grid, optics and PSF are those of a stack.

    The experiment is that of `sample_grid`, which also names the parameters. With two photons the
    PSF grid holds the share `psf_light` of the light of a line, if that is set; else it spans five
    theoretical full widths at half maximum along z and four across.

    Examples
    --------
    >>> import tenet
    >>> base = tenet.load_experiment("sample")
    >>> mine = sample_experiment(base, (1.0, 0.25, 0.25), where="stack.tif", na=0.9)
    >>> mine.params.scale, mine.params.NA, mine.params.fine_voxel_size_um
    (4, 0.9, (0.25, 0.25, 0.25))
    """
    experiment = sample_grid(
        base,
        voxel_size_um,
        where=where,
        zyx_shape=zyx_shape,
        na=na,
        wavelength_um=wavelength_um,
        immersion_index=immersion_index,
        photons=photons,
    )
    size_z, size_y, size_x = psf_shape(experiment.params)
    psf = {"size_z": size_z, "size_y": size_y, "size_x": size_x}
    data = merge(experiment.model_dump(mode="json"), {"params": psf})
    return parse_experiment(data, where=where)


def sample_grid(
    base: Experiment,
    voxel_size_um: tuple[float, float, float],
    *,
    where: str,
    zyx_shape: Triple | None = None,
    na: float | None = None,
    wavelength_um: float | None = None,
    immersion_index: float | None = None,
    photons: int | None = None,
) -> Experiment:
    """An experiment whose grid and optics are those of a stack. The PSF has the size of `base`.

    The scale is the axial step over the lateral step, rounded (halves up). Crops are fitted to the
    scale, and crops of raw stacks also to the shape of the stack. The `fill` of a two-photon `base`
    is that of its laser: with one photon the pupil is filled evenly. The check of a header takes
    milliseconds.

    Parameters
    ----------
    base : Experiment
        Settings that do not follow from the stack.
    voxel_size_um : tuple of float
        Voxel size along z, y, x.
    where : str
        Name of the stack, for errors.
    zyx_shape : tuple of int, optional
        Planes, rows and columns of the stack.
    na, wavelength_um, immersion_index, photons
        Optics; by default those of `base`.

    Returns
    -------
    Experiment

    Raises
    ------
    TenetError
        If no microscope has such voxels, pixels are not square, the optics are impossible, or the
        stack is too small to learn from.
    """
    check_voxel_size(voxel_size_um, where)
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
        **({"fill": None} if (base.params.photons, photons) == (2, 1) else {}),
        "res_axial": z_um,
        "res_lateral": x_um,
        "scale": _scale(z_um, x_um, where),
    }
    data = merge(base.model_dump(mode="json"), {"params": params})
    fitted = parse_params(data["params"], where=where)
    for section in DATASETS:
        crop = [
            max(_half_up(n / d), 1) * d
            for n, d in zip(data[section]["cropsize"], fitted.divisor_zyx, strict=True)
        ]
        data[section]["cropsize"] = crop
    experiment = parse_experiment(data, where=where)
    return experiment if zyx_shape is None else fitted_to(experiment, [zyx_shape], where=where)


def served_grid(
    base: Experiment,
    voxel_size_um: tuple[float, float, float],
    *,
    where: str,
    structure_um: float | None = None,
    **told: Any,
) -> Experiment:
    """`sample_grid` for a model of every microscope, if the model can serve the stack.

    Parameters
    ----------
    base : Experiment
        Settings of the model, with `microscopes.free`.
    structure_um : float, optional
        Mean thickness of the structures in µm, where it is known.
    voxel_size_um, where, told
        As in `sample_grid`.

    Raises
    ------
    TenetError
        As in `sample_grid`; if planes are farther apart than the model has learned, or structures
        are thinner or thicker than any phantom.
    """
    assert base.microscopes.free is not None
    experiment = sample_grid(base, voxel_size_um, where=where, **told)
    scale, most = experiment.params.scale, max(base.microscopes.free.scales)
    if scale > most:
        bins = math.ceil(scale / most)
        raise TenetError(
            f"{where}: planes are {scale} pixels apart, and the model of every microscope has "
            f"learned with at most {most}: bin the pixels {bins} × {bins}, or train a model for "
            "this microscope"
        )
    if structure_um is not None:
        _check_thickness(structure_um, experiment.params, where)
    return experiment


def _check_thickness(structure_um: float, params: ModelParams, where: str) -> None:
    pixels = structure_um / params.res_lateral
    least, most = THICKNESSES
    if not least <= pixels <= most:
        raise TenetError(
            f"{where}: a thickness of {structure_um:g} µm is {pixels:.2g} pixels, and phantoms "
            f"have {least} to {most}: leave --thickness out, or check its unit (µm)"
        )


def fitted_to(
    experiment: Experiment, zyx_shapes: Sequence[Triple], *, where: str = "the smallest stack"
) -> Experiment:
    """Shrink the crops of raw stacks to the smallest stack. Crops that fit stay unchanged.

    Parameters
    ----------
    experiment : Experiment
    zyx_shapes : sequence of tuple of int
        Planes, rows and columns of each raw stack.
    where : str
        Name of the stack, for errors.

    Raises
    ------
    TenetError
        If a stack has fewer planes, rows or columns than the smallest crop.
    """
    params = experiment.params
    planes, rows, columns = (min(sizes) for sizes in zip(*zyx_shapes, strict=True))
    room = planes * params.scale, rows, columns
    fitted = {}
    for name in RAW_DATASETS:
        dataset = getattr(experiment, name)
        crop = [
            min(n, size // d * d)
            for n, size, d in zip(dataset.cropsize, room, params.divisor_zyx, strict=True)
        ]
        least = [min(n, m) for n, m in zip(dataset.cropsize, _least_crop(params), strict=True)]
        if any(n < m for n, m in zip(crop, least, strict=True)):
            raise TenetError(
                f"{where}: {planes} planes of {rows} × {columns} pixels are too few; "
                f"at least {least[0] // params.scale} planes of {least[1]} × {least[2]} pixels are "
                f"needed at scale {params.scale}"
            )
        coarse = crop[0] // params.scale, *crop[1:]
        boxes = [min(n, size) for n, size in zip(dataset.mask_size, coarse, strict=True)]
        fitted[name] = {"cropsize": crop, "mask_size": boxes}
    return parse_experiment(merge(experiment.model_dump(mode="json"), fitted), where=where)


def _least_crop(params: ModelParams) -> Triple:
    """Return the smallest useful crop, in fine voxels."""
    z, y, x = params.divisor_zyx
    return math.ceil(LEAST_PLANES * params.scale / z) * z, y, x


def uneven_voxels(params: ModelParams) -> str | None:
    """Say in one line that fine voxels are not cubes, if the step is no whole number of pixels."""
    ratio = params.res_axial / params.res_lateral
    if abs(ratio / params.scale - 1) <= 0.02:
        return None
    z, y, x = params.fine_voxel_size_um
    return (
        f"planes are {ratio:.3g} pixels apart, which scale {params.scale} divides into fine voxels "
        f"of {z:.3g} × {y:g} × {x:g} µm (z, y, x): they are not cubes"
    )


def _scale(z_um: float, x_um: float, where: str) -> int:
    # The ratio is rounded first, so that 0.775 / 0.31 is 2.5.
    scale = max(_half_up(round(z_um / x_um, 6)), 1)
    if scale > MOST_SCALE:
        raise TenetError(
            f"{where}: planes {z_um:g} µm apart are {scale} pixels of {x_um:g} µm apart, and at "
            f"most {MOST_SCALE} can be filled in; bin the pixels, or check the voxel size"
        )
    return scale


def _half_up(number: float) -> int:
    return math.floor(number + 0.5)


def psf_shape(params: ModelParams) -> Triple:
    """Size of a PSF grid that holds the model PSF; all odd."""
    if params.psf_light is not None and params.photons == 2:
        return line_extent(
            params.model_psf(), params.fine_voxel_size_um, params.psf_light
        ).zyx_shape
    width = model_fwhm_um(params.model_psf(), params.fine_voxel_size_um)
    step_z, _, step_x = params.fine_voxel_size_um
    columns = _odd(4 * width["lateral"] / step_x, 101)
    return _odd(5 * width["axial"] / step_z, 301), columns, columns


def with_psf_grid(params: ModelParams) -> ModelParams:
    """The same microscope with a PSF grid of `psf_shape`."""
    sizes = dict(zip(("size_z", "size_y", "size_x"), psf_shape(params), strict=True))
    return params.model_copy(update=sizes)


def _extent(params: ModelParams, share: float) -> Extent:
    return line_extent(params.model_psf(), params.fine_voxel_size_um, share)


def light_left_out(params: ModelParams) -> str | None:
    """Say in one line that the largest PSF grid holds less light than `psf_light` asks for."""
    if params.psf_light is None or params.photons != 2:
        return None
    extent = _extent(params, params.psf_light)
    if extent.held >= params.psf_light:
        return None
    size = " × ".join(map(str, extent.zyx_shape))
    return (
        f"the grid of the PSF, {size} voxels (z, y, x), holds {extent.held:.1%} of a line's light, "
        f"not {params.psf_light:.1%}: larger ones cost too much"
    )


def _odd(size: float, most: int) -> int:
    return min(2 * int(size / 2) + 1, most)


def voxel_size_mismatch(
    params: ModelParams, voxel_size_um: VoxelSize, tolerance: float = 0.05
) -> str | None:
    """Say in one line how a stack's voxel size differs from the model's, or None if it fits.

    The network has learned the blur at one voxel size. Results at another voxel size mean little.
    """
    expected = params.coarse_voxel_size_um
    if all(
        abs(have / want - 1) <= tolerance
        for have, want in zip(voxel_size_um, expected, strict=True)
    ):
        return None
    have, want = (" × ".join(f"{n:g}" for n in size) for size in (voxel_size_um, expected))
    return (
        f"the stack's voxels are {have} µm (z, y, x), but the model was trained for {want} µm: "
        "give the right --voxel-size, or train a model for such stacks (res_axial, res_lateral)"
    )
