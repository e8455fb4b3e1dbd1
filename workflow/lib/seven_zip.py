"""7z archives: what is in them, and their files at places that were chosen for them."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path

import py7zr
from py7zr.exceptions import PasswordRequired
from py7zr.io import Py7zIO, WriterFactory

from workflow.lib.arrivals import copy, parts_of


class SevenZip:
    """A 7z archive, open for reading.

    Parameters
    ----------
    path : Path
    most_bytes : int
        What is unpacked is counted, so that no declared size has to be believed; no more than so
        many bytes are.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self.path = path
        self._file: py7zr.SevenZipFile | None = None
        try:
            self._file = py7zr.SevenZipFile(path, max_extract_size=most_bytes)
            self.encrypted = self._file.needs_password()
        except PasswordRequired:  # even the names are encrypted
            self.encrypted = True

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def plain_files(self) -> Iterator[tuple[str, int]]:
        """Give name and size in bytes, as declared, of what is no folder and no link."""
        for info in self._file.list() if self._file else ():
            if info.is_file and not info.is_symlink:
                yield info.filename, info.uncompressed

    def extract(self, targets: Mapping[tuple[str, ...], Path], out: Path) -> None:
        """Write members, by their place in the archive, to files; `out` is for errors."""
        assert self._file is not None
        here = Path.cwd()  # py7zr puts it before every name; nothing is written there
        wanted = {
            name: targets[parts_of(name, self.path)]
            for name, _ in self.plain_files()
            if parts_of(name, self.path) in targets
        }
        files = {here.joinpath(name).as_posix(): target for name, target in wanted.items()}
        self._file.extract(here, targets=list(wanted), factory=_Files(files, out))
        self._file.reset()


class _Files(WriterFactory):
    """Gives each member the file that was chosen for it."""

    def __init__(self, targets: Mapping[str, Path], out: Path) -> None:
        self.targets, self.out = targets, out

    def create(self, filename: str) -> Py7zIO:
        return _File(self.targets[filename], self.out)


class _File(Py7zIO):
    """A file that a member is written to."""

    def __init__(self, target: Path, out: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._out, self._size = target.open("wb", buffering=0), out, 0

    def write(self, s: bytes | bytearray) -> int:
        copy(io.BytesIO(s), self._file, self._out)
        self._size += len(s)
        return len(s)

    def read(self, size: int | None = None) -> bytes:
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def flush(self) -> None:
        """Do nothing, as nothing is kept back."""

    def size(self) -> int:
        return self._size

    def close(self) -> None:
        self._file.close()
