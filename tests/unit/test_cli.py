"""What a user's mistake costs: one clear line, status 2, and no file under a final name."""

import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from tenet import cli
from tenet.data.phantoms.store import save_phantom
from tenet.io.open import open_stack
from tenet.io.writing import OmeZarrWriter, write_ome_tiff
from tenet.model.store import digest, save_model
from tenet.model.tenet import TENET
from tenet.settings.load import load_experiment

VOXELS = ("--voxel-size", "1", "0.31", "0.31")
TINY = {
    "params": {
        "network": "coarse",
        "hidden_channels_list": [2, 4],
        "size_z": 9,
        "size_y": 5,
        "size_x": 5,
    },
    "pretrain_dataset": {"cropsize": [18, 8, 8], "I": 2, "mask": False, "low": 0, "high": 1},
    "pretrain_val_dataset": {"cropsize": [18, 8, 8], "I": 1, "low": 1, "high": 2},
    "pretrain_loop": {"n_epochs": 1, "batch_size": 1, "precision": "float32"},
    "train_dataset": {"cropsize": [18, 8, 8], "I": 1, "mask": False},
    "val_dataset": {"cropsize": [18, 8, 8], "I": 1},
    "train_loop": {"n_epochs": 1, "ewc_batches": 1, "precision": "float32"},
}


@pytest.fixture(scope="module")
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


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    """Run the command line in this process, whose signals stay its own; the status."""
    monkeypatch.setattr(cli, "end_on_signals", lambda advice: None)
    monkeypatch.setattr(sys, "argv", ["tenet", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


PUBLISHED = str(Path(__file__).parents[2] / "resources/published_values.csv")


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str | Path
) -> str:
    """Run a command that must be refused; its one line."""
    assert run(monkeypatch, *words) == 2
    lines = [
        line
        for line in capsys.readouterr().err.splitlines()
        if line and not line.startswith(("warning:", "note:")) and " become 0 to 1 " not in line
    ]
    assert len(lines) == 1, lines
    assert lines[0].startswith("tenet: ")
    return lines[0]


def _write_bad_stack(kind: str, path: Path) -> None:
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 255, (8, 20, 20), dtype=np.uint8)
    if kind == "text":
        path.write_text("no image")
    elif kind == "truncated":
        tifffile.imwrite(path, volume)
        path.write_bytes(path.read_bytes()[:-700])
    elif kind == "2-D":
        tifffile.imwrite(path, volume[0])
    elif kind == "4-D":
        data = rng.integers(0, 255, (2, 4, 20, 20), dtype=np.uint8)
        tifffile.imwrite(path, data, photometric="minisblack")
    elif kind == "RGB":
        tifffile.imwrite(path, rng.integers(0, 255, (20, 20, 3), dtype=np.uint8), photometric="rgb")
    elif kind == "no planes":
        np.save(path, np.zeros((0, 20, 20), np.uint8))
    elif kind == "NaN":
        data = volume.astype(np.float32)
        data[3, 4, 5] = np.nan
        tifffile.imwrite(path, data)
    elif kind == "constant":
        tifffile.imwrite(path, np.full((8, 20, 20), 7, np.uint8))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("text", ["TIFF"]),
        ("truncated", ["truncated"]),
        ("2-D", ["2"]),
        ("4-D", ["ax"]),
        ("RGB", ["colour", "RGB"]),
        ("no planes", ["empty", "no planes", "0"]),
        ("NaN", ["NaN", "plane 3"]),
        ("constant", ["constant", "same", "7"]),
    ],
)
def test_bad_stacks_are_refused_and_named(
    kind: str,
    words: list[str],
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / ("bad.npy" if kind == "no planes" else "bad.tif")
    _write_bad_stack(kind, path)
    out = tmp_path / "out"
    line = refused(monkeypatch, capsys, "enhance", path, "--model", model, "--out", out, *VOXELS)
    assert path.name in line
    assert any(word in line for word in words), line
    assert not list(out.glob("*"))


def test_a_stack_without_voxel_size_is_not_guessed(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 9, (8, 20, 20), dtype=np.uint8))
    line = refused(monkeypatch, capsys, "enhance", path, "--model", model, "--out", tmp_path / "o")
    assert "--voxel-size" in line


