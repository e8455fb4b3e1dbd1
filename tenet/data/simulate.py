"""Simulated acquisitions: phantoms seen by a microscope that the model need not know."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tenet.data.phantoms.store import Phantom, open_phantoms
from tenet.io.atomic import save_json, save_table
from tenet.io.levels import write_levels
from tenet.io.writing import write_ome_tiff
from tenet.physics.blur import centred_planes
from tenet.physics.microscope import Microscope
from tenet.physics.motion import shift_planes
from tenet.physics.noise import NoiseModel
from tenet.physics.optics import model_fwhm_um, psf_volume
from tenet.settings.schema import Experiment, ModelParams
from tenet.types import Progress

#: Camera counts of simulated raw stacks: offset + gain · intensity.
OFFSET, GAIN = 100.0, 10_000.0
#: Levels of simulated stacks whose intensities are taken as they are: those of 16 bits.
LEVELS = 65535


def simulate_acquisitions(
    experiment: Experiment,
    phantoms: Path,
    out: Path,
    *,
    motion_px: float = 0.0,
    no_noise_part: bool = False,
    folds: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Path]:
    """Acquire every phantom of a folder.

    Blurred by the Gibson–Lanni PSF of `experiment.params` itself (not by a network fitted to it),
    refocused, sampled, each plane shifted at random, with noise. Stacks whose experiment takes
    intensities as they are (`normalisation` "none") stay in [0, 1], in 65535 levels; others become
    16-bit counts.

    Parameters
    ----------
    experiment : Experiment
        Its `params` describe the true microscope.
    phantoms : Path
        Folder of stored phantoms.
    out : Path
        Receives ``noise/NN.ome.tif``, ``no_noise/NN.ome.tif`` if asked for, ``acquisition.json``,
        and ``rois.csv`` (roi, image, z, y, x, fold) for phantoms that know where their beads are.
    motion_px : float
        Standard deviation of the shift of each plane in y and x.
    no_noise_part : bool
        Whether to write the same stacks without noise as well.
    folds : int, optional
        Number of cross-validation folds in ``rois.csv``; images are dealt out in order.
    seed : int
        Of noise and motion; stack i has its own, whatever the others are.
    progress : callable, optional
        Called as ``progress(done, stacks)`` after every stack.

    Returns
    -------
    list of Path
        The stacks written.
    """
    params = experiment.params
    microscope, scale = true_microscope(params), params.scale
    parts = ["noise", "no_noise"] if no_noise_part else ["noise"]
    written: list[Path] = []
    rois: list[tuple[int, ...]] = []
    volumes = open_phantoms(phantoms)
    for index, phantom in enumerate(volumes):
        rng = np.random.default_rng([seed, index])
        light = _whole(phantom, scale)
        with torch.no_grad():
            image = microscope.expose(torch.from_numpy(light)[None, None])
            if motion_px > 0:
                shifts = rng.normal(0, motion_px, (image.shape[2], 2))
                shifts -= shifts.mean(0)
                image = shift_planes(image, torch.from_numpy(shifts.astype(np.float32)))
            generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
            images = {
                "noise": microscope.record(image, generator),
                "no_noise": microscope.record(image, None),
            }
        name = phantom.path.name.split(".")[0]
        for part in parts:
            path = out / part / f"{name}.ome.tif"
            data = images[part][0, 0].numpy()
            if experiment.train_dataset.normalisation == "none":
                levels = np.clip(data, 0, None)  # Fourier transforms leave some -1e-9 in the dark
                write_levels(
                    path, levels, params.coarse_voxel_size_um, "intensity", LEVELS, compressed=False
                )
            else:
                counts = np.rint(OFFSET + GAIN * data).astype(np.uint16)
                write_ome_tiff(path, counts, params.coarse_voxel_size_um)
            written.append(path)
        fold = index * folds // len(volumes) if folds else 0
        for z, y, x in phantom.attributes.get("centres_zyx", ()):
            # Coarse plane i is centred on fine plane i·s + (s - 1)/2.
            coarse_z = (z - (scale - 1) / 2) / scale
            rois.append((len(rois), index, round(coarse_z), round(y), round(x), fold))
        if progress is not None:
            progress(index + 1, len(volumes))
    if rois:
        columns = ("roi", "image", "z", "y", "x", "fold")
        save_table(out / "rois.csv", [dict(zip(columns, row, strict=True)) for row in rois])
    record = {
        "simulated": True,
        "experiment": experiment.name,
        "microscope": params.model_dump(mode="json"),
        "motion_px": motion_px,
        "seed": seed,
        "fwhm_um": model_fwhm_um(params.focused_psf(), params.fine_voxel_size_um),
    }
    save_json(out / "acquisition.json", record)
    return written


def true_microscope(params: ModelParams) -> Microscope:
    """The microscope that the settings describe, in focus and sampled as light is."""
    psf = torch.from_numpy(focused_psf_volume(params))
    noise = NoiseModel(params.poisson_weight, params.sig_eps)
    return Microscope(psf, noise, params.scale, params.coarse_voxel_size_um)


def focused_psf_volume(params: ModelParams) -> NDArray[np.float32]:
    """The model PSF of some settings on their fine grid, with its brightest plane in focus."""
    size_z = centred_planes(params.size_z, params.scale)
    shape = (size_z, params.size_y, params.size_x)
    return psf_volume(params.focused_psf(), shape, params.fine_voxel_size_um)


def _whole(phantom: Phantom, scale: int) -> NDArray[np.float32]:
    """The light of a phantom, cut to a whole number of coarse planes."""
    planes, rows, columns = phantom.zyx_shape
    z = slice(0, planes // scale * scale)
    return phantom.read(z, slice(0, rows), slice(0, columns))[1]
