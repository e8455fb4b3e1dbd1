"""Calibration of a model: its threshold, its intensity scale, and the widths of its PSF.

The calibration uses held-out phantoms, blurred by the model's own PSF, and never the data that the
model will be judged on.
"""

import contextlib
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tenet.data.phantoms.store import open_phantoms
from tenet.enhance.enhance import enhance_array, psf_before_and_after
from tenet.errors import TenetError
from tenet.io.atomic import save_json, save_table, writing
from tenet.metrics.thickness import mean_thickness
from tenet.metrics.thresholds import best_threshold, threshold_grid
from tenet.model.certainty import Counts
from tenet.model.intensity import BRIGHTEST_PERCENT, deconvolved_peak, reconstruction_gain
from tenet.model.store import (
    MODEL,
    MOST_LEVEL,
    PSF_TABLE,
    THRESHOLD,
    TUNING,
    digest,
    digest_of,
    phantoms_digest,
    read_calibration,
    read_told,
)
from tenet.model.tenet import TENET
from tenet.physics.microscope import Microscope
from tenet.physics.noise import saturating_gain
from tenet.physics.optics import psf_fwhm_um
from tenet.progress import shown
from tenet.settings.schema import Microscopes, ModelParams
from tenet.types import Progress

#: Phantoms whose structures are half as thick, or twice, as those of a stack count e^-2 as much.
#: All others count a little, so that no stack is left without any.
ALIKE_OCTAVES, LEAST_ALIKE = 0.5, 0.02

Pair = tuple[NDArray[np.float32], NDArray[np.uint8]]


