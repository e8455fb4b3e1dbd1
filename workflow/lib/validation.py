"""The configuration, checked before anything runs; each error is one clear line."""

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from tenet.errors import printable


def experiments_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """All experiments by name: those of `experiments` that are not null, and the ablations."""
    named = {name: spec for name, spec in config["experiments"].items() if spec is not None}
    return named | {name: config["ablation"] for name in config["ablations"]}


#: Levels of a configuration, and values in it with every reference followed, at most.
MOST_LEVELS, MOST_VALUES = 32, 100_000


def check_files(paths: Iterable[str | Path]) -> None:
    """Refuse a key that stands twice in a mapping of a file: YAML would lose the first.

    Raises
    ------
    ValueError
        It begins with the file and the line.
    """
    for path in paths:
        try:
            root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        except (OSError, ValueError, yaml.YAMLError):
            continue  # Snakemake has read it, and says so itself
        nodes, seen = [root], set()
        while nodes:
            node = nodes.pop()
            if node is None or id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, yaml.MappingNode):
                _check_keys(path, [key for key, _ in node.value])
                nodes += [value for _, value in node.value]
            elif isinstance(node, yaml.SequenceNode):
                nodes += node.value


def _check_keys(path: str | Path, keys: list[yaml.Node]) -> None:
    names = [key.value for key in keys]
    for number, key in enumerate(keys):
        if isinstance(key.value, str) and key.value in names[:number]:
            raise ValueError(
                f"{path}, line {key.start_mark.line + 1}: the key {_short(repr(key.value))} stands "
                "twice, and the first would be lost: keep one"
            )


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
    _check_extent(config)
    check_schema(config, read_schema(schema), "configuration")
    for model, spec in config["pretrained"].items():
        for role in ("phantoms", "tuning"):
            check_known(spec[role], config["phantoms"], f"pretrained: {model}: {role}")
    _check_starts(config["pretrained"])
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
    trained = [*config["pretrained"], *_published_models(experiments)]
    for model in config["published"]["weights"]:
        check_known(model, trained, f"published: weights: {model}", "model")
    for name, spec in experiments.items():
        where = f"experiments: {name}"
        simulated = spec["source"] == "simulated"
        if simulated:
            check_known(spec.get("phantoms", name), config["phantoms"], f"{where}: phantoms")
        else:
            check_known(spec["source"], config["sources"], f"{where}: source")
        if spec["evaluation"] == "cells" and "tumour" not in spec:
            raise ValueError(
                f"configuration: {where}: tumour is missing: the experiment that shows it"
            )
        for other in ("images", "tumour"):
            if other in spec:
                check_known(spec[other], experiments, f"{where}: {other}")
        if spec["figure"] in config["figures"] and "tenet" not in set(config["methods"]) & set(
            spec.get("methods", ["tenet"])
        ):
            raise ValueError(
                f"configuration: {where}: methods lacks tenet, which {spec['figure']} shows: "
                f"add it, or leave {spec['figure']} out of figures"
            )
        if "model" in spec:
            check_known(spec["model"], experiments, f"{where}: model")
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


def _published_models(experiments: Mapping[str, Any]) -> Iterator[str]:
    """Name the fine-tuned models of the published method, of each experiment that has its own."""
    for name, spec in experiments.items():
        if "model" not in spec and "tenet_published" in spec.get("methods", ["tenet_published"]):
            folds = spec["folds"]
            yield from [f"{name}/all"] if folds == "all" else (f"{name}/fold{n}" for n in folds)


def _check_extent(config: Mapping[str, Any]) -> None:
    """Refuse numbers that are not finite, and what takes for ever to go through.

    A few lines of YAML can refer to one another so often that they stand for billions of values.
    """
    counted: dict[int, int] = {}

    def count(value: Any, level: int, where: str) -> int:
        if level > MOST_LEVELS:
            raise ValueError(f"configuration: {where}: more than {MOST_LEVELS} levels deep")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"configuration: {where}: {value} is not a finite number")
        if isinstance(value, int) and abs(value) >= 10**18:
            raise ValueError(f"configuration: {where}: a number of more than 18 digits")
        if not isinstance(value, Mapping | list):
            return 1
        if id(value) not in counted:
            inside = value.items() if isinstance(value, Mapping) else enumerate(value)
            total = 1 + sum(
                count(v, level + 1, f"{where}: {name}" if where else name)
                for name, v in ((printable(str(k)), v) for k, v in inside)
            )
            if total > MOST_VALUES:
                raise ValueError(f"configuration: {where}: more than {MOST_VALUES} values")
            counted[id(value)] = total
        return counted[id(value)]

    count(config, 0, "")


def read_schema(path: Path) -> dict[str, Any]:
    """Read a JSON schema that is written as YAML."""
    schema: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    return schema


def check_weights(weights: Mapping[str, str]) -> None:
    """Refuse files of weights that are not there: Snakemake would train the models instead.

    Raises
    ------
    ValueError
        For the first of them.
    """
    for model, file in weights.items():
        if not Path(file).is_file():
            where = f"configuration: published: weights: {model}"
            raise ValueError(f"{where}: there is no file {_short(repr(file), 300)}")


def check_schema(data: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> None:
    """Refuse what does not fit a schema, in one line that begins with `where`."""
    error = best_match(Draft202012Validator(schema).iter_errors(data))
    if error is not None:
        path = "".join(f"{printable(str(key))}: " for key in error.absolute_path)
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
        return f"{_short(repr(error.instance))} is not of type {error.validator_value}"
    if error.validator == "pattern" and "description" in error.schema:
        return f"{_short(repr(error.instance))} is not {error.schema['description']}"
    if error.validator == "maximum" and "description" in error.schema:
        return f"{_short(error.message, 300)} ({error.schema['description']})"
    return _short(error.message, 300)


def _short(text: str, most: int = 80) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _check_starts(pretrained: Mapping[str, Any]) -> None:
    """Refuse a pre-training that begins with no model, or with what begins with it."""
    for model in pretrained:
        seen, start = [model], pretrained[model].get("start")
        while start is not None:
            check_known(start, pretrained, f"pretrained: {seen[-1]}: start", "model")
            if start in seen:
                raise ValueError(
                    f"configuration: pretrained: {model}: start: {' begins with '.join(seen)} "
                    f"begins with {start}: one of them must begin with nothing"
                )
            seen.append(start)
            start = pretrained[start].get("start")


def check_known(name: str, known: Any, where: str, what: str = "name") -> None:
    """Refuse a name that is not among the `known` ones, with the nearest of them."""
    if name not in known:
        prefix = "" if what == "column" else "configuration: "
        raise ValueError(f"{prefix}{where}: {_unknown(name, list(known), what)}")


def _unknown(name: str, known: list[str], what: str) -> str:
    nearest = difflib.get_close_matches(name, known, 1, cutoff=0.5)
    hint = f"did you mean '{nearest[0]}'?" if nearest else f"known: {', '.join(known) or 'none'}"
    return f"unknown {what} {name!r}; {hint}"
