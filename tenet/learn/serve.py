"""A model of every microscope, fitted to the microscope of a stack: nothing is trained."""

import contextlib
import math
import sys
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tenet.errors import TenetError
from tenet.io.intensities import IntensityRange
from tenet.io.optics import KnownOptics, Optics
from tenet.io.stack import Stack
from tenet.learn.calibrate import measured
from tenet.learn.images import Crops, RawCrops, RawData
from tenet.learn.likeness import likeness
from tenet.learn.loop import generator_for
from tenet.learn.microscopes import widths
from tenet.learn.psf_search import WINDOWS, light_of, scan_stretch, search_psf
from tenet.model.store import TUNING, Calibration
from tenet.model.tenet import TENET, Enhanced
from tenet.model.trained import TrainedModel
from tenet.physics.optics import psf_fwhm_um
from tenet.settings.own_stack import sample_experiment, served_grid, with_psf_grid
from tenet.settings.schema import Experiment, ModelParams
from tenet.types import Progress, Stage, Triple, VoxelSize

#: Where the NA is not told, the PSF is taken to be so many pixels wide (FWHM), within these.
PIXELS, LEAST_NA, MOST_NA = 3.5, 0.3, 1.0
#: The work that is named to a `Stage`.
LOOKING, CALIBRATING = "looking for the PSF", "calibrating on phantoms"
SCALING, CHECKING = "scaling the intensities", "comparing the result with the stack"
#: Windows of a stack whose explanation is measured.
LOOKED_AT = 2
#: Least probability of the structure that PSFs are tried on. The threshold of the best IoU takes in
#: voxels that are only likely, which makes structure too thick, and every PSF too short.
SURE = 0.9
#: Length of a PSF (FWHM) in fine voxels up to which the network is shown as many steps of
#: deconvolution as in training; with longer ones more, up to so many.
SHORT, MOST_STEPS = 24.0, 60
#: Width of a PSF (FWHM) in pixels that suffices to tell its form, and least rows and columns.
SEARCHED, LEAST_SEARCHED = 2.1, 48


class Served(NamedTuple):
    """A model that is ready for one stack, and what was found on the way.

    Attributes
    ----------
    model : TrainedModel
    range_ : IntensityRange
        The raw intensities that become 0 and 1.
    found : dict
        What is written beside a result:

        - `voxel_size_um` of the stack, and `fine_voxel_size_um` of the result
        - `sources`: where each of the optics comes from; `note`: the same in words
        - `file_says`: the optics in the file
        - `structure_um`: the thickness of structures that was told
        - `told` and `found`: the microscope before and after
        - `psf`: the record of the search; null where nothing was looked for
        - `psf_um`: widths of the PSF (FWHM), axial and lateral; null beyond its grid
        - `calibration`: threshold and levels
        - `likeness`: how well the result explains the stack, as in `tenet.learn.likeness`
    """

    model: TrainedModel
    range_: IntensityRange
    found: dict[str, Any]


def serve(
    model: TrainedModel,
    stack: Stack,
    voxel_size_um: VoxelSize,
    optics: Optics,
    *,
    structure_um: float | None = None,
    find_psf: bool = True,
    normalisation: str | None = None,
    seed: int = 0,
    stage: Stage | None = None,
) -> Served:
    """Fit a model of every microscope to a stack: its planes and pixels, its PSF, its brightness.

    Parameters
    ----------
    model : TrainedModel
        One that `serves_all`.
    stack : Stack
    voxel_size_um : tuple of float
        Of the stack along z, y and x.
    optics : Optics
        What is told, which goes before what the file says. An NA that neither gives is guessed from
        the pixels; the rest is as in the settings of the model.
    structure_um : float, optional
        Mean thickness of the structures in µm, where it is known.
    find_psf : bool
        Whether the PSF is looked for in the stack; else it is as told.
    normalisation : str, optional
        As in `TrainedModel.intensity_range`.
    seed : int
        Of the choice of windows and of the noise on phantoms.
    stage : callable, optional
        Called as ``stage(work, done, total)`` before each part of the work, every few seconds. An
        exception that it raises ends the work.

    Raises
    ------
    TenetError
        If planes are farther apart than the model has learned, the optics or the thickness are
        impossible, or the model has no phantoms.
    """
    known = known_optics(model, stack, voxel_size_um, optics, structure_um)
    model = model.for_photons(known.optics.photons or model.params.photons)
    experiment = sample_experiment(model.experiment, voxel_size_um, **_told(known, stack))
    told = with_steps(experiment.params.model_copy(update={"structure_um": structure_um}))
    experiment = experiment.model_copy(update={"params": told})
    network = model.network.for_microscope(told)
    psf = None
    if find_psf:
        with contextlib.redirect_stdout(sys.stderr):
            looking = partial(stage, LOOKING) if stage else None
            psf = _find_psf(network, model, experiment, stack, normalisation, seed, looking)
        experiment = experiment.model_copy(update={"params": network.params})
    phantoms = model.folder / TUNING
    if not phantoms.is_dir():
        raise TenetError(f"{model.folder} has no folder {TUNING}: pre-train with --tuning again")
    calibrating = partial(stage, CALIBRATING) if stage else None
    record = measured(network, phantoms, experiment.microscopes, seed=seed, progress=calibrating)
    calibration = Calibration(**{k: v for k, v in record.items() if k in Calibration.model_fields})
    served = replace(
        model, network=network, experiment=experiment, calibration=calibration,
        calibration_note=None, as_told=told,
    )  # fmt: skip
    if stage:
        stage(SCALING, 0, 1)
    range_ = served.intensity_range(stack, normalisation)
    if stage:
        stage(CHECKING, 0, 1)
    crops = RawCrops(network, experiment, RawData([stack], [stack], {stack: range_}))
    like = likeness(served, crops.windows(LOOKED_AT, generator_for(seed, 4)))
    found = {
        "voxel_size_um": list(voxel_size_um),
        "fine_voxel_size_um": list(network.params.fine_voxel_size_um),
        "sources": known.sources,
        "note": known.note,
        "file_says": {k: v for k, v in asdict(known.read).items() if v is not None},
        "structure_um": structure_um,
        "told": _microscope(told),
        "found": _microscope(network.params),
        "psf": psf,
        "psf_um": _psf_um(network),
        "calibration": {key: value for key, value in record.items() if key != "inside"},
        "likeness": {**like._asdict(), "warnings": like.warnings()},
    }
    return Served(served, range_, found)


