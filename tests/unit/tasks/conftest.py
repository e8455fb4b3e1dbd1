"""A small model of every microscope, and a stack, for tests of what is done with them."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from small_models import EVERY

from tenet.settings.schema import parse_experiment
from tenet.tasks.pretrain import pretrain


@pytest.fixture(scope="module")
def every(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the model."""
    folder = tmp_path_factory.mktemp("models") / "every"
    pretrain(parse_experiment(EVERY), phantom_folder, folder, tuning=phantom_folder)
    return folder


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dim line across a stack of 10 planes, in a file that says nothing else."""
    counts = np.random.default_rng(0).poisson(20, (10, 32, 28)).astype(np.uint16)
    counts[4:6, 15:18] += 400
    path = tmp_path_factory.mktemp("raw") / "cells.tif"
    tifffile.imwrite(path, counts)
    return path
