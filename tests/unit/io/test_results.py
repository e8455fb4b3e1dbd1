"""What tells enhanced stacks from other images, and the records beside them."""

import json
from pathlib import Path

import numpy as np
import ome_zarr.io
import ome_zarr.reader
import pytest
import tifffile

from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.results import (
    by_raw_channel,
    result_channels,
    result_record,
    step_in,
    threshold_in,
)
from tenet.io.series import join_results
from tenet.io.writing import write_ome_tiff, writer_for

FINE_UM = (0.25, 0.2, 0.2)
NAMES = ("shape", "brightness", "uncertainty")


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("suffix", ["ome.tif", "ome.zarr"])
def test_results_are_told_by_the_names_of_their_channels(
    suffix: str, count: int, tmp_path: Path
) -> None:
    path = tmp_path / f"cells.{suffix}"
    with writer_for(path, (count, 4, 8, 8), FINE_UM, NAMES[:count]) as writer:
        writer.add((0, 0, 0), np.ones((count, 4, 8, 8), np.float32))
    assert result_channels(path) == NAMES[:count]


@pytest.mark.parametrize("suffix", ["ome.tif", "ome.zarr"])
def test_joined_results_lie_by_time_and_channel(suffix: str, tmp_path: Path) -> None:
    """Six results of 3 raw channels and 2 time points; each voxel says where it is from."""
    size_um, shape = (0.3, 0.2, 0.2), (2, 70, 9, 300)
    where = np.arange(70 * 9 * 300, dtype=np.float32).reshape(70, 9, 300) / 2**18
    parts, values = {}, {}
    for time in (4, 7):
        for channel in (0, 1, 3):
            parts[channel, time] = tmp_path / f"{channel}{time}.{suffix}"
            values[channel, time] = np.stack([10 * time + channel + where, channel - where])
            with writer_for(parts[channel, time], shape, size_um, NAMES[:2]) as writer:
                writer.add((0, 0, 0), values[channel, time])
    path = join_results(parts, tmp_path / f"whole.{suffix}")
    raw = {c: [f"shape c{c}", f"brightness c{c}"] for c in (0, 1, 3)}
    assert result_channels(path) == tuple(name for names in raw.values() for name in names)
    assert by_raw_channel(result_channels(path)) == raw
    for number, ((channel, time), expected) in enumerate(values.items()):
        for kind in (0, 1):
            at = 2 * (0, 1, 3).index(channel) + kind
            stack = open_stack(path, channel=at, time=(4, 7).index(time))
            assert (stack.channels, stack.times) == (6, 2)
            assert stack.voxel_size_um == pytest.approx(size_um)
            np.testing.assert_array_equal(stack.read(), expected[kind], err_msg=str(number))
    if suffix == "ome.tif":
        with tifffile.TiffFile(path) as tiff:
            assert (tiff.series[0].axes, tiff.series[0].shape) == ("TCZYX", (2, 6, 70, 9, 300))
    else:
        node = next(iter(ome_zarr.reader.Reader(ome_zarr.io.parse_url(path))()))
        assert [axis["name"] for axis in node.metadata["axes"]] == list("tczyx")
        assert [data.shape for data in node.data] == [(2, 6, 70, 9, 300), (2, 6, 35, 5, 150)]
        scale, translation = node.metadata["coordinateTransformations"][1]
        assert scale["scale"] == [1, 1, 0.6, 0.4, 0.4]
        assert translation["translation"] == pytest.approx([0, 0, 0.15, 0.1, 0.1])
        coarse = np.asarray(node.data[1][1, 2, :, :4])  # raw channel 1, shape, second time point
        fine = values[1, 7][0, :, :8].reshape(35, 2, 4, 2, 150, 2).mean((1, 3, 5))
        np.testing.assert_allclose(coarse, fine, rtol=1e-6)


def test_results_of_other_shapes_are_not_joined(tmp_path: Path) -> None:
    parts = {(0, 0): tmp_path / "a.ome.tif", (1, 0): tmp_path / "b.ome.tif"}
    for planes, path in zip((4, 8), parts.values(), strict=True):
        write_ome_tiff(path, np.ones((2, planes, 8, 8), np.float32), FINE_UM, NAMES[:2])
    with pytest.raises(TenetError, match=r"keep the results apart \(--apart\)"):
        join_results(parts, tmp_path / "whole.ome.tif")
    assert sorted(tmp_path.iterdir()) == sorted(parts.values())


@pytest.mark.parametrize(
    "names",
    [
        ["shape c0", "brightness c1"],
        ["shape c0", "brightness c0", "shape c0", "brightness c0"],
        ["shape", "brightness", "shape", "brightness"],
        ["shape c0", "brightness c0", "shape c1"],
        ["shape c0", "brightness c0", "shape c1", "brightness c1", "uncertainty c1"],
        [],
    ],
)
def test_other_names_are_those_of_no_joined_result(names: list[str]) -> None:
    assert by_raw_channel(names) == {}


@pytest.mark.parametrize("names", [("brightness", "shape"), ("shape", "b"), None])
def test_other_channels_are_no_result(names: tuple[str, str] | None, tmp_path: Path) -> None:
    path = tmp_path / "cells.ome.tif"
    write_ome_tiff(path, np.ones((2, 4, 8, 8), np.float32), FINE_UM, names)
    assert result_channels(path) == ()


def test_what_is_no_image_is_no_result(tmp_path: Path) -> None:
    for name, metadata in (("text.ome.zarr", "[]"), ("labels.ome.zarr", '{"omero": 3}')):
        with writer_for(tmp_path / name, (2, 4, 8, 8), FINE_UM, NAMES[:2]) as writer:
            writer.add((0, 0, 0), np.ones((2, 4, 8, 8), np.float32))
        found = json.loads((tmp_path / name / ".zattrs").read_text())
        changed = metadata if metadata == "[]" else json.dumps(found | json.loads(metadata))
        (tmp_path / name / ".zattrs").write_text(changed)
    (tmp_path / "empty.ome.tif").touch()
    (tmp_path / "empty.ome.zarr").mkdir()
    for path in (*tmp_path.iterdir(), tmp_path / "missing.tif"):
        assert result_channels(path) == (), path.name


def test_the_record_of_the_stack_goes_before_that_of_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "cells.ome.tif"
    assert result_record(path) == {}
    (tmp_path / "settings.json").write_text(json.dumps({"threshold": 0.3}))
    assert threshold_in(result_record(path)) == 0.3
    (tmp_path / "cells.json").write_text(json.dumps({"calibration": {"threshold": 0.4}}))
    assert threshold_in(result_record(path)) == 0.4
    (tmp_path / "cells.json").write_text("{")
    with pytest.raises(TenetError, match="is not JSON"):
        result_record(path)


@pytest.mark.parametrize(
    "record", [{}, {"threshold": "0.5"}, {"threshold": 3}, {"calibration": {}}]
)
def test_a_threshold_that_is_none(record: dict[str, object]) -> None:
    assert threshold_in(record) is None


@pytest.mark.parametrize("size", [None, [], ["1"], 3, [0, 1, 1]])
def test_a_step_that_is_none(size: object) -> None:
    assert step_in({"voxel_size_um": size}) is None
