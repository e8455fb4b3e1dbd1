"""The files of a Zarr, in a folder or a zip archive, read within limits."""

import bz2
import gzip
import io
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import zarr
import zarr.abc.store
import zarr.storage

import tenet.io.blosc  # noqa: F401 (registers its codecs)
from tenet.errors import TenetError, one_line
from tenet.io.records import MOST_BYTES, parse_json, read_text

#: Files that describe a group or an array.
METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
#: The largest chunk in bytes, because a crop takes the memory of its chunks.
MOST_CHUNK_BYTES = 2**29
#: The most chunks that are read at once, because even an empty chunk takes 0.2 ms and 5 kB.
MOST_CHUNKS = 2**16
#: The largest file of a folder that is read whole. A shard holds many chunks.
MOST_FILE_BYTES = 2**30


def is_zarr(path: Path) -> bool:
    """Say whether a folder is a Zarr group or array, or has the name of a Zarr."""
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
        """Whether the files are in an archive."""
        return not os.path.isdir(self.path)

    def json(self, name: str) -> Any:
        """Parse one of the files; None if the file is missing."""
        text = self._text(name)
        return (
            None if text is None else parse_json(text, where=f"{self.path}: {name}", foreign=True)
        )

    def _text(self, name: str) -> str | None:
        if not self.zipped:
            file = self.path / name
            return read_text(file) if os.path.lexists(file) else None
        with self._archive() as archive:
            if name not in archive.namelist():
                return None
            if archive.getinfo(name).file_size > MOST_BYTES:
                raise ValueError(f"{name} is too large for metadata")
            return archive.read(name).decode("utf-8-sig")

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        # An archive may be cut, encrypted, of an unknown method, or have a wrong checksum.
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except Exception as error:
            raise TenetError(
                f"{self.path}: the archive cannot be read ({one_line(error)}); write it again"
            ) from error

    def inside(self, group: str = "") -> list[str]:
        """List the names in a group, without those of its own metadata."""
        if self.zipped:
            parent = PurePosixPath(group)
            with self._archive() as archive:
                files = [PurePosixPath(name) for name in archive.namelist()]
            found = [f.relative_to(parent).parts[0] for f in files if parent in f.parents]
        else:
            try:
                found = os.listdir(self.path / group)
            except OSError as error:
                raise TenetError(
                    f"{self.path / group}: cannot be read ({one_line(error)})"
                ) from None
        return sorted(set(found) - {*METADATA})

    @contextmanager
    def array(self, name: str) -> Iterator[zarr.Array[Any]]:
        """Open an array of the Zarr; "" stands for a Zarr that is an array itself."""
        store = ArchiveStore(self.path, mode="r") if self.zipped else _FolderStore(self.path)
        try:
            yield zarr.open_array(store, path=name, mode="r")
        finally:
            store.close()


# Zarr reads a chunk whole and unpacks it whole. But a device or a pipe has no end, and a small file
# may unpack to any length.


class _FolderStore(zarr.storage.LocalStore):
    def __init__(self, root: Path) -> None:
        super().__init__(root, read_only=True)

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        file = self.root / key
        try:
            found = file.stat()
        except (FileNotFoundError, NotADirectoryError):  # no such chunk
            return None
        if not stat.S_ISREG(found.st_mode):
            raise TenetError(f"{file}: this is no file, and so no chunk of a Zarr")
        if byte_range is None and found.st_size > MOST_FILE_BYTES:
            raise TenetError(_too_large(file))
        return _checked(file, await super().get(key, prototype, byte_range))


class ArchiveStore(zarr.storage.ZipStore):
    """An archive whose chunks are bounded."""

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Read a member, or a part of it, unless it unpacks to more than a chunk may have."""
        if not self._is_open:
            self._sync_open()
        try:
            size = self._zf.getinfo(key).file_size
        except KeyError:  # no such chunk
            return None
        if byte_range is None and size > MOST_CHUNK_BYTES:
            raise TenetError(_too_large(self.path / key))
        return _checked(self.path / key, await super().get(key, prototype, byte_range))


def _checked(file: Path, buffer: Any) -> Any:
    """Return the bytes of a file, unless they unpack to more than a chunk may have."""
    if buffer is not None and _unpacked_size(memoryview(buffer.as_numpy_array())) > (
        MOST_CHUNK_BYTES
    ):
        raise TenetError(_too_large(file))
    return buffer


def _too_large(file: Path) -> str:
    return (
        f"{file}: it unpacks to more than {MOST_CHUNK_BYTES // 2**20} MiB, too much for a chunk; "
        "write the image in smaller chunks"
    )


def _unpacked_size(packed: memoryview) -> int:
    """Bytes that a compressed chunk unpacks to; 0 where the number is unknown or small."""
    start = bytes(packed[:20])
    if len(start) < 20:
        return 0
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return _size_in_zstd(start)
    if start[0] == 2 and start[12:16] == len(packed).to_bytes(4, "little"):  # Blosc
        return int.from_bytes(start[4:8], "little")
    stream = io.BytesIO(packed)
    # Deflate packs to a thousandth at best.
    if len(packed) > MOST_CHUNK_BYTES // 1032 and start.startswith(b"\x1f\x8b"):
        return _count(gzip.GzipFile(fileobj=stream))
    if len(packed) > MOST_CHUNK_BYTES // 1032 and start[0] == 0x78:
        return _count_zlib(packed)
    if start.startswith(b"BZh"):
        return _count(bz2.BZ2File(stream))
    if start.startswith(b"\xfd7zXZ"):
        return _count(lzma.LZMAFile(stream))
    return 0


def _size_in_zstd(start: bytes) -> int:
    """Bytes by the header of a Zstandard frame (RFC 8878, 3.1.1.1); 0 where it gives none."""
    descriptor = start[4]
    single, flag = descriptor >> 5 & 1, descriptor >> 6
    place = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    length = (single, 2, 4, 8)[flag]
    return int.from_bytes(start[place : place + length], "little")


def _count(stream: Any) -> int:
    """Unpack a stream piece by piece until it has ended or is too long, and return its length."""
    size = 0
    try:
        while size <= MOST_CHUNK_BYTES and (piece := stream.read(2**20)):
            size += len(piece)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):  # not packed by this method
        return 0
    return size


def _count_zlib(packed: memoryview) -> int:
    stream, size, place = zlib.decompressobj(), 0, 0
    try:
        while size <= MOST_CHUNK_BYTES and not stream.eof:
            piece: Any = stream.unconsumed_tail
            if not piece:
                piece, place = packed[place : place + 2**16], place + 2**16
            if not piece:
                break
            size += len(stream.decompress(piece, 2**20))
    except zlib.error:
        return 0
    return size
