"""Examples in docstrings run as they stand, in a folder with stacks, phantoms and models."""

import doctest
import json
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import tenet
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
def folder(tmp_path_factory: pytest.TempPathFactory, phantom_folder: Path) -> Path:
    """``stack.tif``, 6 planes of 24 × 20 pixels, and ``models/mine``, of scale 3.

    To train: ``mine.json``, ``phantoms``, ``raw.tif`` and ``models/pretrained``.
    """
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
    write_ome_tiff(folder / "raw.tif", np.tile(image, (2, 1, 1)), (1.0, 0.31, 0.31))
    shutil.copytree(phantom_folder, folder / "phantoms")
    crop = {"cropsize": [12, 16, 16], "I": 1}
    phantoms = {"margin": [0, 0, 0], "min_foreground": 0.0}
    (folder / "mine.json").write_text(
        json.dumps(
            {
                **experiment.model_dump(mode="json"),
                "pretrain_dataset": {**crop, **phantoms, "high": 2},
                "pretrain_val_dataset": {**crop, **phantoms, "low": 2, "high": 3},
                "pretrain_loop": {"n_epochs": 1},
                "microscopes": {},
                "train_dataset": crop,
                "val_dataset": crop,
                "train_loop": {"n_epochs": 1, "ewc_batches": 1},
            }
        )
    )
    tenet.pretrain(
        tenet.load_experiment(folder / "mine.json"),
        folder / "phantoms",
        folder / "models/pretrained",
    )
    return folder


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    failed, tried = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert tried > 0
    assert failed == 0


@pytest.mark.parametrize("name", sorted({*tenet.__all__} - {"__version__", "TrainedModel"}))
def test_public_functions_have_examples(name: str) -> None:
    function = getattr(import_module(tenet._HOMES.get(name, "tenet.enhance.arrays")), name)
    assert f">>> tenet.{name}(" in function.__doc__ or f"= tenet.{name}(" in function.__doc__


def test_the_public_class_has_examples() -> None:
    assert "tenet.TrainedModel.load(" in (tenet.TrainedModel.__doc__ or "")
