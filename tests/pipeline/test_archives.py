"""Archives and lists of files from anyone: taken as they should be, or refused in one line."""

import io
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from hashlib import md5
from pathlib import Path
from types import SimpleNamespace

import py7zr
import pytest
from support import ROOT, Moody, serving

from tenet.errors import TenetError
from workflow.lib import archives, zenodo
from workflow.lib.archives import take_folder

SCRIPT = ROOT / "workflow/scripts/zenodo.py"


def tar(path, *members, mode="w:gz"):
    """A tar of (name, content) or of headers."""
    with tarfile.open(path, mode) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member, io.BytesIO(bytes(min(member.size, 2**20))))
                continue
            name, content = member
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path, *members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def packed(path, *members, password=None):
    """A 7z of (name, content)."""
    with py7zr.SevenZipFile(path, "w", password=password) as archive:
        for name, content in members:
            archive.writestr(content, name)
    return path


@pytest.fixture
def files(tmp_path):
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


def refused(files, message, *names):
    """The one line that is told; nothing is left but what was there."""
    before = sorted(files.parent.rglob("*"))
    with pytest.raises(TenetError, match=message) as error:
        take_folder("beads", files, files.parent / "out/beads")
    assert "\n" not in str(error.value)
    assert str(files) in str(error.value)
    after = [p for p in sorted(files.parent.rglob("*")) if p.name != "out"]
    assert after == before


GOOD = ("beads/00.tif", os.urandom(3000)), ("beads/01.tif", b"one" * 1000)


