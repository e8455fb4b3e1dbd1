"""A kill of each kind of run, at a moment that a seed decides; `make kill` kills each 20 times."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.pipeline


def test_each_kind_of_run_that_was_killed_ends_as_if_nothing_had_been():
    """In a process of its own, because the runs are forked from one without threads."""
    script = Path(__file__).with_name("kills.py")
    done = subprocess.run([sys.executable, script, "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 of 8 runs ended as if nothing had been." in done.stdout