def known_optics(
    model: TrainedModel,
    stack: Stack,
    voxel_size_um: VoxelSize,
    told: Optics,
    structure_um: float | None = None,
) -> KnownOptics:
    """Find the optics of a stack, and check that the model can serve it; this takes milliseconds.

    Parameters
    ----------
    model : TrainedModel
        One that `serves_all`.
    stack, voxel_size_um, told, structure_um
        As in `serve`.

    Raises
    ------
    TenetError
        As in `serve`, except that phantoms are not looked for.
    """
    params = model.params
    of_model = Optics(None, params.wavelength, min(params.ni, params.ni0), params.photons)
    known = told.over(stack.optics, of_model)
    na, index = known.optics.na, known.optics.immersion_index
    if known.optics.photons != params.photons and known.sources["wavelength_um"] == "model":
        raise TenetError(
            f"{stack.label}: the wavelength is not known, and {params.wavelength:g} µm is that of "
            f"{params.photons} photons: give --wavelength, in µm"
        )
    if na is None:
        known = known.guessed(guessed_na(params, voxel_size_um, known.optics))
    elif index is not None and na >= index:
        raise TenetError(
            f"{stack.label}: no objective of NA {na:g} (from the {known.sources['na']}) works with "
            f"immersion index {index:g} (from the {known.sources['immersion_index']}): give --na "
            "or --immersion"
        )
    told_grid = _told(known, stack)
    experiment = model.for_photons(known.optics.photons or params.photons).experiment
    served_grid(experiment, voxel_size_um, structure_um=structure_um, **told_grid)
    return known


def _told(known: KnownOptics, stack: Stack) -> dict[str, Any]:
    """What `sample_experiment` and `served_grid` are told of a stack."""
    optics, of_model = known.optics, known.sources["immersion_index"] == "model"
    return {
        "where": stack.label,
        "zyx_shape": stack.zyx_shape,
        "na": optics.na,
        "wavelength_um": optics.wavelength_um,
        # A model may have two indices, one of them that its objective is made for.
        "immersion_index": None if of_model else optics.immersion_index,
        "photons": optics.photons,
    }


def guessed_na(params: ModelParams, voxel_size_um: VoxelSize, optics: Optics) -> float:
    """NA at which a PSF (FWHM 0.51 λ / NA, with two photons 0.36 λ / NA) is `PIXELS` pixels wide.

    Examples
    --------
    >>> import tenet
    >>> params = tenet.load_experiment("sample").params
    >>> round(guessed_na(params, (1.0, 0.12, 0.12), Optics(wavelength_um=0.92)), 2)
    0.79
    """
    wavelength_um = optics.wavelength_um or params.wavelength
    share = 0.36 if (optics.photons or params.photons) == 2 else 0.51
    na = share * wavelength_um / (PIXELS * voxel_size_um[2])
    index = optics.immersion_index or min(params.ni, params.ni0)
    return min(max(na, LEAST_NA), MOST_NA, 0.75 * index)


