"""What may not be in the repository."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_BYTES = 2**20
#: Weights that come with the package; `tests/unit/model/test_shipped.py` bounds them.
WEIGHTS = ROOT / "tenet/models"


def test_no_large_file_is_tracked() -> None:
    """What is made anew each time stays out: a report of 6 MB in 13 versions is in every clone."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert len(paths) > 100
    files = [path for path in paths if path.is_file() and WEIGHTS not in path.parents]
    assert not [path for path in files if path.stat().st_size > MOST_BYTES]
