"""What several test files need: the reference data, and phantoms small enough for seconds."""

from pathlib import Path

import numpy as np
import pytest

from tenet.phantoms import TrainingPhantomSettings, generate_set

ROOT = Path(__file__).parents[1]


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
