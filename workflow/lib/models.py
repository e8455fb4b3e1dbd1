"""Models: what each starts from and learns from, and the predictions that come of them."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError

from tenet.errors import TenetError
from tenet.model.shipped import BOX, ONE_PHOTON, shipped_model
from tenet.paper.evaluate.tables import PROBABILITIES
from workflow.lib.catalogue import (
    PUBLISHED,
    TENET_PUBLISHED,
    Catalogue,
    bare,
    is_published,
    path_of,
    resolved,
)
from workflow.lib.samples import (
    experiment_name,
    model_of,
    reading_options,
    sample,
    sample_of,
    shared_model,
    stacks_of,
)
from workflow.lib.served import OPTIONS, serving_model
from workflow.lib.shared import FOLDER
from workflow.lib.stacks import acquisitions, image_options, noisy_folder, rois
from workflow.lib.words import assignments, repeated

#: Methods that fine-tune a model of TENET, and all methods with a model for each fold.
FINE_TUNED = ("tenet", TENET_PUBLISHED)
LEARN_FROM_STACKS = (*FINE_TUNED, "care", "neuroclear")
#: Files of a pre-trained model that fine-tuning reads; only a training here writes the last two.
STARTING_POINT = ("model.pt", "experiment.json", "threshold.json", "optimiser.pt", "fisher.pt")
#: Levels that results are stored in, by what is measured in them: of probabilities and of
#: intensities. Average precision ranks voxels, most of which are near 0 or 1 where they are
#: probabilities; for a mask or a width fewer are enough (docs/measurements/cost.md).
LEVELS = {
    "segmentation": (16383, 1023),
    "beads": (65535, 65535),
    "profiles": (1023, 1023),
    "cells": (1023, 1023),
    "none": (1023, 1023),
}
#: Files of a model that enhancing reads, the weights first.
ENHANCING = ("model.pt", "experiment.json", "threshold.json")


def pretrained_of(catalogue: Catalogue, path: str) -> str:
    """Name the model that an experiment or a sample starts from: a path if a row names a folder.

    That of ``published/NAME`` has the published settings too.

    Raises
    ------
    WorkflowError
        If the configuration lacks it.
    """
    row = sample_of(catalogue, path)
    if row is not None and "model" in row:
        return model_of(row)
    shared = shared_model(catalogue, path)
    if shared is not None:
        return FOLDER + shared.name
    name = experiment_name(catalogue, path)
    model = resolved(catalogue, name).pretrained_model or bare(name)
    if model not in catalogue.config["pretrained"]:
        raise WorkflowError(
            f"experiment {bare(name)} starts from the pre-trained model {model}, "
            "which the configuration lacks under pretrained"
        )
    return f"{PUBLISHED}{model}" if is_published(name) else model


def pretrained_file(catalogue: Catalogue, path: str, file: str) -> str:
    """Name a file of the pre-trained model that an experiment or a sample starts from."""
    return f"{folder_of(pretrained_of(catalogue, path))}/{file}"


def folder_of(model: str) -> str:
    """Name the folder of a pre-trained model."""
    return model if os.path.isabs(model) else f"<results>/models/{model}"


def pretrained_files(catalogue: Catalogue, path: str, *files: str) -> list[str]:
    """Name files of the model that an experiment or a sample starts from, the first one always.

    A folder that a row names may lack some.
    """
    named = [pretrained_file(catalogue, path, file) for file in files]
    if not os.path.isabs(named[0]):
        return named
    return [file for file in named if file == named[0] or os.path.exists(file)]


def starting_point(catalogue: Catalogue, path: str) -> list[str]:
    """Name the files that fine-tuning reads; weights from elsewhere come without the last two."""
    imported = catalogue.imported(pretrained_of(catalogue, path)) is not None
    return pretrained_files(catalogue, path, *STARTING_POINT[: 3 if imported else 5])


def imported_models(catalogue: Catalogue) -> list[str]:
    """Name the models whose weights come from files, and not from a training."""
    return [f"{PUBLISHED}{name}" for name in catalogue.config["published"]["weights"]]


def experiment_of_model(path: str) -> str:
    """Name the experiment of a model: a fine-tuned model has a fold after it."""
    top = PUBLISHED if is_published(path) else ""
    return top + bare(path).split("/")[0]


def settings_of_import(catalogue: Catalogue, path: str) -> dict[str, Any]:
    """Give the settings that go with imported weights."""
    return resolved(catalogue, experiment_of_model(path)).effective()


def check_models(catalogue: Catalogue) -> None:
    """Find names that lead nowhere before anything runs.

    Raises
    ------
    WorkflowError
        If an experiment or a sample starts from a model that the configuration lacks.
    """
    for name in catalogue.experiments:
        if TENET_PUBLISHED in catalogue.methods_of(name):
            pretrained_of(catalogue, path_of(name, TENET_PUBLISHED))
    for name in [*catalogue.experiments, *catalogue.config["pretrained"]]:
        pretrained_of(catalogue, name)
    for name, row in catalogue.samples.items():
        if "experiment" not in row:
            continue  # its stacks and its model are looked at when the sample is asked for
        try:
            pretrained_of(catalogue, f"samples/{name}")
        except WorkflowError as error:
            raise WorkflowError(f"{row['where']}: {error}") from None
        if resolved(catalogue, row["experiment"]).microscopes.free is not None:
            raise WorkflowError(
                f"{row['where']}: experiment {row['experiment']} is of every microscope: leave it "
                "out, and give NA, wavelength and ni"
            )


def aligned_models(catalogue: Catalogue) -> list[str]:
    """Name the pre-trained models that are another one with a network that aligns planes."""
    return [
        name for name in catalogue.config["pretrained"] if resolved(catalogue, name).align_params
    ]


def training_set(catalogue: Catalogue, model: str, role: str) -> str:
    """Name the checksums of the phantoms that a model is trained on, or tuned on.

    Parameters
    ----------
    catalogue : Catalogue
    model : str
        A pre-trained model.
    role : str
        ``phantoms`` or ``tuning``.

    Raises
    ------
    WorkflowError
        If there is no such model.
    """
    config = catalogue.config
    own = model.startswith(FOLDER) or os.path.isabs(model)
    spec = config["sample"] if own else config["pretrained"].get(bare(model))
    if spec is None:
        raise WorkflowError(f"there is no pre-trained model '{model}' in the configuration")
    return f"<results>/phantoms/{spec[role]}.sha256"


def start_of(catalogue: Catalogue, model: str) -> list[str]:
    """Name the files of the model whose encoder a pre-training begins with, if it has one."""
    start = catalogue.config["pretrained"].get(model, {}).get("start")
    return [] if start is None else [f"{folder_of(start)}/{file}" for file in STARTING_POINT[:2]]


def start_option(files: Iterable[str]) -> list[str]:
    """Give the option that tells a pre-training what `start_of` names."""
    return repeated("--start", (Path(file).parent for file in list(files)[:1]))


# Fine-tuning --------------------------------------------------------------------------------------


def is_simulation_variant(catalogue: Catalogue, path: str) -> bool:
    """Whether fine-tuning makes its images itself, with the frozen pre-trained PSF."""
    if sample_of(catalogue, path) is not None:
        return False
    return bool(catalogue.experiments[bare(path)]["finetune"] == "simulation")


def finetune_data(catalogue: Catalogue, path: str) -> str | list[str]:
    """Name the raw stacks that a model is fine-tuned on."""
    row = sample_of(catalogue, path)
    if row is not None:
        return stacks_of(catalogue, row["name"])
    if is_simulation_variant(catalogue, path):
        return []
    return acquisitions(catalogue, bare(path))


def finetune_rois(catalogue: Catalogue, path: str) -> str | list[str]:
    """Name the table of the beads that a fold's model never sees; nothing for a sample."""
    return [] if sample_of(catalogue, path) else rois(catalogue, bare(path))


