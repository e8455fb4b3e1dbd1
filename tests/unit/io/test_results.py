"""What tells enhanced stacks from other images, and the records beside them."""

import json
from pathlib import Path

import numpy as np
import pytest

from tenet.errors import TenetError
from tenet.io.results import result_channels, result_record, step_in, threshold_in
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
