"""Examples in docstrings run as they stand, in a folder with a stack and a model."""

import doctest
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from tenet.io.writing import write_ome_tiff
from tenet.model.store import save_model
from tenet.model.tenet import TENET
from tenet.settings.load import PACKAGED, load_experiment

ROOT = Path(__file__).parents[2]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "tenet").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``stack.tif``, 6 planes of 24 × 20 pixels, and ``models/mine``, of scale 3."""
    folder = tmp_path_factory.mktemp("examples")
    params = {"hidden_channels_list": [2, 4], "size_z": 15, "size_y": 7, "size_x": 7}
    params |= {"deconvolution_steps": 2, "nipsf_loss_target": 1e-2}
    experiment = load_experiment(
        "scale3", overlays=["demo"], settings={"params": params}, folder=PACKAGED
    )
    network = TENET(experiment.params)
    network.initialise(np.random.default_rng(0))
    save_model(folder / "models/mine", network, experiment, {"kind": "pretrain"})
    image = 100 + 3000 * np.random.default_rng(1).random((6, 24, 20)) ** 4
    write_ome_tiff(folder / "stack.tif", image.astype(np.uint16), (1.0, 0.31, 0.31))
    return folder


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    failed, tried = doctest.testmod(import_module(name))
    assert tried > 0
    assert failed == 0


def test_there_are_examples() -> None:
    assert {"tenet.enhance.arrays", "tenet.settings.load"} <= set(MODULES)
