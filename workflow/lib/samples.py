"""The user's own stacks: rows of the sample table, and options of commands.

A path ``samples/NAME`` stands for a sample where rules otherwise have the name of an experiment,
and ``shared/NAME`` for the pre-trained model of samples with equal optics and voxels.
"""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

from tenet.io.folders import stack_files
from tenet.io.inside import holder
from tenet.settings.schema import Experiment
from workflow.lib.catalogue import Catalogue, bare, resolved
from workflow.lib.sample_fit import fitted_experiment, has_several, settings_of_model
from workflow.lib.sample_table import PICKED, VOXEL_SIZE, Sample, checked_path
from workflow.lib.served import serving_model
from workflow.lib.shared import FOLDER, SharedModel
from workflow.lib.words import repeated

#: The target that stands for the results of all samples.
ALL = "samples"


def sample(catalogue: Catalogue, name: str) -> Sample:
    """Look up a row of the sample table.

    Raises
    ------
    WorkflowError
        If there is none of that name.
    """
    if name not in catalogue.samples:
        known = ", ".join(catalogue.samples) or "none yet"
        table = catalogue.config["samples"]
        raise WorkflowError(f"there is no sample '{name}' in {table}; known: {known}")
    return catalogue.samples[name]


def sample_of(catalogue: Catalogue, path: str) -> Sample | None:
    """Look up the row that `samples/NAME…` stands for; None for an experiment."""
    folder, *name = Path(path).parts
    return sample(catalogue, name[0]) if folder == "samples" and name else None


@cache
def fitted(catalogue: Catalogue, name: str) -> Experiment:
    """Fit the settings to a sample's stacks, of which all is checked that their headers tell.

    Raises
    ------
    WorkflowError
        If the stacks or the model cannot do, in one line that begins with that of the table.
    """
    row = sample(catalogue, name)
    try:
        return fitted_experiment(row, base_experiment(catalogue, row))
    except ValueError as error:
        raise WorkflowError(str(error)) from None


def base_experiment(catalogue: Catalogue, row: Sample) -> Experiment:
    """Give the settings that a sample starts from: of its model, its experiment, or of all others.

    Raises
    ------
    WorkflowError
        If the model of the row is none, or cannot be told a thickness, in one line that begins with
        that of the table.
    """
    serving = serving_model(catalogue, row["name"])
    if serving is None and "thickness_um" in row:
        raise WorkflowError(
            f"{row['where']}: thickness_um is told to a model of every microscope alone: leave it "
            "out"
        )
    folder = serving or row.get("model")
    if folder is None:
        return resolved(catalogue, experiment_name(catalogue, f"samples/{row['name']}"))
    try:
        return settings_of_model(Path(folder), row["where"])
    except ValueError as error:
        raise WorkflowError(str(error)) from None


def check_asked(catalogue: Catalogue, words: Iterable[str]) -> None:
    """Check samples that a command line asks for: Snakemake would give errors a traceback.

    Parameters
    ----------
    catalogue : Catalogue
    words : iterable of str
        Of the command line.

    Raises
    ------
    WorkflowError
        If the stacks of a sample cannot do, or its results have another name.
    """
    words = list(words)
    for name, row in catalogue.samples.items():
        file = any(f"enhanced/{name}." in word for word in words)
        folder = any(f"enhanced/{name}/" in f"{word}/" for word in words)
        inside = any(re.search(rf"enhanced/{name}/[^/]", word) for word in words)
        if file or folder or ALL in words or any(f"samples/{name}/" in word for word in words):
            fitted(catalogue, name)
        if (file or inside) if has_several(row) else folder:
            right = result_of(row).replace("<results>", catalogue.config["results"])
            raise WorkflowError(f"{row['where']}: its result is {right}: ask for that")
        if any(f"models/samples/{name}/all" in word for word in words):
            _check_trained(catalogue, row)


def _check_trained(catalogue: Catalogue, row: Sample) -> None:
    if serving_model(catalogue, row["name"]) is not None:
        raise WorkflowError(
            f"{row['where']}: a model of every microscope enhances it, and none is trained for it: "
            "give train, as old, to train one"
        )


def result_of(row: Sample) -> str:
    """Name a sample's result: a file, or a folder where it has several."""
    return f"<results>/enhanced/{row['name']}{'' if has_several(row) else '.ome.tif'}"


def result_options(catalogue: Catalogue, name: str, output: str) -> list[str]:
    """Give the options for a sample's result: name and folder of a file, or the folder alone."""
    if has_several(sample(catalogue, name)):
        return ["--out", _unfinished(output)]
    return ["--name", name, "--out", str(Path(output).parent)]


