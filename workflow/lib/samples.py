"""The user's own stacks: rows of the sample table, and options of commands.

A path ``samples/NAME…`` stands for a sample where rules otherwise have the name of an experiment.
"""

from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

from tenet.settings.own_stack import RAW_DATASETS
from tenet.settings.schema import Experiment
from workflow.lib.catalogue import Catalogue, resolved
from workflow.lib.sample_fit import fitted_experiment
from workflow.lib.sample_table import OPTICS, VOXEL_SIZE, Sample
from workflow.lib.words import assignments, repeated


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
    """Fit the settings to a sample's stack, of which all is checked that its header tells.

    Raises
    ------
    WorkflowError
        If the stack cannot do, in one line that begins with that of the table.
    """
    row = sample(catalogue, name)
    base = resolved(catalogue, experiment_name(catalogue, f"samples/{name}"))
    try:
        return fitted_experiment(row, base)
    except ValueError as error:
        raise WorkflowError(str(error)) from None


def stack_of(catalogue: Catalogue, name: str) -> str:
    """Name a sample's stack, refused before anything runs if its header shows it cannot do."""
    fitted(catalogue, name)
    return str(sample(catalogue, name)["file"])


def sample_record(catalogue: Catalogue, path: str) -> list[str]:
    """Name the record that a sample's intensities were checked; nothing for an experiment."""
    row = sample_of(catalogue, path)
    return [f"<results>/models/samples/{row['name']}/stack.json"] if row else []


def own_settings(catalogue: Catalogue, path: str) -> list[str]:
    """Name the file of settings made for a sample with optics of its own; nothing for others."""
    row = sample_of(catalogue, path)
    if row is None or "experiment" in row:
        return []
    return [f"<results>/models/samples/{row['name']}/experiment.json"]


def experiment_name(catalogue: Catalogue, path: str) -> str:
    """Name the experiment behind a model: its own, that of a sample, or that of all own optics."""
    row = sample_of(catalogue, path)
    if row is None:
        return path
    return str(row.get("experiment", catalogue.config["sample"]["experiment"]))


def experiment_argument(catalogue: Catalogue, path: str, own: object) -> list[str]:
    """Give EXPERIMENT of a command, and what a file of own settings already holds.

    Parameters
    ----------
    catalogue : Catalogue
    path : str
        An experiment, or ``samples/NAME…``.
    own : object
        The file of own settings, if there is one.
    """
    if own:
        return [str(own)]
    name = experiment_name(catalogue, path)
    return [name, *catalogue.overlays, *crop_settings(catalogue, path)]


def crop_settings(catalogue: Catalogue, path: str) -> list[str]:
    """Give `--set` options that make crops fit a sample smaller than those of its experiment."""
    row = sample_of(catalogue, path)
    if row is None:
        return []
    own = fitted(catalogue, row["name"])
    named = resolved(catalogue, experiment_name(catalogue, path))
    return assignments(
        {
            f"{section}.{key}": getattr(getattr(own, section), key)
            for section in RAW_DATASETS
            for key in ("cropsize", "mask_size")
            if getattr(getattr(own, section), key) != getattr(getattr(named, section), key)
        }
    )


def reading_options(row: Sample | None) -> list[str]:
    """Give how to read a sample's file: what the file does not say itself."""
    if row is None:
        return []
    words = []
    if VOXEL_SIZE[0] in row:
        words += ["--voxel-size", *(str(row[name]) for name in VOXEL_SIZE)]
    for key in ("channel", "planes_are"):
        words += repeated(f"--{key.replace('_', '-')}", [row[key]] if key in row else [])
    return words


def optics_options(row: Sample) -> list[str]:
    """Give the microscope of a sample."""
    return [word for key in OPTICS if key in row for word in (f"--{key.lower()}", str(row[key]))]
