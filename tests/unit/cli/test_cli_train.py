"""`tenet pretrain` and `finetune`: the steps by hand, and what training refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from command_line import TINY, VOXELS, refused, run, tiny_experiment

from tenet.data.phantoms.store import save_phantom
from tenet.io.open import open_stack
from tenet.io.writing import write_ome_tiff


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
    experiment = tiny_experiment(tmp_path)
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
    experiment = tiny_experiment(
        tmp_path,
        train_dataset={**TINY["train_dataset"], "cropsize": [18, 64, 64]},
        train_loop={**TINY["train_loop"], "ewc_weight": 0, "rehearsal_weight": 0},
    )
    words = ("finetune", experiment, "--pretrained", model, "--out", tmp_path / "out", "--data")
    assert not run(monkeypatch, *words, stack)
    assert "crops have (18, 20, 20) fine voxels" in capsys.readouterr().err
    least = tmp_path / "least.ome.tif"
    write_ome_tiff(least, np.zeros((2, 20, 20), np.uint16), (1.0, 0.31, 0.31))
    line = refused(monkeypatch, capsys, *words, stack, "--data", least)
    assert str(least) in line
    assert "too few" in line


def test_the_steps_by_hand(
    tmp_path: Path, stack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pre-training on phantoms, fine-tuning on a stack, and enhancing it: files and voxel sizes."""
    phantoms, experiment = tmp_path / "phantoms", tiny_experiment(tmp_path)
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
    printed = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in printed if line.startswith(("training", "calib"))] == [
        "training: epoch 1 of 1",
        "calibrating on phantoms: 2 of 2 (100 %)",
    ]
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


@pytest.fixture
def poisoned(tmp_path: Path) -> Path:
    """Seven stacks; whoever reads a voxel of image 1, or of image 3, meets NaN and is refused."""
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(7):
        voxels = np.random.default_rng(i).random((8, 20, 20), np.float32)
        if i in (1, 3):
            voxels[:] = np.nan
        tifffile.imwrite(folder / f"beads_{i:02}.tif", voxels, metadata={"axes": "ZYX"})
    (tmp_path / "rois.csv").write_text("roi,image,z,y,x,fold\n0,1,3,9,9,0\n1,0,3,9,9,1\n")
    return folder


@pytest.mark.parametrize(
    ("test_images", "words", "left"),
    [
        (["beads_01", "3"], (), [0, 2, 4, 5, 6]),
        (["beads_01.tif", 3], ("--rois",), [0, 2, 4, 5, 6]),
        (["3"], ("--rois", "--fold", "0"), [0, 2, 4, 5, 6]),
        (["01", "03"], ("--rois", "--fold", "1"), [2, 4, 5, 6]),
        (["1", "3"], ("--fold", "1"), [0, 2, 4, 5, 6]),
    ],
)
def test_no_voxel_of_a_test_image_is_read(
    test_images: list[object],
    words: tuple[str, ...],
    left: list[int],
    poisoned: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    experiment = tiny_experiment(
        tmp_path,
        train_loop={**TINY["train_loop"], "ewc_weight": 0, "rehearsal_weight": 0},
        test_dataset={"test_images": test_images},
    )
    options = [*words[:1], *([tmp_path / "rois.csv"] if "--rois" in words else []), *words[1:]]
    if words[:1] == ("--fold",):
        options = list(words)
    assert not run(
        monkeypatch, "finetune", experiment, "--pretrained", model, "--data", poisoned, *options,
        *VOXELS, "--out", tmp_path / "out", "--device", "cpu", "--threads", "1",
    )  # fmt: skip
    record = json.loads((tmp_path / "out/provenance.json").read_text())
    assert record["images"] == [f"beads_{i:02}.tif" for i in left]
    # Of five stacks or more, some are validated on alone.
    expected = ["beads_04.tif"] if len(left) == 5 else record["images"]
    assert record["validation"] == expected


def test_the_poison_works_and_a_test_image_that_is_not_there_is_told(
    poisoned: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for images, message in ((["1"], "beads_03.tif"), (["1", "9"], "test image '9' is none of")):
        experiment = tiny_experiment(tmp_path, test_dataset={"test_images": images})
        line = refused(
            monkeypatch, capsys, "finetune", experiment, "--pretrained", model,
            "--data", poisoned, *VOXELS, "--out", tmp_path / "out",
        )  # fmt: skip
        assert message in line
