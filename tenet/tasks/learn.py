"""`tenet learn`: a model of every microscope becomes a model of the microscope of some stacks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from tenet.errors import TenetError
from tenet.io.atomic import save_json
from tenet.io.folders import voxel_size_of
from tenet.io.optics import Optics
from tenet.learn.serve import serve
from tenet.model.store import (
    FISHER,
    MODEL,
    THRESHOLD,
    TUNING,
    digest,
    has_file,
    load_beside,
    save_model,
)
from tenet.model.trained import TrainedModel
from tenet.settings.schema import Experiment, parse_experiment
from tenet.settings.sections import merge
from tenet.tasks.finetune import fine_tune
from tenet.tasks.raw_stacks import RawStacks
from tenet.tasks.training import check_apart

#: Folder, in that of the result, of the model that learning starts from.
START = "start"


def learn(
    raw: RawStacks,
    model: Path,
    out: Path,
    optics: Optics,
    *,
    what: Literal["psf", "all"] = "psf",
    settings: Mapping[str, Any] | None = None,
    device: torch.device,
    seed: int = 0,
) -> None:
    """Fine-tune a model of every microscope on stacks of one microscope, without any truth.

    The same call continues the training after an interruption.

    Parameters
    ----------
    raw : RawStacks
        The stacks, all with the same voxel size.
    model : Path
        Folder of a model of every microscope.
    out : Path
        Folder for the model of this microscope. It is used and fine-tuned as any other.
    optics : Optics
        What is known of the microscope.
    what : {"psf", "all"}
        What is learned: the PSF and the noise, or the encoder as well.
    settings : mapping, optional
        Settings laid over those of the model.
    device : torch.device
        Device to compute on.
    seed : int
        Number that all random draws follow from.

    Raises
    ------
    TenetError
        If the stacks differ in voxel size, the model is of one microscope, or stacks, model or
        settings cannot be used.
    """
    check_apart(out, model)
    trained = TrainedModel.load(model, device=device)
    if not trained.serves_all:
        raise TenetError(
            f"{model} was trained for one microscope: `tenet finetune` learns from such a model"
        )
    stacks = raw.open()
    sizes_um = {voxel_size_of(stack, raw.voxel_size_um) for stack in stacks}
    if len(sizes_um) > 1:
        listed = ", ".join(str(size) for size in sorted(sizes_um))
        raise TenetError(f"the stacks have voxels of {listed} µm: learn from one size at a time")
    stack = stacks[0]
    served = serve(trained, stack, sizes_um.pop(), optics, find_psf=False, seed=seed)
    experiment = _of_one_microscope(served.model.experiment, settings or {}, out)
    start = out / START
    _write_start(served.model, trained, experiment, start)
    mode: Literal["decoder", "all"] = "decoder" if what == "psf" else "all"
    fine_tune(
        experiment, start, out, raw, tuning=model / TUNING, mode=mode, device=device, seed=seed
    )


def _of_one_microscope(
    experiment: Experiment, settings: Mapping[str, Any], out: Path
) -> Experiment:
    data = merge(experiment.model_dump(mode="json"), {"microscopes": {"free": None}})
    return parse_experiment(merge(data, settings), where=str(out))


def _write_start(
    served: TrainedModel, trained: TrainedModel, experiment: Experiment, folder: Path
) -> None:
    """Write what learning starts from: the weights, with the microscope as told."""
    beside = {}
    if has_file(trained.folder, FISHER):
        beside[FISHER] = load_beside(trained.folder, FISHER)
    record = {"kind": "start", "pretrained": str(trained.folder)}
    save_model(folder, served.network, experiment, record, beside=beside)
    assert served.calibration is not None
    calibration = served.calibration.model_dump(mode="json", exclude_none=True)
    save_json(folder / THRESHOLD, calibration | {"weights": digest(folder / MODEL)})
