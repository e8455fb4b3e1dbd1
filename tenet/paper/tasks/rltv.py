"""`tenet rltv`: Richardson-Lucy deconvolution with total variation, tuned and run."""

from collections.abc import Sequence
from pathlib import Path

import torch

from tenet.paper.baselines.rltv_tuning import read_tuning
from tenet.paper.comparison import rltv
from tenet.paper.tasks.pairs import FolderOfStacks
from tenet.progress import shown

#: Iterations and weights that are tried by default.
ITERATIONS, TV_WEIGHTS = (20, 40, 80, 160), (0.001, 0.003, 0.01)


def tune_rltv(
    model: Path,
    phantoms: Path,
    out: Path,
    *,
    iterations: Sequence[int] | None,
    tv_weights: Sequence[float] | None,
    device: torch.device,
    seed: int,
) -> None:
    """Choose iterations, weight and threshold by IoU on held-out phantoms."""
    with shown("tuning RLTV") as meter:
        rltv.tune_rltv(
            model,
            phantoms,
            out,
            iterations=iterations or ITERATIONS,
            tv_weights=tv_weights or TV_WEIGHTS,
            progress=meter,
            device=device,
            seed=seed,
        )


def run_rltv(
    model: Path,
    settings: Path,
    data: FolderOfStacks,
    out: Path,
    *,
    paper: bool,
    normalisation: str | None,
    levels: int | None,
    device: torch.device,
) -> None:
    """Deconvolve the stacks of a folder with the PSF of a model and tuned settings."""
    rltv.run_rltv(
        model,
        read_tuning(settings),
        data.pairs(out),
        out,
        paper=paper,
        normalisation=normalisation,
        levels=levels,
        device=device,
    )
