"""Fetch a record of Zenodo, file by file, and take folders of stacks out of its archives.

Three steps, so that a slip costs no second download:

    zenodo.py manifest RECORD --out CSV [--mirror URL]       names, checksums and addresses
    zenodo.py file NAME --manifest CSV --out FILE            one file, checked by its MD5
    zenodo.py folder PATTERN --downloads DIR --out DIR       one folder of the archives
"""

import argparse
import csv
import fnmatch
import hashlib
import http.client
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

CHECKSUMS = "md5sums.txt"
TRIES = 6
AGAIN = {408, 425, 429, 500, 502, 503, 504}  # answers of a server that may do better later
LITTER = "__MACOSX/"  # a shadow of every file, which some zip programs add


# Download -----------------------------------------------------------------------------------------


def write_manifest(record: str, out: Path, mirror: str = "") -> None:
    """List the files of a record: columns file, size (bytes, if the server tells), md5 and url.

    Parameters
    ----------
    record : str
        Number of the record.
    out : Path
        The list; it appears when it is complete.
    mirror : str
        Where a copy of the files and of ``md5sums.txt`` lies: the address of a web folder, or a
        local folder. Zenodo itself if empty.

    Raises
    ------
    SystemExit
        If the list cannot be had, or names a file outside of a folder.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if mirror:
            base = mirror if "://" in mirror else Path(mirror).resolve().as_uri()
            base = base.rstrip("/")
            fetch(f"{base}/{CHECKSUMS}", folder / CHECKSUMS)
            sums = read_checksums(folder / CHECKSUMS)
            urls = {name: f"{base}/{urllib.parse.quote(name)}" for name in sums}
        else:
            # Its exit status does not tell of every failure, so its files are checked.
            for option in (["--md5"], ["--wget", "urls.txt"]):
                command = ["zenodo_get", *option, "--output-dir", str(folder), "--record", record]
                try:
                    subprocess.run(command, check=False)
                except FileNotFoundError:
                    sys.exit("the program zenodo_get is missing: pip install zenodo-get")
            if not (folder / CHECKSUMS).is_file() or not (folder / "urls.txt").is_file():
                sys.exit(
                    f"record {record} gave no list of files: is its number right, is there a "
                    "network? (Zenodo's own mirror is set by zenodo: mirror, or TENET_ZENODO_URL.)"
                )
            sums = read_checksums(folder / CHECKSUMS)
            listed = (folder / "urls.txt").read_text(encoding="utf-8").split()
            by_name = {_name_in(url): url for url in listed}
            urls = {name: by_name.get(name, "") for name in sums}
    missing = [name for name, url in urls.items() if not url]
    if missing or not sums:
        sys.exit(f"record {record}: no address of {', '.join(missing) or 'any file'}")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "size", "md5", "url"))
        writer.writerows(
            (name, size_of(urls[name]), sums[name], urls[name]) for name in sorted(sums)
        )
    os.replace(partial, out)


def size_of(url: str, tries: int = 3) -> str:
    """Bytes of a file by what its server tells; empty if it does not."""
    request = urllib.request.Request(url, method="HEAD")
    for attempt in range(tries):
        try:
            with urllib.request.urlopen(request, timeout=60) as head:
                return str(head.headers.get("Content-Length") or "")
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "code", 0) not in AGAIN and isinstance(error, urllib.error.HTTPError):
                break
            time.sleep(2.0**attempt)
    return ""  # what comes is checked by its MD5 anyway


def _name_in(url: str) -> str:
    """File name in the address of a Zenodo file, ``…/files/NAME`` or ``…/files/NAME/content``."""
    path = urllib.parse.unquote(urllib.parse.urlparse(url).path)
    return path.partition("/files/")[2].removesuffix("/content")


def read_manifest(path: Path) -> dict[str, dict[str, str]]:
    """Rows of a manifest by file name; names that lead elsewhere are refused."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    for name in rows:
        _refuse_outside(name, path)
    return rows


def download(name: str, manifest: Path, out: Path, tries: int = TRIES) -> None:
    """Fetch one file of a manifest, going on where an earlier try was cut off.

    Parameters
    ----------
    name : str
        As the manifest has it.
    manifest : Path
    out : Path
        The file; it appears when its MD5 is right.
    tries : int
        Times that a wrong checksum is answered by fetching the file anew.

    Raises
    ------
    SystemExit
        If the file cannot be had, differs from its checksum, or does not fit on the disk.
    """
    row = read_manifest(manifest).get(name)
    if row is None:
        sys.exit(f"{manifest} has no file {name}")
    for _ in range(max(tries, 1)):
        if _is_whole(out, row["md5"]):
            return
        partial = out.with_name(f".{out.name}.partial")
        _refuse_what_does_not_fit(name, row.get("size") or "", partial)
        fetch(row["url"], partial)
        if _is_whole(partial, row["md5"]):
            os.replace(partial, out)
            return
        partial.unlink()
    sys.exit(f"{name} did not arrive whole: its MD5 differs from that of the record; try again")


