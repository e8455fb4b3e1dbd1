"""What the configuration and the sample table name: experiments, their settings, folds, methods."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from zlib import crc32

from snakemake.exceptions import WorkflowError

from tenet.errors import TenetError
from tenet.settings.load import load_experiment
from tenet.settings.schema import Experiment
from workflow.lib.sample_table import Sample, read_samples
from workflow.lib.validation import check_config, check_files, check_weights, experiments_of
from workflow.lib.words import repeated

#: Begins the path of a model with all published settings, as ``samples/`` that of an own stack.
PUBLISHED = "published/"
#: The method that restores stacks with such models.
TENET_PUBLISHED = "tenet_published"


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The checked configuration and the rows of the sample table.

    Parameters
    ----------
    config : mapping
        The merged configuration.
    samples : mapping
        Rows of the sample table by name.
    root : Path
        The repository.
    """

    config: Mapping[str, Any]
    samples: Mapping[str, Sample]
    root: Path

    @classmethod
    def load(
        cls, config: Mapping[str, Any], root: Path, *, files: Iterable[str | Path] = ()
    ) -> "Catalogue":
        """Check a configuration and read the sample table that it names.

        Parameters
        ----------
        config : mapping
            The merged configuration.
        root : Path
            The repository.
        files : iterable of path
            The files that the configuration was merged from.

        Raises
        ------
        WorkflowError
            If a key, a name or a row of the table is wrong, in one line.
        """
        schemas = root / "workflow/schemas"
        try:
            check_files(files)
            check_config(config, schemas / "config.schema.yaml")
            check_weights(config["published"]["weights"])
            samples = (
                read_samples(Path(config["samples"]), schemas / "samples.schema.yaml")
                if config["samples"]
                else {}
            )
        except ValueError as error:
            raise WorkflowError(str(error)) from None
        return cls(config, samples, root)

    @cached_property
    def experiments(self) -> dict[str, Any]:
        """Every experiment by name, as the configuration has it, ablations included."""
        return experiments_of(self.config)

    @property
    def overlays(self) -> list[str]:
        """Options of a command that lay the configured overlays over an experiment."""
        return self.overlay_options("")

    def overlay_options(self, path: str) -> list[str]:
        """Options that lay over an experiment what belongs to a path."""
        return repeated("--overlay", self.overlays_of(path))

    def overlays_of(self, path: str) -> list[str]:
        """Name what is laid over an experiment, and over `published/…` on top of that."""
        over: list[str] = self.config["overlays"]
        return [*over, *self.config["published"]["overlays"]] if is_published(path) else over

    def imported(self, path: str) -> str | None:
        """Name the file of weights that stands in for the training of a model, if there is one."""
        given: Mapping[str, str] = self.config["published"]["weights"]
        return given.get(bare(path)) if is_published(path) else None

    def seed(self, name: str) -> int:
        """Give each set of phantoms a seed of its own, so that no two sets share a volume."""
        return crc32(f"{self.config['seed']} {name}".encode())

    def is_simulated(self, experiment: str) -> bool:
        """Whether an experiment's images are made here."""
        return bool(self.experiments[experiment]["source"] == "simulated")

    def is_beads(self, experiment: str) -> bool:
        """Whether an experiment has regions of interest around beads."""
        return bool(self.experiments[experiment]["evaluation"] == "beads")

    def evaluated_by(self, evaluation: str) -> list[str]:
        """Name the experiments that are evaluated in one way."""
        return [name for name, s in self.experiments.items() if s["evaluation"] == evaluation]

    def owner_of_model(self, experiment: str) -> str:
        """Name the experiment whose models an experiment uses: its own, unless it says else."""
        return str(self.experiments[experiment].get("model", experiment))

    def folds(self, experiment: str) -> list[str]:
        """Name an experiment's fine-tuned models."""
        numbers = self.experiments[experiment]["folds"]
        return ["all"] if numbers == "all" else [f"fold{number}" for number in numbers]

    def methods_of(self, experiment: str) -> list[str]:
        """List the methods that restore an experiment's stacks: those compared that it names."""
        compared = self.config["methods"]
        own = self.experiments[experiment].get("methods", compared)
        return [method for method in compared if method in own]

    def phantom_set(self, name: str) -> Mapping[str, Any]:
        """Look up a set of phantoms.

        Raises
        ------
        WorkflowError
            If there is none of that name.
        """
        if name not in self.config["phantoms"]:
            raise WorkflowError(f"there is no set of phantoms '{name}' in the configuration")
        spec: Mapping[str, Any] = self.config["phantoms"][name]
        return spec


def is_published(path: str) -> bool:
    """Whether a path is that of a model with all published settings."""
    return path.startswith(PUBLISHED)


def bare(path: str) -> str:
    """Give a path without the word that says `as published`."""
    return path.removeprefix(PUBLISHED)


def path_of(experiment: str, method: str) -> str:
    """Give the path of the models by which a method restores an experiment's stacks."""
    return f"{PUBLISHED}{experiment}" if method == TENET_PUBLISHED else experiment


@cache
def resolved(catalogue: Catalogue, path: str) -> Experiment:
    """Load an experiment, or `published/…`, with all that it extends and its overlays.

    Raises
    ------
    WorkflowError
        If there is no such experiment, or its settings are wrong, in one line.
    """
    try:
        return load_experiment(
            bare(path),
            overlays=catalogue.overlays_of(path),
            folder=catalogue.root / "config/experiments",
        )
    except TenetError as error:
        raise WorkflowError(str(error)) from None
