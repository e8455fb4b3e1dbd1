# What the rules share: the checked configuration, the sample table, the device, and every helper.
import json
import os
import sys
from functools import cache
from pathlib import Path
from zlib import crc32

from snakemake.exceptions import WorkflowError
from snakemake.shell import shell

ROOT = Path(workflow.basedir)
sys.path[:0] = [str(ROOT), str(ROOT / "workflow/scripts")]

from code_hash import code_hash
from on_device import visible_gpus
from sample_check import fitted_experiment
from sample_table import OPTICS, VOXEL_SIZE, read_samples
from validation import check_config, check_files, experiments_of
from zenodo import read_manifest

from tenet.settings.schema import Experiment
from tenet.settings.load import load_experiment
from tenet.errors import TenetError
from tenet.settings.own_stack import RAW_DATASETS

# Configuration and samples ------------------------------------------------------------------------

try:
    check_files(workflow.configfiles)
    check_config(config, ROOT / "workflow/schemas/config.schema.yaml")
    SAMPLES = (
        read_samples(Path(config["samples"]), ROOT / "workflow/schemas/samples.schema.yaml")
        if config["samples"]
        else {}
    )
except ValueError as error:
    raise WorkflowError(str(error)) from None

TABLES = {
    "fig2": "fig2_iou",
    "fig3": "fig3_beads",
    "fig4": "fig4_neurons",
    "fig5": "fig5_cells",
    "supp": "supp_ablations",
    "supp_motion": "supp_motion_iou",
    "quality": "quality",
}
# Experiments whose raw stacks a figure shows, and what its names for them begin with.
FIRST_SHOWN = {
    "fig3": {"fig3_beads": ""},
    "fig4": {"fig4_neurons": ""},
    "fig5": {"fig5_microglia": "", "fig5_tumour": "tumour_"},
}
# Methods with a model for each fold.
LEARN_FROM_STACKS = ("tenet", "care", "neuroclear")
# Phantoms that stand in for tissue.
TISSUES = ("neurons", "microglia", "tumour")
EXPERIMENTS = experiments_of(config)


def repeated(option, values):
    """Words of a command: an option once for each value.

    Options are lists of words, each of which Snakemake quotes where a command says `:q`.
    """
    return [word for value in values for word in (option, str(value))]


OVERLAYS = repeated("--overlay", config["overlays"])


# Where it runs ------------------------------------------------------------------------------------

# Commands run on the interpreter that runs Snakemake, unless a rule brings an environment.
if not workflow.deployment_settings.deployment_method:
    PROGRAMS = Path(sys.executable).parent
    shell.prefix('set -euo pipefail; export PATH={PROGRAMS:q}:"$PATH"; ')

# On this machine no more GPU jobs run at once than its GPUs take; none means the CPU. On a cluster
# (which is given a number of nodes) each job asks for its own GPU.
if workflow.resource_settings.nodes is None:
    given = workflow.global_resources.get("gpu").value
    os.environ.update(TENET_JOBS_PER_GPU=str(config["jobs_per_gpu"]))  # for on_device.py
    present = len(visible_gpus()) * config["jobs_per_gpu"]
    workflow.register_resource("gpu", present if given is None else min(int(given), present))
    CPU_ONLY = workflow.global_resources["gpu"].value == 0
else:
    CPU_ONLY = False