@pytest.mark.parametrize("kind", ["x.zip", "x.7z", "x.tar", "x.tar.gz", "x.tar.xz"])
@pytest.mark.parametrize("part", [0.01, 0.5, 0.9])
def test_a_cut_archive_is_damaged(files, kind, part):
    if kind == "x.zip":
        path = zipped(files / kind, *GOOD)
    elif kind == "x.7z":
        path = packed(files / kind, *GOOD)
    else:
        path = tar(files / kind, *GOOD, mode=f"w:{kind[6:]}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part) // 2])
    refused(files, "damaged")


def test_a_wrong_checksum_is_damaged(files):
    path = zipped(files / "x.zip", *GOOD)
    content = path.read_bytes()
    assert content.count(b"one" * 1000) == 1
    path.write_bytes(content.replace(b"one" * 1000, b"One" + b"one" * 999))
    refused(files, "damaged.*CRC")


def test_an_encrypted_archive_is_told(files):
    path = zipped(files / "x.zip", *GOOD)
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = content.find(mark)
        content[place + flags] |= 1
    path.write_bytes(content)
    refused(files, "encrypted")


@pytest.mark.parametrize("names_too", [False, True])
def test_an_encrypted_7z_is_told(files, names_too):
    with py7zr.SevenZipFile(files / "x.7z", "w", password="secret") as archive:
        archive.set_encrypted_header(names_too)
        for name, content in GOOD:
            archive.writestr(content, name)
    refused(files, "encrypted")


def test_a_7z_is_taken_like_any_other(files):
    packed(files / "x.7z", *GOOD, ("beads/deep/02.tif", b""), ("other/03.tif", b"3"))
    take_folder("beads", files, files.parent / "out")
    assert {
        p.relative_to(files.parent / "out").as_posix(): p.read_bytes()
        for p in (files.parent / "out").rglob("*.tif")
    } == {name.removeprefix("beads/"): content for name, content in (*GOOD, ("deep/02.tif", b""))}


def test_a_7z_with_links_or_a_changed_byte(files):
    (files.parent / "link.tif").symlink_to("/etc/passwd")
    with py7zr.SevenZipFile(files / "x.7z", "w") as archive:
        archive.write(files.parent / "link.tif", "beads/link.tif")
        archive.writestr(GOOD[0][1], GOOD[0][0])
    (files.parent / "link.tif").unlink()
    take_folder("beads", files, files.parent / "out")
    assert [p.name for p in (files.parent / "out").iterdir()] == ["00.tif"]
    content = bytearray((files / "x.7z").read_bytes())
    content[200] ^= 1
    (files / "x.7z").write_bytes(content)
    with pytest.raises(TenetError, match="damaged"):
        take_folder("beads", files, files.parent / "again")
    assert not (files.parent / "again").exists()


def test_a_7z_that_would_become_too_large_is_refused(files, monkeypatch):
    monkeypatch.setattr(archives, "LEAST_BOMB", 1000)
    packed(files / "x.7z", ("beads/x.tif", bytes(10**6)))
    refused(files, "would become")
    # A declared size that lies: what comes out is counted.
    monkeypatch.setattr(archives, "_checked", lambda archive, members: list(members))
    refused(files, "damaged.*limit")


@pytest.mark.parametrize("name", ["../evil.tif", "/etc/evil.tif", "beads/../../evil.tif"])
def test_a_7z_cannot_write_elsewhere(files, name):
    """Its writer refuses such names, so that they are put in afterwards."""
    harmless = "x" * len(name)
    packed(files / "x.7z", (harmless, b"evil"))
    with py7zr.SevenZipFile(files / "y.7z", "w") as archive:
        archive.set_encoded_header_mode(False)
        archive.writestr(b"evil", harmless)
    (files / "x.7z").unlink()
    content = (files / "y.7z").read_bytes()
    old, new = harmless.encode("utf-16-le"), name.encode("utf-16-le")
    assert content.count(old) == 1
    body = bytearray(content.replace(old, new))
    start = 32 + int.from_bytes(body[12:20], "little")
    end = start + int.from_bytes(body[20:28], "little")
    body[28:32] = zlib.crc32(body[start:end]).to_bytes(4, "little")
    body[8:12] = zlib.crc32(body[12:32]).to_bytes(4, "little")
    (files / "y.7z").write_bytes(body)
    refused(files, "outside of the folder")


def test_an_unknown_compression_is_told(files):
    path = zipped(files / "x.zip", *GOOD)
    content = bytearray(path.read_bytes())
    for mark, method in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        content[content.find(mark) + method] = 99
    path.write_bytes(content)
    refused(files, "damaged or of an unknown kind")


BOTH = [("beads/a", b"file"), ("beads/a/b.tif", b"x")]
TWICE = [("beads/a.tif", b"1"), ("beads/./a.tif", b"2")]


@pytest.mark.parametrize("make", [zipped, tar])
@pytest.mark.parametrize(
    ("members", "message"),
    [
        (BOTH, "'beads/a' as file and as folder"),
        (BOTH[::-1], "'beads/a' as file and as folder"),
        (TWICE, "'beads/a.tif' twice"),
        ([("beads/a\nb.tif", b"")], "characters that no name should have"),
        ([("beads/\x1b[31m.tif", b"")], "characters that no name should have"),
        ([("beads/" + "n" * 300, b"")], "too long"),
        ([("beads/" + "ü" * 150, b"")], "too long"),
        ([("beads/" + "d/" * 400 + "x", b"")], "too long, or too many folders"),
        ([("beads/C:x.tif", b"")], "outside of the folder"),
        ([("C:\\beads\\x.tif", b"")], "outside of the folder"),
        ([("//host/beads/x.tif", b"")], "outside of the folder"),
        ([("beads/x/../../../y", b"")], "outside of the folder"),
    ],
)
def test_names_that_cannot_be_are_refused(files, make, members, message):
    make(files / ("x.zip" if make is zipped else "x.tar.gz"), *members)
    refused(files, message)


def test_what_hides_behind_a_zero_is_refused(files):
    path = zipped(files / "x.zip", ("beads/a.tifZ../b", b""))
    path.write_bytes(path.read_bytes().replace(b"a.tifZ", b"a.tif\0"))
    refused(files, "characters that no name should have")


def test_names_of_other_languages_are_taken(files):
    names = ["größe.tif", "脳\u3000スライス.tif", "a b.tif", "-x.tif"]
    zipped(files / "x.zip", *((f"beads/{name}", b"x") for name in names))
    take_folder("beads", files, files.parent / "out")
    assert sorted(p.name for p in (files.parent / "out").iterdir()) == sorted(names)


def test_links_devices_and_pipes_are_left_out(files):
    headers = []
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        info = tarfile.TarInfo(f"beads/{kind.decode()}.tif")
        info.type, info.linkname = kind, "/etc/passwd"
        headers.append(info)
    tar(files / "x.tar.gz", *headers, *GOOD)
    take_folder("beads", files, files.parent / "out")
    assert sorted(p.name for p in (files.parent / "out").iterdir()) == ["00.tif", "01.tif"]


# Bombs --------------------------------------------------------------------------------------------


def limited(files):
    """Take the folder in a process of at most 1 GB, as a user would."""

    def one_gigabyte():
        resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))

    script = [sys.executable, SCRIPT, "folder"]
    options = ["--downloads", files, "--out", files.parent / "out/beads", "--", "beads"]
    done = subprocess.run(
        [*script, *options], capture_output=True, text=True, preexec_fn=one_gigabyte, timeout=25
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert not list(files.parent.glob("out/*"))
    return done.stderr


def header(size, kind=tarfile.REGTYPE, name="beads/x.tif"):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("size", [10**12, 8 * 10**18])
def test_a_tar_that_promises_too_much_is_refused(files, size):
    (files / "x.tar").write_bytes(header(size) + bytes(10240))
    assert "would become" in limited(files)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K", b"X"])
def test_a_header_of_gigabytes_is_not_read(files, kind):
    with tarfile.open(files / "x.tar.gz", "w:gz") as archive:
        archive.fileobj.write(header(3 * 10**9, kind))
        for _ in range(30):
            archive.fileobj.write(bytes(10**6))
    assert "damaged or of an unknown kind (a header of 3000000000 bytes)" in limited(files)


def test_a_zip_of_zeros_is_refused(files):
    with zipfile.ZipFile(files / "x.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(2):
            with archive.open(f"beads/{number}.tif", "w") as file:
                for _ in range(60):
                    file.write(bytes(10**7))
    assert "would become 1 GB or more: not unpacked" in limited(files)


def test_a_zip_of_too_many_files_is_refused(files):
    entry = bytearray(zipped(files / "x.zip", ("beads/a", b"")).read_bytes())
    start, end = entry.find(b"PK\1\2"), entry.find(b"PK\5\6")
    number = 2**24 // (end - start) + 1
    entry[end + 12 : end + 16] = (number * (end - start)).to_bytes(4, "little")
    (files / "x.zip").write_bytes(entry[:start] + entry[start:end] * number + entry[end:])
    assert "holds more than 100000 files" in limited(files)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE])
