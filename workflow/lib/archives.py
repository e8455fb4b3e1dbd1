"""Take a folder of stacks out of zip and tar archives, which may come from anyone."""

import fnmatch
import io
import shutil
import struct
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from tenet.errors import TenetError, one_line
from tenet.io.atomic import replacing

LITTER = "__MACOSX/"  # a shadow of every file, which some zip programs add

#: Entries of an archive, levels of its folders, bytes of a name, characters of a path, at most.
MOST_FILES, MOST_LEVELS, MOST_IN_NAME, MOST_IN_PATH = 100_000, 32, 255, 1024
#: An archive whose content is larger than the first and than so many times its own size is a bomb:
#: stacks become a few times smaller.
LEAST_BOMB, MOST_RATIO = 10**9, 200
#: Bytes of a zip's table of contents, and of a header in a tar, at most.
MOST_CONTENTS, MOST_HEADER = 2**24, 2**20
#: Headers of a tar that are read whole.
LONG_HEADERS = (b"x", b"g", b"X", b"L", b"K")
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True)
class Member:
    """A plain file in an archive: its place, its size in bytes as declared, and how to open it."""

    parts: tuple[str, ...]
    size: int
    open: Callable[[], IO[bytes]]


def take_folder(pattern: str, downloads: Path, out: Path) -> None:
    """Extract the one folder whose name fits a pattern, from whichever archive holds it.

    The files of an archive that holds no folder count as a folder of the archive's name. Only
    plain files are written, and none outside of `out`.

    Parameters
    ----------
    pattern : str
        Name of the folder, or its path in the archive; ``*`` and ``?`` as in a shell.
    downloads : Path
        Folder of the downloaded files.
    out : Path
        The new folder. It appears when it is complete.

    Raises
    ------
    TenetError
        If no folder or more than one fits, or an archive is damaged, encrypted or a bomb, or would
        write elsewhere.
    """
    if not downloads.is_dir():
        raise TenetError(f"{downloads}: there is no such folder of downloads; check the path")
    found: dict[tuple[Path, PurePosixPath], None] = {}
    for archive in sorted(downloads.iterdir()):
        with _members(archive) as members:
            for member in members:
                path = PurePosixPath(_stem(archive), *member.parts)
                found.update({(archive, folder): None for folder in path.parents if folder.name})
    archive, chosen = _the_one(pattern, list(found), downloads)
    with _members(archive) as members, replacing(out, folder=True) as complete:
        inside = [m for m in members if chosen in PurePosixPath(_stem(archive), *m.parts).parents]
        depth = len(chosen.parts) - 1
        _check_places(archive, [member.parts for member in inside])
        _check_room(archive, sum(member.size for member in inside), complete)
        for member in inside:
            _extract(archive, member, complete.joinpath(*member.parts[depth:]), out)


def _the_one(
    pattern: str, found: list[tuple[Path, PurePosixPath]], downloads: Path
) -> tuple[Path, PurePosixPath]:
    """Choose the archive and the folder in it that a pattern fits."""
    fitting = [
        (archive, folder)
        for archive, folder in found
        if fnmatch.fnmatchcase(folder.name, pattern) or fnmatch.fnmatchcase(str(folder), pattern)
    ]
    # An archive named as the folder that it holds counts once: the inner one.
    outer = {(archive, above) for archive, folder in fitting for above in folder.parents}
    fitting = [one for one in fitting if one not in outer]
    if len(fitting) != 1:
        what = "no folder fits" if not fitting else "more than one folder fits"
        listed = sorted({folder for _, folder in fitting or found})
        names = "\n".join(f"  {folder}" for folder in listed[:50]) or "  no archive at all"
        raise TenetError(
            f"{what} '{pattern}' in {downloads}; set its name in the configuration, under "
            f"zenodo: folders. Found:\n{names}"
        )
    return fitting[0]


