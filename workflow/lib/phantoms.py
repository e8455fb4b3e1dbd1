"""Sets of phantoms: the command that draws each, and the files behind the user's own."""

from pathlib import Path

from snakemake.exceptions import WorkflowError

from workflow.lib.catalogue import Catalogue
from workflow.lib.words import assignments, repeated

#: Phantoms that stand in for tissue.
TISSUES = ("neurons", "microglia", "tumour")
MOST_WORKERS = 7  # of 4 GB each


def phantom_command(catalogue: Catalogue, name: str) -> list[str]:
    """Give the command and options that draw a set of phantoms."""
    spec = catalogue.phantom_set(name)
    if spec["kind"] == "import":
        return ["import", spec["folder"]]
    words = ["tissue", spec["kind"]] if spec["kind"] in TISSUES else [spec["kind"]]
    if "experiment" in spec:
        words += [spec["experiment"], *catalogue.overlays]
    if "size" in spec:
        words += ["--size", *map(str, spec["size"])]
    for key in ("angle", "lines", "beads", "cells", "count"):
        words += repeated(f"--{key}", [spec[key]] if key in spec else [])
    if spec["kind"] == "angle":
        words += repeated("--draw", catalogue.config["seeds"])
    return [*words, *assignments(spec.get("set", {})), "--seed", str(catalogue.seed(name))]


def own_phantoms(catalogue: Catalogue, name: str) -> list[str]:
    """List the files that a set of the user's own phantoms is made of.

    Raises
    ------
    WorkflowError
        If their folder holds none.
    """
    spec = catalogue.phantom_set(name)
    if spec["kind"] != "import":
        return []
    files = sorted(map(str, Path(spec["folder"]).glob("*.npz")))
    if not files:
        raise WorkflowError(f"phantoms: {name}: there are no .npz files in {spec['folder']}")
    return files


def phantom_workers(catalogue: Catalogue, name: str, cores: int) -> int:
    """Count the processes that draw a set: one a volume, on half the cores and seven at most.

    A job that needs all cores would wait until none runs, a training of many minutes for one.
    """
    spec = catalogue.phantom_set(name)
    most = min(MOST_WORKERS, max(cores // 2, 1))
    return min(spec.get("count", most), most) if spec["kind"] == "training" else 1
