"""Configuration and sample table, checked before anything runs; each error is one clear line."""

import contextlib
import csv
import difflib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

Sample = dict[str, Any]

VOXEL_SIZE = ("voxel_z_um", "voxel_y_um", "voxel_x_um")
OPTICS = ("NA", "wavelength", "ni", "photons")


def experiments_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """All experiments by name: those of `experiments` that are not null, and the ablations."""
    named = {name: spec for name, spec in config["experiments"].items() if spec is not None}
    return named | {name: config["ablation"] for name in config["ablations"]}


def check_config(config: Mapping[str, Any], schema: Path) -> None:
    """Check the merged configuration.

    Parameters
    ----------
    config : mapping
        `config/config.yaml` with everything laid over it.
    schema : Path
        JSON schema, as YAML.

    Raises
    ------
    ValueError
        If a key is unknown, missing or wrong, or a name refers to nothing.
    """
    _check(config, _read_schema(schema), "configuration")
    for model, spec in config["pretrained"].items():
        for role in ("phantoms", "tuning"):
            _known(spec[role], config["phantoms"], f"pretrained: {model}: {role}")
    if "supp" in config["figures"] and not config["ablations"]:
        raise ValueError(
            "configuration: figures: supp shows ablations, and the list ablations is empty: "
            "name some, or leave supp out"
        )
    experiments = experiments_of(config)
    shown = {spec["figure"] for spec in experiments.values()}
    for figure in config["figures"]:
        needed = {"fig1": "fig2_phantoms" in experiments, "supp_training": bool(shown)}
        if not needed.get(figure, figure in shown):
            raise ValueError(
                f"configuration: figures: no experiment is left for {figure}: add one, or leave "
                f"{figure} out of figures"
            )
    if config["figures"] == ["supp_training"]:
        raise ValueError(
            "configuration: figures: supp_training shows the trainings behind others: add one"
        )
    for name, spec in experiments.items():
        where = f"experiments: {name}"
        simulated = spec["source"] == "simulated"
        if simulated:
            _known(spec.get("phantoms", name), config["phantoms"], f"{where}: phantoms")
        else:
            _known(spec["source"], config["zenodo"]["folders"], f"{where}: source")
        for other in ("images", "tumour"):
            if other in spec:
                _known(spec[other], experiments, f"{where}: {other}")
        if spec["figure"] in config["figures"] and "tenet" not in set(config["methods"]) & set(
            spec.get("methods", ["tenet"])
        ):
            raise ValueError(
                f"configuration: {where}: methods lacks tenet, which {spec['figure']} shows: "
                f"add it, or leave {spec['figure']} out of figures"
            )
        if "model" in spec:
            _known(spec["model"], experiments, f"{where}: model")
            if "model" in experiments[spec["model"]]:
                raise ValueError(
                    f"configuration: {where}: model: {spec['model']} has no model of its own either"
                )
        if spec["folds"] != "all" and spec["evaluation"] != "beads":
            raise ValueError(
                f"configuration: {where}: folds: only beads have folds; say all for one model"
            )
        if spec["evaluation"] == "beads" and simulated:
            number = spec.get("number_of_folds")
            if number is None:
                raise ValueError(
                    f"configuration: {where}: number_of_folds is missing: "
                    "among how many folds are the simulated images dealt?"
                )
            if spec["folds"] != "all" and max(spec["folds"]) >= number:
                raise ValueError(
                    f"configuration: {where}: folds: there is no fold {max(spec['folds'])} "
                    f"among {number}, counted from 0"
                )
        if spec["evaluation"] == "beads" and not simulated and "rois" not in spec:
            raise ValueError(
                f"configuration: {where}: rois is missing: the table of where the beads are"
            )


