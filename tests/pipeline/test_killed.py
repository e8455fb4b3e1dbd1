"""After a kill that nothing can answer, the same command goes on once `make unlock` was said."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import ROOT, copy_repository, snakemake
from test_workflow import COMMAND_LINE

pytestmark = pytest.mark.pipeline

TARGET = "results/demo/acquisitions/fig2_phantoms.sha256"
OPTIONS = ("--configfile", "config/demo.yaml")
# The first step is made, the second never ends.
NEVER_ENDS = """
import time
if words[0] == "simulate":
    (option("--out") / "half").write_text("made")
    time.sleep(600)
"""


@pytest.fixture
def killed(tmp_path):
    """A copy of the repository whose run was killed with all that it had started."""
    folder = copy_repository(tmp_path / "copy")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").mkdir()
    (folder / ".venv/.installed").touch()
    (folder / "tenet/__main__.py").write_text(COMMAND_LINE + NEVER_ENDS)
    job = subprocess.Popen(
        [sys.executable, "-m", "snakemake", TARGET, "--cores", "1", *OPTIONS],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    half = folder / "results/demo/acquisitions/fig2_phantoms/half"
    while not half.exists() and job.poll() is None:
        time.sleep(0.1)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    assert half.exists()
    return folder


def make(folder, target):
    command = ["make", target, f"BIN={Path(sys.executable).parent}"]
    return subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_what_was_killed_goes_on_after_make_unlock(killed):
    done = make(killed, "demo")
    assert done.returncode != 0
    assert "'make unlock' and once more" in done.stdout
    phantoms = killed / "results/demo/phantoms/fig2_phantoms/00"
    made = phantoms.stat().st_mtime_ns
    assert make(killed, "unlock").returncode == 0
    (killed / "tenet/__main__.py").write_text(COMMAND_LINE)
    snakemake(killed, TARGET, *OPTIONS)
    assert (killed / TARGET).is_file()
    assert not (killed / "results/demo/acquisitions/fig2_phantoms/half").exists()
    assert phantoms.stat().st_mtime_ns == made
