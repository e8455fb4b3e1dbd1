"""Whole or not at all, whoever else writes, and whatever kills the writer."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tenet.errors import TenetError
from tenet.io import atomic
from tenet.io.atomic import UNFINISHED, exclusive, replacing, save_json


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new/result"
    with replacing(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text(str(1 / 0))
    assert path.read_text() == "one"
    assert names(path.parent) == {"result"}


def test_a_folder_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "image.zarr"
    for name in ("old", "new"):
        with replacing(path, folder=True) as temporary:
            (temporary / name).touch()
    assert names(path) == {"new"}
    assert names(tmp_path) == {"image.zarr"}


def test_a_folder_whose_writer_died_between_two_names_is_there_again(tmp_path: Path) -> None:
    (tmp_path / ".image.zarr.tenet-old").mkdir()
    (tmp_path / ".image.zarr.tenet-old/0").touch()
    path = tmp_path / "image.zarr"
    with pytest.raises(ZeroDivisionError), replacing(path, folder=True):
        _ = 1 / 0
    assert names(path) == {"0"}
    assert names(tmp_path) == {"image.zarr"}


def test_a_folder_that_is_swept_while_it_is_made_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process locks the new folder first, takes it for one of the dead, and removes it."""
    swept, flock = [], atomic.fcntl.flock

    def sweeper_was_first(descriptor: int, operation: int) -> None:
        if not swept:
            (unfinished,) = tmp_path.iterdir()
            unfinished.rmdir()
            swept.append(unfinished)
            raise BlockingIOError
        flock(descriptor, operation)

    monkeypatch.setattr(atomic.fcntl, "flock", sweeper_was_first)
    with replacing(tmp_path / "a", folder=True) as temporary:
        assert swept == [temporary]
        (temporary / "x").write_text("whole")
    assert names(tmp_path) == {"a"}
    assert names(tmp_path / "a") == {"x"}


def test_who_sweeps_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic._lock(tmp_path / f".a{UNFINISHED}", sweeping=True)
    assert names(tmp_path) == set()


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    save_json(tmp_path / "a.json", {})
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_numbers_that_no_reader_takes_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    save_json(path, {"a": 1})
    for value in (float("nan"), float("inf")):
        with pytest.raises(TenetError, match="not a finite number"):
            save_json(path, {"a": [value]})
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize("where", ["file/result", "folder", "/proc/result"])
def test_what_cannot_be_written_is_one_line(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/inside").touch()
    with pytest.raises(TenetError, match=r"cannot be written|a folder has this name") as error:
        save_json(tmp_path / where, {})
    assert str(error.value).startswith(str(tmp_path / where))
    assert "\n" not in str(error.value)
    assert names(tmp_path) == {"file", "folder"}


# Other processes


def started(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Another process, after it has printed a line."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


WRITING = """
import hashlib, signal, sys
from pathlib import Path
from tenet.io.atomic import exclusive, replacing
from tenet.interruption import SIGNALS, end_on_signals
for number in SIGNALS:  # also where the tests run under nohup
    signal.signal(number, signal.SIG_DFL)
end_on_signals("advice")
path = Path(sys.argv[1])
with exclusive(path.parent / "model"), replacing(path, folder=path.suffix == ".zarr") as temporary:
    (temporary / "0" if path.suffix == ".zarr" else temporary).write_bytes(b"half")
    print("writing", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # Python cannot look at signals in there
"""


@pytest.mark.parametrize("name", ["result.tif", "result.zarr"])
def test_a_killed_writer_leaves_nothing_for_ever(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    process = started(WRITING, path)
    with pytest.raises(TenetError, match="another process is writing it"):
        replacing(path, folder=path.suffix == ".zarr").__enter__()
    with pytest.raises(TenetError, match=rf"process {process.pid} on \S+ is working there"):
        exclusive(tmp_path / "model").__enter__()
    save_json(tmp_path / "other.json", {})  # a living writer is left alone
    assert names(tmp_path) == {f".{name}{UNFINISHED}", "other.json", "model"}
    process.kill()
    process.wait()
    with exclusive(tmp_path / "model"):
        save_json(tmp_path / "other.json", {})
    assert names(tmp_path) == {"other.json", "model"}
    assert not names(tmp_path / "model")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("name", ["result.tif", "result.zarr"])
def test_a_signal_ends_with_one_line_and_nothing_half_made(
    tmp_path: Path, number: signal.Signals, name: str
) -> None:
    process = started(WRITING, tmp_path / name)
    process.send_signal(number)
    try:
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 128 + number
    assert said == f"tenet: ended by {number.name}; advice\n"
    assert names(tmp_path) == {"model"}
    assert not names(tmp_path / "model")


PARENT = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tenet.interruption import end_on_signals, end_with_parent
from tests_worker import work
if __name__ == "__main__":
    end_on_signals("advice")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent) as pool:
        pool.submit(work, sys.argv[1])
"""
WORKER = """
import os, time
from pathlib import Path
from tenet.io.atomic import replacing
def work(path):
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(b"half")
        print(os.getpid(), flush=True)
        time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tests_worker.py").write_text(WORKER)
    (tmp_path / "parent.py").write_text(PARENT)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    (tmp_path / "out").mkdir()
    process = subprocess.Popen(
        [sys.executable, tmp_path / "parent.py", tmp_path / "out/result"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    process.send_signal(number)
    assert process.wait(timeout=20) == (128 + number if number != signal.SIGKILL else -number)
    wait_until(lambda: not alive(worker))
    assert not names(tmp_path / "out")


FORKING = """
import multiprocessing, signal, sys
from tenet.interruption import end_on_signals
for _ in range(int(sys.argv[1])):
    end_on_signals("advice")
codes = set()
for _ in range(20):
    worker = multiprocessing.get_context("fork").Process(target=signal.pause)
    worker.start()
    worker.terminate()
    worker.join(2)
    codes.add(worker.exitcode)
    worker.kill()
print(*codes, *signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_for_a_fork_ends_the_fork_alone(times: int) -> None:
    """However often signals were asked for, and none stays blocked."""
    command = [sys.executable, "-c", FORKING, str(times)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"-{signal.SIGTERM}\n", "")


def alive(pid: int) -> bool:
    """Whether a process runs (one that nobody has waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does by itself."""
    for _ in range(200):
        if condition():
            return
        signal.sigtimedwait([], 0.05)
    raise AssertionError("it never happened")
