"""RLTV under the conditions of TENET: the nominal PSF, and the same held-out phantoms."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from tenet.errors import TenetError
from tenet.io.atomic import save_json
from tenet.io.intensities import normalise
from tenet.io.levels import write_levels
from tenet.io.stack import Stack
from tenet.io.writing import write_ome_tiff
from tenet.learn.calibrate import phantom_images
from tenet.model.trained import TrainedModel
from tenet.paper.baselines.rltv import rltv_paper, rltv_tiled
from tenet.paper.baselines.rltv_tuning import Tuning, tune, tune_published
from tenet.progress import shown
from tenet.types import Progress


def tune_rltv(
    model: Path,
    phantoms: Path,
    out: Path,
    *,
    iterations: Sequence[int],
    tv_weights: Sequence[float],
    progress: Progress | None = None,
    device: torch.device,
    seed: int = 0,
) -> None:
    """Choose iterations, weight and thresholds of RLTV by IoU on held-out phantoms; see `tune`."""
    trained = TrainedModel.load(model, device=device)
    network, microscopes = trained.network, trained.experiment.microscopes
    with torch.no_grad():
        microscope = network.microscope()
    pairs = phantom_images(microscope, phantoms, microscopes, noise=True, seed=seed)
    psf, params = network.psf().detach(), network.params
    best, table = tune(
        pairs,
        psf,
        scale=params.scale,
        fine_voxel_size_um=params.fine_voxel_size_um,
        tv_weights=tv_weights,
        iterations=iterations,
        progress=progress,
    )
    published = tune_published(pairs, psf, scale=params.scale)
    save_json(out, {**asdict(Tuning(best, published)), "table": table.to_dict("records")})


def run_rltv(
    model: Path,
    chosen: Tuning,
    pairs: Sequence[tuple[Stack, Path]],
    out: Path,
    *,
    paper: bool,
    normalisation: str | None = None,
    levels: int | None = None,
    device: torch.device,
) -> None:
    """Deconvolve stacks with the PSF of a model and the settings that `tune_rltv` chose.

    With `paper`, the settings are those of the published figures, and the threshold is that of
    `tune_rltv`. With `levels`, results are stored as in `tenet.io.levels`.

    Raises
    ------
    TenetError
        As `rltv` and `rltv_paper`, with the path of the stack.
    """
    source = TrainedModel.load(model, device=device)
    psf, params = source.network.psf().detach(), source.params

    def deconvolved(image: Tensor, progress: Progress) -> Tensor:
        if paper:
            return rltv_paper(image, psf, scale=params.scale, progress=progress, device=device)
        return rltv_tiled(
            image,
            psf,
            scale=params.scale,
            iterations=chosen.rltv.iterations,
            tv_weight=chosen.rltv.tv_weight,
            fine_voxel_size_um=params.fine_voxel_size_um,
            accelerated=True,
            progress=progress,
            device=device,
        )

    for stack, path in pairs:
        range_ = source.intensity_range(stack, normalisation)
        image = torch.from_numpy(normalise(stack.read(), range_))
        try:
            with shown(f"deconvolving {stack.path.name}") as meter:
                result = deconvolved(image, meter)
        except TenetError as error:
            raise TenetError(f"{stack.path}: {error}") from None
        size_um, volume = params.fine_voxel_size_um, result.cpu().numpy()
        if levels is None:
            write_ome_tiff(path, volume, size_um, ["intensity"])
        else:
            write_levels(path, volume, size_um, "intensity", levels)
    part = chosen.rltv_paper if paper else chosen.rltv
    save_json(out / "settings.json", {**asdict(part), "model": str(model)})
