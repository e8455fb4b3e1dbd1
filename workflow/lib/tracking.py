"""What a rule depends on besides its files: the code that does its work, the settings it reads."""

from functools import cache
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError

from workflow.lib.catalogue import Catalogue, resolved
from workflow.lib.code_hash import code_hash
from workflow.lib.figures import TABLES
from workflow.lib.samples import experiment_name, sample_of

#: The modules that do the work of a step: the task behind its command. What a task imports at the
#: top of its file is followed, and what that imports.
CODE = {
    "phantoms": ["tenet.tasks.phantoms", "tenet.paper.tasks.tissue"],
    "source": ["workflow.lib.source_files", "tenet.io.open", "tenet.io.writing"],
    "simulate": ["tenet.tasks.simulate"],
    "register": ["tenet.paper.tasks.register"],
    "pretrain": ["tenet.tasks.pretrain"],
    "align": ["tenet.tasks.align"],
    "finetune": ["tenet.tasks.finetune"],
    "learn": ["tenet.tasks.learn"],
    "import_weights": ["tenet.tasks.import_weights"],
    "package_model": ["tenet.tasks.package"],
    "rltv": ["tenet.paper.tasks.rltv"],
    "care": ["tenet.paper.tasks.baselines"],
    "neuroclear": ["tenet.paper.tasks.baselines"],
    "predict": ["tenet.tasks.enhance"],
    "evaluate": ["tenet.paper.tasks.evaluate"],
    "structures": ["tenet.paper.tasks.structures"],
    "real": ["tenet.paper.tasks.real"],
    "real_summary": ["tenet.paper.tasks.real_summary"],
    "table": ["tenet.paper.tasks.summary"],
    "published": ["tenet.paper.tasks.published"],
    **{figure: [f"tenet.paper.figures.{figure}"] for figure in ("fig1", "supp_training", *TABLES)},
    "sample": ["tenet.tasks.samples"],
    "sample_check": ["tenet.model.intensity", "tenet.io.picks", "tenet.io.scan_offset"],
    "enhance": ["tenet.tasks.enhance", "tenet.enhance.pictures", "tenet.enhance.page"],
}

#: Modules that no result depends on, each with the reason. A step leaves them out, and what only
#: they import.
NO_RESULT = {
    "tenet": "offers names, and does nothing when it is imported",
    "tenet.errors": "what is said when there is no result",
    "tenet.types": "names of types",
    "tenet.progress": "what is shown meanwhile",
    "tenet.interruption": "how a process ends when it is told to",
    "tenet.io.atomic": "when a file takes its place, not what is in it",
    "tenet.io.records": "which files are refused, not what is read from the others",
    "tenet.io.outputs": "which names of results are refused",
    "tenet.learn.log": "curves for TensorBoard",
    "tenet.tasks.notes": "notes and warnings on the screen",
    **dict.fromkeys(
        (
            "tenet.settings.sections",
            "tenet.settings.ranges",
            "tenet.settings.published",
            "tenet.settings.schema.data",
            "tenet.settings.schema.experiment",
        ),
        "how settings are read and which are refused: their values are followed themselves",
    ),
}
#: Modules that draw: they decide pictures, and no number.
PICTURES = ("tenet.enhance.page", "tenet.enhance.pictures", "tenet.enhance.views")
#: Steps whose results are numbers; pictures may be drawn on the way.
NUMBERS = ("pretrain", "align", "finetune", "learn", "rltv", "care", "neuroclear", "predict")
#: Further modules that a step leaves out.
WITHOUT = {
    **dict.fromkeys(NUMBERS, PICTURES),
    # Models of the figures are trained for their microscope; only samples take one that is not.
    "predict": (*PICTURES, "tenet.learn.serve"),
    # How files come is not what is in them.
    "source": ("workflow.lib.archives", "workflow.lib.zenodo"),
    "real": (*PICTURES, "tenet.paper.figures.real"),
    # Phantoms take the grid from an experiment, not its optics or how it is trained.
    "phantoms": ("tenet.physics.optics", "tenet.settings.schema.training"),
    # One task trains both; a change of the one leaves the other as it is.
    "care": (*PICTURES, "tenet.paper.baselines.neuroclear"),
    "neuroclear": (*PICTURES, "tenet.paper.baselines.care"),
}

#: The sections of an experiment's settings, or keys in them, that a step reads.
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
        # Without raw stacks, images are made as in pre-training; a rehearsal repeats its loss.
        "pretrain_loop.loss_fnx",
        "pretrain_loop.loss_fnz",
        "pretrain_loop.weight_x",
        "pretrain_loop.weight_z",
        "pretrain_loop.without_noise",
        "pretrain_loop.is_vibrate",
        "pretrain_loop.n_epochs",
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


def left_out(step: str) -> set[str]:
    """Name the modules that a step does not follow."""
    return {*NO_RESULT, *WITHOUT.get(step, ())}


@cache
def code(root: Path, step: str) -> str:
    """Hash the code behind a step; words for people leave the hash as it is.

    Raises
    ------
    WorkflowError
        If a module of the step has no file, or a file is not Python.
    """
    try:
        return code_hash(root, CODE[step], left_out(step))
    except (FileNotFoundError, SyntaxError) as error:
        raise WorkflowError(f"cannot follow the code of {step}: {error}") from None


@cache
def settings(catalogue: Catalogue, name: str, step: str) -> dict[str, Any]:
    """Give the values of an experiment that a step depends on, by section or key."""
    values = resolved(catalogue, name).effective()
    chosen = {}
    for key in SETTINGS[step]:
        value = values
        for part in key.split("."):
            value = value[part]
        chosen[key] = value
    return chosen


def finetune_settings(catalogue: Catalogue, path: str) -> dict[str, Any]:
    """Give the settings that a fine-tuning depends on; those of a row's model are in its files."""
    row = sample_of(catalogue, path)
    if row is not None and "model" in row:
        return {}
    return settings(catalogue, experiment_name(catalogue, path), "finetune")


def phantom_settings(catalogue: Catalogue, name: str) -> dict[str, Any]:
    """Give the settings of the experiment that a set of phantoms is drawn for."""
    spec = catalogue.phantom_set(name)
    if "experiment" not in spec:
        return {}
    step = "phantoms" if spec["kind"] == "training" else "grid"
    return settings(catalogue, spec["experiment"], step)