def _extract(archive: Path, member: Member, target: Path, out: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb", buffering=0) as file, _reading(archive), member.open() as source:
        copy(source, file, out)


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


# What an archive holds ----------------------------------------------------------------------------


@contextmanager
def _members(archive: Path) -> Iterator[list[Member]]:
    """Plain files of an archive, while it is open; none if it is no archive."""
    # A dot at the start: it is still being downloaded.
    file = None if archive.name.startswith(".") or not archive.is_file() else _open(archive)
    if file is None:
        yield []
        return
    with file:
        if isinstance(file, zipfile.ZipFile):
            yield _checked(archive, _in_zip(archive, file))
        else:
            yield _checked(archive, _in_tar(archive, file))


def _open(archive: Path) -> zipfile.ZipFile | tarfile.TarFile | None:
    """Open an archive; None if it is none, and is not called one."""
    with archive.open("rb") as file:
        zipped = file.read(2) == b"PK" and zipfile.is_zipfile(archive)
    with _reading(archive):
        try:
            if zipped:
                _check_contents(archive)
                return zipfile.ZipFile(archive)
            return tarfile.open(archive, tarinfo=_Header)
        except tarfile.ReadError:
            if archive.name.lower().endswith(ARCHIVES):
                raise
            return None


def _in_zip(archive: Path, file: zipfile.ZipFile) -> Iterator[Member]:
    for info in file.infolist():
        if info.is_dir() or info.filename.startswith(LITTER):
            continue
        if info.flag_bits & 1:
            raise TenetError(f"{archive} is encrypted; unpack it, and pack it without a password")
        # What follows a zero in a name is cut off by zipfile: the name as it stands is looked at.
        yield Member(
            parts_of(info.orig_filename, archive), info.file_size, partial(file.open, info)
        )


def _in_tar(archive: Path, file: tarfile.TarFile) -> Iterator[Member]:
    for _ in range(MOST_FILES + 1):
        with _reading(archive):
            info = file.next()
        if info is None:
            return
        if info.isfile() and not info.name.startswith(LITTER):
            yield Member(parts_of(info.name, archive), info.size, partial(_content, file, info))
    raise _too_many(archive)


def _content(file: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = file.extractfile(info)
    if content is None:
        raise tarfile.ReadError(f"{info.name} is no plain file")
    return content


class _Header(tarfile.TarInfo):
    """A header that is small where it is read whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        header = super().frombuf(buf, encoding, errors)
        if header.type in LONG_HEADERS and header.size > MOST_HEADER:
            raise ValueError(f"a header of {header.size} bytes")
        return header


def _too_many(archive: Path) -> TenetError:
    return TenetError(f"{archive} holds more than {MOST_FILES} files: not unpacked")


def _checked(archive: Path, members: Iterable[Member]) -> list[Member]:
    """List members, as long as they are neither too many nor too large for their archive."""
    kept, size, most = [], 0, max(LEAST_BOMB, MOST_RATIO * archive.stat().st_size)
    for member in members:
        kept.append(member)
        size += member.size
        if len(kept) > MOST_FILES:
            raise _too_many(archive)
        if size > most:
            raise TenetError(
                f"{archive}, of {archive.stat().st_size / 1e6:.1f} MB, would become "
                f"{size / 1e9:.0f} GB or more: not unpacked"
            )
    return kept


def _check_contents(archive: Path) -> None:
    """Refuse a zip with a table of contents that would take gigabytes of memory."""
    with archive.open("rb") as file:
        file.seek(max(archive.stat().st_size - 2**16 - 22 - 20, 0))
        tail = file.read()
        end = tail.rfind(b"PK\5\6")
        (size,) = struct.unpack_from("<L", tail, end + 12)
        if size == 0xFFFFFFFF:  # a large zip says it in another place
            (place,) = struct.unpack_from("<Q", tail, end - 12)
            file.seek(place)
            (size,) = struct.unpack_from("<Q", file.read(56), 40)
    if size > MOST_CONTENTS:
        raise _too_many(archive)


def _check_places(archive: Path, places: list[tuple[str, ...]]) -> None:
    """Refuse two files of one name, and a file that is a folder too."""
    seen: set[tuple[str, ...]] = set()
    for place in places:
        if place in seen:
            raise TenetError(f"{archive} holds {'/'.join(place)!r} twice: pack it again")
        seen.add(place)
    for place in places:
        for n in range(1, len(place)):
            if place[:n] in seen:
                both = "/".join(place[:n])
                raise TenetError(f"{archive} holds {both!r} as file and as folder: pack it again")


def _check_room(archive: Path, size: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise TenetError(
            f"{archive}: {size / 1e9:.1f} GB are to be unpacked, {folder.parent} has "
            f"{free / 1e9:.1f} GB free; make room, and the same command goes on"
        )


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn whatever a reader of archives raises into one line."""
    try:
        yield
    except TenetError:
        raise
    except Exception as error:  # of any kind, as the archive may be a stranger's
        raise TenetError(
            f"{archive}: the archive is damaged or of an unknown kind ({one_line(error)}); delete "
            "it, and it is fetched anew"
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


def _stem(archive: Path) -> str:
    name = archive.name
    for suffix in (".zip", ".gz", ".bz2", ".xz", ".tgz", ".tar"):
        name = name.removesuffix(suffix)
    return name
