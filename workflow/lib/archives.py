"""Take a folder of stacks out of zip, tar and 7z archives, which may come from anyone."""

import fnmatch
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from tenet.errors import TenetError, one_line
from tenet.io.atomic import replacing
from workflow.lib.arrivals import copy, parts_of

if TYPE_CHECKING:
    from workflow.lib.seven_zip import SevenZip

LITTER = "__MACOSX/"  # a shadow of every file, which some zip programs add

#: Entries of an archive, at most.
MOST_FILES = 100_000
#: An archive whose content is larger than the first and than so many times its own size is a bomb:
#: stacks become a few times smaller.
LEAST_BOMB, MOST_RATIO = 10**9, 200
#: Bytes of a zip's table of contents, and of a header in a tar, at most.
MOST_CONTENTS, MOST_HEADER = 2**24, 2**20
#: Headers of a tar that are read whole.
LONG_HEADERS = (b"x", b"g", b"X", b"L", b"K")
ARCHIVES = (".zip", ".7z", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c"


@dataclass(frozen=True)
class Member:
    """A plain file in an archive: its place, and its size in bytes as declared."""

    parts: tuple[str, ...]
    size: int
    #: Opens the content; of a 7z, whose files are packed together, there is none.
    open: Callable[[], IO[bytes]] | None = None


@dataclass(frozen=True)
class Contents:
    """The plain files of an archive, while it is open."""

    archive: Path
    members: list[Member]
    seven_zip: "SevenZip | None" = None

    def extract(self, targets: Mapping[tuple[str, ...], Path], out: Path) -> None:
        """Write members, by their place in the archive, to files; `out` is for errors.

        Raises
        ------
        TenetError
            If the archive is damaged, or the disk is full.
        """
        _check_places(self.archive, [m.parts for m in self.members if m.parts in targets])
        if self.seven_zip is not None:
            with _reading(self.archive):
                self.seven_zip.extract(targets, out)
            return
        for member in self.members:
            if member.parts in targets and member.open is not None:
                target = targets[member.parts]
                target.parent.mkdir(parents=True, exist_ok=True)
                with (
                    target.open("wb", buffering=0) as file,
                    _reading(self.archive),
                    member.open() as source,
                ):
                    copy(source, file, out)


def take_folder(pattern: str, downloads: Path | Sequence[Path], out: Path) -> None:
    """Extract the one folder whose name fits a pattern, from whichever archive holds it.

    The files of an archive that holds no folder count as a folder of the archive's name. Only
    plain files are written, and none outside of `out`.

    Parameters
    ----------
    pattern : str
        Name of the folder, or its path in the archive; ``*`` and ``?`` as in a shell.
    downloads : path, or sequence of path
        Folder of the downloaded files, or some of them.
    out : Path
        The new folder. It appears when it is complete.

    Raises
    ------
    TenetError
        If no folder or more than one fits, or an archive is damaged, encrypted or a bomb, or would
        write elsewhere.
    """
    if isinstance(downloads, Path):
        if not downloads.is_dir():
            raise TenetError(f"{downloads}: there is no such folder of downloads; check the path")
        files, where = sorted(downloads.iterdir()), downloads
    else:
        files, where = list(downloads), downloads[0].parent
    archive, chosen = _the_one(pattern, folders_of(files), where)
    with contents(archive) as found, replacing(out, folder=True) as complete:
        stem, depth = _stem(archive), len(chosen.parts) - 1
        inside = [m for m in found.members if chosen in PurePosixPath(stem, *m.parts).parents]
        _check_room(archive, sum(member.size for member in inside), complete)
        found.extract({m.parts: complete.joinpath(*m.parts[depth:]) for m in inside}, out)


def folders_of(archives: Sequence[Path]) -> list[tuple[Path, PurePosixPath]]:
    """List the folders in archives, each with its archive; the archive's own name comes first."""
    found: dict[tuple[Path, PurePosixPath], None] = {}
    for archive in archives:
        with contents(archive) as inside:
            for member in inside.members:
                path = PurePosixPath(_stem(archive), *member.parts)
                found.update({(archive, folder): None for folder in path.parents if folder.name})
    return list(found)


def fitting(
    pattern: str, found: Sequence[tuple[Path, PurePosixPath]]
) -> list[tuple[Path, PurePosixPath]]:
    """Choose the folders that a pattern fits, by name or by path."""
    fit = [
        (archive, folder)
        for archive, folder in found
        if fnmatch.fnmatchcase(folder.name, pattern) or fnmatch.fnmatchcase(str(folder), pattern)
    ]
    # An archive named as the folder that it holds counts once: the inner one.
    outer = {(archive, above) for archive, folder in fit for above in folder.parents}
    return [one for one in fit if one not in outer]


def take_archives(archive: Path, folder: Path) -> list[Path]:
    """Extract the archives that lie in an archive into a folder, and list them."""
    with contents(archive) as found:
        inner = [m for m in found.members if m.parts[-1].lower().endswith(ARCHIVES)]
        if not inner:
            return []
        folder.mkdir(parents=True, exist_ok=True)
        _check_room(archive, sum(member.size for member in inner), folder)
        places = {m.parts: folder / str(n) / m.parts[-1] for n, m in enumerate(inner)}
        found.extract(places, folder)
    return list(places.values())


def _the_one(
    pattern: str, found: list[tuple[Path, PurePosixPath]], downloads: Path
) -> tuple[Path, PurePosixPath]:
    """Choose the archive and the folder in it that a pattern fits."""
    fit = fitting(pattern, found)
    if len(fit) != 1:
        what = "no folder fits" if not fit else "more than one folder fits"
        listed = sorted({folder for _, folder in fit or found})
        names = "\n".join(f"  {folder}" for folder in listed[:50]) or "  no archive at all"
        raise TenetError(
            f"{what} '{pattern}' in {downloads}; set its name in the configuration, under "
            f"sources: folder. Found:\n{names}"
        )
    return fit[0]


# What an archive holds ----------------------------------------------------------------------------


@contextmanager
def contents(archive: Path) -> Iterator[Contents]:
    """Open an archive and list its plain files; none if it is no archive."""
    # A dot at the start: it is still being downloaded.
    file = None if archive.name.startswith(".") or not archive.is_file() else _open(archive)
    if file is None:
        yield Contents(archive, [])
        return
    with closing(file):
        if isinstance(file, zipfile.ZipFile):
            yield Contents(archive, _checked(archive, _in_zip(archive, file)))
        elif isinstance(file, tarfile.TarFile):
            yield Contents(archive, _checked(archive, _in_tar(archive, file)))
        else:
            yield Contents(archive, _checked(archive, _in_7z(archive, file)), file)


def _open(archive: Path) -> "zipfile.ZipFile | tarfile.TarFile | SevenZip | None":
    """Open an archive; None if it is none, and is not called one."""
    with archive.open("rb") as file:
        start = file.read(6)
    with _reading(archive):
        if start == SEVEN_ZIP or archive.name.lower().endswith(".7z"):
            return _open_7z(archive)
        try:
            if start[:2] == b"PK" and zipfile.is_zipfile(archive):
                _check_contents(archive)
                return zipfile.ZipFile(archive)
            return tarfile.open(archive, tarinfo=_Header)
        except tarfile.ReadError:
            if archive.name.lower().endswith(ARCHIVES):
                raise
            return None


def _open_7z(archive: Path) -> "SevenZip":
    from workflow.lib.seven_zip import SevenZip  # needs a package that zip and tar do without

    file = SevenZip(archive, _most_bytes(archive))
    if file.encrypted:
        file.close()
        raise _encrypted(archive)
    return file


def _in_7z(archive: Path, file: "SevenZip") -> Iterator[Member]:
    for name, size in file.plain_files():
        if not name.startswith(LITTER):
            yield Member(parts_of(name, archive), size)


def _encrypted(archive: Path) -> TenetError:
    return TenetError(f"{archive} is encrypted; unpack it, and pack it without a password")


def _in_zip(archive: Path, file: zipfile.ZipFile) -> Iterator[Member]:
    for info in file.infolist():
        if info.is_dir() or info.filename.startswith(LITTER):
            continue
        if info.flag_bits & 1:
            raise _encrypted(archive)
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


def _most_bytes(archive: Path) -> int:
    """Bytes that the content of an archive may have."""
    return max(LEAST_BOMB, MOST_RATIO * archive.stat().st_size)


def _checked(archive: Path, members: Iterable[Member]) -> list[Member]:
    """List members, as long as they are neither too many nor too large for their archive."""
    kept, size, most = [], 0, _most_bytes(archive)
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


def _stem(archive: Path) -> str:
    name = archive.name
    for suffix in (".zip", ".7z", ".gz", ".bz2", ".xz", ".tgz", ".tar"):
        name = name.removesuffix(suffix)
    return name