def test_a_tar_of_too_many_entries_is_refused(files, kind):
    block = header(0, kind)
    with tarfile.open(files / "x.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.fileobj.write(block * 110_000)
    assert "holds more than 100000 files" in limited(files)


def test_a_disk_too_small_is_told_before_anything_is_unpacked(files, monkeypatch):
    zipped(files / "x.zip", *GOOD)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: SimpleNamespace(free=5999))
    refused(files, "are to be unpacked.*make room")


# Interrupted --------------------------------------------------------------------------------------


def test_what_a_kill_left_is_removed_by_the_next_run(files):
    zipped(files / "x.zip", *GOOD, ("beads/large.tif", bytes(3 * 10**8)))
    out = files.parent / "out/beads"
    script = [sys.executable, SCRIPT, "folder", "--downloads", files, "--out", out]
    job = subprocess.Popen([*script, "beads"])
    while not list(out.parent.glob(".*/*.tif")) and job.poll() is None:
        time.sleep(0.005)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert not out.exists()
    assert list(out.parent.glob(".*"))
    subprocess.run([*script, "beads"], check=True)
    assert [p.name for p in out.parent.iterdir()] == ["beads"]
    assert len(list(out.iterdir())) == 3


def test_what_is_still_being_downloaded_and_what_is_no_file_are_left_out(files):
    zipped(files / "x.zip", *GOOD)
    (files / ".y.tar.gz.partial").write_bytes((files / "x.zip").read_bytes()[:200])
    (files / "readme.gz").write_bytes(b"\x1f\x8b no archive")
    os.mkfifo(files / "pipe.tar")
    take_folder("beads", files, files.parent / "out")
    assert len(list((files.parent / "out").iterdir())) == 2
    with pytest.raises(TenetError, match="no such folder of downloads"):
        take_folder("beads", files / "none", files.parent / "out")


# Lists of files -----------------------------------------------------------------------------------

