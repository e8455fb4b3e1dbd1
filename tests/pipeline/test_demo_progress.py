"""What `make demo` shows while it runs, when a job fails, and when it is stopped."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import ROOT, copy_repository
from test_workflow import COMMAND_LINE, PAPERMILL

pytestmark = pytest.mark.pipeline

# Only what figure 4 needs, which is enough to see.
FEW = "figures: [fig4]\nmethods: [tenet, pretrained]\n"
FAILS = """
if words[0] == "simulate":
    print("\\n".join(f"line {n}" for n in range(50)))
    sys.exit("TenetError: the disk is on fire")
"""
NEVER_ENDS = """
import os, time
if words[0] == "simulate":
    (option("--out") / "half").write_text(str(os.getpid()))
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path):
    """A copy of the repository whose commands only write files."""
    folder = copy_repository(tmp_path / "copy")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").mkdir()
    (folder / ".venv/.installed").touch()
    (folder / "tenet/__main__.py").write_text(COMMAND_LINE)
    (folder / "papermill.py").write_text(PAPERMILL)
    demo = folder / "config/demo.yaml"
    demo.write_text(f"{demo.read_text()}\n{FEW}")
    return folder


def environment():
    return {**os.environ, "CUDA_VISIBLE_DEVICES": ""}


def make(folder, target="demo"):
    command = ["make", target, f"BIN={Path(sys.executable).parent}"]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_lines_of_a_log_say_what_is_done_and_what_runs(folder):
    done = make(folder)
    assert done.returncode == 0, done.stdout
    said = re.findall(r"^(\d+) of (\d+) jobs done, .*", done.stdout, flags=re.MULTILINE)
    assert said[0][0] == "0"
    assert said[-1][0] == said[-1][1] == "13"
    assert re.search(r"^0 of 13 jobs done, 0:0\d so far; now phantoms \w+", done.stdout, re.M)
    assert "rule phantoms" not in done.stdout
    assert "python -m tenet" not in done.stdout
    (details,) = re.findall(r"Complete log\(s\): (\S+)", done.stdout)
    assert "python -m tenet phantoms" in Path(details).read_text()
    again = make(folder)
    assert "Nothing to be done" in again.stdout
    assert "Figures:" in again.stdout


def test_a_job_that_fails_shows_its_log_and_the_end_of_it(folder):
    (folder / "tenet/__main__.py").write_text(COMMAND_LINE + FAILS)
    done = make(folder)
    assert done.returncode != 0
    assert "simulate fig4_neurons failed" in done.stdout
    log = "results/demo/logs/simulate/fig4_neurons.log"
    assert f"  log: {log}\n" in done.stdout
    assert (folder / log).is_file()
    assert "  | line 49\n  | TenetError: the disk is on fire\n" in done.stdout
    assert "line 3\n" not in done.stdout
    assert "CalledProcessError" not in done.stdout


def test_wrong_configuration_is_told(folder):
    demo = folder / "config/demo.yaml"
    demo.write_text(f"{demo.read_text()}\nmethds: [tenet]\n")
    done = make(folder)
    assert done.returncode != 0
    assert "unknown key 'methds'; did you mean 'methods'?" in done.stdout


def test_a_terminal_shows_what_runs_and_ctrl_c_ends_all_of_it(folder):
    (folder / "tenet/__main__.py").write_text(COMMAND_LINE + NEVER_ENDS)
    screen, end = pty.openpty()
    job = subprocess.Popen(
        ["make", "demo", f"BIN={Path(sys.executable).parent}"],
        cwd=folder,
        env=environment() | {"TERM": "xterm", "COLUMNS": "100"},
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
    )
    os.close(end)
    half = folder / "results/demo/acquisitions/fig4_neurons/half"
    while not (half.exists() and half.read_text()) and job.poll() is None:
        time.sleep(0.1)
    running = int(half.read_text())
    time.sleep(2)  # a few times that the lines are drawn
    os.killpg(job.pid, signal.SIGINT)  # as the terminal does
    shown = b""
    while True:
        try:
            read = os.read(screen, 2**16)
        except OSError:  # all have closed it
            break
        shown += read
    assert job.wait(60) != 0
    text = shown.decode()
    assert re.search(r"\d+ of 13 jobs done, 0:\d\d so far", text)
    assert re.search(r"  simulate fig4_neurons  0:0[1-9]", text)
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")  # the cursor is back
    with pytest.raises(ProcessLookupError):
        os.kill(running, 0)


def test_make_says_what_a_figure_at_full_scale_takes_before_anything_runs(folder, monkeypatch):
    monkeypatch.setenv("TENET_ZENODO_URL", str(folder / "nowhere"))
    done = make(folder, "fig3")
    assert done.returncode
    forecast = done.stdout.index("What this takes at most, by benchmarks/one_h100.csv")
    assert forecast < done.stdout.index("jobs done")
    assert "zenodo_manifest failed" in done.stdout[forecast:]
    assert make(folder, "cost").stdout.count("What this takes at most") == 1
