"""Where results may go: never over what they are made of, nor over one another."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tenet.errors import TenetError
from tenet.io.atomic import check_replaceable

#: Longest name of a result, which gets a suffix and, while it is written, a longer one.
MOST_CHARACTERS = 180


def plain_name(name: str) -> str:
    """Check that a name is that of a file, without folders, and return it.

    Raises
    ------
    TenetError
        If it is empty, too long, leads elsewhere, or has characters that no file name should have.
    """
    fit = not re.search(r"[/\\\x00-\x1f\x7f]", name) and name.strip() and name[0] not in "-."
    if not fit or len(name.encode()) > MOST_CHARACTERS:
        raise TenetError(
            f"{name[:80]!r} is not the name of a result: give at most {MOST_CHARACTERS} letters, "
            "digits, - and _, and no folders"
        )
    return name


def check_outputs(inputs: Iterable[Path], outputs: Sequence[Path]) -> None:
    """Refuse, before any work, what would replace an input, or lose one result for another.

    Parameters
    ----------
    inputs : iterable of Path
        Files, and folders that are images or models.
    outputs : sequence of Path
        Files and folders that are going to be written.

    Raises
    ------
    TenetError
        If an output is an input (under whatever name, or by a hard link), lies in one or holds
        one; if two outputs are the same; if one has the name of what no result replaces; if a
        folder for one cannot be written.
    """
    sources = [(path, *_identity(path)) for path in inputs]
    seen: dict[Path, Path] = {}
    for output in outputs:
        target, same = _identity(output)
        for path, source, identity in sources:
            if (same is not None and same == identity) or source in (target, *target.parents):
                raise TenetError(
                    f"{output} would replace {path}, which it is made of: choose another folder "
                    "or name"
                )
            if target in source.parents:
                raise TenetError(
                    f"{output} would replace a folder that holds {path}: choose another"
                )
        if target in seen:
            raise TenetError(
                f"{output} is the result of two stacks of one name: rename one, or give them by "
                "themselves, each with a folder of its own"
            )
        seen[target] = output
        check_replaceable(output, folder=output.suffix == ".zarr")
        _check_folder(output)


def _identity(path: Path) -> tuple[Path, tuple[int, int] | None]:
    """Where a path leads, and which file that is, if there is one."""
    try:
        found = path.stat()
        return path.resolve(), (found.st_dev, found.st_ino)
    except (OSError, ValueError):
        return Path(os.path.realpath(path)), None


def _check_folder(output: Path) -> None:
    """Check that the folder of an output can be written, or be made."""
    nearest = next(parent for parent in output.absolute().parents if os.path.lexists(parent))
    if not nearest.is_dir():
        raise TenetError(
            f"{output}: cannot be written ({nearest} is no folder); choose another folder"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise TenetError(f"{output}: cannot be written ({nearest} is read-only); check the folder")
