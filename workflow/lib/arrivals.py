"""What arrives from elsewhere: names that stay in a folder, bytes that stay within bounds."""

import io
import unicodedata
from pathlib import Path, PurePosixPath
from typing import IO

from tenet.errors import TenetError

#: Levels of folders, bytes of a name and characters of a path, at most.
MOST_LEVELS, MOST_IN_NAME, MOST_IN_PATH = 32, 255, 1024


def copy(source: IO[bytes], target: io.FileIO, out: Path, *, most_bytes: int | None = None) -> None:
    """Copy what arrives, at most so many bytes; a full disk is no fault of the source."""
    left = most_bytes
    while block := source.read(2**20):
        if left is not None:
            left -= len(block)
            if left < 0:
                raise TenetError(
                    f"{out}: more than the {most_bytes} bytes arrive that it should have"
                )
        rest = memoryview(block)
        try:
            while rest:
                rest = rest[target.write(rest) :]
        except OSError as error:
            raise TenetError(
                f"cannot write {out}: {error.strerror}; make room, and the same command goes on"
            ) from None


def parts_of(name: str, where: Path) -> tuple[str, ...]:
    """Parts of a relative path.

    Raises
    ------
    TenetError
        If it leads elsewhere, or no disk can hold it.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    said = repr(name if len(name) <= 80 else f"{name[:79]}…")
    if path.is_absolute() or ".." in path.parts or ":" in name or not path.parts:
        raise TenetError(f"{where} names {said}, which would lie outside of the folder")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise TenetError(f"{where} names {said}, with characters that no name should have")
    longest = max(len(part.encode(errors="replace")) for part in path.parts)
    if longest > MOST_IN_NAME or len(name) > MOST_IN_PATH or len(path.parts) > MOST_LEVELS:
        raise TenetError(f"{where} names {said}, which is too long, or too many folders deep")
    return path.parts
