"""`tenet pretrain`: a model learns from phantoms that are blurred by the nominal microscope."""

from pathlib import Path

import torch

from tenet.learn import calibrate as calibration
from tenet.learn import pretrain as pretraining
from tenet.settings.schema import Experiment
from tenet.tasks.training import check_apart, training


def pretrain(
    experiment: Experiment,
    phantoms: str | Path,
    out: str | Path,
    *,
    tuning: str | Path | None = None,
    start: str | Path | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> None:
    """Pre-train a model, and calibrate the model.

    The same call continues the training after an interruption.

    Parameters
    ----------
    experiment : Experiment
        Settings, as of `load_experiment`.
    phantoms : path
        Folder of the phantoms to train on.
    out : path
        Folder for the model.
    tuning : path, optional
        Folder of tuning phantoms; without them the model is not calibrated.
    start : path, optional
        Folder of a model whose encoder the training begins with; by default its weights are drawn.
    device : torch.device or str
        Device to compute on.
    seed : int
        Number that all random draws follow from.

    Raises
    ------
    TenetError
        If the settings, phantoms, start or checkpoint cannot be used, or another process trains in
        `out`.

    See Also
    --------
    tenet.learn.pretrain.pretrain : the training itself.

    Examples
    --------
    >>> import tenet
    >>> experiment = tenet.load_experiment("mine")
    >>> tenet.pretrain(experiment, "phantoms", "models/pretrained")
    PSF network fitted to its model: mean squared error ...
    >>> tenet.TrainedModel.load("models/pretrained").params.scale
    3
    """
    phantoms, out = Path(phantoms), Path(out)
    tuning = None if tuning is None else Path(tuning)
    start = None if start is None else Path(start)
    if start is not None:
        check_apart(out, start)
    with training(out):
        device = torch.device(device)
        model = pretraining.pretrain(
            experiment, phantoms, out, start=start, device=device, seed=seed
        )
        calibration.complete(model, tuning, out, experiment.microscopes, seed=seed)
