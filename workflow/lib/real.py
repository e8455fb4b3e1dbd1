"""The bench of real structures: its conditions, and the files that the user brings."""

import re
from collections.abc import Iterable
from pathlib import Path

from snakemake.exceptions import WorkflowError

from tenet.errors import TenetError
from tenet.model.shipped import shipped_model
from workflow.lib.catalogue import Catalogue
from workflow.lib.words import repeated

#: The model that meets a kind of structure: that of stacks whose optics are not told otherwise, and
#: of thin structures where a microscopist would know that they are.
MODELS = {"dendrites": "sample_thin", "vessels": "sample"}
#: Files of a model that the bench reads.
FILES = ("model.pt", "experiment.json", "threshold.json", "psf.csv", "optimiser.pt", "fisher.pt")
#: Files that each kind of structure is read from.
STRUCTURES = {
    "dendrites": ("em_dendrites.npz", "em_spine_tips.csv"),
    "vessels": ("vessels_label.nii.gz",),
}
RESULTS = "<results>/real/{kind}_{beam}/results.csv"


def results(catalogue: Catalogue) -> list[str]:
    """Name the results of all conditions.

    Raises
    ------
    WorkflowError
        If the configuration has no bench of real structures.
    """
    bench = catalogue.config.get("real")
    if bench is None:
        raise WorkflowError("the bench of real structures needs config/real.yaml: run make real")
    return [
        RESULTS.format(kind=kind, beam=beam) for kind in bench["kinds"] for beam in bench["beams"]
    ]


def model_files(kind: str) -> list[str]:
    """Name the files of the model that meets a kind of structure."""
    return [f"<results>/models/{MODELS[kind]}/{file}" for file in FILES]


def every_microscope(catalogue: Catalogue) -> list[str]:
    """Name the weights of the model of every microscope, if it is one of the methods.

    Raises
    ------
    WorkflowError
        If there is no such model, in one line.
    """
    if "box" not in (catalogue.config.get("real") or {}).get("methods", []):
        return []
    try:
        return [str(shipped_model() / FILES[0])]
    except TenetError as error:
        raise WorkflowError(str(error)) from None


def structures(catalogue: Catalogue, kind: str) -> list[str]:
    """Name the files of a kind of structure.

    Raises
    ------
    WorkflowError
        If one is missing, in one line.
    """
    folder = Path(catalogue.config["real"]["folder"])
    files = [folder / name for name in STRUCTURES[kind]]
    for file in files:
        if not file.is_file():
            raise WorkflowError(
                f"{file} is missing: {kind} are no part of the project (docs/measurements/real.md "
                "says where they are from); name their folder: make real DATA=FOLDER"
            )
    return [str(file) for file in files]


def check_asked(catalogue: Catalogue, words: Iterable[str]) -> None:
    """Check that the structures are there, if a command line asks for the bench.

    Raises
    ------
    WorkflowError
        If a file is missing.
    """
    bench = catalogue.config.get("real")
    if bench and any(re.search(r"/real(/|\.pdf$|\.png$|$)", word) for word in words):
        for kind in bench["kinds"]:
            structures(catalogue, kind)


def options(catalogue: Catalogue) -> list[str]:
    """Give the options of `tenet evaluate real`."""
    bench = catalogue.config.get("real") or {}
    return [
        *repeated("--data", [bench["folder"]] if bench else []),
        *repeated("--seeds", [bench["seeds"]] if bench else []),
        *repeated("--method", bench.get("methods", [])),
    ]
