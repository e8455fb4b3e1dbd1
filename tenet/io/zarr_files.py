"""The files of a Zarr, in a folder or a zip archive: read within limits, whoever wrote them."""

import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import zarr
import zarr.abc.store
import zarr.storage

from tenet.errors import TenetError, one_line
from tenet.io.records import MOST_BYTES, parse_json, read_text

#: Files that describe a group or an array.
METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
#: The largest chunk, in bytes: a crop takes the memory of its chunks.
MOST_CHUNK_BYTES = 2**29


def is_zarr(path: Path) -> bool:
    """Say whether a folder is a Zarr group or array, or is called one."""
    if not os.path.isdir(path):
        return False
    return path.name.lower().endswith(".zarr") or any(
        os.path.lexists(path / name) for name in METADATA
    )


@dataclass(frozen=True)
class ZarrFiles:
    """The files of a Zarr.

    Attributes
    ----------
    path : Path
        Folder, or zip archive.
    """

    path: Path

    @property
    def zipped(self) -> bool:
        """Whether they are in an archive."""
        return not os.path.isdir(self.path)

    def json(self, name: str) -> Any:
        """Parse one of the files; None if it is not there."""
        text = self._text(name)
        return None if text is None else parse_json(text, where=f"{self.path}: {name}")

    def _text(self, name: str) -> str | None:
        if not self.zipped:
            file = self.path / name
            return read_text(file) if os.path.lexists(file) else None
        # Archives fail in many ways: cut, encrypted, of unknown methods, with a wrong checksum.
        try:
            with zipfile.ZipFile(self.path) as archive:
                if name not in archive.namelist():
                    return None
                if archive.getinfo(name).file_size > MOST_BYTES:
                    raise ValueError(f"{name} is too large for metadata")
                return archive.read(name).decode("utf-8-sig")
        except Exception as error:
            raise TenetError(
                f"{self.path}: the archive cannot be read ({one_line(error)}); write it again"
            ) from error

    def inside(self, group: str = "") -> list[str]:
        """List the names in a group, without those of its own metadata."""
        if not self.zipped:
            found = os.listdir(self.path / group)
        else:
            parent = PurePosixPath(group)
            with zipfile.ZipFile(self.path) as archive:
                files = [PurePosixPath(name) for name in archive.namelist()]
            found = [f.relative_to(parent).parts[0] for f in files if parent in f.parents]
        return sorted(set(found) - {*METADATA})

    @contextmanager
    def array(self, name: str) -> Iterator[zarr.Array[Any]]:
        """Open an array of the Zarr ("" where it is one itself)."""
        store = _ArchiveStore(self.path, mode="r") if self.zipped else _FolderStore(self.path)
        try:
            yield zarr.open_array(store, path=name, mode="r")
        finally:
            store.close()


# Zarr reads a chunk whole, whatever it is: a device or a pipe has no end, and a small archive may
# hold a file of any length.


class _FolderStore(zarr.storage.LocalStore):
    def __init__(self, root: Path) -> None:
        super().__init__(root, read_only=True)

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        file = self.root / key
        try:
            found = file.stat()
        except (FileNotFoundError, NotADirectoryError):  # no such chunk
            return None
        if not stat.S_ISREG(found.st_mode):
            raise TenetError(f"{file}: this is no file, and so no chunk of a Zarr")
        return await super().get(key, *args, **options)


class _ArchiveStore(zarr.storage.ZipStore):
    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        if not self._is_open:
            self._sync_open()
        try:
            size = self._zf.getinfo(key).file_size
        except KeyError:  # no such chunk
            return None
        if byte_range is None and size > MOST_CHUNK_BYTES:
            raise TenetError(f"{self.path}: {key} is {size / 2**30:.3g} GiB, too large for a chunk")
        return await super().get(key, prototype, byte_range)
