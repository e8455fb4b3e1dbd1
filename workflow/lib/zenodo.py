"""Fetch a record of Zenodo, file by file, and take folders of stacks out of its archives."""

import csv
import hashlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from tenet.errors import TenetError, one_line
from tenet.io.atomic import replacing
from workflow.lib.arrivals import copy, parts_of

CHECKSUMS = "md5sums.txt"
COLUMNS = ("file", "size", "md5", "url")
TRIES = 6
AGAIN = {408, 425, 429, 500, 502, 503, 504}  # answers of a server that may do better later
MOST_BYTES = 2**24  # of a list of files


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
    TenetError
        If the list cannot be had, or is not as described.
    """
    with tempfile.TemporaryDirectory() as temporary:
        sums, urls = (_list_of_mirror if mirror else _list_of_record)(
            mirror or record, Path(temporary)
        )
    missing = [name for name in sums if not urls.get(name)]
    if missing or not sums:
        raise TenetError(f"record {record}: no address of {', '.join(missing) or 'any file'}")
    rows = [(name, size_of(urls[name]), sums[name], urls[name]) for name in sorted(sums)]
    with replacing(out) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


def _list_of_mirror(mirror: str, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """MD5 and address by file name, of a web folder or a local one."""
    base = mirror if "://" in mirror else Path(mirror).resolve().as_uri()
    base = base.rstrip("/")
    fetch(f"{base}/{CHECKSUMS}", folder / CHECKSUMS, most_bytes=MOST_BYTES)
    sums = read_checksums(folder / CHECKSUMS)
    return sums, {name: f"{base}/{urllib.parse.quote(name)}" for name in sums}


def _list_of_record(record: str, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """MD5 and address by file name, of a record of Zenodo."""
    # Its exit status does not tell of every failure, so its files are checked.
    for option in (["--md5"], ["--wget", "urls.txt"]):
        command = ["zenodo_get", *option, "--output-dir", str(folder), "--record", record]
        try:
            subprocess.run(command, check=False)
        except FileNotFoundError:
            raise TenetError("the program zenodo_get is missing: pip install zenodo-get") from None
    if not (folder / CHECKSUMS).is_file() or not (folder / "urls.txt").is_file():
        raise TenetError(
            f"record {record} gave no list of files: is its number right, is there a "
            "network? (Zenodo's own mirror is set by zenodo: mirror, or TENET_ZENODO_URL.)"
        )
    listed = _read_list(folder / "urls.txt").split()
    return read_checksums(folder / CHECKSUMS), {_name_in(url): url for url in listed}


def _read_list(path: Path) -> str:
    """Read a list of files."""
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            raise TenetError(f"{path}: this is no list of files: none, no file or too large")
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TenetError(f"{path}: this is no list of files ({one_line(error)})") from None


def size_of(url: str, tries: int = 3) -> str:
    """Bytes of a file by what its server tells; empty if it does not."""
    request = urllib.request.Request(url, method="HEAD")
    for attempt in range(tries):
        try:
            with urllib.request.urlopen(request, timeout=60) as head:
                return str(head.headers.get("Content-Length") or "")
        except (OSError, http.client.HTTPException) as error:
            final = isinstance(error, urllib.error.HTTPError) and error.code not in AGAIN
            if final or url.startswith("file:"):
                break
            time.sleep(2.0**attempt)
    return ""  # what comes is checked by its MD5 anyway


def _name_in(url: str) -> str:
    """File name in the address of a Zenodo file, ``…/files/NAME`` or ``…/files/NAME/content``."""
    try:
        path = urllib.parse.unquote(urllib.parse.urlparse(url).path)
    except ValueError:
        return ""
    return path.partition("/files/")[2].removesuffix("/content")


def read_manifest(path: Path) -> dict[str, dict[str, str]]:
    """Rows of a manifest by file name.

    Raises
    ------
    TenetError
        If it is no such table, or a row lacks a name, an MD5 or an address, or names a file that
        would lie elsewhere or inside of another.
    """
    try:
        table = csv.DictReader(_read_list(path).splitlines(), strict=True)
        rows = list(table)
    except csv.Error as error:
        raise TenetError(f"{path}: this is no list of files ({one_line(error)})") from None
    wanted = {"file", "md5", "url"}
    if not wanted <= set(table.fieldnames or ()):
        raise TenetError(
            f"{path}: its columns are not {', '.join(COLUMNS)}; delete it, and it is made again"
        )
    for number, row in enumerate(rows, start=2):
        lacking = [key for key in sorted(wanted) if not (row[key] or "").strip()]
        if lacking:
            raise TenetError(
                f"{path}, row {number}: {', '.join(lacking)} missing; delete the list, and it is "
                "made again"
            )
    check_names([row["file"] for row in rows], path)
    for number, row in enumerate(rows, start=2):
        if not re.fullmatch("[0-9a-fA-F]{32}", row["md5"]):
            raise TenetError(f"{path}, row {number}: {row['md5'][:40]!r} is no MD5")
    return {row["file"]: row for row in rows}


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
    TenetError
        If the file cannot be had, differs from its checksum, or does not fit on the disk.
    """
    row = read_manifest(manifest).get(name)
    if row is None:
        raise TenetError(f"{manifest} has no file {name}")
    size = _count(row.get("size")) or None
    for _ in range(max(tries, 1)):
        if _is_whole(out, row["md5"]):
            return
        partial = out.with_name(f".{out.name}.partial")
        _refuse_what_does_not_fit(name, size, partial)
        fetch(row["url"], partial, most_bytes=size)
        if _is_whole(partial, row["md5"]):
            os.replace(partial, out)
            return
        partial.unlink()
    raise TenetError(
        f"{name} did not arrive whole: its MD5 differs from that of the record; try again"
    )