def finished(catalogue: Catalogue, name: str, output: str) -> list[str]:
    """Name what `finish_folder.py` renames once no stack of a sample has failed; a file: nothing.

    Snakemake removes the output of a job that failed. So results lie beside it until all are there,
    and the next run makes those that are missing.
    """
    if has_several(sample(catalogue, name)):
        return [_unfinished(output), output]
    return []


def _unfinished(output: str) -> str:
    return f"{output}.unfinished"


def results(catalogue: Catalogue) -> list[str]:
    """Name the results of all samples."""
    return [result_of(row) for row in catalogue.samples.values()]


def stacks_of(catalogue: Catalogue, name: str) -> list[str]:
    """Name the files of a sample's stacks, refused before anything runs if a header is wrong."""
    fitted(catalogue, name)
    row = sample(catalogue, name)
    try:
        stacks = stack_files(Path(row["file"]))
        return [checked_path(str(holder(stack)[0]), row["where"]) for stack in stacks]
    except ValueError as error:
        raise WorkflowError(str(error)) from None


def sample_record(catalogue: Catalogue, path: str) -> list[str]:
    """Name the record that a sample's intensities were checked, if something is trained on them.

    Enhancing checks them itself.
    """
    row = sample_of(catalogue, path)
    if row is None or serving_model(catalogue, row["name"]) is not None:
        return []
    return [f"<results>/models/samples/{row['name']}/stacks.json"]


def shared_model(catalogue: Catalogue, path: str) -> SharedModel | None:
    """Give the pre-trained model that samples with optics of their own share; None for others.

    Parameters
    ----------
    catalogue : Catalogue
    path : str
        ``samples/NAME``, ``shared/NAME``, or an experiment.

    Raises
    ------
    WorkflowError
        If a name under ``shared/`` is not that of such a model.
    """
    if path.startswith(FOLDER):
        try:
            return SharedModel.named(path.removeprefix(FOLDER))
        except ValueError as error:
            raise WorkflowError(str(error)) from None
    row = sample_of(catalogue, path)
    if row is None or "experiment" in row or "model" in row:
        return None
    return SharedModel.of(fitted(catalogue, row["name"]).params)


def shared_options(catalogue: Catalogue, name: str) -> list[str]:
    """Give the options of `tenet samples experiment` for a shared model."""
    model = shared_model(catalogue, FOLDER + name)
    return model.options() if model else []


def normalisation(catalogue: Catalogue, name: str) -> list[str]:
    """Give the normalisation of a sample's intensities."""
    experiment = base_experiment(catalogue, sample(catalogue, name))
    return ["--normalisation", experiment.train_dataset.normalisation]


def own_settings(catalogue: Catalogue, path: str) -> list[str]:
    """Name the file of settings of a shared model, or of the model of a row; nothing for others."""
    row = sample_of(catalogue, path)
    if row is not None and "model" in row:
        return [f"{model_of(row)}/experiment.json"]
    model = shared_model(catalogue, path)
    return [f"<results>/models/{FOLDER}{model.name}.json"] if model else []


def model_of(row: Sample) -> str:
    """Name the folder of the model that a row names, which no rule makes."""
    return str(Path(row["model"]).absolute())


def experiment_name(catalogue: Catalogue, path: str) -> str:
    """Name the experiment behind a model: its own, that of a sample, or that of all own optics."""
    row = sample_of(catalogue, path)
    if row is None and not path.startswith(FOLDER):
        return path
    return str((row or {}).get("experiment", catalogue.config["sample"]["experiment"]))


def experiment_argument(catalogue: Catalogue, path: str, own: object) -> list[str]:
    """Give EXPERIMENT of a command, and what a file of own settings already holds.

    Parameters
    ----------
    catalogue : Catalogue
    path : str
        An experiment, ``published/NAME``, ``samples/NAME``, or ``shared/NAME``.
    own : object
        The file of own settings, if there is one.
    """
    if own:
        return [str(own)]
    name = experiment_name(catalogue, path)
    return [bare(name), *catalogue.overlay_options(path)]


def reading_options(row: Sample | None) -> list[str]:
    """Give how to read a sample's file: what the file does not say itself."""
    if row is None:
        return []
    words = []
    if VOXEL_SIZE[0] in row:
        words += ["--voxel-size", *(str(row[name]) for name in VOXEL_SIZE)]
    for key in (*PICKED, "planes_are", "scan_offset"):
        words += repeated(f"--{key.replace('_', '-')}", [row[key]] if key in row else [])
    return words