# On the CPU two trainings run at once: what is between the convolutions uses one core alone. The
# many short jobs of inference run side by side. Beside a GPU all need few.
CORES = workflow.resource_settings.cores or 8
TRAINING_THREADS = max(CORES // 2, 1) if CPU_ONLY else 4
INFERENCE_THREADS = max(CORES // 4, 1) if CPU_ONLY else 4


# What a rule depends on besides its files ---------------------------------------------------------

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
# Only the threshold is chosen by it after a training, so how beads are measured or drawn is left out.
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
def code(step):
    """Hash of the code behind a step: a comment leaves it as it is."""
    try:
        return code_hash(ROOT, CODE[step], WITHOUT.get(step, ()))
    except (FileNotFoundError, SyntaxError) as error:
        raise WorkflowError(f"cannot follow the code of {step}: {error}") from None


@cache
def resolved(name):
    """An experiment with all that it extends and the overlays."""
    try:
        return load_experiment(
            name, overlays=config["overlays"], folder=ROOT / "config/experiments"
        )
    except TenetError as error:
        raise WorkflowError(str(error)) from None


@cache
def settings(name, step):
    """The values of an experiment that a step depends on."""
    values = resolved(name).model_dump(mode="json")
    chosen = {}
    for key in SETTINGS[step]:
        value = values
        for part in key.split("."):
            value = value[part]
        chosen[key] = value
    return chosen


def seed(name):
    """A seed of its own for each set of phantoms, so that no two sets share a volume."""
    return crc32(f"{config['seed']} {name}".encode())


def assignments(values):
    """`--set` options of a mapping."""
    return repeated("--set", (f"{key}={json.dumps(value)}" for key, value in values.items()))


def without_suffix(path):
    """The folder that a file of checksums stands for."""
    return str(path).removesuffix(".sha256")


def names(of):
    """A pattern that fits these names and nothing else."""
    return "|".join(of) or "(?!)"


# Phantoms and acquisitions ------------------------------------------------------------------------


def phantom_set(name):
    """The configuration of a set of phantoms."""
    if name not in config["phantoms"]:
        raise WorkflowError(f"there is no set of phantoms '{name}' in the configuration")
    return config["phantoms"][name]


def phantom_command(wildcards):
    """The command and options that draw a set of phantoms."""
    spec = phantom_set(wildcards.set)
    if spec["kind"] == "import":
        return ["import", spec["folder"]]
    words = ["tissue", spec["kind"]] if spec["kind"] in TISSUES else [spec["kind"]]
    if "experiment" in spec:
        words += [spec["experiment"], *OVERLAYS]
    if "size" in spec:
        words += ["--size", *map(str, spec["size"])]
    for key in ("angle", "lines", "beads", "cells", "count"):
        words += repeated(f"--{key}", [spec[key]] if key in spec else [])
    if spec["kind"] == "angle":
        words += repeated("--draw", config["seeds"])
    return [*words, *assignments(spec.get("set", {})), "--seed", str(seed(wildcards.set))]


def own_phantoms(wildcards):
    """The files that a set of the user's own phantoms is made of."""
    spec = phantom_set(wildcards.set)
    if spec["kind"] != "import":
        return []
    files = sorted(map(str, Path(spec["folder"]).glob("*.npz")))
    if not files:
        raise WorkflowError(
            f"phantoms: {wildcards.set}: there are no .npz files in {spec['folder']}"
        )
    return files


def phantom_settings(wildcards):
    """Settings of the experiment that a set of phantoms is drawn for."""
    spec = phantom_set(wildcards.set)
    if "experiment" not in spec:
        return {}
    return settings(spec["experiment"], "phantoms" if spec["kind"] == "training" else "grid")


def phantom_workers(wildcards):
    """Processes that draw a set: one a volume, on half the cores and eight at most.

    A job that needs all cores would wait until none runs, a training of many minutes for one.
    """
    spec = phantom_set(wildcards.set)
    most = min(8, max(CORES // 2, 1))
    return min(spec.get("count", most), most) if spec["kind"] == "training" else 1


def phantoms_of(experiment):
    """Checksums of the phantoms that an experiment's acquisitions are made of."""
    name = EXPERIMENTS[experiment].get("phantoms", experiment)
    return f"<results>/phantoms/{name}.sha256"


def simulate_options(wildcards):
    """What the model is not told: the microscope, motion; and the parts and folds to make."""
    spec = EXPERIMENTS[wildcards.experiment]
    words = [*assignments(spec.get("microscope", {})), "--motion", str(spec.get("motion", 0))]
    if spec.get("no_noise"):
        words.append("--no-noise-part")
    if spec["evaluation"] == "beads":
        words += ["--folds", str(spec["number_of_folds"])]
    return words


def is_simulated(experiment):
    """Whether an experiment's images are made here."""
    return EXPERIMENTS[experiment]["source"] == "simulated"


def is_beads(experiment):
    """Whether an experiment has regions of interest around beads."""
    return EXPERIMENTS[experiment]["evaluation"] == "beads"


def acquisitions(experiment):
    """Checksums of the raw stacks that methods work on: registered, if the configuration says so."""
    if "register" in EXPERIMENTS[experiment]:
        return f"<results>/registered/{experiment}.sha256"
    return taken(experiment)


def taken(experiment):
    """Checksums of an experiment's raw stacks as they were taken."""
    if is_simulated(experiment):
        name = EXPERIMENTS[experiment].get("images", experiment)
        return f"<results>/acquisitions/{name}.sha256"
    return f"<zenodo>/{EXPERIMENTS[experiment]['source']}.sha256"


def mirror_option():
    """The place that holds the record's files, where it is not Zenodo: another one, another list."""
    mirror = config["zenodo"]["mirror"] or os.environ.get("TENET_ZENODO_URL", "")
    return ["--mirror", mirror] if mirror else []


def zenodo_files(wildcards):
    """All files of the record, once the list of them is there."""
    manifest = Path(checkpoints.zenodo_manifest.get().output.manifest)
    try:
        return [f"<zenodo>/files/{name}" for name in read_manifest(manifest)]
    except TenetError as error:
        raise WorkflowError(str(error)) from None


def rois(experiment):
    """The committed table of the beads of real images; simulated images bring their own."""
    if is_beads(experiment) and not is_simulated(experiment):
        return EXPERIMENTS[experiment]["rois"]
    return []


def stacks(experiment, checksums):
    """Folder of an experiment's raw stacks; that of phantoms has a sub-folder for each part."""
    folder = without_suffix(checksums)
    return f"{folder}/noise" if is_simulated(experiment) and is_beads(experiment) else folder


def noisy_stacks(experiment, checksums):
    """Folder of the raw stacks that methods learn from: never the ones without noise."""
    folder = stacks(experiment, checksums)
    return f"{folder}/noise" if is_simulated(experiment) and not is_beads(experiment) else folder


def image_options(experiment, checksums, fold="all"):
    """Options that confine a command to a channel, to the beads, or to those of a fold."""
    channel = EXPERIMENTS[experiment].get("channel")
    if channel is not None and not is_simulated(experiment):
        return ["--channel", str(channel)]
    if not is_beads(experiment):
        return []
    words = ["--rois", rois(experiment) or f"{without_suffix(checksums)}/rois.csv"]
    if fold.startswith("fold"):
        words += ["--fold", fold.removeprefix("fold")]
    return words


# Models -------------------------------------------------------------------------------------------


def sample(name):
    """A row of the sample table."""
    if name not in SAMPLES:
        known = ", ".join(SAMPLES) or "none yet"
        raise WorkflowError(f"there is no sample '{name}' in {config['samples']}; known: {known}")
    return SAMPLES[name]


def sample_of(path):
    """The row that `samples/NAME…` stands for, or None for an experiment."""
    folder, *name = Path(path).parts
    return sample(name[0]) if folder == "samples" and name else None


@cache
def fitted(name):
    """The settings that fit a sample's stack, of which all is checked that its header tells."""
    row = sample(name)
    try:
        return fitted_experiment(row, resolved(experiment_name(f"samples/{name}")))
    except ValueError as error:
        raise WorkflowError(str(error)) from None


def stack_of(name):
    """The stack of a sample, refused before anything runs if its header shows that it cannot do."""
    fitted(name)
    return sample(name)["file"]


def sample_record(path):
    """The record that a sample's intensities were checked: it comes first, and reruns nothing."""
    row = sample_of(path)
    return ancient(f"<results>/models/samples/{row['name']}/stack.json") if row else []


def own_settings(path):
    """Settings made for a sample with optics of its own: a file to depend on, or nothing."""
    row = sample_of(path)
    if row is None or "experiment" in row:
        return []
    return f"<results>/models/samples/{row['name']}/experiment.json"


def experiment_name(path):
    """The experiment behind a model: its own, that of a sample, or that of all own optics."""
    row = sample_of(path)
    if row is None:
        return path
    return row.get("experiment", config["sample"]["experiment"])


def experiment_argument(path, own):
    """EXPERIMENT of a command, with what a file of own settings already holds: overlays and crops."""
    return [str(own)] if own else [experiment_name(path), *OVERLAYS, *crop_settings(path)]


def crop_settings(path):
    """`--set` options that make crops fit a sample smaller than those of its experiment."""
    row = sample_of(path)
    if row is None:
        return []
    own, named = fitted(row["name"]), resolved(experiment_name(path))
    return assignments(
        {
            f"{section}.{key}": getattr(getattr(own, section), key)
            for section in RAW_DATASETS
            for key in ("cropsize", "mask_size")
            if getattr(getattr(own, section), key) != getattr(getattr(named, section), key)
        }
    )


def pretrained_of(path):
    """Name of the pre-trained model that an experiment or a sample starts from."""
    if own_settings(path):
        return f"{path}/pretrained"
    name = experiment_name(path)
    model = resolved(name).pretrained_model or name
    if model not in config["pretrained"]:
        raise WorkflowError(
            f"experiment {name} starts from the pre-trained model {model}, "
            "which the configuration lacks under pretrained"
        )
    return model


def training_set(model, role):
    """Checksums of the phantoms that a model is trained on, or tuned on."""
    spec = config["sample"] if model.startswith("samples/") else config["pretrained"].get(model)
    if spec is None:
        raise WorkflowError(f"there is no pre-trained model '{model}' in the configuration")
    return f"<results>/phantoms/{spec[role]}.sha256"


def folds(experiment):
    """Names of an experiment's fine-tuned models."""
    numbers = EXPERIMENTS[experiment]["folds"]
    return ["all"] if numbers == "all" else [f"fold{number}" for number in numbers]


def is_simulation_variant(path):
    """Whether fine-tuning makes its images itself, with the frozen pre-trained PSF."""
    return sample_of(path) is None and EXPERIMENTS[path]["finetune"] == "simulation"


def finetune_data(wildcards):
    """The raw stacks that a model is fine-tuned on."""
    row = sample_of(wildcards.experiment)
    if row is not None:
        return stack_of(row["name"])
    if is_simulation_variant(wildcards.experiment):
        return []
    return acquisitions(wildcards.experiment)


def train_option(path):
    """What fine-tuning changes: the whole model, unless the configuration says else."""
    chosen = EXPERIMENTS.get(path, config["sample"])
    return ["--train", chosen.get("train", "old")]


def finetune_options(wildcards, input):
    """Options that tell fine-tuning what to learn from."""
    row = sample_of(wildcards.experiment)
    if row is not None:
        return ["--data", row["file"], *reading_options(row)]
    if is_simulation_variant(wildcards.experiment):
        return ["--simulation"]
    folder = noisy_stacks(wildcards.experiment, input.data)
    beads = image_options(wildcards.experiment, input.data, wildcards.fold)
    return ["--data", folder, *beads]


def reading_options(row):
    """How to read a sample's file: what the file does not say itself."""
    words = []
    if VOXEL_SIZE[0] in row:
        words += ["--voxel-size", *(str(row[name]) for name in VOXEL_SIZE)]
    for key in ("channel", "planes_are"):
        words += repeated(f"--{key.replace('_', '-')}", [row[key]] if key in row else [])
    return words


def optics_options(row):
    """The microscope of a sample."""
    return [word for key in OPTICS if key in row for word in (f"--{key.lower()}", str(row[key]))]


# Pre-trained models that are another one with a network that aligns planes.
ALIGNED = [name for name in config["pretrained"] if resolved(name).align_params]


# Names that lead nowhere are found before anything runs.
for name in [*EXPERIMENTS, *config["pretrained"]]:
    pretrained_of(name)
for name, row in SAMPLES.items():
    try:
        pretrained_of(f"samples/{name}")
    except WorkflowError as error:
        raise WorkflowError(f"{row['where']}: {error}") from None
    # Stacks that are asked for by name are looked at here, for a plain line: Snakemake gives what an
    # input function raises a traceback.
    if any(f"enhanced/{name}." in word or f"samples/{name}/" in word for word in sys.argv):
        fitted(name)


# Predictions and figures --------------------------------------------------------------------------


def model_folder(experiment, method, fold):
    """Folder of the model whose network, or whose PSF, a method uses."""
    if method == "tenet":
        return (
            f"<results>/models/{EXPERIMENTS[experiment].get('model', experiment)}/{fold or 'all'}"
        )
    return f"<results>/models/{pretrained_of(experiment)}"


def baseline_folder(wildcards):
    """Folder of the trained baseline that restores an experiment's stacks."""
    experiment = EXPERIMENTS[wildcards.experiment].get("model", wildcards.experiment)
    fold = Path(wildcards.fold).name or "all"
    return f"<results>/baselines/{wildcards.method}/{experiment}/{fold}"


def methods_of(experiment):
    """Methods that restore an experiment's stacks: of those compared, the ones that it names."""
    own = EXPERIMENTS[experiment].get("methods", config["methods"])
    return [method for method in config["methods"] if method in own]


def method_options(wildcards):
    """The same for a command."""
    return repeated("--method", methods_of(wildcards.experiment))


def runs(experiment):
    """All predictions of an experiment: `method`, or `method/fold` for beads."""
    for method in methods_of(experiment):
        if not is_beads(experiment):
            yield method
        elif method in LEARN_FROM_STACKS:
            yield from (f"{method}/{fold}" for fold in folds(experiment))
        else:
            yield f"{method}/all"


def with_sweep(experiment):
    """Whether an experiment's evaluation sweeps thresholds."""
    return EXPERIMENTS[experiment]["evaluation"] in ("segmentation", "beads")


def truth_option(experiment, option="--phantoms"):
    """The phantoms behind simulated stacks."""
    if experiment is None or not is_simulated(experiment):
        return []
    name = EXPERIMENTS[experiment].get("phantoms", experiment)
    return [option, f"{config['results']}/phantoms/{name}"]


def tumour_of(experiment):
    """The experiment that shows the tumour beside the cells of another."""
    return EXPERIMENTS[experiment].get("tumour")


def normalisation(experiment):
    """The same for every method: that of the experiment, not of the model that a method borrows."""
    return ["--normalisation", resolved(experiment).train_dataset.normalisation]


def predictions(experiment):
    """Checksums of all predictions of an experiment."""
    return [f"<results>/predictions/{experiment}/{run}.sha256" for run in runs(experiment)]


def shown_in(figure):
    """Experiments that a figure or its table shows; figure 1 takes its example from figure 2."""
    if figure == "fig1":
        return [name for name in EXPERIMENTS if name == "fig2_phantoms"]
    return [name for name, spec in EXPERIMENTS.items() if spec["figure"] == figure]


def figure_of(table):
    """The figure that a table belongs to."""
    return next(figure for figure, name in TABLES.items() if name == table)


def psf_tables(figure):
    """Widths of the PSFs that a figure's table gives: those of the beads' folds."""
    return [
        f"{model_folder(name, 'tenet', fold)}/psf.csv"
        for name in shown_in(figure)
        if is_beads(name)
        for fold in folds(EXPERIMENTS[name].get("model", name))
    ]


def acquisition_option(figure):
    """The record of a simulated microscope, which knows the true widths of its PSF."""
    for name in shown_in(figure):
        if is_beads(name) and is_simulated(name):
            folder = f"{config['results']}/acquisitions/{EXPERIMENTS[name].get('images', name)}"
            return ["--acquisition", f"{folder}/acquisition.json"]
    return []


def training_words(name):
    """How long the model of an experiment is trained: before, and on its own images."""
    tuned, before = resolved(name), resolved(pretrained_of(name))
    crops = before.pretrain_loop.n_epochs * before.pretrain_dataset.I
    own = tuned.train_loop.n_epochs * tuned.train_dataset.I
    of_what = "images of phantoms" if is_simulation_variant(name) else "raw stacks"
    return f"pre-trained on {crops} crops of phantoms", f"fine-tuned on {own} crops of {of_what}"


def budget_options(figure):
    """How the methods of a figure's table were trained or tuned."""
    names = shown_in(figure)
    pretrained, fine = training_words(names[0])
    tuned_over = "{iterations} iterations and weights {tv_weights} tried".format(**config["rltv"])
    words = {
        "tenet": f"{pretrained}; {fine}",
        "pretrained": pretrained,
        "rltv": f"{tuned_over} on held-out phantoms",
        "rltv_paper": "settings of the paper; threshold on held-out phantoms",
    }
    for name in names:
        if name.endswith("_as_published"):
            words["pretrained_published"], fine = training_words(name)
            words["tenet_published"] = f"{words['pretrained_published']}; {fine}"
    for method in ("care", "neuroclear"):
        spec = config[method]
        steps = spec["n_epochs"] * spec["steps_per_epoch"]
        batch = f" of {spec['batch_size']}" if "batch_size" in spec else ""
        again = ", again if results do not show what the image shows" * (method == "neuroclear")
        words[method] = f"trained for {steps} steps{batch}{again}"
    return repeated("--budget", (f"{method}={said}" for method, said in words.items()))


def compared_in(figure):
    """Experiments of a figure, and the one that the supplement's ablations are compared with."""
    beads = figure == "supp" and "fig3_beads" in EXPERIMENTS
    return [*(["fig3_beads"] if beads else []), *shown_in(figure)]


def measured(figure):
    """Tables of measures behind a figure; the tumour of figure 5 is measured with the cells."""
    return [
        f"<results>/metrics/{name}.csv"
        for name in compared_in(figure)
        if EXPERIMENTS[name]["evaluation"] != "none"
    ]


def histories():
    """The course of every training behind the configured figures."""
    found = set()
    for name in (name for figure in config["figures"] for name in compared_in(figure)):
        model = EXPERIMENTS[name].get("model", name)
        pretrained = pretrained_of(name)
        if pretrained in ALIGNED:
            found.add(f"models/{pretrained}/alignment")
            pretrained = pretrained_of(pretrained)
        found.add(f"models/{pretrained}")
        for method in set(LEARN_FROM_STACKS) & set(methods_of(name)):
            top = "models" if method == "tenet" else f"baselines/{method}"
            found |= {f"{top}/{model}/{fold}" for fold in folds(model)}
    return [f"<results>/{folder}/history.csv" for folder in sorted(found)]


def figure_parameters(wildcards, input):
    """What a notebook is told, as JSON: the results, and which raw stacks its figure shows."""
    known = {"results": config["results"]}
    shown = shown_in(wildcards.figure)
    for experiment, prefix in FIRST_SHOWN.get(wildcards.figure, {}).items():
        if experiment not in shown:
            continue
        checksums = input.acquisitions[shown.index(experiment)]
        known[f"{prefix}data"] = stacks(experiment, checksums)
        if wildcards.figure == "fig5" and not is_simulated(experiment):
            known[f"{prefix}channel"] = EXPERIMENTS[experiment].get("channel")
        if not prefix:
            known["simulated"] = is_simulated(experiment)
        if is_beads(experiment):
            known["rois"] = rois(experiment) or f"{without_suffix(checksums)}/rois.csv"
    if wildcards.figure == "supp":
        known["simulated"] = any(map(is_simulated, shown))
        known["published_beads"] = input.published
    if wildcards.figure == "supp_training":
        known["histories"] = list(input.histories)
    return json.dumps(known, ensure_ascii=False)  # YAML has no escapes for letters beyond 16 bits


def figure_inputs(wildcards):
    """Everything that a figure may read."""
    names = shown_in(wildcards.figure)
    models = [
        f"{model_folder(name, 'tenet', fold)}/{file}"
        for name in compared_in(wildcards.figure)
        for fold in folds(EXPERIMENTS[name].get("model", name))
        for file in ("model.pt", "psf.csv", "history.csv", "threshold.json")
    ]
    if wildcards.figure == "supp_training":
        return {"histories": histories()}
    if wildcards.figure == "fig1":
        return {"models": models, "acquisitions": [acquisitions(name) for name in names]}
    return {
        "metrics": measured(wildcards.figure),
        "sweeps": [
            f"<results>/metrics/{name}_sweep.csv"
            for name in compared_in(wildcards.figure)
            if with_sweep(name)
        ],
        "cells": [
            path
            for name in names
            if EXPERIMENTS[name]["evaluation"] == "cells"
            for path in (
                f"<results>/tables/{name}_cells.csv",
                f"<results>/metrics/{name}_projections.npz",
            )
        ],
        "predictions": [path for name in names for path in predictions(name)],
        "acquisitions": [acquisitions(name) for name in names],
        "phantoms": [phantoms_of(name) for name in names if is_simulated(name)],
        "models": sorted(set(models)),
        "alignment": [
            f"<results>/models/{model}/alignment/history.csv"
            for model in sorted({pretrained_of(name) for name in names} & set(ALIGNED))
        ],
        "table": (
            f"<results>/tables/{TABLES[wildcards.figure]}.csv" if wildcards.figure in TABLES else []
        ),
        "published": "resources/bead_metrics_per_roi.csv" if wildcards.figure == "supp" else [],
    }
