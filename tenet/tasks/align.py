"""`tenet align`: a pre-trained model learns to align planes."""

from pathlib import Path

import torch

from tenet.learn import align
from tenet.learn import calibrate as calibration
from tenet.settings.schema import Experiment
from tenet.tasks.training import training


def train_alignment(
    experiment: Experiment,
    pretrained: Path,
    phantoms: Path,
    out: Path,
    *,
    tuning: Path | None,
    device: torch.device,
    seed: int,
) -> None:
    """Train the alignment network of a pre-trained model, and calibrate the model with it.

    See `tenet.learn.align.train_alignment` for the parameters.

    Examples
    --------
    >>> import tenet
    >>> experiment = tenet.load_experiment("mine", settings={"align_params": {}})
    >>> models = Path("models")
    >>> train_alignment(
    ...     experiment, models / "mine", Path("phantoms"), models / "aligned",
    ...     tuning=None, device=torch.device("cpu"), seed=0,
    ... )
    >>> tenet.TrainedModel.load(models / "aligned", align=True).network.aligner is not None
    True
    """
    with training(out, pretrained):
        model = align.train_alignment(
            experiment, pretrained, phantoms, out, device=device, seed=seed
        )
        calibration.complete(model, tuning, out, experiment.microscopes, seed=seed)
