"""What several test files need: the reference data, and phantoms small enough for seconds."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tenet.data.phantoms.kinds import TrainingPhantomSettings
from tenet.data.phantoms.sets import generate_set

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for the package workflow, which is not installed


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference values and sample stacks, which lie beside the repository."""
    for folder in (ROOT.parent / "shared", ROOT / "shared"):
        if (folder / "reference").is_dir():
            return folder
    pytest.skip(f"no reference data in {ROOT.parent / 'shared'}")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20250101)


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stored phantoms of 24×40×40 voxels: two to train on, one to validate."""
    folder = tmp_path_factory.mktemp("phantoms")
    settings = TrainingPhantomSettings(
        zyx_shape=(24, 40, 40),
        n_objects=(8, 8),
        line_length=(15, 30),
        line_thickness=(4, 4),
        solid_radius=(3, 5),
        elastic_sigma=1,
        elastic_spacing=10,
    )
    generate_set(settings, folder, count=3, seed=5)
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk of a size, as "16k", and returns its folder."""
    with contextlib.ExitStack() as mounted:

        def mount(size: str) -> Path:
            folder = tmp_path / "small"
            folder.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
            if subprocess.run(command, capture_output=True).returncode:
                pytest.skip("a small file system can only be mounted by root")
            mounted.callback(subprocess.run, ["umount", str(folder)], check=True)
            return folder

        yield mount
