"""`tenet baseline`: CARE and Neuroclear, trained and run on the stacks of TENET."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tenet.io.atomic import exclusive
from tenet.paper.comparison import learned
from tenet.paper.tasks.pairs import FolderOfStacks
from tenet.tasks.raw_stacks import RawStacks
from tenet.tasks.training import check_apart


def train_baseline(
    method: learned.Learned,
    model: Path,
    raw: RawStacks,
    tuning: Path,
    out: Path,
    *,
    settings: Mapping[str, Any],
    test_images: Sequence[str] = (),
    normalisation: str | None = None,
    device: torch.device,
    seed: int,
) -> dict[str, Any]:
    """Train a baseline on raw stacks, and return its record; see `comparison.learned`.

    No stack of `test_images` is read, as in TENET's own fine-tuning.
    """
    stacks = raw.open(test_images)
    check_apart(out, model)
    provenance = {
        "model": str(model),
        "fold": raw.fold,
        "images": [stack.path.name for stack in stacks],
    }
    with exclusive(out):
        return learned.train_baseline(
            method,
            model,
            stacks,
            tuning,
            out,
            settings=settings,
            normalisation=normalisation,
            provenance=provenance,
            device=device,
            seed=seed,
        )


def run_baseline(
    method: learned.Learned,
    folder: Path,
    model: Path,
    data: FolderOfStacks,
    out: Path,
    *,
    levels: int | None,
    device: torch.device,
) -> None:
    """Restore the stacks of a folder with a trained baseline; see `comparison.learned`."""
    learned.run_baseline(method, folder, model, data.pairs(out), out, levels=levels, device=device)