def with_steps(params: ModelParams) -> ModelParams:
    """More steps of deconvolution for a PSF longer than `SHORT`, by the square of its length.

    Three times as many steps gain or lose about 0.01 of IoU at lengths of 18 to 21 voxels, and gain
    0.03 to 0.08 at 39 (docs/measurements/notebook.md, "Norms that follow the stack"). The square is
    a choice between these lengths. There are at most `MOST_STEPS`, or as many as in the training.

    Examples
    --------
    >>> import tenet
    >>> params = tenet.load_experiment("box").params
    >>> [with_steps(params.model_copy(update={"NA": na})).estimate_steps for na in (0.8, 0.6, 0.3)]
    [(20, 8), (47, 19), (60, 24)]
    """
    length = widths(params).axial / params.fine_voxel_size_um[0]
    trained = params.deconvolution_steps
    wanted = trained * max(length / SHORT, 1.0) ** 2
    times = max(min(wanted, MOST_STEPS) / trained, 1.0) if trained else 1.0
    steps = {"deconvolution_steps": round(times * trained)}
    if params.early_steps is not None:
        steps["early_steps"] = round(times * params.early_steps)
    return params.model_copy(update=steps)


def _microscope(params: ModelParams) -> dict[str, Any]:
    names = ("NA", "wavelength", "ni", "photons", "fill", "spherical", "scale")
    return params.model_dump(include=set(names))


def _psf_um(network: TENET) -> dict[str, float | None]:
    with torch.no_grad():
        found = psf_fwhm_um(network.psf().cpu().numpy(), network.params.fine_voxel_size_um)
    return {axis: round(um, 4) if math.isfinite(um) else None for axis, um in found.items()}


def _find_psf(
    network: TENET,
    model: TrainedModel,
    experiment: Experiment,
    stack: Stack,
    normalisation: str | None,
    seed: int,
    progress: Progress | None,
) -> dict[str, Any]:
    """Leave the network with the PSF that explains a stack best, and say what was found.

    Two-photon PSFs are looked for with pixels as large as the PSF allows, which takes a fraction of
    the time.
    """
    method = normalisation or experiment.train_dataset.normalisation
    data = RawData.prepare([stack], [stack], method)
    images = RawCrops(network, experiment, data)
    if not network.params.searches_form:
        return scan_stretch(_Stretched(network, images), seed, progress)
    windows = images.windows(WINDOWS, generator_for(seed, 4))
    times = min(binning(network.params), max(1, min(stack.zyx_shape[1:]) // LEAST_SEARCHED))
    params = coarser(network.params, times)
    divisor = params.coarse_divisor_zyx
    binned = [_binned(window, times, divisor) for window in windows]
    threshold = max(model.threshold, SURE)
    found = search_psf(model.network.for_microscope(params), binned, threshold, seed, progress)
    if found.record["gain"]:
        form = {name: getattr(found.params, name) for name in ("NA", "fill", "spherical")}
        own = with_psf_grid(network.params.model_copy(update=form))
        network.take_microscope(own, generator_for(seed, 5))
    return found.record | {"binning": times}


def binning(params: ModelParams) -> int:
    """How many pixels become one where the PSF is looked for: it stays `SEARCHED` pixels wide.

    Examples
    --------
    >>> import tenet
    >>> settings = {"NA": 0.8, "fill": 0.7, "res_lateral": 0.12, "res_axial": 1.0}
    >>> binning(tenet.load_experiment("sample").params.model_copy(update=settings))
    2
    """
    return max(1, int(widths(params).lateral / params.res_lateral / SEARCHED))


def coarser(params: ModelParams, times: int) -> ModelParams:
    """The same microscope with pixels so many times as large, and as many fine planes fewer."""
    pixel_um = times * params.res_lateral
    scale = max(round(params.res_axial / pixel_um), 1)
    return with_psf_grid(params.model_copy(update={"res_lateral": pixel_um, "scale": scale}))


def _binned(window: Tensor, times: int, divisor_zyx: Triple) -> Tensor:
    """Means of so many pixels along y and x, of as many as the network takes."""
    _, *divisors = divisor_zyx
    rows, columns = (
        n // (times * d) * times * d for n, d in zip(window.shape[-2:], divisors, strict=True)
    )
    return torch.nn.functional.avg_pool3d(window[..., :rows, :columns], (1, times, times))


@dataclass
class _Stretched:
    """What `scan_stretch` knows of a model and of a stack."""

    model: TENET
    images: Crops

    def reconstruct(self, enhanced: Enhanced, image: Tensor) -> Tensor:
        """What the microscope would see of the structure that is sure, with the light that fits."""
        planes, rows, columns = enhanced["shape_probability"].shape[2:]
        return light_of(self.model, enhanced, image, self.model.blur((planes, rows, columns)), SURE)
