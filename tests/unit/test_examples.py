"""Examples in docstrings run as they stand, in a folder with stacks, phantoms and models."""

import doctest
import inspect
import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tenet
from tenet.io.writing import write_ome_tiff
from tenet.model.store import BINS, THRESHOLD
from tenet.settings.load import PACKAGED, load_experiment
from tenet.tasks.pretrain import pretrain

ROOT = Path(__file__).parents[2]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "tenet").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
#: Laid over an experiment: the one that the examples call "mine" trains in a second.
_CROPS = {"cropsize": [24, 16, 16], "I": 1, "mask_num": 1, "margin": [0, 0, 0]}
_MINE: dict[str, Any] = {
    "params": {
        "hidden_channels_list": [2, 4], "size_z": 15, "size_y": 7, "size_x": 7,
        "deconvolution_steps": 2, "nipsf_loss_target": 1e-2,
    },
    "pretrain_dataset": _CROPS | {"low": 0, "high": 2},
    "pretrain_val_dataset": _CROPS | {"low": 2, "high": 3},
    "pretrain_loop": {"n_epochs": 1, "batch_size": 1},
    "train_dataset": _CROPS,
    "val_dataset": _CROPS,
    "train_loop": {"n_epochs": 1, "batch_size": 1, "ewc_batches": 1},
}  # fmt: skip
#: What a user calls: where it is, and the names in it. Public methods count as well.
CALLED = {
    "tenet.tasks.arrays": ["enhance"],
    "tenet.enhance.enhance": ["enhance_stack", "enhance_array"],
    "tenet.enhance.restore": ["restore_stack", "restore_array"],
    "tenet.enhance.tiles": ["Span", "tile_plan", "weigh", "halves", "round_up"],
    "tenet.model.trained": ["TrainedModel"],
    "tenet.io.open": ["open_stack"],
    "tenet.io.stack": ["Stack"],
    "tenet.io.writing": ["write_ome_tiff"],
    "tenet.settings.load": ["load_experiment"],
    "tenet.settings.own_stack": ["sample_experiment"],
    "tenet.physics.optics": ["gibson_lanni", "gaussian", "psf_volume"],
    "tenet.physics.blur": ["StridedBlur"],
    "tenet.physics.richardson_lucy": ["deconvolve"],
    "tenet.physics.microscope": ["Microscope"],
    "tenet.physics.noise": ["NoiseModel"],
    "tenet.metrics.segmentation": ["iou", "dice", "average_precision"],
    "tenet.metrics.thresholds": ["threshold_sweep", "best_threshold", "oracle_iou"],
    "tenet.metrics.intervals": ["bootstrap_interval"],
    "tenet.metrics.shapes": ["measure_bead", "volume_um3", "sphericity", "surface_um2"],
    "tenet.metrics.widths": ["fwhm"],
    "tenet.metrics.gaussian_widths": ["gaussian_fwhm"],
    "tenet.data.folds": [
        "every_stack", "outside_fold", "named_stacks", "split_for_validation", "images_of",
        "image_number",
    ],
    "tenet.data.phantoms.kinds": [
        "TrainingPhantomSettings", "AnglePhantomSettings", "BeadsPhantomSettings",
    ],
    "tenet.data.phantoms.tubes": ["thinnest_um", "tube_voxels"],
    "tenet.data.phantoms.paths": ["smooth_path"],
    "tenet.data.phantoms.cells": ["draw_vessel", "draw_microglia", "draw_soma"],
    "tenet.data.phantoms.neurites": ["draw_dendrite", "draw_axon"],
    "tenet.data.phantoms.mixture": ["MixturePhantomSettings"],
    "tenet.data.phantoms.store": ["Phantom", "save_phantom", "open_phantom", "import_phantoms"],
    "tenet.data.phantoms.sets": ["generate_set"],
    "tenet.tasks.pretrain": ["pretrain"],
    "tenet.tasks.align": ["train_alignment"],
    "tenet.tasks.finetune": ["fine_tune"],
    "tenet.tasks.raw_stacks": ["RawStacks"],
    "tenet.paper.legacy.inference": ["Inference"],
    "tenet.paper.legacy.subjects": ["BeadsInference", "MicrogliaInference", "SimulationInference"],
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    """Small convolutions are fastest on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, phantom_folder: Path) -> Path:
    """What the examples are run in.

    ``stack.tif`` has 6 planes of 24 × 20 pixels, and each of the two ``stacks`` has 8. ``rois.csv``
    names a bead in either, in two folds. ``phantoms`` are three of 24 × 40 × 40 voxels.
    ``models/mine`` is pre-trained by the experiment ``mine``, of scale 3. ``models/calibrated`` is
    the same model with a calibration.
    """
    folder = tmp_path_factory.mktemp("examples")
    experiments = folder / "config/experiments"
    experiments.mkdir(parents=True)
    experiment = load_experiment("scale3", overlays=["demo"], settings=_MINE, folder=PACKAGED)
    (experiments / "mine.json").write_text(experiment.model_dump_json())
    pretrain(experiment, phantom_folder, folder / "models/mine")
    shutil.copytree(folder / "models/mine", folder / "models/calibrated")
    calibration = {"threshold": 0.5, "inside": np.linspace(0, 1, BINS).tolist()}
    (folder / "models/calibrated" / THRESHOLD).write_text(json.dumps(calibration))
    rng = np.random.default_rng(1)
    for name, planes in (("stack", 6), ("stacks/image1", 8), ("stacks/image2", 8)):
        image = 100 + 3000 * rng.random((planes, 24, 20)) ** 4
        write_ome_tiff(folder / f"{name}.tif", image.astype(np.uint16), (1.0, 0.31, 0.31))
    (folder / "rois.csv").write_text(
        "roi,image,z,y,x,fold\n1,1,4,12,10,0\n2,2,4,12,10,1\n", encoding="utf-8"
    )
    shutil.copytree(phantom_folder, folder / "phantoms")
    return folder


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    failed, tried = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert tried > 0
    assert failed == 0


@pytest.mark.parametrize("module", CALLED)
def test_what_a_user_calls_has_an_example(module: str) -> None:
    lacking = []
    for name in CALLED[module]:
        called = getattr(import_module(module), name)
        methods = [part for key, part in vars(called).items() if key[0] != "_"]
        parts = [called, *(getattr(part, "__func__", part) for part in methods)]
        lacking += [
            part.__qualname__
            for part in parts
            if callable(part) and ">>> " not in (inspect.getdoc(part) or "")
        ]
    assert lacking == []


@pytest.mark.parametrize("name", sorted({*tenet.__all__} - {"__version__", "TrainedModel"}))
def test_public_functions_have_examples(name: str) -> None:
    function = getattr(import_module(tenet._HOMES.get(name, "tenet.tasks.arrays")), name)
    assert f">>> tenet.{name}(" in function.__doc__ or f"= tenet.{name}(" in function.__doc__


def test_the_public_class_has_examples() -> None:
    assert "tenet.TrainedModel.load(" in (tenet.TrainedModel.__doc__ or "")