def train_option(catalogue: Catalogue, path: str) -> list[str]:
    """Give what fine-tuning changes: the whole model, unless the configuration says else."""
    if is_published(path):
        return ["--train", "old"]
    row = sample_of(catalogue, path) or {}
    chosen = row if "train" in row else catalogue.experiments.get(path, catalogue.config["sample"])
    return ["--train", chosen.get("train", "old")]


def finetune_options(catalogue: Catalogue, path: str, data: object, fold: str) -> list[str]:
    """Give options that tell fine-tuning what to learn from."""
    row = sample_of(catalogue, path)
    if row is not None:
        return ["--data", row["file"], *reading_options(row)]
    if is_simulation_variant(catalogue, path):
        return ["--simulation"]
    experiment = bare(path)
    folder = noisy_folder(catalogue, experiment, data)
    return ["--data", folder, *image_options(catalogue, experiment, data, fold)]


def box_options(catalogue: Catalogue, experiment: str) -> list[str]:
    """Tell a model of every microscope what an experiment tells its own: voxels and optics."""
    settings = resolved(catalogue, experiment)
    params = settings.params
    optics = {
        "NA": params.NA,
        "wavelength": params.wavelength,
        "ni": min(params.ni, params.ni0),
        "photons": params.photons,
    }
    return [
        "--voxel-size",
        *map(str, params.coarse_voxel_size_um),
        *(word for column, option in OPTIONS.items() for word in (option, str(optics[column]))),
        *([] if params.structure_um is None else ["--thickness", str(params.structure_um)]),
        *assignments({"train_dataset.normalisation": settings.train_dataset.normalisation}),
    ]


