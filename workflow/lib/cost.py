"""What jobs cost before they run: seconds of a device and disk, by settings and measured rates.

Seconds are those of trainings, restorations and deconvolutions on the device. What a CPU does
beside them (phantoms, simulation, measures, figures) is not counted. A training that may stop early
counts as if it went to its last epoch.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenet.model.shipped import BOX
from tenet.settings.load import load_experiment
from tenet.settings.schema import Experiment
from workflow.lib import sizes
from workflow.lib.catalogue import Catalogue, is_published, path_of, resolved
from workflow.lib.models import pretrained_of
from workflow.lib.rates import GPU_CROP, Rates
from workflow.lib.samples import experiment_name

#: Seconds in which a job on a device starts and ends: Python, PyTorch, reading and writing a model.
START_S = 15.0
#: Voxels that are restored for one voxel of a result, because tiles share their borders: tiles of
#: 320 pixels that share 64. Neuroclear's tiles of 160 voxels share a third along each axis.
TILES, NEUROCLEAR_TILES = (320 / 256) ** 2, 1.5**3
#: Iterations of RLTV as the paper had it.
PAPER_ITERATIONS = 10
#: What the configuration may leave out of `care` and `neuroclear`: as in their published code.
CARE_DEFAULTS = {"batch_size": 16, "crop": 128}
NEUROCLEAR_DEFAULTS = {"batch_size": 1, "crop": 108, "attempts": 3}
#: Batches that a baseline is validated on after each epoch, each without a gradient.
VALIDATED, WITHOUT_GRADIENT = 8, 1 / 3

Wildcards = Mapping[str, str]


@dataclass(frozen=True)
class Cost:
    """Seconds of a device, and bytes that stay on the disk.

    Attributes
    ----------
    seconds : float
        Of a GPU, or of a CPU where there is none.
    disk_bytes : float
    """

    seconds: float = 0.0
    disk_bytes: float = 0.0


@dataclass(frozen=True)
class Job:
    """A job that would run, as Snakemake plans it.

    Attributes
    ----------
    rule : str
    wildcards : mapping
    memory_mb : int
    """

    rule: str
    wildcards: Wildcards
    memory_mb: int = 0


def cost_of(catalogue: Catalogue, rates: Rates, job: Job) -> Cost:
    """Estimate a job; a rule that takes neither a device nor much disk costs nothing."""
    estimate = _RULES.get(job.rule)
    return Cost() if estimate is None else estimate(catalogue, rates, job.wildcards)


def kind_of(catalogue: Catalogue, job: Job) -> str:
    """Name the line of the table that a job is counted in."""
    if job.rule == "pretrain" and is_published(job.wildcards["model"]):
        return f"{job.rule} (published)"
    experiment = job.wildcards.get("experiment", "")
    if job.rule == "finetune":
        return f"{job.rule} ({_group(catalogue, experiment)})"
    if "method" in job.wildcards:
        return f"{job.rule} ({job.wildcards['method']})"
    return job.rule


def _group(catalogue: Catalogue, experiment: str) -> str:
    if experiment in catalogue.config["ablations"]:
        return "ablations"
    if is_published(experiment):
        return "published"
    return "samples" if experiment.startswith("samples/") else "figures"


def _settings(catalogue: Catalogue, path: str) -> Experiment:
    return resolved(catalogue, experiment_name(catalogue, path))


# Trainings ----------------------------------------------------------------------------------------


def _pretrain(catalogue: Catalogue, rates: Rates, wildcards: Wildcards) -> Cost:
    experiment = _settings(catalogue, wildcards["model"])
    loop, params = experiment.pretrain_loop, experiment.params
    crop = math.prod(experiment.pretrain_dataset.cropsize)
    step = rates.training_step(params, loop.precision, crop * loop.batch_size) * loop.accumulate
    validation = experiment.pretrain_val_dataset.I * rates.forward(params, loop.precision, crop)
    epoch = loop.steps_of(experiment.pretrain_dataset.I) * step + validation
    fisher = experiment.train_loop.ewc_batches * rates.training_step(params, loop.precision, crop)
    seconds = START_S + loop.n_epochs * epoch + fisher
    return Cost(seconds, sizes.bytes_of_model(pretrained=True))


def _align(catalogue: Catalogue, rates: Rates, wildcards: Wildcards) -> Cost:
    """The network works on coarse planes, and is of the published encoder's kind."""
    experiment = _settings(catalogue, wildcards["model"])
    loop = experiment.pretrain_loop
    params = experiment.params.model_copy(update={"network": "jnet", "deconvolution_steps": 0})
    coarse = math.prod(experiment.pretrain_dataset.cropsize) / experiment.params.scale
    step = rates.training_step(params, loop.precision, coarse * loop.batch_size) * loop.accumulate
    steps = loop.n_epochs * loop.steps_of(experiment.pretrain_dataset.I)
    return Cost(START_S + steps * step, sizes.bytes_of_model(pretrained=True))


