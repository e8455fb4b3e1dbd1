"""Which raw stacks a task reads, and where results go."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tenet.errors import TenetError
from tenet.io.picks import Picks
from tenet.io.stack import Stack
from tenet.io.writing import write_ome_tiff
from tenet.learn.images import RawData
from tenet.paper.tasks.pairs import FolderOfStacks
from tenet.tasks.enhance import Reading
from tenet.tasks.raw_stacks import RawStacks


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images 0 to 2 in a folder."""
    folder = tmp_path / "data"
    for number in range(3):
        noise = np.random.default_rng(number).random((8, 20, 20), np.float32)
        write_ome_tiff(folder / f"0{number}.ome.tif", noise, (1.0, 0.31, 0.31))
    return folder


@pytest.fixture
def rois(tmp_path: Path) -> Path:
    """Image 1 is in fold 0, image 0 in fold 1, image 2 in none."""
    path = tmp_path / "rois.csv"
    path.write_text("roi,image,z,y,x,fold\n0,1,3,9,9,0\n1,0,3,9,9,1\n")
    return path


@pytest.mark.parametrize(("fold", "left"), [(None, [0, 1]), (0, [0]), (1, [1])])
def test_a_training_has_no_image_of_its_fold_and_no_test_image(
    fold: int | None, left: list[int], data: Path, rois: Path
) -> None:
    stacks = RawStacks([data], rois, fold).open(test_images=["2"])
    assert [stack.path.name for stack in stacks] == [f"0{number}.ome.tif" for number in left]


def test_without_a_table_test_images_are_what_a_fold_leaves_out(data: Path) -> None:
    stacks = RawStacks([data], fold=0).open(test_images=["0", "1"])
    assert [stack.path.name for stack in stacks] == ["02.ome.tif"]
    with pytest.raises(TenetError, match="--fold needs --rois"):
        RawStacks([data], fold=0).open()


def test_predictions_are_of_the_fold_alone(data: Path, rois: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    wanted = [(data / "01.ome.tif", out / "01.ome.tif")]
    for pairs in (
        FolderOfStacks(data, rois, 0).pairs(out),
        Reading([data], rois, 0).open(out, None, "ome.tif"),
    ):
        assert [(stack.path, path) for stack, path in pairs] == wanted


def test_stacks_and_folders_go_together(data: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.npy"
    np.save(alone, np.zeros((8, 20, 20), np.uint8))
    pairs = Reading([alone, data]).open(tmp_path / "out", None, "ome.zarr")
    names = ["alone", "00", "01", "02"]
    assert [path for _, path in pairs] == [tmp_path / f"out/{name}.ome.zarr" for name in names]


def test_results_never_replace_stacks(data: Path) -> None:
    with pytest.raises(TenetError, match="would replace its source"):
        FolderOfStacks(data).pairs(data)


# Channels and time points -------------------------------------------------------------------------


@pytest.fixture
def series(data: Path, tmp_path: Path) -> Path:
    """A file of three time points in two channels: intensities are 100 × time + 10 × channel."""
    scene = np.random.default_rng(0).random((3, 2, 8, 20, 20), np.float32)
    scene += 100 * np.arange(3, dtype=np.float32)[:, None, None, None, None]
    scene += 10 * np.arange(2, dtype=np.float32)[:, None, None, None]
    path = tmp_path / "series.ome.tif"
    tifffile.imwrite(path, scene, photometric="minisblack", metadata={"axes": "TCZYX"})
    return path


def levels(stacks: Sequence[Stack]) -> list[int]:
    return [round(float(stack.read().min())) for stack in stacks]


def test_each_channel_and_time_point_has_a_result_of_its_own(series: Path, tmp_path: Path) -> None:
    out, every = tmp_path / "out", Picks.parse("all")
    pairs = Reading([series], channel=every, time=Picks.parse("0+2")).open(out, None, "ome.tif")
    assert [path.name for _, path in pairs] == [
        f"series_c{channel}_t{time:03}.ome.tif" for channel in (0, 1) for time in (0, 2)
    ]
    assert levels([stack for stack, _ in pairs]) == [0, 200, 10, 210]
    pairs = Reading([series], channel=1, time=every).open(out, "mine", "ome.zarr")
    assert [path.name for _, path in pairs] == [f"mine_t00{time}.ome.zarr" for time in range(3)]
    folder = tmp_path / "folder"
    folder.mkdir()
    series.rename(folder / series.name)
    pairs = Reading([folder], channel=every, time=1).open(out, None, "ome.tif")
    assert [path for _, path in pairs] == [out / "series_c0.ome.tif", out / "series_c1.ome.tif"]
    assert levels([stack for stack, _ in pairs]) == [100, 110]


def test_one_training_reads_all_of_them(series: Path) -> None:
    stacks = RawStacks([series], channel=Picks.parse("all"), time=Picks.parse("1:")).open()
    assert levels(stacks) == [100, 200, 110, 210]
    with pytest.raises(TenetError, match="2 channels; choose one"):
        RawStacks([series], time=0).open()
    prepared = RawData.prepare(stacks, stacks, "minmax")
    assert [round(prepared.ranges[stack].low) for stack in stacks] == [100, 200, 110, 210]
