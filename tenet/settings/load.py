"""Files of experiments: JSON that extends other files, overlays, and settings on top.

``"extends": "name"`` (or a list of names, the last one wins) starts from other files, so that each
experiment states only what differs. A name is looked up in the folder of the file that says it, and
then among the files that are installed with TENET.
"""

import difflib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tenet.errors import TenetError
from tenet.io.records import parse_json, read_json_object
from tenet.settings.layers import Layers
from tenet.settings.published import without_effect
from tenet.settings.schema import Experiment, parse_experiment
from tenet.settings.sections import as_json, merge, short, without_comments

#: Folder of a project's experiments, and folder of the files that are installed with TENET.
EXPERIMENTS = Path("config/experiments")
PACKAGED = Path(__file__).with_name("data")
#: Most files of an experiment, most steps from the first to the last file, and most bytes of each.
MOST_FILES, MOST_STEPS, MOST_BYTES = 64, 16, 2**18
#: Most characters of a name.
LONGEST_NAME = 200
#: Keys of an overlay that say something of the overlay itself.
NOT_LAID_OVER = ("explanation", "leave_out")


def load_experiment(
    name: str | Path,
    *,
    overlays: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    folder: Path = EXPERIMENTS,
) -> Experiment:
    """Read one experiment.

    A note on standard error names settings that have no effect.

    Parameters
    ----------
    name : str or Path
        Name of a file in `folder`, or of a file that is installed with TENET, without ``.json``; or
        the path of any JSON file.
    overlays : sequence of str
        Further files, such as ``demo`` for laptop scale, which are laid over the experiment in this
        order. Their sections ``by_scale`` and ``by_experiment`` hold settings for experiments of
        one scale alone, or for one experiment alone. Their list ``leave_out`` names files: of
        those, an experiment has what they extend, and not what they say themselves.
    settings : mapping, optional
        Nested values laid over everything else.
    folder : Path
        Folder in which names are looked up first.

    Returns
    -------
    Experiment
        Complete, checked and frozen.

    Raises
    ------
    TenetError
        If a file is missing, not JSON, or beyond the limits on files; if a key is unknown, or a
        value impossible.

    Examples
    --------
    >>> import tenet
    >>> experiment = tenet.load_experiment("scale3", settings={"params": {"NA": 0.35}})
    >>> experiment.params.NA, experiment.params.scale, experiment.params.fine_voxel_size_um[1]
    (0.35, 3, 0.31)
    >>> tenet.load_experiment("scale3", overlays=["demo"]).params.network
    'coarse'
    """
    path, layers = _layers(name, overlays, settings, folder)
    experiment = parse_experiment(layers.values, where=str(path))
    ignored = ", ".join(without_effect(layers.values))
    if ignored:
        print(f"note: {path}: has no effect here: {ignored}", file=sys.stderr)
    return experiment


def origins(
    name: str | Path,
    *,
    overlays: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    folder: Path = EXPERIMENTS,
) -> Iterator[tuple[str, Any, str]]:
    """Each value of an experiment with its origin; see `load_experiment` for the parameters.

    Yields
    ------
    key : str
        As for ``--set``, such as ``params.NA``.
    value : object
        Value, as JSON has it.
    origin : str
        A file, ``--set``, or ``default`` if no file holds the key.

    Examples
    --------
    >>> found = origins("scale3", settings={"params": {"NA": 0.35}})
    >>> [(key, value, where) for key, value, where in found if key in ("params.NA", "params.bet_z")]
    [('params.NA', 0.35, '--set'), ('params.bet_z', 5.0, 'default')]
    """
    experiment = load_experiment(name, overlays=overlays, settings=settings, folder=folder)
    _, layers = _layers(name, overlays, settings, folder)
    yield from layers.origins_of(experiment.model_dump(mode="json"))


def _layers(
    name: str | Path, overlays: Sequence[str], settings: Mapping[str, Any] | None, folder: Path
) -> tuple[Path, Layers]:
    """The file of an experiment, and all of its layers."""
    path = Path(name) if str(name).endswith(".json") else _named(folder, str(name))
    over = [_named(folder, overlay) for overlay in overlays]
    layers = _read(path, frozenset(left for overlay in over for left in _left_out(overlay)))
    for overlay in over:
        layers = _overlaid(layers, overlay, path.stem)
    layers = layers.under(Layers.of(as_json(settings or {}, str(path)), "--set"))
    return path, Layers.of({"name": path.stem}, "name of the file").under(layers)