def _finetune(catalogue: Catalogue, rates: Rates, wildcards: Wildcards) -> Cost:
    experiment = _settings(catalogue, wildcards["experiment"])
    return Cost(fine_tuning_seconds(experiment, rates), sizes.bytes_of_model(pretrained=False))


def _learn(_catalogue: Catalogue, rates: Rates, _wildcards: Wildcards) -> Cost:
    seconds = fine_tuning_seconds(load_experiment("box"), rates)
    return Cost(seconds, sizes.bytes_of_model(pretrained=False))


def fine_tuning_seconds(experiment: Experiment, rates: Rates) -> float:
    """Seconds of a fine-tuning: a step has a raw crop, and with rehearsal one of a phantom."""
    loop, params = experiment.train_loop, experiment.params
    raw = math.prod(experiment.train_dataset.cropsize)
    step = rates.training_step(params, loop.precision, raw * loop.batch_size)
    if loop.rehearsal_weight > 0:
        phantom = math.prod(experiment.pretrain_dataset.cropsize)
        step += rates.training_step(params, loop.precision, phantom * loop.batch_size)
    validation = experiment.val_dataset.I * rates.forward(params, loop.precision, raw)
    epoch = loop.steps_of(experiment.train_dataset.I) * step * loop.accumulate + validation
    return START_S + loop.n_epochs * epoch


def _baseline_train(catalogue: Catalogue, rates: Rates, wildcards: Wildcards) -> Cost:
    method = wildcards["method"]
    return Cost(
        baseline_seconds(method, catalogue.config[method], rates),
        sizes.bytes_of_model(pretrained=False),
    )


def baseline_seconds(method: str, settings: Mapping[str, Any], rates: Rates) -> float:
    """Seconds of a training of CARE, or of as many of Neuroclear as are tried at most."""
    if method == "care":
        own = CARE_DEFAULTS | dict(settings)
        step = rates.care_step(own["batch_size"] * own["crop"] ** 2)
    else:
        own = NEUROCLEAR_DEFAULTS | dict(settings)
        step = rates.neuroclear_step(own["batch_size"] * own["crop"] ** 3)
    epoch = (own["steps_per_epoch"] + VALIDATED * WITHOUT_GRADIENT) * step
    return START_S + own.get("attempts", 1) * own["n_epochs"] * epoch


# Restorations -------------------------------------------------------------------------------------


def _fold(wildcards: Wildcards) -> str:
    return wildcards.get("fold", "").strip("/") or "all"


def _results(catalogue: Catalogue, wildcards: Wildcards) -> tuple[int, float]:
    """Fine voxels and bytes of a prediction."""
    experiment, fold = wildcards["experiment"], _fold(wildcards)
    voxels = sizes.fine_voxels(catalogue, experiment, fold)
    size = sizes.bytes_of_predictions(catalogue, experiment, wildcards["method"], fold)
    return voxels, size


def _predict(catalogue: Catalogue, rates: Rates, wildcards: Wildcards) -> Cost:
    voxels, size = _results(catalogue, wildcards)
    name = wildcards["experiment"]
    if wildcards["method"] == BOX:
        experiment = load_experiment("box")
        precision = experiment.train_loop.precision
    elif wildcards["method"] == "pretrained":
        experiment = _settings(catalogue, pretrained_of(catalogue, name))
        precision = experiment.pretrain_loop.precision
    else:
        experiment = _settings(catalogue, path_of(name, wildcards["method"]))
        precision = experiment.train_loop.precision
    crop = rates.forward(experiment.params, precision, GPU_CROP)
    return Cost(START_S + TILES * voxels / GPU_CROP * crop, size)


