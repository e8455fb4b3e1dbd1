"""One owner of a model: what finds the level of a stack is what enhances it."""

import ast
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from torch import nn

import tenet
from tenet import cli
from tenet.enhance.enhance import enhance_stack
from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.writing import write_ome_tiff
from tenet.model import trained
from tenet.model.intensity import stack_range
from tenet.model.store import BINS, save_model
from tenet.model.tenet import TENET
from tenet.model.trained import TrainedModel
from tenet.paper.legacy.subjects import BeadsInference
from tenet.settings.load import load_experiment
from tenet.settings.schema import Experiment, parse_experiment

VOXEL_SIZE_UM = (0.3, 0.1, 0.1)


def tiny(**sections: Any) -> Experiment:
    params = {
        "network": "coarse", "NA": 0.7, "wavelength": 0.9, "scale": 3, "size_z": 9,
        "res_lateral": 0.1, "res_axial": 0.3, "size_y": 5, "size_x": 5,
        "hidden_channels_list": [2, 4], "nblocks": 1, "blur_mode": "gaussian", "bet_z": 1.0,
        "bet_xy": 1.5, "nipsf_loss_target": 1e-2, "psf_sampling": "continuous",
    }  # fmt: skip
    percentile = {"cropsize": [12, 16, 16], "normalisation": "percentile"}
    return parse_experiment(
        {"name": "tiny", "params": params, "train_dataset": percentile, **sections}
    )


