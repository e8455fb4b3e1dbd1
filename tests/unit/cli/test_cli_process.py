"""The command line as a process: signals, names, folders, disks and memory."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import refused, tenet

from tenet import cli


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("options", [[], ["--zarr"]], ids=str)
def test_a_signal_in_the_middle_of_a_stack(
    number: signal.Signals, options: list[str], model: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "stack.npy", tmp_path / "out"
    np.save(path, np.random.default_rng(1).integers(100, 200, (30, 800, 800), dtype=np.uint16))
    words = ["enhance", path, "--model", model, "--out", out, "--voxel-size", "1", ".31", ".31"]
    words += ["--tile", "30", "200", "200", "--device", "cpu", *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "tenet", *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    while not (out.exists() and any(out.iterdir())):
        assert process.poll() is None
        signal.sigtimedwait([], 0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said.splitlines()[-1] == (
        f"tenet: ended by {number.name}; what was not finished is removed: run the command again"
    )
    assert sorted(out.rglob("*")) == []


@pytest.mark.parametrize("name", ["new\nline.tif", "red\x1b[31m.tif"])
def test_an_error_is_one_line_whatever_a_name_holds(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("no image")
    line = refused(
        monkeypatch, capsys, "enhance", tmp_path / name, "--model", "x", "--out", tmp_path / "out"
    )
    assert line.isprintable()
    assert name.encode("unicode_escape").decode() in line


def test_names_that_the_terminal_cannot_encode(model: Path, stack: Path, tmp_path: Path) -> None:
    raw = tmp_path / os.fsdecode(b"caf\xe9 $\\x \xc2\xb5.tif")
    raw.write_bytes(stack.read_bytes())
    done = tenet(
        "enhance", raw, "--model", model, "--out", tmp_path / "out", "--device", "cpu",
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("caf\\udce9 $\\x \\xb5.html\n")
    assert (tmp_path / "out" / f"{raw.stem}.ome.tif").exists()


def test_a_folder_that_was_removed(tmp_path: Path) -> None:
    words = "phantoms", "angle", "--angle", "90", "--out", "phantoms"
    enter_and_run = (
        f"import os, sys; os.chdir({str(tmp_path / 'gone')!r}); os.rmdir(os.getcwd());"
        "from tenet import cli; cli.main()"
    )
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", enter_and_run, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
    )
    assert done.returncode == 2
    assert done.stderr == ("tenet: the folder you are in was removed; change into another one\n")


def test_an_interrupt_while_modules_are_loaded_says_nothing() -> None:
    # The first module that is loaded after the package's own sends the signal.
    code = (
        "import os, runpy, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'tenet.cli':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "runpy.run_module('tenet', run_name='__main__', alter_sys=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "config", "list"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_standard_output_on_a_full_disk() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tenet", "config", "show", "scale3"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("tenet: no room on the disk")
    assert done.stderr.count("\n") == 1


def test_memory_that_is_short_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**34, limits[1]))
    try:
        line = refused(
            monkeypatch, capsys, "phantoms", "angle", "--angle", "90", "--lines", "1",
            "--size", "4000", "2000", "1000", "--out", tmp_path,
        )  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert line.startswith("tenet: not enough memory")