def _baseline(catalogue: Catalogue, rates: Rates, wildcards: Wildcards) -> Cost:
    voxels, size = _results(catalogue, wildcards)
    if wildcards["method"] == "care":  # planes across rows, and planes across columns
        return Cost(START_S + rates.care_forward(2 * TILES * voxels), size)
    return Cost(START_S + rates.neuroclear_forward(NEUROCLEAR_TILES * voxels), size)


def _rltv(catalogue: Catalogue, rates: Rates, wildcards: Wildcards) -> Cost:
    voxels, size = _results(catalogue, wildcards)
    tuned = wildcards["method"] == "rltv"
    iterations = max(catalogue.config["rltv"]["iterations"]) if tuned else PAPER_ITERATIONS
    crop = rates.rltv(iterations, GPU_CROP)
    return Cost(START_S + TILES * voxels / GPU_CROP * crop, size)


def _rltv_tune(catalogue: Catalogue, rates: Rates, wildcards: Wildcards) -> Cost:
    tried = catalogue.config["rltv"]
    tuning = catalogue.config["pretrained"].get(wildcards["model"], catalogue.config["sample"])
    voxels = sizes.phantoms_of_set(catalogue, tuning["tuning"]).voxels
    run = voxels / GPU_CROP * rates.rltv(max(tried["iterations"]), GPU_CROP)
    return Cost(START_S + len(tried["tv_weights"]) * run)


# Files --------------------------------------------------------------------------------------------


def _phantoms(catalogue: Catalogue, _rates: Rates, wildcards: Wildcards) -> Cost:
    return Cost(disk_bytes=sizes.bytes_of_phantoms(catalogue, wildcards["set"]))


def _acquisitions(catalogue: Catalogue, _rates: Rates, wildcards: Wildcards) -> Cost:
    return Cost(disk_bytes=sizes.bytes_of_acquisitions(catalogue, wildcards["experiment"]))


def _registered(catalogue: Catalogue, _rates: Rates, wildcards: Wildcards) -> Cost:
    return Cost(disk_bytes=sizes.bytes_of_registered(catalogue, wildcards["experiment"]))


def _source(catalogue: Catalogue, _rates: Rates, wildcards: Wildcards) -> Cost:
    """The download, and the stacks that are taken out of it."""
    return Cost(disk_bytes=2 * sizes.bytes_of_source(catalogue, wildcards["source"]))


_RULES: Mapping[str, Callable[[Catalogue, Rates, Wildcards], Cost]] = {
    "pretrain": _pretrain,
    "align": _align,
    "finetune": _finetune,
    "learn": _learn,
    "baseline_train": _baseline_train,
    "predict": _predict,
    "baseline": _baseline,
    "rltv": _rltv,
    "rltv_tune": _rltv_tune,
    "phantoms": _phantoms,
    "simulate": _acquisitions,
    "register": _registered,
    "source": _source,
}


# The whole run ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """What several jobs cost together.

    Attributes
    ----------
    kind : str
    jobs : int
    seconds, disk_bytes : float
        Sums, as of `Cost`.
    memory_mb : int
        Of the largest job.
    """

    kind: str
    jobs: int
    seconds: float
    disk_bytes: float
    memory_mb: int


def added(kind: str, lines: Sequence[Line]) -> Line:
    """Add up lines."""
    return Line(
        kind,
        sum(line.jobs for line in lines),
        sum(line.seconds for line in lines),
        sum(line.disk_bytes for line in lines),
        max((line.memory_mb for line in lines), default=0),
    )


def lines_of(catalogue: Catalogue, rates: Rates, jobs: Iterable[Job]) -> list[Line]:
    """Add up jobs by kind, the kind that takes longest first."""
    kinds = defaultdict[str, list[Line]](list)
    for job in jobs:
        kind, cost = kind_of(catalogue, job), cost_of(catalogue, rates, job)
        kinds[kind].append(Line(kind, 1, cost.seconds, cost.disk_bytes, job.memory_mb))
    lines = [added(kind, every) for kind, every in kinds.items()]
    return sorted(lines, key=lambda line: (-line.seconds, -line.disk_bytes, line.kind))