SUM = "0" * 32


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(range(256)), "no list of files"),
        (b"file,md5\x00,url\n", "its columns are not file, size, md5, url"),
        (b"", "its columns are not"),
        (f"a.zip,1,{SUM},http://x/a\n".encode(), "its columns are not"),
        (b'file,size,md5,url\n"a.zip,1,', "no list of files"),
        (b"file,size,md5,url\na.zip,1\n", "row 2: md5, url missing"),
        (f"file,size,md5,url\n,1,{SUM},http://x/a\n".encode(), "row 2: file missing"),
        (f"file,size,md5,url\na,1,{SUM},\n".encode(), "row 2: url missing"),
        (b"file,size,md5,url\na,1,abc,http://x\n", "row 2: 'abc' is no MD5"),
        (f"file,size,md5,url\n/etc/x,1,{SUM},http://x\n".encode(), "outside of the folder"),
        (f"file,size,md5,url\n{{x}},1,{SUM},http://x\n".encode(), "can be in a file's name"),
        (f"file,size,md5,url\na,1,{SUM},u\na,1,{SUM},u\n".encode(), "names 'a' twice"),
        (f"file,size,md5,url\na,1,{SUM},u\na/b,1,{SUM},u\n".encode(), "a folder that is a file"),
    ],
)
def test_a_list_that_is_none_is_told_in_one_line(tmp_path, content, message):
    (tmp_path / "manifest.csv").write_bytes(content)
    with pytest.raises(TenetError, match=message) as error:
        zenodo.read_manifest(tmp_path / "manifest.csv")
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_lists_that_are_no_files_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(10**10)
    for path in (
        tmp_path / "pipe",
        tmp_path / "large",
        tmp_path,
        Path("/dev/zero"),
        tmp_path / "x",
    ):
        with pytest.raises(TenetError, match="no list of files"):
            zenodo.read_manifest(path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b"abc  a.zip\n", "line 1: not an MD5"),
        (f"\n{SUM}\n".encode(), "line 2: not an MD5"),
        (f"{SUM}  a\n{'1' * 32}  a\n".encode(), "line 2: a has two different MD5s"),
        (b"\xff\xfe\x00", "no list of files"),
        (b"", "no address of any file"),
    ],
)
def test_odd_checksums_are_told_and_no_list_is_written(tmp_path, lines, message):
    (tmp_path / "md5sums.txt").write_bytes(lines)
    with pytest.raises(TenetError, match=message):
        zenodo.write_manifest("1", tmp_path / "out/manifest.csv", str(tmp_path))
    assert not list(tmp_path.glob("out/*"))


def test_checksums_in_capitals_and_marks_of_binary_files_are_read(tmp_path):
    content = b"content"
    (tmp_path / "a b.bin").write_bytes(content)
    digest = md5(content).hexdigest().upper()
    (tmp_path / "md5sums.txt").write_bytes(f"\ufeff{digest} *a b.bin\r\n\r\n".encode())
    zenodo.write_manifest("1", tmp_path / "manifest.csv", str(tmp_path))
    zenodo.download("a b.bin", tmp_path / "manifest.csv", tmp_path / "out/a b.bin")
    assert (tmp_path / "out/a b.bin").read_bytes() == content


# Addresses and servers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["", "x", "ftp://x/y", "data:,x", "http://x/a b", "http://x/ü", "javascript:1", "//x"]
)
def test_what_is_no_address_is_told_at_once(tmp_path, url):
    with pytest.raises(TenetError, match="no address of a file"):
        zenodo.fetch(url, tmp_path / "x")


@pytest.mark.parametrize("path", ["/dev/zero", "/tmp"])
def test_a_device_and_a_folder_are_not_fetched(tmp_path, path):
    with pytest.raises(TenetError, match="a folder, a device or a pipe"):
        zenodo.fetch(f"file://{path}", tmp_path / "x")


@pytest.fixture
def served(tmp_path, monkeypatch):
    monkeypatch.setattr(zenodo.time, "sleep", lambda _: None)
    (tmp_path / "served").mkdir()
    content = os.urandom(50_000)
    (tmp_path / "served/a.bin").write_bytes(content)
    Moody.moods, Moody.asked = [], []
    with serving(tmp_path / "served") as url:
        rows = f"file,size,md5,url\na.bin,50000,{md5(content).hexdigest()},{url}a.bin\n"
        (tmp_path / "manifest.csv").write_text(rows)
        yield content


@pytest.mark.parametrize("moods", [["cut", "whole"], ["cut", "elsewhere"], ["cut", "cut", "whole"]])
def test_a_server_that_ignores_ranges_or_sends_others_is_outlasted(tmp_path, served, moods):
    Moody.moods = list(moods)
    zenodo.download("a.bin", tmp_path / "manifest.csv", tmp_path / "out/a.bin")
    assert (tmp_path / "out/a.bin").read_bytes() == served
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.bin"]


def test_more_than_was_announced_is_not_written(tmp_path, served):
    Moody.moods = ["endless"]
    with pytest.raises(TenetError, match="more than the 50000 bytes"):
        zenodo.download("a.bin", tmp_path / "manifest.csv", tmp_path / "out/a.bin")
    assert not (tmp_path / "out/a.bin").exists()
    zenodo.download("a.bin", tmp_path / "manifest.csv", tmp_path / "out/a.bin")
    assert (tmp_path / "out/a.bin").read_bytes() == served


@pytest.mark.parametrize("script", ["zenodo.py", "checksums.py"])
def test_scripts_that_fetch_need_the_standard_library_alone(script):
    """Their environment holds nothing else (envs/zenodo.yaml)."""
    path = SCRIPT.with_name(script)
    subprocess.run([sys.executable, "-E", "-S", path, "--help"], check=True, capture_output=True)