def _refuse_what_does_not_fit(name: str, size: str, partial: Path) -> None:
    """Say before the download, not hours later, that a disk is too small for this file."""
    if not size.isdigit():
        return
    partial.parent.mkdir(parents=True, exist_ok=True)
    missing = int(size) - (partial.stat().st_size if partial.exists() else 0)
    free = shutil.disk_usage(partial.parent).free
    if missing > free:
        sys.exit(
            f"{name}: {missing / 1e9:.1f} GB are to come, {partial.parent} has {free / 1e9:.1f} GB "
            "free; make room, or set zenodo: folder to another disk, and the same command goes on"
        )


def fetch(url: str, path: Path, tries: int = TRIES) -> None:
    """Fetch a file, on from where `path` ends; wait and try again when the server fails.

    A connection that is cut, a server error and "too many requests" are tried again after 1, 2, 4 …
    seconds, or after as long as the server asks for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, tries + 1):
        have = path.stat().st_size if path.exists() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        wait = 2.0 ** (attempt - 1)
        try:
            with urllib.request.urlopen(request, timeout=60) as source:
                goes_on = have > 0 and source.status == http.HTTPStatus.PARTIAL_CONTENT
                # Unbuffered, so that closing cannot fail once more on a full disk.
                with path.open("ab" if goes_on else "wb", buffering=0) as target:
                    _copy(source, target, path)
                expected = source.headers.get("Content-Length")
            arrived = path.stat().st_size - (have if goes_on else 0)
            if expected is None or arrived >= int(expected):
                return
            reason = f"the connection was cut after {path.stat().st_size} bytes"
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # nothing is missing
            if error.code not in AGAIN:
                sys.exit(f"cannot fetch {url}: {error}")
            reason = str(error)
            asked = error.headers.get("Retry-After") or ""
            wait = min(float(asked), 600.0) if asked.isdigit() else wait
        except (OSError, http.client.HTTPException) as error:
            if isinstance(getattr(error, "reason", None), FileNotFoundError):
                sys.exit(f"cannot fetch {url}: {error}")
            reason = str(error) or type(error).__name__
        if attempt < tries:
            print(f"{url}: {reason}; again in {wait:g} s", file=sys.stderr, flush=True)
            time.sleep(wait)
    sys.exit(f"cannot fetch {url}: {reason} ({tries} tries); the same command goes on from here")


def _copy(source: IO[bytes], target: io.FileIO, path: Path) -> None:
    """Copy what arrives; what cannot be written is no fault of the network."""
    while block := source.read(2**20):
        rest = memoryview(block)
        try:
            while rest:
                rest = rest[target.write(rest) :]
        except OSError as error:
            sys.exit(
                f"cannot write {path}: {error.strerror}; make room, and the same command goes on"
            )


def read_checksums(path: Path) -> dict[str, str]:
    """MD5 by file name, from the lines of ``md5sums.txt``."""
    sums = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        digest, name = line.split(maxsplit=1)
        name = name.removeprefix("*")
        _refuse_outside(name, path)
        sums[name] = digest
    return sums


def _refuse_outside(name: str, path: Path) -> None:
    if _parts(name) is None:
        sys.exit(f"{path} names {name}, which would lie outside of the folder: not fetched")


def _is_whole(path: Path, digest: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest() == digest


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
                    with open_member() as source, target.open("wb", buffering=0) as file:
                        _copy(source, file, out)
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
    """Read the command line and do one of the steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    step = steps.add_parser("manifest", help="list the files of a record")
    step.add_argument("record")
    step.add_argument("--out", type=Path, required=True)
    step.add_argument("--mirror", default="")
    step = steps.add_parser("file", help="fetch one file of a manifest")
    step.add_argument("name")
    step.add_argument("--manifest", type=Path, required=True)
    step.add_argument("--out", type=Path, required=True)
    step = steps.add_parser("folder", help="take one folder out of the archives")
    step.add_argument("pattern")
    step.add_argument("--downloads", type=Path, required=True)
    step.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.step == "manifest":
        mirror = arguments.mirror or os.environ.get("TENET_ZENODO_URL", "")
        write_manifest(arguments.record, arguments.out, mirror)
    elif arguments.step == "file":
        download(arguments.name, arguments.manifest, arguments.out)
    else:
        take_folder(arguments.pattern, arguments.downloads, arguments.out)


if __name__ == "__main__":
    main()