def _count(text: str | None) -> int | None:
    """Read a number of bytes; None if it is none."""
    return int(text) if text and re.fullmatch("[0-9]{1,15}", text) else None


def _refuse_what_does_not_fit(name: str, size: int | None, partial: Path) -> None:
    """Say before the download, not hours later, that a disk is too small for this file."""
    if size is None:
        return
    partial.parent.mkdir(parents=True, exist_ok=True)
    missing = size - (partial.stat().st_size if partial.exists() else 0)
    free = shutil.disk_usage(partial.parent).free
    if missing > free:
        raise TenetError(
            f"{name}: {missing / 1e9:.1f} GB are to come, {partial.parent} has {free / 1e9:.1f} GB "
            "free; make room, or set zenodo: folder to another disk, and the same command goes on"
        )


def fetch(url: str, path: Path, tries: int = TRIES, *, most_bytes: int | None = None) -> None:
    """Fetch a file, on from where `path` ends; wait and try again when the server fails.

    A connection that is cut, a server error and "too many requests" are tried again after 1, 2, 4 …
    seconds, or after as long as the server asks for. From a server that does not say how much is to
    come, no more than `most_bytes` is taken.
    """
    _check_url(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, tries + 1):
        have = path.stat().st_size if path.exists() else 0
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        wait = 2.0 ** (attempt - 1)
        try:
            with urllib.request.urlopen(request, timeout=60) as source:
                goes_on = _goes_on(source, have)
                expected = _count(source.headers.get("Content-Length"))
                most = most_bytes if expected is None else None  # else no more is read
                # Unbuffered, so that closing cannot fail once more on a full disk.
                with path.open("ab" if goes_on else "wb", buffering=0) as target:
                    copy(source, target, path, most_bytes=most)
            arrived = path.stat().st_size - (have if goes_on else 0)
            if expected is None or arrived >= expected:
                return
            reason = f"the connection was cut after {path.stat().st_size} bytes"
        except urllib.error.HTTPError as error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # nothing is missing
            if error.code not in AGAIN:
                raise TenetError(f"cannot fetch {url}: {one_line(error)}") from None
            reason = one_line(error)
            asked = _count(error.headers.get("Retry-After"))
            wait = wait if asked is None else min(asked, 600)
        except (OSError, http.client.HTTPException) as error:
            if url.startswith("file:"):
                raise TenetError(f"cannot fetch {url}: {one_line(error)}") from None
            reason = one_line(error)
        if attempt < tries:
            print(f"{url}: {reason}; again in {wait:g} s", file=sys.stderr, flush=True)
            time.sleep(wait)
    raise TenetError(
        f"cannot fetch {url}: {reason} ({tries} tries); the same command goes on from here"
    )


def _check_url(url: str) -> None:
    """Refuse what is no address of a file on the web or on this machine."""
    scheme = url.partition(":")[0]
    if scheme not in ("http", "https", "file") or not re.fullmatch("[!-~]+", url):
        raise TenetError(f"{url!r} is no address of a file: it begins with https:, http: or file:")
    path = Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path))
    if scheme == "file" and path.exists() and not path.is_file():
        raise TenetError(f"cannot fetch {url}: this is a folder, a device or a pipe")


def _goes_on(source: http.client.HTTPResponse, have: int) -> bool:
    """Whether a server answers with what follows the bytes that are here, not with the whole."""
    if have == 0 or source.status != http.HTTPStatus.PARTIAL_CONTENT:
        return False
    start = re.match(r"bytes (\d{1,15})-", source.headers.get("Content-Range") or f"bytes {have}-")
    if start is None or int(start[1]) != have:
        raise http.client.HTTPException(f"the server sent another part than that from {have} on")
    return True


def read_checksums(path: Path) -> dict[str, str]:
    """MD5 by file name, from the lines of ``md5sums.txt``."""
    sums: dict[str, str] = {}
    for number, line in enumerate(_read_list(path).splitlines(), start=1):
        found = re.fullmatch(r"([0-9a-fA-F]{32})\s+\*?(\S.*)", line)
        if found is None and line.strip():
            raise TenetError(f"{path}, line {number}: not an MD5 and the name of a file")
        if found and sums.setdefault(found[2], found[1].lower()) != found[1].lower():
            raise TenetError(f"{path}, line {number}: {found[2]} has two different MD5s")
    check_names(list(sums), path)
    return sums


def check_names(names: list[str], where: Path) -> None:
    """Refuse names of files that lead elsewhere, or that Snakemake takes for patterns."""
    found = set()
    for name in names:
        parts = parts_of(name, where)
        if re.search("[{}<>]", name):
            raise TenetError(f"{where} names {name!r}: none of {{ }} < > can be in a file's name")
        if parts in found:
            raise TenetError(f"{where} names {name!r} twice")
        found.add(parts)
    for parts in found:
        if any(parts[:n] in found for n in range(1, len(parts))):
            raise TenetError(f"{where} names {'/'.join(parts)!r}, in a folder that is a file too")


def _is_whole(path: Path, digest: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest() == digest.lower()