def phantom_images(
    microscope: Microscope, phantoms: Path, microscopes: Microscopes, *, noise: bool, seed: int
) -> list[Pair]:
    """Images (Z, Y, X) of every phantom, and the true shapes.

    Where pre-training scales the light until some voxels are saturated, half as many as there at
    most are saturated here, at a ceiling in the middle of those there. Without that, phantoms of
    dim objects would be dimmer than all that the network has learned on, and its probabilities
    would be low.

    Parameters
    ----------
    microscope : Microscope
        Its PSF and noise.
    phantoms : Path
        Folder of stored phantoms.
    microscopes : Microscopes
        Those of pre-training.
    noise : bool
        Whether there is noise.
    seed : int
        Of the noise.
    """
    scale = microscope.scale
    saturated = torch.full((1, 1, 1, 1, 1), microscopes.most_saturated / 2)
    microscope = replace(microscope, noise_smear=microscopes.most_smear / 2)
    if microscopes.most_saturated:
        microscope = replace(microscope, ceiling=math.sqrt(microscopes.least_ceiling))
    pairs = []
    for index, phantom in enumerate(open_phantoms(phantoms)):
        planes, rows, columns = phantom.zyx_shape
        z = slice(0, planes // scale * scale)
        shape, brightness = phantom.read(z, slice(0, rows), slice(0, columns))
        with torch.no_grad():
            luminance = torch.from_numpy(brightness)[None, None]
            generator = torch.Generator().manual_seed(1_000_003 * seed + index) if noise else None
            light = microscope.expose(luminance.to(microscope.psf.device))
            if microscopes.most_saturated:
                light = microscope.ceiling * saturating_gain(light, saturated) * light
            image = microscope.record(light, generator)
        pairs.append((image[0, 0].cpu().numpy(), shape))
    return pairs


def calibrate(
    model: TENET, phantoms: Path, folder: Path, microscopes: Microscopes, *, seed: int = 0
) -> dict[str, Any]:
    """Choose the threshold of the shape and the level of the brightest signal; write both.

    Parameters
    ----------
    model : TENET
        In evaluation mode.
    phantoms : Path
        Held-out phantoms.
    folder : Path
        Receives ``threshold.json`` and ``psf.csv``.
    microscopes : Microscopes
        Those of pre-training.
    seed : int
        Of the noise.

    Returns
    -------
    dict
        `threshold` (of the highest mean IoU, if the settings say `choose_threshold`; else that of
        the settings), its `iou`, `n`; `signal_level` and `deconvolved_level`:
        the intensity that the brightest 0.01 % of the voxels of a phantom's image reach, before and
        after deconvolution; `gain`, see `reconstruction_gain`. Raw stacks are scaled to the last
        two; a level that has no meaning, as where nothing is seen, is left out. `inside`: what the
        probabilities meant, see `certainty`. `weights`: SHA-256 of the weights in the folder.
    """
    record = measured(model, phantoms, microscopes, seed=seed)
    weights = folder / MODEL
    if weights.exists():
        own = digest(weights)
        record |= {"weights": own, "identity": _identity(own, phantoms, seed)}
    save_json(folder / THRESHOLD, record)
    return record


def measured(
    model: TENET,
    phantoms: Path,
    microscopes: Microscopes,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What `calibrate` finds, without the digests of the weights.

    `progress` is called as ``progress(done, total)`` before every part.
    """
    with torch.no_grad():
        microscope = model.microscope()
    levels = [
        float(np.percentile(image, BRIGHTEST_PERCENT))
        for image, _ in phantom_images(microscope, phantoms, microscopes, noise=False, seed=seed)
    ]
    pairs = phantom_images(microscope, phantoms, microscopes, noise=True, seed=seed)
    parts = iter(range(3 * len(pairs)))

    def tell() -> None:
        if progress is not None:
            progress(next(parts), 3 * len(pairs))

    peaks, gains = [], []
    for image, _ in pairs:
        tell()
        peaks.append(deconvolved_peak(model, image))
        tell()
        gains.append(reconstruction_gain(model, image))
    alike = _alike(model.params, [truth for _, truth in pairs])
    counts = Counts(alike)
    chosen = model.params.choose_threshold
    thresholds = threshold_grid() if chosen else [model.params.threshold]
    with shown("calibrating on phantoms") as meter:

        def scores() -> Iterator[Pair]:
            for done, (image, truth) in enumerate(pairs, start=1):
                tell()
                yield enhance_array(model, image)[0], truth
                meter(done, len(pairs))

        choice = best_threshold(counts.seen(scores()), thresholds, weights=alike)
    return {
        "threshold": round(float(choice.threshold), 4),
        "iou": round(float(choice.iou), 4),
        "n": len(pairs),
        **_known({"signal_level": levels, "deconvolved_level": peaks, "gain": gains}),
        "inside": counts.shares(),
        "how": ("highest mean IoU" if chosen else "fixed by the settings, with its mean IoU")
        + " on held-out phantoms blurred by the model's own PSF and noise"
        + ("" if alike is None else ", which count by how thick their structures are"),
    }


def _alike(params: ModelParams, truths: Sequence[NDArray[np.uint8]]) -> list[float] | None:
    """How much each phantom counts, if it is known how thick the structures of the stack are."""
    if params.structure_um is None:
        return None
    told = math.log2(params.structure_um)
    octaves = [math.log2(_thickness(truth, params)) - told for truth in truths]
    return [LEAST_ALIKE + math.exp(-((off / ALIKE_OCTAVES) ** 2) / 2) for off in octaves]


def _thickness(truth: NDArray[np.uint8], params: ModelParams) -> float:
    """Mean thickness of the structures of a phantom in µm; that of the stack if it has none."""
    pixels = mean_thickness(truth)
    assert params.structure_um is not None
    return params.structure_um if math.isnan(pixels) else pixels * params.res_lateral


def _known(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Medians of levels, without the levels that have no meaning."""
    medians = {kind: round(float(np.median(values)), 6) for kind, values in found.items()}
    return {k: v for k, v in medians.items() if math.isfinite(v) and 0 < v <= MOST_LEVEL}


def _identity(weights: str, phantoms: Path, seed: int) -> str:
    """What a calibration follows from."""
    return digest_of(f"{weights} {phantoms_digest(phantoms)} {seed}")


def complete(
    model: TENET,
    phantoms: Path | None,
    folder: Path,
    microscopes: Microscopes,
    *,
    seed: int = 0,
) -> None:
    """Add to a trained model in a folder what it lacks: calibration and table of the PSF.

    Parameters
    ----------
    model : TENET
        What lies in the folder, in evaluation mode.
    phantoms : Path or None
        Held-out phantoms; None leaves the model without a calibration, or with the one it has.
    folder : Path
    microscopes : Microscopes
    seed : int
        As for `calibrate`.
    """
    if phantoms is not None:
        found = None
        with contextlib.suppress(TenetError):  # one that is damaged, or of other weights, is redone
            found = read_calibration(folder)
        wanted = _identity(digest(folder / MODEL), phantoms, seed)
        if found is None or found.identity != wanted:
            made = calibrate(model, phantoms, folder, microscopes, seed=seed)
            best = "of the highest" if model.params.choose_threshold else "fixed, of the"
            print(
                f"threshold {made['threshold']:g}, {best} mean IoU ({made['iou']:g}) on "
                f"{made['n']} tuning phantoms"
            )
        if microscopes.free is not None and phantoms.resolve() != (folder / TUNING).resolve():
            with writing(folder / TUNING):
                shutil.rmtree(folder / TUNING, ignore_errors=True)
                shutil.copytree(phantoms, folder / TUNING)
    if not (folder / PSF_TABLE).exists():
        write_psf_table(model, folder)


def take_threshold(model: TENET, folder: Path) -> None:
    """Write ``threshold.json`` with the threshold of the settings, without any phantoms."""
    record = {
        "threshold": model.params.threshold,
        "how": "that of the settings; the model was not calibrated on phantoms",
        "weights": digest(folder / MODEL),
    }
    save_json(folder / THRESHOLD, record)


def write_psf_table(model: TENET, folder: Path) -> None:
    """Write ``psf.csv``: widths of the PSF that the model started from, and of its present PSF.

    A width is left out where the grid of the PSF does not reach down to half of the maximum.
    """
    told = read_told(folder, model.params)
    before, after, voxel_size_um = psf_before_and_after(model, told)
    rows = [
        {"which": which, "axis": axis, "fwhm_um": round(width, 4) if math.isfinite(width) else None}
        for which, psf in (("initial", before), ("learned", after))
        for axis, width in psf_fwhm_um(psf, voxel_size_um).items()
    ]
    save_table(folder / PSF_TABLE, rows)
