"""One image of a file that holds several: ``cells.lif/Left``, or ``cells.lif/0`` by its number."""

import os
from collections.abc import Sequence
from pathlib import Path

from tenet.errors import TenetError

#: Names that an error lists.
_MOST_NAMES = 8


def holder(path: Path) -> tuple[Path, str]:
    """Return the file of a stack, and what a path names inside the file (nothing for a file).

    Examples
    --------
    >>> holder(Path("stack.tif"))
    (PosixPath('stack.tif'), '')
    """
    return (path.parent, path.name) if os.path.isfile(path.parent) else (path, "")


def pick_image(path: Path, names: Sequence[str]) -> int:
    """Return the number of the image that a path names, by its name or else by its number.

    Parameters
    ----------
    path : Path
        A path with the name of an image, or a file that holds one image.
    names : sequence of str
        Names of the images.

    Raises
    ------
    TenetError
        If the file holds several images and none is named, or if there is no such image.
    """
    file, wanted = holder(path)
    if len(names) == 1 and not wanted:
        return 0
    if names.count(wanted) == 1:
        return names.index(wanted)
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 9 and int(wanted) < len(names):
        return int(wanted)
    if not names:
        raise TenetError(f"{path}: there is no image in the file; export it again")
    listed = ", ".join(f"{k} {name}" for k, name in enumerate(names[:_MOST_NAMES]))
    more = ", …" if len(names) > _MOST_NAMES else ""
    said = f"there is no image {wanted[:80]!r}; it" if wanted else "it"
    raise TenetError(
        f"{path}: {said} holds {len(names)} images ({listed}{more}); "
        f"give one by name or number, as {file}/0"
    )
