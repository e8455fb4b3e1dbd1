"""`tenet enhance`: a mistake costs one clear line, status 2, and no file under a final name."""

import csv
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from command_line import VOXELS, contents, notes, refused, run, tiny_experiment

from tenet.model.store import digest


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
    elif kind in ("infinite", "NaN"):
        data = volume.astype(np.float32)
        if kind == "NaN":
            data[:] = np.nan
        else:
            data[3, 4, 5] = np.inf
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
        ("infinite", ["infinite", "plane 3"]),
        ("NaN", ["every intensity is NaN"]),
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--channel", "0,1"), "--channel: '0,1' is none of: all, a number"),
        (("--time", "1-3"), "--time: '1-3' is none of"),
        (("--time", "all", "--channel", "0:2"), "channels: there is no 0:2; it has 0 to 0"),
    ],
)
def test_channels_and_times_that_are_not_there_are_refused(
    words: tuple[str, ...],
    said: str,
    stack: Path,
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = refused(
        monkeypatch, capsys, "enhance", stack, "--model", model, "--out", tmp_path / "o", *words
    )
    assert said in line


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
    assert "intensity scale of phantoms, and its threshold is taken as 0.5" in note
    assert "--tuning" in note
    assert not run(monkeypatch, "predict", "--model", model, "--data", data, "--out", out, *quiet)
    assert notes(capsys) == [note]
    experiment = tiny_experiment(
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


def test_a_folder_is_enhanced_as_its_stacks_are(
    stack: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "data"
    for name in ("noise/00", "noise/01", "no_noise/00"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(stack, data / f"{name}.ome.tif")
    words = ("--model", model, "--device", "cpu", "--out")
    assert not run(monkeypatch, "enhance", data, "--no-sheet", *words, tmp_path / "folder")
    printed = capsys.readouterr()
    results = [f"{name}.ome.tif" for name in ("no_noise/00", "noise/00", "noise/01")]
    assert printed.out.split() == [str(tmp_path / "folder" / name) for name in results]
    assert "enhancing 01.ome.tif: " in printed.err
    assert not run(monkeypatch, "enhance", stack, *words, tmp_path / "stack")
    assert not run(monkeypatch, "predict", "--data", data, *words, tmp_path / "predicted")
    alone = tifffile.imread(tmp_path / "stack/stack.ome.tif")
    for folder in (tmp_path / "folder", tmp_path / "predicted"):
        beside = {"enhanced.csv", *(f"{name.removesuffix('.ome.tif')}.json" for name in results)}
        beside = {"settings.json"} if folder.name == "predicted" else beside
        assert contents(folder).keys() == {*results, *beside}
        settings = json.loads((folder / max(beside)).read_text())
        assert (settings["threshold"], settings["model"]) == (0.5, str(model))
        for name in results:
            np.testing.assert_array_equal(tifffile.imread(folder / name), alone)


def test_a_scan_offset_is_for_raw_stacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("finetune", "sample", "--pretrained", tmp_path, "--out", tmp_path / "out")
    assert run(monkeypatch, *words, "--simulation", "--scan-offset", "1")
    assert "--scan-offset is for raw stacks" in capsys.readouterr().err
    assert run(monkeypatch, *words, "--data", tmp_path, "--scan-offset", "99")
    assert "--scan-offset 99 pixels are beyond 12" in capsys.readouterr().err


def test_in_a_folder_what_fails_does_not_stop_the_others_and_what_is_done_is_kept(
    stack: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for name in ("a", "c"):
        shutil.copyfile(stack, data / f"{name}.ome.tif")
    (data / "b.ome.tif").write_bytes(stack.read_bytes()[:200])  # cut
    np.save(data / "d.npy", np.full((6, 24, 20), np.nan, np.float32))
    words = ("enhance", data, "--model", model, "--out", out, "--device", "cpu", "--no-sheet")

    def rows(*more: object) -> tuple[int, list[dict[str, str]], str]:
        code = run(monkeypatch, *words, *more)
        with (out / "enhanced.csv").open(newline="") as file:
            return code, list(csv.DictReader(file)), capsys.readouterr().err

    code, table, said = rows()
    assert code == 1
    assert [row["status"] for row in table] == ["done", "failed", "done", "failed"]
    assert "2 of 4 stacks failed" in said
    assert [row["result"] for row in table] == ["a.ome.tif", "", "c.ome.tif", ""]
    assert "b.ome.tif" in table[1]["error"]
    assert "--voxel-size" in table[3]["error"]
    assert "Traceback" not in said
    assert {path.name for path in out.iterdir()} == {
        "a.ome.tif", "a.json", "c.ome.tif", "c.json", "enhanced.csv",
    }  # fmt: skip
    written = {path: path.stat().st_mtime_ns for path in out.glob("?.*")}
    # A result that is whole is kept, and one whose stack or options changed is not.
    (data / "b.ome.tif").unlink()
    (data / "d.npy").unlink()
    sizes = {"PhysicalSizeX": 0.31, "PhysicalSizeY": 0.31, "PhysicalSizeZ": 1}
    turned = tifffile.imread(stack)[::-1].copy()
    tifffile.imwrite(data / "c.ome.tif", turned, metadata={"axes": "ZYX"} | sizes)
    code, table, _ = rows()
    assert not code
    assert [row["status"] for row in table] == ["done before", "done"]
    kept = {path for path, when in written.items() if path.stat().st_mtime_ns == when}
    assert {path.name for path in kept} == {"a.ome.tif", "a.json"}
    assert [row["status"] for row in rows("--again")[1]] == ["done", "done"]
    assert [row["status"] for row in rows("--normalisation", "minmax")[1]] == ["done", "done"]
    assert [row["status"] for row in rows("--normalisation", "minmax")[1]] == [
        "done before",
        "done before",
    ]
    (out / "a.json").write_text("[")
    (out / "c.ome.tif").unlink()
    assert [row["status"] for row in rows("--normalisation", "minmax")[1]] == ["done", "done"]


def test_a_fold_chooses_stacks_of_a_folder(
    stack: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for number in range(2):
        shutil.copyfile(stack, data / f"0{number}.ome.tif")
    rois = tmp_path / "rois.csv"
    rois.write_text("roi,image,z,y,x,fold\n0,0,3,9,9,0\n1,1,3,9,9,1\n")
    words = ("--model", model, "--rois", rois, "--fold", "1", "--out", out)
    line = refused(monkeypatch, capsys, "enhance", stack, *words)
    assert line == "tenet: --rois and --fold choose stacks of a folder: give one"
    assert not run(monkeypatch, "enhance", data, *words, "--zarr")
    assert {p.name for p in out.iterdir()} == {
        "01.ome.zarr", "01.png", "01.html", "01.json", "enhanced.csv",
    }  # fmt: skip


def test_only_predict_takes_the_voxel_size_of_the_model(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    np.save(data / "0.npy", np.random.default_rng(0).integers(0, 9, (8, 20, 20), dtype=np.uint8))
    words = ("--model", model, "--out", out)
    line = refused(monkeypatch, capsys, "enhance", data / "0.npy", *words)
    assert "--voxel-size" in line
    assert not out.exists()
    assert run(monkeypatch, "enhance", data, *words) == 1
    assert f"failed: {line.removeprefix('tenet: ')}" in capsys.readouterr().err
    assert not run(monkeypatch, "predict", "--data", data, *words)
    with tifffile.TiffFile(out / "0.ome.tif") as file:
        assert 'PhysicalSizeZ="0.33' in (file.ome_metadata or "")
