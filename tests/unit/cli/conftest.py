"""A model and a stack that are small enough for seconds."""

from pathlib import Path

import numpy as np
import pytest
from command_line import TINY

from tenet.io.writing import write_ome_tiff
from tenet.model.store import save_model
from tenet.model.tenet import TENET
from tenet.settings.load import load_experiment


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    experiment = load_experiment("scale3", settings=TINY)
    network = TENET(experiment.params)
    network.initialise(np.random.default_rng(0))
    save_model(folder, network, experiment, {})
    return folder


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "stack.ome.tif"
    data = np.random.default_rng(1).integers(100, 200, (8, 20, 20), dtype=np.uint16)
    write_ome_tiff(path, data, (1.0, 0.31, 0.31))
    return path
