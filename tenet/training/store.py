"""What a training leaves behind: weights, settings, history and how it was made."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenet.config import Experiment, parse_experiment
from tenet.errors import TenetError
from tenet.io.atomic import replacing, save_json
from tenet.model import TENET, read_weights

MODEL, OPTIMISER, FISHER = "model.pt", "optimiser.pt", "fisher.pt"
EXPERIMENT, PROVENANCE, HISTORY = "experiment.json", "provenance.json", "history.csv"
THRESHOLD = "threshold.json"
#: What a network is shown beside the image; one that learned from something else would be wrong
#: without a word. 1: the deconvolved stack after `network.hill`; 2: in linear intensities.
INPUT = 2
_PACKAGES = ("torch", "timm", "numpy", "scipy", "scikit-image", "tifffile", "zarr")


def save_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write a dictionary of tensors and plain data, atomically."""
    with replacing(path) as temporary:
        torch.save(dict(content), temporary)


def save_model(
    folder: Path, model: TENET, experiment: Experiment, provenance: Mapping[str, Any]
) -> None:
    """Write a model with the settings it needs to be used, the weights last."""
    save_json(folder / EXPERIMENT, experiment.model_dump(mode="json"))
    save_json(folder / PROVENANCE, {**software(), "input": INPUT, **provenance})
    save_tensors(folder / MODEL, model.state_dict())


def load_model(
    folder: str | Path, *, device: str | torch.device = "cpu"
) -> tuple[TENET, Experiment]:
    """Load what `save_model` wrote.

    Returns
    -------
    (TENET, Experiment)
        The model in evaluation mode on `device`, and the settings it was trained with.

    Raises
    ------
    TenetError
        If a file is missing, damaged, or does not fit the other, or the model learned from another
        kind of input.
    """
    folder = Path(folder)
    experiment = read_experiment(folder)
    if experiment.params.deconvolution_steps and _input_of(folder) != INPUT:
        raise TenetError(
            f"{folder} was trained by an earlier version, whose network may have been shown "
            f"something else (its {PROVENANCE} has no input {INPUT}): train it again"
        )
    model = TENET(experiment.params, experiment.align_params)
    model.load_weights(read_weights(folder / MODEL), where=str(folder / MODEL))
    return model.eval().to(device), experiment


def read_experiment(folder: Path) -> Experiment:
    """The settings beside a model."""
    path = folder / EXPERIMENT
    try:
        return parse_experiment(json.loads(path.read_text(encoding="utf-8")), where=str(path))
    except FileNotFoundError:
        inside = sorted(found.parent.name for found in folder.glob(f"*/{MODEL}"))
        hint = f"; models in it: {', '.join(inside)}" if inside else ""
        raise TenetError(f"{folder} is not a model: it has no {EXPERIMENT}{hint}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TenetError(f"{path} is not JSON: {error}") from None


def _input_of(folder: Path) -> Any:
    """What the model was shown; of weights without a record nothing else is known."""
    path = folder / PROVENANCE
    if not path.exists():
        return INPUT
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TenetError(f"{path} is not JSON: {error}") from None
    return record.get("input") if isinstance(record, dict) else None


def load_tensors(path: Path) -> dict[str, Any]:
    """Tensors and plain data that `save_tensors` wrote; nothing in the file is run."""
    return read_weights(path)


def software() -> dict[str, Any]:
    """Versions of what computed a result, and on what."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in _PACKAGES},
        "tenet": version("tenet"),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A detached copy of a state dictionary in main memory."""
    return {name: value.detach().to("cpu", copy=True) for name, value in state.items()}