def read_samples(path: Path, schema: Path) -> dict[str, Sample]:
    """Read the table of the user's own stacks.

    Parameters
    ----------
    path : Path
        Tab-separated table with a header; lines that start with # and empty fields are left out.
    schema : Path
        JSON schema of one row, as YAML.

    Returns
    -------
    dict of dict
        Rows by name, numbers as numbers.

    Raises
    ------
    ValueError
        If a column is unknown or a row is not as described.
    """
    if not path.is_file():
        raise ValueError(f"there is no sample table {path}; config/README.md tells what it holds")
    row_schema = _read_schema(schema)
    columns = row_schema["properties"]
    lines = enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1)
    lines = [(n, line) for n, line in lines if line.strip() and not line.startswith("#")]
    if not lines:
        raise ValueError(f"{path} has no header line: its columns are {', '.join(columns)}")
    numbers, texts = zip(*lines, strict=True)
    reader = csv.reader(texts, delimiter="\t")
    header = [name.strip() for name in next(reader)]
    for name in header:
        _known(name, columns, f"{path}: column", what="column")
    samples: dict[str, Sample] = {}
    for number, fields in zip(numbers[1:], reader, strict=True):
        where = f"{path}, line {number}"
        if len(fields) > len(header):
            raise ValueError(
                f"{where}: {len(fields)} fields under {len(header)} columns; "
                "fields are separated by single tabs"
            )
        row = {
            name: _value(field.strip(), columns[name])
            for name, field in zip(header, fields, strict=False)
            if field.strip()
        }
        _check(row, row_schema, where)
        _check_sample(row, where)
        if row["name"] in samples:
            raise ValueError(f"{where}: the name {row['name']} is taken already")
        samples[row["name"]] = row
    return samples


def _check_sample(row: Sample, where: str) -> None:
    """Check what a schema cannot say in plain words."""
    where = f"{where} ({row['name']})"
    given = [name for name in VOXEL_SIZE if name in row]
    if given and len(given) < len(VOXEL_SIZE):
        missing = ", ".join(name for name in VOXEL_SIZE if name not in row)
        raise ValueError(f"{where}: {missing} missing: give all three voxel sizes, or none")
    if given and row["voxel_z_um"] < row["voxel_x_um"]:
        raise ValueError(
            f"{where}: voxel_z_um {row['voxel_z_um']} is finer than voxel_x_um "
            f"{row['voxel_x_um']}: check their order and units"
        )
    optics = [name for name in OPTICS if name in row]
    if "experiment" in row and optics:
        raise ValueError(
            f"{where}: experiment and {', '.join(optics)} exclude each other: the experiment has "
            "its own optics"
        )
    if "experiment" not in row:
        missing = [name for name in ("NA", "wavelength", "ni") if name not in row]
        if missing:
            raise ValueError(
                f"{where}: {', '.join(missing)} missing: give an experiment, "
                "or NA, wavelength (µm) and ni"
            )
        if row["NA"] > row["ni"]:
            raise ValueError(
                f"{where}: NA {row['NA']} is above the immersion index ni {row['ni']}: "
                "no objective can do that"
            )
    if not Path(row["file"]).exists():
        raise ValueError(f"{where}: there is no file {row['file']}")


def _value(field: str, schema: Mapping[str, Any]) -> Any:
    """Make a field of a table a number where its column wants one, if it is one."""
    if schema["type"] in ("number", "integer"):
        for number in (int, float):
            with contextlib.suppress(ValueError):
                value = number(field)
                return value if math.isfinite(value) else field
    return field


def _read_schema(path: Path) -> dict[str, Any]:
    schema: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return schema


def _check(data: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> None:
    error = best_match(Draft202012Validator(schema).iter_errors(data))
    if error is not None:
        path = "".join(f"{key}: " for key in error.absolute_path)
        raise ValueError(f"{where}: {path}{_sentence(error)}")


def _sentence(error: ValidationError) -> str:
    """Say what is wrong, with the nearest right key for a wrong one."""
    if error.validator == "additionalProperties":
        patterns = error.schema.get("patternProperties", {})
        known = list(error.schema.get("properties", {}))
        for key in error.instance:
            if key not in known and not any(re.search(p, str(key)) for p in patterns):
                return _unknown(str(key), known, "key")
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return f"{', '.join(missing)} missing"
    if error.validator == "type":
        return f"{error.instance!r} is not of type {error.validator_value}"
    if error.validator == "pattern" and "description" in error.schema:
        return f"{error.instance!r} is not {error.schema['description']}"
    return error.message


def _known(name: str, known: Any, where: str, what: str = "name") -> None:
    if name not in known:
        prefix = "" if what == "column" else "configuration: "
        raise ValueError(f"{prefix}{where}: {_unknown(name, list(known), what)}")


def _unknown(name: str, known: list[str], what: str) -> str:
    nearest = difflib.get_close_matches(name, known, 1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"known: {', '.join(known) or 'none'}"
    return f"unknown {what} '{name}'; {hint}"
