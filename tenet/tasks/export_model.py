"""`tenet export-model`: a model of one microscope as a package for the BioImage Model Zoo."""

import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tenet.data.phantoms.kinds import TrainingPhantomSettings
from tenet.enhance.enhance import enhance_array
from tenet.enhance.views import COLOURS, mips, save, show_view
from tenet.errors import TenetError
from tenet.io.atomic import replacing
from tenet.io.intensities import IntensityRange, normalise
from tenet.io.outputs import check_outputs
from tenet.model.intensity import scaled
from tenet.model.portable import DATE, from_torchscript, to_torchscript
from tenet.model.trained import TrainedModel
from tenet.tasks.notes import note
from tenet.tasks.zoo import (
    ARTICLE,
    COVER,
    DOI,
    INPUT,
    LICENCE,
    OUTPUT,
    PERCENTILES,
    README,
    WEIGHTS,
    Sizes,
    intensity_level,
    said_microscope,
    specification,
    write_package,
)
from tenet.types import Triple

SEED = 0
#: Raw intensity of nothing, and of the brightest light, in the simulated stack.
DARK, BRIGHT = 100.0, 3000.0
#: Most that the exported model may differ from the model itself.
MOST_OFF = 1e-4
Volume = NDArray[np.float32]


def export_model(model: str | Path, out: str | Path) -> Path:
    """Write a package of a model, which programs without TENET run.

    The package has the deconvolution and the network as TorchScript, a description of sizes, voxels
    and intensities, a simulated stack with what the model makes of it, a picture, and a page. Equal
    models give equal packages.

    Parameters
    ----------
    model : path
        Folder of a model of one microscope, such as one that `tenet learn` wrote.
    out : path
        The package: a file if the name ends in ``.zip``, else a folder. Nothing may have the name.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    TenetError
        If the extra ``zoo`` is not installed, the model serves every microscope or cannot be read,
        something has the name of the package, or the exported model gives other results.

    Examples
    --------
    >>> export_model("models/mine", "mine.zip")
    PosixPath('mine.zip')
    """
    model, out = Path(model), Path(out)
    specification()
    _check_name(model, out)
    trained = _of_one_microscope(model)
    with tempfile.TemporaryDirectory(prefix="tenet-") as temporary:
        files, package = Path(temporary, "files"), Path(temporary, "package")
        files.mkdir()
        _write_files(trained, files)
        write_package(trained, files, package)
        if out.suffix == ".zip":
            with replacing(out) as unfinished:
                _zip(package, unfinished)
        else:
            with replacing(out, folder=True) as unfinished:
                for path in sorted(package.iterdir()):
                    (unfinished / path.name).write_bytes(path.read_bytes())
    return out


def _check_name(model: Path, out: Path) -> None:
    check_outputs([model], [out])
    if os.path.lexists(out):
        raise TenetError(f"{out} is there already: delete it, or choose another name for --out")


def _of_one_microscope(folder: Path) -> TrainedModel:
    if TrainedModel.settings_of(folder).microscopes.free is not None:
        raise TenetError(
            f"{folder} serves every microscope, and its PSF is found in each stack: export a model "
            "of one microscope, which `tenet learn` or `tenet finetune` writes"
        )
    if TrainedModel.settings_of(folder).params.norm == "stack":
        raise TenetError(
            f"{folder} takes statistics of the stack at hand (norm stack, as the part for one "
            "photon does), which other programs cannot: export a model that `tenet pretrain` or "
            "`tenet finetune` trained for this microscope"
        )
    trained = TrainedModel.load(folder)
    if trained.network.aligner is not None:
        note(f"{folder}: the package does not align planes")
        trained = TrainedModel.load(folder, align=False)
    trained.network.half_precision = False
    return trained


def _write_files(trained: TrainedModel, folder: Path) -> None:
    weights = to_torchscript(trained.network)
    raw = simulated_stack(trained, Sizes.of(trained).least_zyx)
    shown = shown_intensities(trained, raw)
    enhanced = _enhanced(trained, shown)
    _check(trained, weights, shown, enhanced)
    with replacing(folder / WEIGHTS) as path:
        path.write_bytes(weights)
    for name, array in ((INPUT, raw[None, None]), (OUTPUT, enhanced[None])):
        with replacing(folder / name) as path, path.open("wb") as file:
            np.save(file, array)
    _draw_cover(folder / COVER, trained, raw, enhanced)
    with replacing(folder / README) as path:
        path.write_text(page(trained), encoding="utf-8")


