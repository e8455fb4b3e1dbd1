"""Files of experiments: JSON that extends other files, overlays, and settings on top.

``"extends": "name"`` (or a list of names, the last one wins) starts from other files of the same
folder, so that each experiment states only what differs.
"""

import difflib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tenet.errors import TenetError
from tenet.io.records import parse_json, read_json_object
from tenet.settings.schema import COMPATIBILITY, Experiment, parse_experiment
from tenet.settings.sections import merge, short, without_comments

EXPERIMENTS = Path("config/experiments")
#: Files that make up an experiment, steps from the first to the last of them, and bytes of each.
MOST_FILES, MOST_STEPS, MOST_BYTES = 64, 16, 2**18
#: Characters of a name.
LONGEST_NAME = 200


def load_experiment(
    name: str | Path,
    *,
    overlays: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    folder: Path = EXPERIMENTS,
) -> Experiment:
    """Read one experiment; settings that have no effect are noted on standard error.

    Parameters
    ----------
    name : str or Path
        Name of a file in `folder` without ``.json``, or the path of any JSON file.
    overlays : sequence of str
        Further files, laid over the experiment in this order (as ``demo`` for laptop scale). Their
        sections ``by_scale`` and ``by_experiment`` hold what is laid over experiments of one scale
        alone, or over one experiment.
    settings : mapping, optional
        Nested values laid over everything else.
    folder : Path
        Where names are looked up.

    Returns
    -------
    Experiment
        Complete, checked and frozen.

    Raises
    ------
    TenetError
        If a file is missing, not JSON, or beyond the limits on files; if a key is unknown or a
        value impossible.
    """
    path = Path(name) if str(name).endswith(".json") else folder / f"{name}.json"
    data = _read(path)
    for overlay in overlays:
        data = _overlaid(data, _sibling(folder, overlay), path.stem)
    data = merge(data, settings or {})
    data.setdefault("name", path.stem)
    experiment = parse_experiment(data, where=str(path))
    ignored = ", ".join(without_effect(experiment))
    if ignored:
        print(f"note: {path}: has no effect here: {ignored}", file=sys.stderr)
    return experiment


def without_effect(experiment: Experiment) -> list[str]:
    """Settings, as ``key=value``, that ask for something that is not done; see `COMPATIBILITY`."""
    asked = []
    for key, harmless in COMPATIBILITY.items():
        section, name = key.split(".")
        value = getattr(getattr(experiment, section), name)
        if value not in harmless:
            asked.append(f"{key}={json.dumps(value)}")
    return asked


def explanations(folder: Path = EXPERIMENTS) -> Iterator[tuple[str, str]]:
    """Name of each file of a folder, and what it is for in one line; broken files at the end.

    Raises
    ------
    TenetError
        If the folder holds no experiments; or, after all others, of the first that is broken.
    """
    names, broken = _names(folder), []
    if not names:
        raise TenetError(f"{folder}: no experiments here (*.json); check the path")
    for name in names:
        try:
            text = str(_read(folder / f"{name}.json").get("explanation", ""))
        except TenetError as error:
            broken.append(error)
        else:
            yield name, " ".join(text.split()).encode(errors="replace").decode()
    if broken:
        raise broken[0]


def nested_settings(options: Sequence[str]) -> dict[str, Any]:
    """The values of `--set` options, nested.

    Parameters
    ----------
    options : sequence of str
        Each KEY.KEY=VALUE. A value is JSON, or else text; of a key that is given twice, the last
        value counts.

    Raises
    ------
    TenetError
        If one is not of this form, begins as JSON and is none, or is at odds with another one.
    """
    nested: dict[str, Any] = {}
    for option in options:
        key, equals, text = option.partition("=")
        *parents, last = key.split(".")
        if not equals or not all((*parents, last)):
            raise TenetError(f"--set {short(option)}: write KEY=VALUE, as params.NA=0.8")
        target: Any = nested
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise _at_odds(key)
        value = _value(text, where=f"--set {short(key)}")
        if isinstance(target.get(last), dict):
            if not isinstance(value, dict):
                raise _at_odds(key)
            value = merge(target[last], value)
        target[last] = value
    return nested