def explanations(*folders: Path) -> Iterator[tuple[str, str]]:
    """Name of each file in some folders, and its purpose in one line; broken files at the end.

    Of several files of one name the file in the first folder counts, as when a name is looked up.

    Raises
    ------
    TenetError
        If a folder holds no experiments. The error of the first broken file is raised after all
        other files.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        names = _names(folder)
        if not names:
            raise TenetError(f"{folder}: no experiments here (*.json); check the path")
        found = {name: folder / f"{name}.json" for name in names} | found
    broken = []
    for name, path in sorted(found.items()):
        try:
            text = str(_read(path).values.get("explanation", ""))
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
        Options KEY.KEY=VALUE. A value that is not JSON is a text. If a key is given twice, the last
        value counts.

    Raises
    ------
    TenetError
        If an option is not of this form, begins as JSON and is not JSON, or contradicts another
        option.

    Examples
    --------
    >>> nested_settings(["params.NA=0.8", "params.blur_mode=gaussian"])
    {'params': {'NA': 0.8, 'blur_mode': 'gaussian'}}
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
        f"--set {short(key)}: another --set gives the section of this key, or a key in this "
        "section; give one of them"
    )


def _overlaid(layers: Layers, overlay: Path, experiment: str) -> Layers:
    """Lay a file over settings, with its parts for their scale and for the experiment."""
    content = _read(overlay)
    by_scale = _alternatives(content, "by_scale", overlay)
    by_experiment = _alternatives(content, "by_experiment", overlay)
    layers = layers.under(content.without("by_scale", "by_experiment", *NOT_LAID_OVER))
    params = layers.values.get("params")
    scale = params.get("scale") if isinstance(params, Mapping) else None
    layers = layers.under(by_scale.part(str(scale)))
    return layers.under(by_experiment.part(experiment))


def _alternatives(content: Layers, section: str, path: Path) -> Layers:
    """The section `by_scale` or `by_experiment` of an overlay: an object of objects."""
    found = content.values.get(section, {})
    if not isinstance(found, dict) or not all(isinstance(part, dict) for part in found.values()):
        what = section.removeprefix("by_")
        raise TenetError(f"{path}: {section} must hold an object of settings for each {what}")
    return content.part(section)


def _left_out(overlay: Path) -> Iterator[Path]:
    """The files that an overlay takes out of what an experiment extends."""
    names = _read(overlay).values.get("leave_out", [])
    for name in _names_in(names, f"{overlay}: leave_out"):
        path = _named(overlay.parent, name)
        _content(path)  # an error names a file that is not there
        yield path


def _named(folder: Path, name: str) -> Path:
    """The file of a name: in a folder, or else among the installed files."""
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or Path(name).name != name:
        raise TenetError(f"'{short(name)}' is not the name of an experiment: leave folders out")
    own, packaged = folder / f"{name}.json", PACKAGED / f"{name}.json"
    return packaged if packaged.exists() and not os.path.lexists(own) else own


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.stem for path in folder.glob("*.json"))
    except (OSError, ValueError):  # the folder cannot be read, or its name has a NUL
        return []


def _read(path: Path, left_out: frozenset[Path] = frozenset()) -> Layers:
    """One file with all files that it extends; of those `left_out`, what they extend."""
    return _resolved(path, (), {}, left_out)


def _resolved(
    path: Path, seen: tuple[Path, ...], known: dict[Path, Layers], left_out: frozenset[Path]
) -> Layers:
    """One file with all files that it extends; `seen` lead here, `known` were read before."""
    if path in known:
        return known[path]
    _check_reach(path, seen, len(known))
    data = without_comments(_content(path))
    layers = Layers()
    for parent in _parents(data, path):
        base = _resolved(_named(path.parent, parent), (*seen, path), known, left_out)
        layers = layers.under(base.without("explanation", "name"))
    known[path] = layers if path in left_out else layers.under(Layers.of(data, str(path)))
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
    known = [*_names(path.parent), *_names(PACKAGED)]
    nearest = difflib.get_close_matches(path.stem[:LONGEST_NAME], known, 1)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    raise TenetError(
        f"no experiment '{short(path.stem)}' in {short(str(path.parent))}, and none of this name "
        f"is installed{hint or '; `tenet config list` lists all, and a file is given by its path'}"
    )


def _parents(data: dict[str, Any], path: Path) -> list[str]:
    """Take the names of the extended files out of the content of a file."""
    return _names_in(data.pop("extends", []), f"{path}: extends")


def _names_in(value: Any, where: str) -> list[str]:
    """A name, or a list of names."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TenetError(f"{where} must be the name of an experiment, or a list of names")
    return names
