"""Weights of the published code as a model: to enhance with, to fine-tune, or refused in a line."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenet.data.phantoms.store import open_phantoms
from tenet.io.open import open_stack
from tenet.io.writing import write_ome_tiff
from tenet.learn.align import train_alignment
from tenet.learn.finetune import finetune
from tenet.learn.images import RawData
from tenet.model.store import FISHER, OPTIMISER, load_model
from tenet.model.trained import TrainedModel
from tenet.settings.load import load_experiment
from tenet.settings.schema import DATASETS
from tests.unit.cli.command_line import refused, run

CASES = ("beads_tiny", "fig2_tiny", "gauss_tiny")
Config = Callable[..., Path]


@pytest.fixture
def config(shared: Path, tmp_path: Path) -> Config:
    """A configuration as users of the published code have it, with the sizes of a small network."""

    def write(case: str, **params: Any) -> Path:
        text = (shared / "reference/JNet_beads.json").read_text()
        content = json.loads(text)
        small = json.loads((shared / f"reference/{case}_params.json").read_text())
        content["params"] = content["params"] | small | params
        for section in DATASETS:
            content[section]["scale"] = small["scale"]
        path = tmp_path / f"{case}.json"
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.fixture
def weights(shared: Path) -> Callable[[str], Path]:
    return lambda case: shared / f"reference/{case}.pt"


@pytest.mark.parametrize("case", CASES)
def test_an_imported_model_enhances_as_the_published_code_did(
    case: str,
    shared: Path,
    config: Config,
    weights: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, made = tmp_path / "model", config(case)
    assert run(monkeypatch, "import-weights", weights(case), made, "--out", model) == 0
    with np.load(shared / f"reference/{case}.npz", allow_pickle=False) as values:
        image, shape, brightness = (
            values[key][0, 0] for key in ("image", "enhanced_image", "estim_luminance")
        )
    # The published network was fed this image itself; a command transforms a stack by hill first.
    stack = tmp_path / "stack.ome.tif"
    params = TrainedModel.settings_of(model).params
    write_ome_tiff(stack, np.square(image / (2 - image)), params.coarse_voxel_size_um)
    command = (
        "enhance",
        stack,
        "--model",
        model,
        "--normalisation",
        "none",
        "--out",
        tmp_path / "r",
    )
    assert run(monkeypatch, *command) == 0
    result = [open_stack(tmp_path / "r/stack.ome.tif", channel=c).read() for c in (0, 1)]
    assert np.abs(result[1] - brightness).max() <= 1e-4 * brightness.max()
    clear = np.abs(result[0] - 0.5) > 1e-4
    assert clear.mean() > 0.99
    assert np.array_equal((result[0] >= 0.5)[clear], (shape >= 0.5)[clear])


def test_a_model_is_whole_and_has_the_threshold_of_its_configuration(
    config: Config, weights: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, model = config("fig2_tiny", threshold=0.3), tmp_path / "model"
    assert run(monkeypatch, "import-weights", weights("fig2_tiny"), made, "--out", model) == 0
    trained = TrainedModel.load(model)
    assert (trained.threshold, trained.calibration_note) == (0.3, None)
    assert trained.params.deconvolution_steps == 0
    assert trained.experiment.train_dataset.normalisation == "minmax"
    names = ("model.pt", "experiment.json", "provenance.json", "threshold.json", "psf.csv")
    assert sorted(path.name for path in model.iterdir() if path.name[0] != ".") == sorted(names)
    source = json.loads((model / "provenance.json").read_text())
    assert (source["kind"], source["weights"]) == ("import", str(weights("fig2_tiny")))


def test_the_published_configuration_is_read_as_it_stands(
    shared: Path, weights: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Its network is larger than that of the small weights, which is what the refusal says."""
    made = shared / "reference/JNet_beads.json"
    line = refused(
        monkeypatch, capsys, "import-weights", weights("beads_tiny"), made, "--out", tmp_path / "m"
    )
    assert "beads_tiny.pt holds weights of another architecture" in line
    assert "use the configuration" in line
    assert not (tmp_path / "m").exists()


