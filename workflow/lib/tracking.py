"""What a rule depends on besides its files: the code that does its work, the settings it reads."""

from functools import cache
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError

from workflow.lib.catalogue import Catalogue, resolved
from workflow.lib.code_hash import code_hash
from workflow.lib.figures import TABLES

# The modules that do the work of a rule. Code that draws, or measures, changes no prediction.
CODE = {
    "phantoms": ["tenet.data.phantoms.sets", "tenet.paper.tissue"],
    "simulate": ["tenet.data.simulate"],
    "pretrain": ["tenet.learn.pretrain", "tenet.learn.calibrate"],
    "align": ["tenet.learn.align", "tenet.learn.calibrate"],
    "finetune": ["tenet.learn.finetune", "tenet.learn.calibrate"],
    "rltv": ["tenet.paper.comparison.rltv"],
    "care": ["tenet.paper.comparison.learned"],
    "neuroclear": ["tenet.paper.comparison.learned"],
    "predict": ["tenet.enhance.enhance", "tenet.data.folds", "tenet.model.intensity"],
    "evaluate": [f"tenet.paper.evaluate.{part}" for part in ("segmentation", "beads", "summary")],
    "structures": ["tenet.paper.evaluate.structures"],
    "published": ["tenet.paper.published"],
    "register": ["tenet.paper.registration"],
    **{figure: [f"tenet.paper.figures.{figure}"] for figure in ("fig1", "supp_training", *TABLES)},
    "sample": ["tenet.settings.own_stack", "tenet.data.simulate", "tenet.io.open"],
    "sample_check": ["tenet.model.intensity", "tenet.io.open"],
    "enhance": ["tenet.paper.legacy.inference"],
}
# Only the threshold is chosen by it after a training: how beads are measured or drawn is left out.
MEASURING = [
    *(f"tenet.metrics.{module}" for module in ("segmentation", "shapes", "widths", "intervals")),
    "tenet.enhance.pictures",
    "tenet.enhance.views",
]
WITHOUT = {
    step: MEASURING
    for step in ("pretrain", "align", "finetune", "rltv", "care", "neuroclear", "predict")
}
# One module trains both; a change of the one leaves the other as it is.
WITHOUT["care"] = [*MEASURING, "tenet.paper.baselines.neuroclear"]
WITHOUT["neuroclear"] = [*MEASURING, "tenet.paper.baselines.care"]

# The sections of an experiment's settings that a rule reads.
SETTINGS = {
    "phantoms": ["simulation_data_generation"],
    "grid": ["params.scale", "params.res_axial", "params.res_lateral"],
    "simulate": ["params"],
    "pretrain": [
        "params",
        "pretrain_dataset",
        "pretrain_val_dataset",
        "pretrain_loop",
        "vibration",
        "microscopes",
        "train_loop.ewc_batches",
    ],
    "align": [
        "params",
        "pretrain_dataset",
        "pretrain_val_dataset",
        "pretrain_loop",
        "vibration",
        "microscopes",
        "align_params",
    ],
    "finetune": [
        "params",
        "pretrain_dataset",
        "pretrain_val_dataset",
        "pretrain_loop.loss_fnx",
        "pretrain_loop.without_noise",
        "train_dataset",
        "val_dataset",
        "test_dataset",
        "train_loop",
        "vibration",
        "microscopes",
        "align_params",
    ],
    "evaluate": ["params.scale", "params.res_axial", "params.res_lateral"],
}


@cache
def code(root: Path, step: str) -> str:
    """Hash the code behind a step: a comment leaves the hash as it is.

    Raises
    ------
    WorkflowError
        If a module of the step has no file, or a file is not Python.
    """
    try:
        return code_hash(root, CODE[step], WITHOUT.get(step, ()))
    except (FileNotFoundError, SyntaxError) as error:
        raise WorkflowError(f"cannot follow the code of {step}: {error}") from None


@cache
def settings(catalogue: Catalogue, name: str, step: str) -> dict[str, Any]:
    """Give the values of an experiment that a step depends on, by section or key."""
    values = resolved(catalogue, name).model_dump(mode="json")
    chosen = {}
    for key in SETTINGS[step]:
        value = values
        for part in key.split("."):
            value = value[part]
        chosen[key] = value
    return chosen


def phantom_settings(catalogue: Catalogue, name: str) -> dict[str, Any]:
    """Give the settings of the experiment that a set of phantoms is drawn for."""
    spec = catalogue.phantom_set(name)
    if "experiment" not in spec:
        return {}
    step = "phantoms" if spec["kind"] == "training" else "grid"
    return settings(catalogue, spec["experiment"], step)
