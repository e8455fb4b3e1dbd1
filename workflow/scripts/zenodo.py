"""Fetch a record of Zenodo and take folders of stacks out of its archives.

Two steps, so that a slip in a folder's name costs no second download:

    zenodo.py download RECORD --to DIR [--mirror URL]   files, each checked by its MD5
    zenodo.py folder PATTERN --downloads DIR --out DIR  one folder of the archives
"""

import argparse
import fnmatch
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

CHECKSUMS = "md5sums.txt"
LITTER = "__MACOSX/"  # a shadow of every file, which some zip programs add


# Download -----------------------------------------------------------------------------------------


def download(record: str, folder: Path, mirror: str = "") -> None:
    """Fetch all files of a record into a folder; those already there and whole are kept.

    Parameters
    ----------
    record : str
        Number of the record.
    folder : Path
        Where to; also receives ``md5sums.txt``.
    mirror : str
        Where a copy of the files and of ``md5sums.txt`` lies: the address of a web folder, or a
        local folder. Zenodo itself if empty.

    Raises
    ------
    SystemExit
        If a file cannot be had, or differs from its checksum.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if mirror:
        base = mirror if "://" in mirror else Path(mirror).resolve().as_uri()
        _copy(f"{base.rstrip('/')}/{CHECKSUMS}", folder / CHECKSUMS)
        for name, digest in read_checksums(folder / CHECKSUMS).items():
            if not _is_whole(folder / name, digest):
                _copy(f"{base.rstrip('/')}/{urllib.parse.quote(name)}", folder / name)
    else:
        (folder / CHECKSUMS).unlink(missing_ok=True)
        # Its exit status does not tell of every failure, so the files themselves are checked below.
        for arguments in (["--md5"], ["--retry", "3", "--verbosity", "1"]):
            subprocess.run(
                ["zenodo_get", *arguments, "--output-dir", str(folder), "--record", record],
                check=True,
            )
    if not (folder / CHECKSUMS).is_file():
        sys.exit(f"record {record} gave no list of files: is the number right, is there a network?")
    for name, digest in read_checksums(folder / CHECKSUMS).items():
        if not _is_whole(folder / name, digest):
            (folder / name).unlink(missing_ok=True)
            sys.exit(f"{name} of record {record} did not arrive whole: its MD5 differs; try again")


def read_checksums(path: Path) -> dict[str, str]:
    """MD5 by file name, from the lines of ``md5sums.txt``."""
    sums = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        digest, name = line.split(maxsplit=1)
        name = name.removeprefix("*")
        if _parts(name) is None:
            sys.exit(f"{path} names {name}, which would lie outside of the folder: not fetched")
        sums[name] = digest
    return sums


def _is_whole(path: Path, digest: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest() == digest


def _copy(url: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with urllib.request.urlopen(url, timeout=60) as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target, 2**20)
    except (OSError, urllib.error.URLError) as error:
        sys.exit(f"cannot fetch {url}: {error}")
    os.replace(partial, path)


# Archives -----------------------------------------------------------------------------------------


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
    SystemExit
        If no folder or more than one fits, or an archive would write elsewhere.
    """
    found: dict[tuple[Path, PurePosixPath], None] = {}
    for archive in sorted(downloads.iterdir()):
        with _open(archive) as members:
            for name in members or {}:
                parts = _parts(name)
                if parts is None:
                    sys.exit(f"{archive} holds {name}, which would lie outside of the folder")
                path = PurePosixPath(_stem(archive), *parts)
                found.update({(archive, folder): None for folder in path.parents if folder.name})
    fitting = [
        (archive, folder)
        for archive, folder in found
        if fnmatch.fnmatchcase(folder.name, pattern) or fnmatch.fnmatchcase(str(folder), pattern)
    ]
    # An archive named as the folder that it holds counts once: the inner one.
    fitting = [
        (archive, folder)
        for archive, folder in fitting
        if not any(a == archive and folder in f.parents for a, f in fitting)
    ]
    if len(fitting) != 1:
        what = "no folder fits" if not fitting else "more than one folder fits"
        listed = [f for _, f in fitting] or [f for _, f in found]
        names = "\n".join(f"  {folder}" for folder in sorted(listed)) or "  no archive at all"
        sys.exit(
            f"{what} '{pattern}' in {downloads}; set its name in the configuration, under "
            f"zenodo: folders. Found:\n{names}"
        )
    archive, chosen = fitting[0]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
        complete = Path(temporary) / "complete"
        complete.mkdir()
        with _open(archive) as members:
            for name, open_member in (members or {}).items():
                path = PurePosixPath(_stem(archive), *(_parts(name) or ()))
                if chosen in path.parents:
                    target = complete.joinpath(*path.relative_to(chosen).parts)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with open_member() as source, target.open("wb") as file:
                        shutil.copyfileobj(source, file, 2**20)
        if out.is_dir():
            shutil.rmtree(out)
        os.replace(complete, out)


@contextmanager
def _open(archive: Path) -> Iterator[dict[str, Callable[[], IO[bytes]]] | None]:
    """List the plain files of an archive, each with a way to open it; None if it is no archive."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            yield {
                info.filename: lambda info=info: file.open(info)
                for info in file.infolist()
                if not info.is_dir() and not info.filename.startswith(LITTER)
            }
    elif archive.is_file() and tarfile.is_tarfile(archive):
        with tarfile.open(archive) as file:
            yield {
                info.name: lambda info=info: file.extractfile(info)
                for info in file.getmembers()
                if info.isfile() and not info.name.startswith(LITTER)
            }
    else:
        yield None


def _parts(name: str) -> tuple[str, ...] | None:
    """Parts of a relative path, or None if it leads elsewhere."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name or not path.parts:
        return None
    return path.parts


def _stem(archive: Path) -> str:
    name = archive.name
    for suffix in (".zip", ".gz", ".bz2", ".xz", ".tgz", ".tar"):
        name = name.removesuffix(suffix)
    return name


def main() -> None:
    """Read the command line and do one of the two steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    step = steps.add_parser("download", help="fetch all files of a record")
    step.add_argument("record")
    step.add_argument("--to", type=Path, required=True)
    step.add_argument("--mirror", default="")
    step = steps.add_parser("folder", help="take one folder out of the archives")
    step.add_argument("pattern")
    step.add_argument("--downloads", type=Path, required=True)
    step.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.step == "download":
        download(arguments.record, arguments.to, arguments.mirror)
    else:
        take_folder(arguments.pattern, arguments.downloads, arguments.out)


if __name__ == "__main__":
    main()
