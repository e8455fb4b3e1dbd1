"""Which raw stacks a task reads, and where results go."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tenet.errors import TenetError
from tenet.io.picks import Picks
from tenet.io.writing import write_ome_tiff
from tenet.paper.tasks.pairs import FolderOfStacks
from tenet.tasks.raw_stacks import RawStacks
from tenet.tasks.reading import Reading, Result


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
    pairs = FolderOfStacks(data, rois, 0).pairs(out)
    assert [(stack.path, path) for stack, path in pairs] == wanted
    results = Reading([data], rois, 0).open(out, None, "ome.tif")
    assert [(result.stacks[0].path, result.path) for result in results] == wanted


def test_stacks_and_folders_go_together(data: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.npy"
    np.save(alone, np.zeros((8, 20, 20), np.uint8))
    results = Reading([alone, data]).open(tmp_path / "out", None, "ome.zarr")
    names = ["alone", "00", "01", "02"]
    assert [result.path for result in results] == [
        tmp_path / f"out/{name}.ome.zarr" for name in names
    ]


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


def levels(results: Sequence[Result]) -> list[int]:
    stacks = [stack for result in results for stack in result.stacks]
    return [round(float(stack.read().min())) for stack in stacks]


def test_channels_and_time_points_of_a_file_become_one_result(series: Path, tmp_path: Path) -> None:
    out, every = tmp_path / "out", Picks.parse("all")
    reading = Reading([series], channel=every, time=Picks.parse("0+2"))
    (result,) = reading.open(out, None, "ome.tif")
    assert (result.path, result.folder) == (out / "series.ome.tif", out / "series.parts")
    assert [part.path for part in result.parts] == [
        out / f"series.parts/series_c{channel}_t{time:03}.ome.tif"
        for channel in (0, 1)
        for time in (0, 2)
    ]
    assert levels([result]) == [0, 200, 10, 210]
    assert [part.first.channel for part in result.parts] == [0, 0, 1, 1]
    assert {part.first.time for part in result.parts} == {0}
    # One of them is a result as that of any stack.
    (result,) = Reading([series], channel=1, time=Picks.parse("2:")).open(out, "mine", "ome.zarr")
    assert (result.path, result.parts[0].path) == (out / "mine.ome.zarr", out / "mine.ome.zarr")


def test_each_channel_and_time_point_can_have_a_result_of_its_own(
    series: Path, tmp_path: Path
) -> None:
    out, every = tmp_path / "out", Picks.parse("all")
    reading = Reading([series], channel=every, time=Picks.parse("0+2"), apart=True)
    results = reading.open(out, None, "ome.tif")
    assert [result.path.name for result in results] == [
        f"series_c{channel}_t{time:03}.ome.tif" for channel in (0, 1) for time in (0, 2)
    ]
    assert levels(results) == [0, 200, 10, 210]
    assert [result.parts[0].first.time for result in results] == [0, 0, 0, 0]
    reading = Reading([series], channel=1, time=every, apart=True)
    results = reading.open(out, "mine", "ome.zarr")
    assert [r.path.name for r in results] == [f"mine_t00{time}.ome.zarr" for time in range(3)]
    folder = tmp_path / "folder"
    folder.mkdir()
    series.rename(folder / series.name)
    results = Reading([folder], channel=every, time=1, apart=True).open(out, None, "ome.tif")
    assert [r.path for r in results] == [out / "series_c0.ome.tif", out / "series_c1.ome.tif"]
    assert levels(results) == [100, 110]