def test_planes_finer_than_pixels_are_refused(
    stack: Path,
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("--voxel-size", "0.1", "0.31", "0.31")
    line = refused(
        monkeypatch, capsys, "enhance", stack, "--model", model, "--out", tmp_path / "o", *words
    )
    assert "finer" in line


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("params.NA=-1", "NA is -1"),
        ("params.NA=1.4", "immersion"),
        ('params.scale="3"', "integer"),
        ("pretrain_dataset.cropsize=[240,113,112]", "divisible"),
        ("params.NAA=1", "did you mean 'NA'"),
        ("pretrain_loop.loss_fnx=\"__import__('os').system('true')\"", "loss_fnx"),
    ],
)
def test_impossible_settings(
    setting: str, word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert word in refused(monkeypatch, capsys, "config", "show", "scale3", "--set", setting)


def test_an_unknown_experiment_names_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "fig3_beads" in refused(monkeypatch, capsys, "config", "show", "fig3_bead")


def test_the_list_of_experiments_names_a_broken_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("config", "list", "--experiments", tmp_path)
    (tmp_path / "good.json").write_text('{"explanation": "all is well"}')
    assert run(monkeypatch, *words) == 0
    assert capsys.readouterr().out == f"{'good':20} all is well\n"
    bad = tmp_path / "worse.json"
    bad.write_text('{"params": ')
    assert f"{bad} is not JSON" in refused(monkeypatch, capsys, *words)


def _tiny_experiment(folder: Path, **sections: object) -> Path:
    path = folder / "tiny.json"
    experiment = load_experiment("scale3", settings={**TINY, **sections})
    path.write_text(experiment.model_dump_json())
    return path


def test_a_fold_out_of_range(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for i in range(2):
        noise = np.random.default_rng(i).random((8, 20, 20), np.float32)
        write_ome_tiff(data / f"{i:02}.ome.tif", noise, (1.0, 0.31, 0.31))
    rois = tmp_path / "rois.csv"
    rois.write_text("roi,image,z,y,x,fold\n0,0,3,9,9,0\n1,1,3,9,9,1\n")
    experiment = _tiny_experiment(tmp_path)
    line = refused(
        monkeypatch, capsys, "finetune", experiment, "--pretrained", model, "--data", data,
        "--rois", rois, "--fold", "7", "--out", tmp_path / "out",
    )  # fmt: skip
    assert "no fold 7" in line
    assert not (tmp_path / "out").exists()


def test_a_stack_smaller_than_a_crop(
    stack: Path,
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Crops are made smaller, and nothing is trained where they would be too small."""
    experiment = _tiny_experiment(
        tmp_path,
        train_dataset={**TINY["train_dataset"], "cropsize": [18, 64, 64]},
        train_loop={**TINY["train_loop"], "ewc_weight": 0, "rehearsal_weight": 0},
    )
    words = ("finetune", experiment, "--pretrained", model, "--out", tmp_path / "out", "--data")
    assert not run(monkeypatch, *words, stack)
    assert "crops are (18, 20, 20) fine voxels" in capsys.readouterr().out
    least = tmp_path / "least.ome.tif"
    write_ome_tiff(least, np.zeros((2, 20, 20), np.uint16), (1.0, 0.31, 0.31))
    line = refused(monkeypatch, capsys, *words, stack, "--data", least)
    assert str(least) in line
    assert "too few" in line


@pytest.mark.parametrize("kind", ["architecture", "code", "truncated"])
def test_weights_that_do_not_belong(
    kind: str,
    stack: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = tmp_path / "model"
    bad.mkdir()
    (bad / "experiment.json").write_bytes((model / "experiment.json").read_bytes())
    trap = tmp_path / "trap"
    if kind == "architecture":
        torch.save({"encoder.stem.weight": torch.zeros(3)}, bad / "model.pt")
    elif kind == "code":

        class Trap:
            def __reduce__(self) -> tuple[object, tuple[str, ...]]:
                return Path.touch, (trap,)  # type: ignore[return-value]

        (bad / "model.pt").write_bytes(pickle.dumps({"a": Trap()}))
    else:
        (bad / "model.pt").write_bytes((model / "model.pt").read_bytes()[:2000])
    out = tmp_path / "o"
    line = refused(monkeypatch, capsys, "enhance", stack, "--model", bad, "--out", out)
    assert "model.pt" in line
    assert not trap.exists()
    assert not out.exists()


def test_settings_of_rltv_that_are_missing_or_broken(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tuned.json"
    words = ("rltv", "run", "--model", model, "--settings", path, "--data", tmp_path)
    assert "no such file" in refused(monkeypatch, capsys, *words, "--out", tmp_path / "out")
    path.write_text("{")
    assert str(path) in refused(monkeypatch, capsys, *words, "--out", tmp_path / "out")


def test_a_full_disk_leaves_no_file(
    stack: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(small)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted by root")
    try:
        line = refused(monkeypatch, capsys, "enhance", stack, "--model", model, "--out", small)
        assert "disk" in line or "space" in line
        assert not list(small.iterdir())
    finally:
        subprocess.run(["umount", str(small)], check=True)


# Nothing is lost


@pytest.mark.parametrize("options", [[], ["--zarr"], ["--sheet"]], ids=str)
def test_enhancing_never_replaces_the_raw_stack(
    options: list[str],
    stack: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raw = tmp_path / "raw.ome.tif"
    stack.rename(raw)
    if "--zarr" in options:
        raw = tmp_path / "raw.ome.zarr"
        with OmeZarrWriter(raw, (1, 8, 20, 20), (1.0, 0.31, 0.31)) as writer:
            writer.add((0, 0, 0), np.random.default_rng(1).random((1, 8, 20, 20), np.float32))
    before = contents(tmp_path)
    words = ("enhance", raw, "--model", model, "--out", tmp_path, *options)
    assert "which it is made of" in refused(monkeypatch, capsys, *words)
    monkeypatch.chdir(tmp_path)
    words = ("enhance", raw.name, "--model", model, "--out", ".", *options)
    assert "which it is made of" in refused(monkeypatch, capsys, *words)
    assert contents(tmp_path) == before


def test_no_command_for_folders_replaces_raw_stacks(
    stack: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tuned = tmp_path / "rltv.json"
    part = {"iterations": 2, "tv_weight": 0.0, "threshold": 0.5, "score": 0.5}
    tuned.write_text(json.dumps({"rltv": part, "rltv_paper": part}))
    data = tmp_path / "data"
    data.mkdir()
    stack.rename(data / "0.ome.tif")
    before = contents(tmp_path)
    own = ("--data", data, "--out", data)
    for words in (
        ("predict", "--model", model, *own),
        ("rltv", "run", "--model", model, "--settings", tuned, *own),
        ("baseline", "run", "care", "--model", model, "--pretrained", model, *own),
        ("register", data, "--out", data),
        ("samples", "experiment", "--file", data / "0.ome.tif", "--out", data / "0.ome.tif"),
    ):
        assert "which it is made of" in refused(monkeypatch, capsys, *words)
        assert contents(tmp_path) == before


def test_tables_do_not_replace_what_they_are_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "values.csv"
    path.write_text("experiment,value\na,1\n")
    own = ("--metrics", path, "--published", PUBLISHED, "--out", path)
    for words in (
        ("table", "fig2", *own),
        ("published", *own),
        ("evaluate", "beads", "fig3_beads", "--predictions", tmp_path, "--rois", path,
         "--out", path, "--sweep", tmp_path / "sweep.csv"),
    ):  # fmt: skip
        assert "which it is made of" in refused(monkeypatch, capsys, *words)
    assert path.read_text() == "experiment,value\na,1\n"


def test_two_stacks_of_one_name(
    stack: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = tmp_path / "other" / stack.name
    other.parent.mkdir()
    shutil.copyfile(stack, other)
    line = refused(
        monkeypatch, capsys, "enhance", stack, other, "--model", model, "--out", tmp_path / "out"
    )
    assert "two stacks of one name" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../../x", "/x", "a/b", ""])
def test_the_name_of_a_result_leads_nowhere_else(
    name: str,
    stack: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "deep/out"
    words = ("enhance", stack, "--model", model, "--out", out, "--name", name)
    assert "is not the name of a result" in refused(monkeypatch, capsys, *words)
    assert list(tmp_path.iterdir()) == [stack]


def test_a_threshold_that_is_none_is_refused_before_anything_is_predicted(
    stack: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = tmp_path / "model"
    shutil.copytree(model, broken)
    (broken / "threshold.json").write_text('{"threshold": 1.5}')
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    stack.rename(data / stack.name)
    words = ("predict", "--model", broken, "--data", data, "--out", out)
    assert "threshold.json" in refused(monkeypatch, capsys, *words)
    assert not out.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("options", [[], ["--zarr"]], ids=str)
def test_a_signal_in_the_middle_of_a_stack(
    number: signal.Signals, options: list[str], model: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "stack.npy", tmp_path / "out"
    np.save(path, np.random.default_rng(1).integers(100, 200, (30, 400, 400), dtype=np.uint16))
    words = ["enhance", path, "--model", model, "--out", out, "--voxel-size", "1", ".31", ".31"]
    words += ["--tile", "30", "200", "200", "--device", "cpu", *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "tenet", *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    while not (out.exists() and any(out.iterdir())):
        assert process.poll() is None
        signal.sigtimedwait([], 0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said.splitlines()[-1] == (
        f"tenet: ended by {number.name}; what was not finished is removed: run the command again"
    )
    assert not list(out.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def notes(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Lines of standard error that are notes."""
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("note:")]


def test_a_model_without_calibration_is_noted_once(
    stack: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    quiet = ("--device", "cpu", "--threads", "1")
    data = tmp_path / "data"
    data.mkdir()
    for name in ("0", "1"):
        (data / f"{name}.ome.tif").write_bytes(stack.read_bytes())
    out = tmp_path / "out"
    files = sorted(data.iterdir())
    assert not run(monkeypatch, "enhance", *files, "--model", model, "--out", out, *quiet)
    (note,) = notes(capsys)
    assert str(model) in note
    assert "level of phantoms, and its threshold is taken as 0.5" in note
    assert "--tuning" in note
    assert not run(monkeypatch, "predict", "--model", model, "--data", data, "--out", out, *quiet)
    assert notes(capsys) == [note]
    experiment = _tiny_experiment(
        tmp_path, train_loop={"ewc": None, "n_epochs": 1, "rehearsal_weight": 0}
    )
    words = ("--pretrained", model, "--data", stack, "--out", tmp_path / "tuned", *quiet)
    assert not run(monkeypatch, "finetune", experiment, *words)
    assert notes(capsys) == [note]
    calibrated = tmp_path / "calibrated"
    shutil.copytree(model, calibrated)
    record = {
        "threshold": 0.3,
        "deconvolved_level": 0.5,
        "weights": digest(calibrated / "model.pt"),
    }
    (calibrated / "threshold.json").write_text(json.dumps(record))
    assert not run(monkeypatch, "enhance", stack, "--model", calibrated, "--out", out, *quiet)
    assert notes(capsys) == []


def test_the_steps_by_hand(
    tmp_path: Path, stack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pre-training on phantoms, fine-tuning on a stack, and enhancing it: files and voxel sizes."""
    phantoms, experiment = tmp_path / "phantoms", _tiny_experiment(tmp_path)
    for i in range(2):
        shape = np.zeros((36, 24, 24), np.uint8)
        shape[10:20, 6:14, 4 + i : 18] = 1
        save_phantom(phantoms / f"{i:02}.zarr.zip", shape, shape * np.float32(0.7))
    quiet = ("--device", "cpu", "--threads", "1")
    pretrained, tuned, out = (tmp_path / name for name in ("pre", "tuned", "enhanced"))
    assert not run(
        monkeypatch, "pretrain", experiment, "--phantoms", phantoms, "--tuning", phantoms,
        "--out", pretrained, *quiet,
    )  # fmt: skip
    assert not run(
        monkeypatch, "finetune", experiment, "--pretrained", pretrained, "--data", stack,
        "--phantoms", phantoms, "--tuning", phantoms, "--out", tuned, *quiet,
    )  # fmt: skip
    assert not run(
        monkeypatch, "enhance", stack, "--model", tuned, "--out", out, "--sheet", *quiet
    )  # fmt: skip
    with tifffile.TiffFile(out / "stack.ome.tif") as file:
        assert file.series[0].shape == (2, 24, 20, 20)
        assert 'PhysicalSizeZ="0.333' in (file.ome_metadata or "")
        enhanced = file.series[0].asarray()
    assert (out / "stack.png").stat().st_size > 0
    assert not run(
        monkeypatch, "enhance", stack, "--model", tuned, "--out", out, "--zarr", "--sheet", *quiet
    )  # fmt: skip
    for channel in (0, 1):
        same = open_stack(out / "stack.ome.zarr", channel=channel)
        np.testing.assert_allclose(same.read(), enhanced[channel], atol=1e-6)
    sure = tmp_path / "sure"
    assert not run(
        monkeypatch, "enhance", stack, "--model", tuned, "--out", sure, "--uncertainty", *quiet
    )  # fmt: skip
    uncertainty = open_stack(sure / "stack.ome.tif", channel=2).read()
    assert 0 <= uncertainty.min() <= uncertainty.max() <= 1
    record = json.loads((tuned / "provenance.json").read_text())
    assert record["images"] == [stack.name]
    assert record["seed"] == 0
    assert {"model.pt", "experiment.json", "history.csv", "threshold.json", "psf.csv"} <= {
        path.name for path in tuned.iterdir()
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("baseline", "train", "care", "--set", "chanels_2d=[4]"), "did you mean 'channels_2d'"),
        (("baseline", "train", "neuroclear", "--set", 'lr="a"'), "lr: Input should be a valid"),
        (("baseline", "run", "care"), "train again"),
        (("evaluate", "profiles", "fig4_neurons", "--predictions", "nowhere"), "no such folder"),
        (("evaluate", "cells", "fig5_microglia", "--predictions", "nowhere"), "no such folder"),
        (("published", "--metrics", "nowhere.csv", "--published", PUBLISHED), "no such table"),
        (("register", "nowhere"), "not a folder"),
        (("phantoms", "tissue", "tumour", "fig5_tumour", "--cells", "900"), "no room for 900"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else None,
)
def test_mistakes_with_baselines_and_tissue_get_one_line(
    words: tuple[str, ...],
    message: str,
    stack: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more: list[str | Path] = ["--out", tmp_path / "out"]
    if words[0] == "baseline":
        more += ["--model", model, "--data", stack.parent]
        more += ["--tuning", tmp_path] if words[1] == "train" else ["--pretrained", model]
    if "profiles" in words:
        more += ["--data", stack.parent]
    if "cells" in words:
        more += ["--cells", tmp_path / "cells.csv", "--projections", tmp_path / "cells.npz"]
    if "tissue" in words:
        more += ["--size", "40", "40", "40"]
    assert message in refused(monkeypatch, capsys, *words, *more)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def _tenet(*words: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "tenet", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("name", ["new\nline.tif", "red\x1b[31m.tif"])
def test_an_error_is_one_line_whatever_a_name_holds(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("no image")
    line = refused(
        monkeypatch, capsys, "enhance", tmp_path / name, "--model", "x", "--out", tmp_path / "out"
    )
    assert line.isprintable()
    assert name.encode("unicode_escape").decode() in line


def test_names_that_the_terminal_cannot_encode(model: Path, stack: Path, tmp_path: Path) -> None:
    raw = tmp_path / os.fsdecode(b"caf\xe9 \xc2\xb5.tif")
    raw.write_bytes(stack.read_bytes())
    done = _tenet(
        "enhance", raw, "--model", model, "--out", tmp_path / "out", "--device", "cpu",
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("caf\\udce9 \\xb5.ome.tif\n")
    assert (tmp_path / "out" / f"{raw.stem}.ome.tif").exists()


def test_a_folder_that_was_removed(tmp_path: Path) -> None:
    words = "phantoms", "angle", "--angle", "90", "--out", "phantoms"
    enter_and_run = (
        f"import os, sys; os.chdir({str(tmp_path / 'gone')!r}); os.rmdir(os.getcwd());"
        "from tenet import cli; cli.main()"
    )
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", enter_and_run, *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
    )
    assert done.returncode == 2
    assert done.stderr == ("tenet: the folder you are in was removed; change into another one\n")


@pytest.mark.parametrize("device", ["meta", "xpu", "mps", "nonsense"])
def test_devices_that_are_not_used(
    device: str,
    model: Path,
    stack: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = "--model", model, "--out", tmp_path / "out", "--device", device
    line = refused(monkeypatch, capsys, "enhance", stack, *words)
    assert line == f"tenet: --device {device}: give auto, cpu, cuda or cuda:N"


def test_an_interrupt_while_modules_are_loaded_says_nothing() -> None:
    # The first module that is loaded after the package's own sends the signal.
    code = (
        "import os, runpy, signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'tenet.cli':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "runpy.run_module('tenet', run_name='__main__', alter_sys=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "config", "list"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_standard_output_on_a_full_disk() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tenet", "config", "show", "scale3"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("tenet: no room on the disk")
    assert done.stderr.count("\n") == 1


def test_memory_that_is_short_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**34, limits[1]))
    try:
        line = refused(
            monkeypatch, capsys, "phantoms", "angle", "--angle", "90", "--lines", "1",
            "--size", "4000", "2000", "1000", "--out", tmp_path,
        )  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert line.startswith("tenet: no memory for it")