def test_what_is_no_published_weights_is_refused_in_a_line(
    config: Config, weights: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    state = torch.load(weights("fig2_tiny"), weights_only=True)
    whole = weights("fig2_tiny").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    torch.save({"state_dict": state}, tmp_path / "wrapped.pt")
    torch.save(state | {"surplus.weight": torch.zeros(2)}, tmp_path / "surplus.pt")
    (tmp_path / "text.pt").write_text("no weights")
    expected = {
        "cut": "not a plain weights file",
        "tensor": "holds a Tensor, not a dictionary",
        "wrapped": "weights of another architecture",
        "surplus": "surplus.weight is unknown",
        "text": "not a plain weights file",
        "none": "no weights at",
    }
    for name, words in expected.items():
        file, made = tmp_path / f"{name}.pt", config("fig2_tiny")
        line = refused(
            monkeypatch, capsys, "import-weights", file, made, "--out", tmp_path / "model"
        )
        assert f"{name}.pt" in line
        assert words in line
        assert not (tmp_path / "model").exists()
    for name, words in {
        "nblocks": "another architecture",
        "deconvolution_steps": "go with 0",
    }.items():
        made = config("fig2_tiny", **{name: 1})
        line = refused(
            monkeypatch,
            capsys,
            "import-weights",
            weights("fig2_tiny"),
            made,
            "--out",
            tmp_path / "m",
        )
        assert words in line


def test_weights_are_not_replaced_by_the_model_that_is_made_of_them(
    config: Config, weights: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    own = tmp_path / "model.pt"
    own.write_bytes(weights("fig2_tiny").read_bytes())
    made = config("fig2_tiny")
    line = refused(monkeypatch, capsys, "import-weights", own, made, "--out", tmp_path)
    assert "choose another folder" in line
    assert own.read_bytes() == weights("fig2_tiny").read_bytes()


def test_a_file_of_weights_given_as_a_model_gets_a_line_that_names_the_command(
    config: Config, weights: Callable[[str], Path], phantom_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file, out = weights("fig2_tiny"), ("--out", tmp_path / "out")
    stack = tmp_path / "stacks/stack.tif"
    stack.parent.mkdir()
    write_ome_tiff(stack, np.random.default_rng(0).random((6, 16, 16), np.float32), (1, 0.31, 0.31))
    data = ("--data", stack.parent)
    rltv = tmp_path / "rltv.json"
    part = {"iterations": 1, "tv_weight": 0.1, "threshold": 0.3, "score": 0.4}
    rltv.write_text(json.dumps({"rltv": part, "rltv_paper": part}))
    commands = [
        ("enhance", stack, "--model", file, *out),
        ("predict", "--model", file, *data, *out),
        (
            "finetune",
            config("fig2_tiny"),
            "--set",
            "test_dataset.test_images=[]",
            "--pretrained",
            file,
            *data,
            *out,
        ),
        (
            "align",
            config("fig2_tiny"),
            "--set",
            "align_params={}",
            "--pretrained",
            file,
            "--phantoms",
            phantom_folder,
            *out,
        ),
        ("rltv", "tune", "--model", file, "--phantoms", phantom_folder, *out),
        ("rltv", "run", "--model", file, "--settings", rltv, *data, *out),
        ("baseline", "train", "care", "--model", file, *data, "--tuning", phantom_folder, *out),
    ]
    for command in commands:
        line = refused(monkeypatch, capsys, *command)
        assert "fig2_tiny.pt is a file, and a model is a folder" in line
        assert "tenet import-weights FILE.pt CONFIG.json --out MODEL" in line
    model = tmp_path / "model"
    assert run(monkeypatch, "import-weights", file, config("fig2_tiny"), "--out", model) == 0
    line = refused(monkeypatch, capsys, "enhance", stack, "--model", model / "model.pt", *out)
    assert line.endswith(f"give {model}")


# Fine-tuning


@pytest.fixture
def imported(
    shared: Path, weights: Callable[[str], Path], config: Config, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:  # fmt: skip
    model = tmp_path / "imported"
    made = config("fig2_tiny")
    assert run(monkeypatch, "import-weights", weights("fig2_tiny"), made, "--out", model) == 0
    return model


@pytest.fixture
def data(phantom_folder: Path, tmp_path: Path) -> RawData:
    phantom = open_phantoms(phantom_folder)[0]
    _, brightness = phantom.read(slice(0, 24), slice(0, 40), slice(0, 40))
    np.save(tmp_path / "raw.npy", brightness.reshape(8, 3, 40, 40).mean(1))
    stack = open_stack(tmp_path / "raw.npy")
    return RawData.prepare([stack], [stack], "minmax")


@pytest.mark.parametrize("with_phantoms", [True, False])
def test_an_imported_model_is_fine_tuned(
    with_phantoms: bool, imported: Path, data: RawData, phantom_folder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Elastic weights are found on phantoms; without phantoms a note says that nothing holds."""
    crop = {"cropsize": [24, 16, 16], "I": 2, "mask": False}
    settings = {
        "train_dataset": crop,
        "val_dataset": crop,
        "pretrain_dataset": crop | {"low": 0, "high": 1},
        "pretrain_val_dataset": crop | {"low": 1, "high": 2},
        "train_loop": {"n_epochs": 1, "ewc_batches": 2, "warmup_epochs": 0, "ewc_weight": 5.0},
    }
    experiment = load_experiment(imported / "experiment.json", settings=settings)
    phantoms = phantom_folder if with_phantoms else None
    common: dict[str, Any] = {"data": data, "phantoms": phantoms, "device": torch.device("cpu")}
    tuned = finetune(experiment, imported, tmp_path / "tuned", **common)
    said = capsys.readouterr().err
    assert f"{imported} has no {FISHER}" in said
    assert ("found on phantoms" in said) == with_phantoms
    assert ("no EWC" in said) != with_phantoms
    finetune(experiment, imported, tmp_path / "decoder", mode="decoder", **common)
    assert FISHER not in capsys.readouterr().err  # nothing moves that would have to be held
    before, _ = load_model(imported)
    assert not torch.equal(tuned.encoder.stem.weight, before.encoder.stem.weight)
    assert not (imported / OPTIMISER).exists()
    header, row = (tmp_path / "tuned/history.csv").read_text().splitlines()[:2]
    terms = dict(zip(header.split(","), row.split(","), strict=True))
    held = [key for key in terms if re.search("ewc|elastic", key)]
    assert bool(held) == with_phantoms
    assert all(float(terms[key]) > 0 for key in held if key.startswith("training"))


def test_an_imported_model_learns_to_align_planes(
    imported: Path, phantom_folder: Path, tmp_path: Path
) -> None:
    """As a pre-trained one, with what there is of its files."""
    crop = {"cropsize": [24, 16, 16], "I": 1, "mask": False}
    settings = {
        "align_params": {"loss_mode": "pixelwise"},
        "pretrain_dataset": crop | {"low": 0, "high": 1},
        "pretrain_val_dataset": crop | {"low": 1, "high": 2},
        "pretrain_loop": {"n_epochs": 1},
    }
    experiment = load_experiment(imported / "experiment.json", settings=settings)
    out = tmp_path / "aligned"
    train_alignment(experiment, imported, phantom_folder, out, device=torch.device("cpu"))
    before, after = (load_model(folder)[0] for folder in (imported, out))
    assert torch.equal(after.encoder.stem.weight, before.encoder.stem.weight)
    assert after.aligner is not None
    assert not (out / FISHER).exists()
