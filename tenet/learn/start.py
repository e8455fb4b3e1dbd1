"""What the fine-tuning of a model of every microscope starts from: a model of one microscope."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tenet.errors import TenetError
from tenet.io.atomic import save_json
from tenet.learn.serve import SURE
from tenet.model.store import (
    FISHER,
    MODEL,
    THRESHOLD,
    digest,
    digest_of,
    has_file,
    load_beside,
    read_calibration,
    read_provenance,
    save_model,
)
from tenet.model.trained import TrainedModel
from tenet.settings.schema import Experiment, parse_experiment
from tenet.settings.sections import merge


def is_start(folder: Path, identity: str) -> bool:
    """Whether a folder holds the start of this identity, whole."""
    try:
        known = read_provenance(folder).identity == digest_of(identity)
        return known and read_calibration(folder) is not None
    except TenetError:  # what is damaged, or was not finished, is written anew
        return False


def write_start(
    served: TrainedModel, settings: Mapping[str, Any], folder: Path, identity: str
) -> Experiment:
    """Write a model of one microscope: the weights of a model that was fitted to it.

    Parameters
    ----------
    served : TrainedModel
        As `tenet.learn.serve.serve` gives it.
    settings : mapping
        Settings laid over those of the model.
    folder : Path
        Folder for the model.
    identity : str
        All that the start follows from.

    Returns
    -------
    Experiment
        Settings of the model, for its fine-tuning.
    """
    data = merge(served.experiment.model_dump(mode="json"), {"microscopes": {"free": None}})
    experiment = parse_experiment(merge(data, settings), where=str(folder))
    beside = {}
    if has_file(served.folder, FISHER):
        beside[FISHER] = load_beside(served.folder, FISHER)
    record = {"kind": "start", "pretrained": str(served.folder)}
    network = served.network.cpu()
    save_model(folder, network, experiment, record, identity=identity, beside=beside)
    assert served.calibration is not None
    calibration = served.calibration.model_dump(mode="json", exclude_none=True)
    # Fine-tuning looks for the PSF with the structure above this threshold, as `serve` does; the
    # model that was learned has a threshold of its own.
    calibration["threshold"] = max(calibration["threshold"], SURE)
    save_json(folder / THRESHOLD, calibration | {"weights": digest(folder / MODEL)})
    return experiment
