"""`tenet pretrain`: a model that knows a microscope, and phantoms seen by it."""

from pathlib import Path

import torch

from tenet.learn import calibrate as calibration
from tenet.learn import pretrain as pretraining
from tenet.settings.schema import Experiment
from tenet.tasks.training import training


def pretrain(
    experiment: Experiment,
    phantoms: Path,
    out: Path,
    *,
    tuning: Path | None,
    device: torch.device,
    seed: int,
) -> None:
    """Pre-train, and calibrate on `tuning` phantoms if there are any; see `learn.pretrain`."""
    with training(out):
        model = pretraining.pretrain(experiment, phantoms, out, device=device, seed=seed)
        calibration.complete(model, tuning, out, seed=seed)