def simulated_stack(trained: TrainedModel, zyx_shape: Triple, seed: int = SEED) -> Volume:
    """Draw lines and solids, and image them with the microscope of a model.

    Parameters
    ----------
    trained : TrainedModel
    zyx_shape : tuple of int
        On the coarse grid.
    seed : int

    Returns
    -------
    ndarray of float32, shape (Z, Y, X)
        Whole numbers, from about `DARK` to `DARK` + `BRIGHT`.
    """
    planes, rows, columns = zyx_shape
    fine = (planes * trained.params.scale, rows, columns)
    many = max(4, int(np.prod(fine)) // 40_000)
    settings = TrainingPhantomSettings(
        fine, (many, many), line_length=(20, 60), solid_radius=(4, 8)
    )
    drawn = settings.draw(np.random.default_rng(seed))
    luminance = torch.from_numpy(drawn.shape * drawn.brightness)[None, None]
    with torch.no_grad():
        image = trained.network.microscope().acquire(luminance, torch.Generator().manual_seed(seed))
    return np.rint(DARK + BRIGHT * image[0, 0].numpy()).astype(np.float32)


def shown_intensities(trained: TrainedModel, raw: Volume) -> Volume:
    """Scale raw intensities to [0, 1], as the description of the package says."""
    limits = PERCENTILES.get(trained.experiment.train_dataset.normalisation)
    if limits is None:
        return normalise(raw, IntensityRange(0.0, 1.0, "none"))
    low, high = (float(value) for value in np.percentile(raw, limits))
    return normalise(raw, scaled(IntensityRange(low, high, "percentile"), intensity_level(trained)))


def _enhanced(trained: TrainedModel, shown: Volume) -> Volume:
    """Shape and brightness, (2, Z·s, Y, X), in one tile, however little memory there is."""
    planes, rows, columns = shown.shape
    whole = (planes, rows, columns)
    return np.stack(enhance_array(trained.network, shown, tile_zyx_shape=whole))


def _check(trained: TrainedModel, weights: bytes, shown: Volume, enhanced: Volume) -> None:
    """Refuse a package whose results differ, at the size of the test or at another one."""
    script = from_torchscript(weights)
    part = shown[: len(shown) // 2, :-3, : shown.shape[2] // 2]
    for image, expected in ((shown, enhanced), (part, _enhanced(trained, part))):
        with torch.inference_mode():
            found = script(torch.from_numpy(np.ascontiguousarray(image))[None, None])[0].numpy()
        off = float(np.abs(found - expected).max())
        if not off <= MOST_OFF * max(1.0, float(expected.max())):
            raise TenetError(
                f"{trained.folder}: the exported model differs from the model by {off:.2g} on "
                f"{' × '.join(map(str, image.shape))} voxels: nothing was written"
            )


def _draw_cover(path: Path, trained: TrainedModel, raw: Volume, enhanced: Volume) -> None:
    """Draw the simulated stack and what the model makes of it, seen along y, on a page of 2:1."""
    params = trained.params
    figure = Figure(figsize=(8, 4), layout="constrained")
    panels = (
        (raw, params.coarse_voxel_size_um, "simulated stack"),
        (enhanced.prod(0), params.fine_voxel_size_um, "TENET: shape × brightness"),
    )
    for axes, (volume, size_um, title) in zip(figure.subplots(1, 2), panels, strict=True):
        seen = mips(volume, voxel_size_um=size_um)
        pixel_um = (size_um[0], size_um[2])
        limits = float(seen.xz.min()), float(np.percentile(seen.xz, 99.9))
        colours = COLOURS["intensity"]
        show_view(
            axes, seen.xz, pixel_um, limits=limits, colours=colours, title=f"{title}, xz", bar=True
        )
    save(figure, path, dpi=100)


def page(trained: TrainedModel) -> str:
    """Say in Markdown what a package does, and what it does not."""
    params, sizes = trained.params, Sizes.of(trained)
    fine = " × ".join(f"{um:g}" for um in params.fine_voxel_size_um)
    normalisation = trained.experiment.train_dataset.normalisation
    scaling = {
        "percentile": f"Percentile 25 becomes 0, and percentile 99.99 becomes "
        f"{intensity_level(trained):g}. The rest is cut off at 0 and 1.",
        "minmax": "The lowest intensity becomes 0, and the highest 1.",
        "none": "They must be in [0, 1].",
    }[normalisation]
    tiles = " × ".join(map(str, sizes.halo_zyx))
    return f"""\
# TENET {trained.folder.resolve().name}

The model deblurs, super-resolves along z and segments stacks of one microscope:
{said_microscope(trained)}. Other stacks need another model, because the PSF is part of this one.

## What goes in, and what comes out

- **Input** `raw`: batch, channel, z, y, x, raw intensities as they are. {scaling}
- **Output** `enhanced`: two channels, with {params.scale} planes for each plane of the input, and \
voxels of {fine} µm (z, y, x). `shape` is the probability that a voxel is in a structure, and \
`brightness` is that of the structure. From probability {trained.threshold:g} on, a voxel is \
segmented.
- Tiles lose a border of {tiles} voxels of the input (z, y, x), because the PSF and the network \
see what lies beyond. Where there is memory for it, give all planes at once: a PSF is long.

## What TENET does beside

`tenet enhance --model` looks for the scale of intensities in each stack, leaves out hot voxels \
and fill around the image, and aligns planes where a model can. The package does none of these.

## Validation

`test_input.npy` is a stack that was simulated with the microscope of the model (seed {SEED}), and \
`test_output.npy` is what TENET makes of it. `bioimageio test` compares the two. To validate the \
model on your stacks, mark structures by hand in some of them, and compare with `shape` at the \
threshold, such as by IoU. Two signs tell that the microscope is another one: structures stay long \
along z, or thin ones vanish.

## Licence and citation

{LICENCE}. {ARTICLE} doi:{DOI}
"""


def _zip(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.writestr(
                zipfile.ZipInfo(file.name, DATE), file.read_bytes(), zipfile.ZIP_DEFLATED
            )