def test_image_options(catalogue: Catalogue, experiment: str) -> list[str]:
    """Give a baseline the images that no training of an experiment reads; TENET's has its own."""
    return repeated("--test-image", resolved(catalogue, experiment).test_dataset.test_images)


# Predictions --------------------------------------------------------------------------------------


def model_folder(catalogue: Catalogue, experiment: str, method: str, fold: str) -> str:
    """Name the folder of the model whose network, or whose PSF, a method uses."""
    if method in FINE_TUNED:
        owner = path_of(catalogue.owner_of_model(experiment), method)
        return f"<results>/models/{owner}/{fold.strip('/') or 'all'}"
    if method == BOX:
        return f"<results>/models/served/{catalogue.owner_of_model(experiment)}"
    return f"<results>/models/{pretrained_of(catalogue, experiment)}"


def baseline_folder(catalogue: Catalogue, experiment: str, method: str, fold: str) -> str:
    """Name the folder of the trained baseline that restores an experiment's stacks."""
    owner = catalogue.owner_of_model(experiment)
    return f"<results>/baselines/{method}/{owner}/{Path(fold).name or 'all'}"


def sample_model(catalogue: Catalogue, name: str) -> list[str]:
    """Name the files that enhancing reads of a sample's model.

    It is fine-tuned, unless `train` is none or the model is one of every microscope.

    Raises
    ------
    WorkflowError
        If the stacks or the model of the row cannot do.
    """
    path = f"samples/{name}"
    serving = serving_model(catalogue, name)
    if serving is not None:
        return files_of_box(serving)
    if sample(catalogue, name).get("train") == "none":
        return pretrained_files(catalogue, path, *ENHANCING)
    return [f"<results>/models/{path}/all/{file}" for file in ENHANCING]


def files_of_box(folder: Path | None = None) -> list[str]:
    """Name the files that enhancing reads of a model of every microscope; by default TENET's own.

    The phantoms of its calibration decide the threshold of each stack.

    Raises
    ------
    WorkflowError
        If it is not there.
    """
    try:
        folder = folder or shipped_model()
    except TenetError as error:
        raise WorkflowError(str(error)) from None
    files = [
        path
        for part in (folder, folder / ONE_PHOTON)
        for path in (*(part / file for file in ENHANCING), *_tuning_phantoms(part))
    ]
    return [str(path) for path in files if path.exists()]


def _tuning_phantoms(folder: Path) -> list[Path]:
    return sorted(folder.glob("tuning/[!.]*.zarr.zip"))


def enhancing_model(catalogue: Catalogue, experiment: str, method: str, fold: str) -> list[str]:
    """Name the files of a model that enhancing reads."""
    folder = model_folder(catalogue, experiment, method, fold)
    return [f"{folder}/{file}" for file in ENHANCING]


def trained_baseline(catalogue: Catalogue, experiment: str, method: str, fold: str) -> list[str]:
    """Name the files of the trained baseline that restores an experiment's stacks."""
    folder = baseline_folder(catalogue, experiment, method, fold)
    return [f"{folder}/{file}" for file in ("model.pt", "settings.json")]


def rltv_settings(catalogue: Catalogue, experiment: str) -> str:
    """Name the settings of Richardson-Lucy, which is tuned for each pre-trained model."""
    return f"<results>/baselines/rltv/{pretrained_of(catalogue, experiment)}.json"


def normalisation(catalogue: Catalogue, experiment: str, method: str = "tenet") -> list[str]:
    """Give the normalisation of the experiment, the same for every method and borrowed model.

    Only the models with all published settings keep the published one.
    """
    settings = resolved(catalogue, path_of(experiment, method))
    return ["--normalisation", settings.train_dataset.normalisation]


def level_options(catalogue: Catalogue, experiment: str, method: str) -> list[str]:
    """Give the option for how finely a method's results for an experiment are stored."""
    of_probabilities, of_intensities = LEVELS[catalogue.experiments[experiment]["evaluation"]]
    return ["--levels", str(of_probabilities if method in PROBABILITIES else of_intensities)]


def runs(catalogue: Catalogue, experiment: str) -> Iterator[str]:
    """List the predictions of an experiment: `method`, or `method/fold` for beads."""
    for method in catalogue.methods_of(experiment):
        if not catalogue.is_beads(experiment):
            yield method
        elif method in LEARN_FROM_STACKS:
            yield from (f"{method}/{fold}" for fold in catalogue.folds(experiment))
        else:
            yield f"{method}/all"


def predictions(catalogue: Catalogue, experiment: str) -> list[str]:
    """Name the checksums of all predictions of an experiment."""
    folder = f"<results>/predictions/{experiment}"
    return [f"{folder}/{run}.sha256" for run in runs(catalogue, experiment)]
