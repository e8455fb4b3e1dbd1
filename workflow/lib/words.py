"""Words of a command: options are lists of words, which Snakemake quotes where it says `:q`."""

import json
from collections.abc import Iterable, Mapping
from typing import Any


def repeated(option: str, values: Iterable[object]) -> list[str]:
    """Give an option once for each value."""
    return [word for value in values for word in (option, str(value))]


def assignments(values: Mapping[str, Any]) -> list[str]:
    """Give the `--set` options of a mapping, values as JSON."""
    return repeated("--set", (f"{key}={json.dumps(value)}" for key, value in values.items()))


def without_suffix(checksums: object) -> str:
    """Name the folder that a file of checksums stands for."""
    return str(checksums).removesuffix(".sha256")


def names(of: Iterable[str]) -> str:
    """Make a pattern that fits these names and nothing else."""
    return "|".join(of) or "(?!)"