def saved(folder: Path, experiment: Experiment) -> Path:
    """A calibrated model that sees something everywhere; an alignment network is a lively one."""
    torch.manual_seed(3)
    network = TENET(experiment.params, experiment.align_params)
    network.initialise(np.random.default_rng(0))
    if network.aligner is not None:
        nn.init.normal_(network.aligner.head[-1].weight, std=2.0)
    save_model(folder, network, experiment, {})
    record = {"threshold": 0.3, "deconvolved_level": 1.0, "gain": 1.3}
    (folder / "threshold.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """A bright block in noise, whose planes moved."""
    rng = np.random.default_rng(1)
    data = rng.integers(100, 140, (8, 40, 44))
    for plane, shift in enumerate(rng.integers(-3, 4, 8)):
        data[plane, 12 : 20 + plane, 15 + shift : 25 + shift] *= rng.integers(6, 9)
    path = tmp_path / "data" / "bead_07.ome.tif"
    path.parent.mkdir()
    write_ome_tiff(path, data.astype(np.uint16), VOXEL_SIZE_UM)
    return path


def enhance(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> None:
    """`tenet enhance` in this process."""
    monkeypatch.setattr(cli, "end_on_signals", lambda advice: None)
    monkeypatch.setattr(sys, "argv", ["tenet", "enhance", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code


@pytest.fixture
def with_and_without(tmp_path: Path) -> tuple[Path, Path]:
    """A model with an alignment network, and the same model without one."""
    aligned = saved(tmp_path / "models/aligned", tiny(align_params={}))
    experiment = tiny()
    network = TENET(experiment.params)
    state = torch.load(aligned / "model.pt", weights_only=True)
    network.load_state_dict({k: v for k, v in state.items() if not k.startswith("aligner.")})
    save_model(tmp_path / "models/plain", network, experiment, {})
    shutil.copy(aligned / "threshold.json", tmp_path / "models/plain")
    return aligned, tmp_path / "models/plain"


def test_without_alignment_the_level_is_found_without_it(
    with_and_without: tuple[Path, Path],
    stack: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    aligned, plain = with_and_without

    def level(model: Path, *words: str) -> str:
        enhance(monkeypatch, stack, "--model", model, "--out", tmp_path / "out", *words)
        return next(line for line in capsys.readouterr().err.splitlines() if "become" in line)

    assert level(aligned) != level(plain)
    assert level(aligned, "--no-align") == level(plain)

    def range_of(model: Path, with_align: bool | None = None) -> object:
        beads = BeadsInference(model, with_align=with_align, out=tmp_path / "out", device="cpu")
        (result,) = beads.get_result(stack)
        return result.range_

    assert range_of(aligned, with_align=False) == range_of(plain)


@contextmanager
def dtypes() -> Iterator[set[torch.dtype]]:
    """The types of number in which convolutions run."""
    seen: set[torch.dtype] = set()

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(module, nn.Conv3d):
            seen.add(output.dtype)

    hook = torch.nn.modules.module.register_module_forward_hook(note)
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_level_is_found_in_the_precision_in_which_the_stack_is_enhanced(
    precision: str, stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenet.networks.convolution.faster_in_float32", lambda device: False)
    model = saved(tmp_path / "model", tiny(train_loop={"precision": precision}))
    with dtypes() as seen:
        enhance(monkeypatch, stack, "--model", model, "--out", tmp_path / "out")
    assert seen == {getattr(torch, precision)}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_python_classes_run_in_the_precision_of_the_command_line(
    precision: str, stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenet.networks.convolution.faster_in_float32", lambda device: False)
    model = saved(tmp_path / "model", tiny(train_loop={"precision": precision}))
    beads = BeadsInference(model, out=tmp_path / "classes", device="cpu")
    with dtypes() as seen:
        (result,) = beads.get_result(stack)
    assert seen == {getattr(torch, precision)}
    enhance(monkeypatch, stack, "--model", model, "--out", tmp_path, "--device", "cpu")
    np.testing.assert_array_equal(
        tifffile.imread(result.path), tifffile.imread(tmp_path / stack.name)
    )


def test_a_model_is_loaded_once_whatever_the_number_of_stacks(stack: Path, tmp_path: Path) -> None:
    model = saved(tmp_path / "model", tiny())
    beads = BeadsInference(model, out=tmp_path / "out", device="cpu")
    (before,) = beads.get_result(stack)
    shutil.rmtree(model)
    shutil.copy(stack, stack.with_name("bead_08.ome.tif"))
    assert [after.range_ for after in beads.get_result(stack.parent)] == 2 * [before.range_]


# Calibration --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (None, "never calibrated"),
        ({"threshold": 0.5}, "inside"),
        ({"threshold": 0.5, "inside": [0.5]}, "50 shares"),
        ({"threshold": 0.5, "inside": [2.0] * BINS}, "less than or equal to 1"),
        ({"threshold": "high", "inside": []}, "high"),
    ],
)
def test_a_missing_or_damaged_calibration_is_named(
    tmp_path: Path, record: object, said: str
) -> None:
    model = saved(tmp_path / "model", tiny())
    (model / "threshold.json").unlink()
    if record is not None:
        (model / "threshold.json").write_text(json.dumps(record))
    with pytest.raises(TenetError, match=said):
        _ = TrainedModel.load(model).certainty


def test_a_model_without_a_calibration_has_what_its_settings_say(
    tmp_path: Path, stack: Path
) -> None:
    folder = saved(tmp_path / "model", tiny())
    calibrated = TrainedModel.load(folder)
    (folder / "threshold.json").unlink()
    bare = TrainedModel.load(folder)
    assert (calibrated.threshold, bare.threshold) == (0.3, 0.5)
    assert bare.signal_level == 1
    assert "never calibrated" in (bare.calibration_note or "")
    raw = open_stack(stack)
    assert bare.intensity_range(raw) == stack_range(raw, "percentile")
    assert bare.intensity_range(raw, "minmax") == stack_range(raw, "minmax")
    assert calibrated.intensity_range(raw).high > bare.intensity_range(raw).high


# From Python --------------------------------------------------------------------------------------


def test_an_array_is_enhanced_as_the_same_stack_in_a_file(tmp_path: Path, stack: Path) -> None:
    """With one model for all, which the folder need not hold any more."""
    folder = saved(tmp_path / "model", tiny())
    model = TrainedModel.load(folder)
    shutil.rmtree(folder)
    raw = open_stack(stack)
    out = enhance_stack(model, raw, model.intensity_range(raw), tmp_path / "out.ome.tif")
    volumes = tenet.enhance(tifffile.imread(stack), model, voxel_size_um=VOXEL_SIZE_UM)
    np.testing.assert_array_equal(volumes, tifffile.imread(out))
    np.testing.assert_array_equal(tenet.enhance(stack, model), volumes)
    with pytest.raises(TenetError, match=r"TrainedModel\.load"):
        tenet.enhance(stack, model, align=False)


# The house ----------------------------------------------------------------------------------------

READERS = {"load_model", "read_calibration", "read_experiment", "load_beside", "load_tensors"}


def test_nothing_else_reads_the_files_of_a_model() -> None:
    """But trainings, which write them, and baselines, whose weights lie in folders of their own."""
    house = Path(trained.__file__).parents[1]
    for path in house.rglob("*.py"):
        place = path.relative_to(house).as_posix()
        if place in ("model/trained.py", "model/store.py") or place.startswith("learn/"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "tenet.model.store":
                assert not READERS & {alias.name for alias in node.names}, place


def test_a_model_whose_network_was_its_psf_keeps_the_length_alone() -> None:
    """As in earlier versions: `psf.layers` was fitted to the PSF."""
    model = TENET(load_experiment("scale3", overlays=["demo"]).params)
    expected = model.psf().detach()
    state = {name.replace("correction", "layers"): v for name, v in model.state_dict().items()}
    state["psf.layers.4.bias"] = torch.full((1,), -3.0)
    state["psf.log_stretch"] = torch.tensor(0.2)
    model.load_weights(state, where="an old model")
    assert float(model.psf.log_stretch.detach()) == pytest.approx(0.2)
    with torch.no_grad():
        model.psf.log_stretch.zero_()
        torch.testing.assert_close(model.psf(), expected)
