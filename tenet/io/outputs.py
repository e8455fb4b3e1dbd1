"""Places for results. A result replaces neither its source nor another result."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tenet.errors import TenetError
from tenet.io.atomic import check_replaceable

#: Longest name of a result. A suffix follows the name, and a longer suffix while it is written.
MOST_CHARACTERS = 180


def plain_name(name: str) -> str:
    """Check that a name names a file, without folders, and return the name.

    Raises
    ------
    TenetError
        If the name is empty, too long, leads to another folder, or has characters that no file name
        should have.
    """
    fit = not re.search(r"[/\\\x00-\x1f\x7f]", name) and name.strip() and name[0] not in "-."
    if not fit or len(name.encode()) > MOST_CHARACTERS:
        raise TenetError(
            f"{name[:80]!r} is not the name of a result: give at most {MOST_CHARACTERS} letters, "
            "digits, - and _, and no folders"
        )
    return name


def check_outputs(inputs: Iterable[Path], outputs: Sequence[Path]) -> None:
    """Refuse, before any work, an output that would replace an input or another output.

    Parameters
    ----------
    inputs : iterable of Path
        Files, and folders that are images or models.
    outputs : sequence of Path
        Files and folders that will be written.

    Raises
    ------
    TenetError
        If an output is an input (under another name, or by a hard link), lies in an input or holds
        an input; if two outputs are the same; if an output has the name of a device, a pipe or a
        socket; if the folder of an output cannot be written.
    """
    sources = [(path, *_identity(path)) for path in inputs]
    seen: dict[Path, Path] = {}
    for output in outputs:
        target, same = _identity(output)
        for path, source, identity in sources:
            if (same is not None and same == identity) or source in (target, *target.parents):
                raise TenetError(
                    f"{output} would replace its source {path}: choose another folder or name"
                )
            if target in source.parents:
                raise TenetError(
                    f"{output} would replace a folder that holds {path}: choose another folder"
                )
        if target in seen:
            raise TenetError(
                f"{output} is the result of two stacks of one name: rename a stack, or give "
                "each result a folder of its own"
            )
        seen[target] = output
        check_replaceable(output, folder=output.suffix == ".zarr")
        _check_folder(output)


def _identity(path: Path) -> tuple[Path, tuple[int, int] | None]:
    """The place where a path leads, and the identity of the file there, if there is one."""
    try:
        found = path.stat()
        return path.resolve(), (found.st_dev, found.st_ino)
    except (OSError, ValueError):
        return Path(os.path.realpath(path)), None


def _check_folder(output: Path) -> None:
    """Check that the folder of an output can be written, or can be made."""
    nearest = next(parent for parent in output.absolute().parents if os.path.lexists(parent))
    if not nearest.is_dir():
        raise TenetError(
            f"{output}: cannot be written ({nearest} is no folder); choose another folder"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise TenetError(f"{output}: cannot be written ({nearest} is read-only); check the folder")