def _value(text: str, *, where: str) -> Any:
    try:
        return parse_json(text, where=where)
    except TenetError:
        if text.lstrip()[:1] in ("[", "{", '"'):
            raise
        return text


def _at_odds(key: str) -> TenetError:
    return TenetError(
        f"--set {short(key)}: another --set gives a whole of which this is a part, or the other "
        "way round; give one of them"
    )


def _overlaid(data: dict[str, Any], overlay: Path, experiment: str) -> dict[str, Any]:
    """Lay a file over settings, with what it holds for their scale and for the experiment alone."""
    content = _read(overlay)
    by_scale = _alternatives(content, "by_scale", overlay)
    by_experiment = _alternatives(content, "by_experiment", overlay)
    data = merge(data, content)
    params = data.get("params")
    scale = params.get("scale") if isinstance(params, Mapping) else None
    data = merge(data, by_scale.get(str(scale), {}))
    return merge(data, by_experiment.get(experiment, {}))


def _alternatives(content: dict[str, Any], section: str, path: Path) -> dict[str, Any]:
    """Take `by_scale` or `by_experiment` out of an overlay: an object of objects."""
    found = content.pop(section, {})
    if not isinstance(found, dict) or not all(isinstance(part, dict) for part in found.values()):
        what = section.removeprefix("by_")
        raise TenetError(f"{path}: {section} must hold an object of settings for each {what}")
    return found


def _sibling(folder: Path, name: str) -> Path:
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or Path(name).name != name:
        raise TenetError(f"'{short(name)}' is not the name of an experiment: no folders, please")
    return folder / f"{name}.json"


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.stem for path in folder.glob("*.json"))
    except (OSError, ValueError):  # no folder that can be read, or a name with a NUL
        return []


def _read(path: Path) -> dict[str, Any]:
    """One file with all that it extends, a mapping of its own."""
    return dict(_resolved(path, (), {}))


def _resolved(
    path: Path, seen: tuple[Path, ...], known: dict[Path, dict[str, Any]]
) -> dict[str, Any]:
    """One file with all that it extends; `seen` are those that lead here, `known` what was read."""
    if path in known:
        return known[path]
    _check_reach(path, seen, len(known))
    data = without_comments(_content(path))
    merged: dict[str, Any] = {}
    for parent in _parents(data, path):
        base = _resolved(_sibling(path.parent, parent), (*seen, path), known)
        own = ("explanation", "name")
        merged = merge(merged, {key: value for key, value in base.items() if key not in own})
    known[path] = merge(merged, data)
    return known[path]


def _check_reach(path: Path, seen: tuple[Path, ...], known: int) -> None:
    if path in seen:
        raise TenetError(f"{path} extends itself: {' -> '.join(str(p) for p in (*seen, path))}")
    if len(seen) >= MOST_STEPS:
        raise TenetError(
            f"{seen[0]}: a chain of more than {MOST_STEPS} files that extend one another; "
            "extend fewer"
        )
    if known + len(seen) >= MOST_FILES:
        raise TenetError(f"{seen[0]}: extends more than {MOST_FILES} files; extend fewer")


def _content(path: Path) -> dict[str, Any]:
    if os.path.lexists(path):
        return read_json_object(path, most_bytes=MOST_BYTES)
    nearest = difflib.get_close_matches(path.stem[:LONGEST_NAME], _names(path.parent), 1)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    raise TenetError(f"no experiment '{short(path.stem)}' in {short(str(path.parent))}{hint}")


def _parents(data: dict[str, Any], path: Path) -> list[str]:
    """Take the names of the files that one extends out of it."""
    parents = data.pop("extends", [])
    parents = [parents] if isinstance(parents, str) else parents
    if not isinstance(parents, list) or not all(isinstance(name, str) for name in parents):
        raise TenetError(f"{path}: extends must be the name of an experiment, or a list of names")
    return parents
