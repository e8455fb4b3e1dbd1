"""Files of experiments: JSON that extends other files, overlays, and settings on top.

``"extends": "name"`` (or a list of names, the last one wins) starts from other files of the same
folder, so that each experiment states only what differs.
"""

import difflib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tenet.config import COMPATIBILITY, Experiment, merge, parse_experiment, without_comments
from tenet.errors import TenetError

EXPERIMENTS = Path("config/experiments")


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
        If a file is missing or not JSON, a key is unknown or a value impossible.
    """
    path = Path(name) if str(name).endswith(".json") else folder / f"{name}.json"
    data = _read(path, ())
    for overlay in overlays:
        content = _read(_sibling(folder, overlay), ())
        by_scale, by_name = content.pop("by_scale", {}), content.pop("by_experiment", {})
        data = merge(data, content)
        data = merge(data, by_scale.get(str(data.get("params", {}).get("scale")), {}))
        data = merge(data, by_name.get(path.stem, {}))
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


def explanations(folder: Path = EXPERIMENTS) -> dict[str, str]:
    """What each file of a folder is for, by name.

    Raises
    ------
    TenetError
        If one of them, or what it extends, is missing or not JSON.
    """
    return {
        path.stem: str(_read(path, ()).get("explanation", ""))
        for path in sorted(folder.glob("*.json"))
    }


def _sibling(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise TenetError(f"'{name}' is not the name of an experiment: no folders, please")
    return folder / f"{name}.json"


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """One file with all that it extends."""
    if path in seen:
        raise TenetError(f"{path} extends itself: {' -> '.join(str(p) for p in (*seen, path))}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(file.stem for file in path.parent.glob("*.json"))
        nearest = difflib.get_close_matches(path.stem, known, 1)
        hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
        raise TenetError(f"no experiment '{path.stem}' in {path.parent}{hint}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TenetError(f"{path} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise TenetError(f"{path} is not a JSON object")
    data = without_comments(data)
    parents = data.pop("extends", [])
    parents = [parents] if isinstance(parents, str) else parents
    if not isinstance(parents, list) or not all(isinstance(name, str) for name in parents):
        raise TenetError(f"{path}: extends must be the name of an experiment, or a list of names")
    merged: dict[str, Any] = {}
    for parent in parents:
        base = _read(_sibling(path.parent, parent), (*seen, path))
        base.pop("explanation", None)
        base.pop("name", None)
        merged = merge(merged, base)
    return merge(merged, data)
