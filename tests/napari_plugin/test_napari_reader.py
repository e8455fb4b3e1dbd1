"""What needs no window: results as layers, and the sample."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenet.io.open import open_stack
from tenet.io.optics import Optics
from tenet.io.writing import write_ome_tiff, writer_for
from tenet.napari import layers
from tenet.napari.layers import KEY, array_of, result_layers
from tenet.napari.reader import get_reader
from tenet.napari.sample import OPTICS, VOXEL_SIZE_UM, sample, simulated_stack

ROOT = Path(__file__).parents[2]
CHANNELS = ("shape", "brightness", "uncertainty")
FINE_UM = (0.25, 0.2, 0.2)


@pytest.fixture
def result(rng: np.random.Generator) -> np.ndarray:
    """Shape, brightness and uncertainty (3, Z, Y, X)."""
    return rng.random((3, 8, 12, 10), dtype=np.float32)


def saved(path: Path, data: np.ndarray) -> str:
    with writer_for(path, data.shape, FINE_UM, CHANNELS[: len(data)]) as writer:
        writer.add((0, 0, 0), data)
    return str(path)


def read(path: str) -> dict[str, Any]:
    """Layers by the last word of their names: data, arguments and kind."""
    reader = get_reader(path)
    assert reader is not None
    return {layer[1]["name"].split()[1]: layer for layer in reader(path)}


@pytest.mark.parametrize("suffix", ["ome.tif", "ome.zarr"])
@pytest.mark.parametrize("count", [2, 3])
def test_results_become_layers(suffix: str, count: int, result: np.ndarray, tmp_path: Path) -> None:
    path = saved(tmp_path / f"cells.{suffix}", result[:count])
    record = {"calibration": {"threshold": 0.7}, "voxel_size_um": [1.0, 0.2, 0.2]}
    (tmp_path / "cells.json").write_text(json.dumps(record))
    found = read(path)
    assert list(found) == ["brightness", "shape", *CHANNELS[2:count], "segmented"]
    np.testing.assert_allclose(found["shape"][0], result[0], atol=1e-6)
    np.testing.assert_allclose(found["brightness"][0], result[0] * result[1], atol=1e-6)
    data, looks, kind = found["segmented"]
    assert kind == "labels"
    np.testing.assert_array_equal(data, result[0] >= 0.7)
    assert looks["name"] == "cells segmented (p ≥ 0.7)"
    for _, looks, _ in found.values():
        assert looks["scale"] == pytest.approx(FINE_UM)
        # The first plane of the raw stack is in the middle of the first four.
        assert looks["translate"] == (-0.375, 0, 0)
        assert looks["units"] == ("µm", "µm", "µm")
        assert looks["metadata"][KEY]["calibration"] == {"threshold": 0.7}


def test_the_threshold_may_be_that_of_the_folder_or_assumed(
    result: np.ndarray, tmp_path: Path
) -> None:
    path = saved(tmp_path / "cells.ome.tif", result)
    assert read(path)["segmented"][1]["name"].endswith("(p ≥ 0.5, assumed)")
    (tmp_path / "settings.json").write_text(json.dumps({"threshold": 0.3}))
    data, looks, _ = read(path)["segmented"]
    assert looks["name"].endswith("(p ≥ 0.3)")
    np.testing.assert_array_equal(data, result[0] >= 0.3)


def test_other_files_are_left_to_other_readers(result: np.ndarray, tmp_path: Path) -> None:
    own = saved(tmp_path / "own.ome.tif", result)
    write_ome_tiff(tmp_path / "two.ome.tif", result[:2], FINE_UM, ("shape", "colour"))
    write_ome_tiff(tmp_path / "raw.ome.tif", result[0], FINE_UM)
    with writer_for(tmp_path / "raw.ome.zarr", (1, 8, 12, 10), FINE_UM, ("raw",)) as writer:
        writer.add((0, 0, 0), result[:1])
    (tmp_path / "broken.ome.tif").write_bytes(Path(own).read_bytes()[:100])
    (tmp_path / "text.txt").write_text("no image")
    for path in sorted(tmp_path.iterdir()):
        assert (get_reader(str(path)) is not None) == (path.name == "own.ome.tif"), path.name
    assert get_reader(str(tmp_path)) is None
    assert get_reader(str(tmp_path / "missing.ome.tif")) is None
    assert get_reader([own, own]) is None


def test_large_results_are_read_where_they_are_looked_at(
    result: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dask", reason="Dask comes with napari: pip install '.[napari]'")
    stack = open_stack(saved(tmp_path / "cells.ome.tif", result), channel=0)
    monkeypatch.setattr(layers, "MOST_BYTES", 1000)
    lazy = array_of(stack)
    assert not isinstance(lazy, np.ndarray)
    np.testing.assert_allclose(lazy[3:5, 2], result[0, 3:5, 2])
    channels = {"shape": lazy, "brightness": lazy}
    (light, _, _), _, (segmented, _, _) = result_layers("cells", channels, 0.5, {}, {})
    np.testing.assert_allclose(np.asarray(light), result[0] ** 2, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(segmented), result[0] >= 0.5)


def test_the_sample_is_simulated_and_says_so() -> None:
    ((data, looks, kind),) = sample()
    assert (data.shape, data.dtype, kind) == ((24, 128, 128), np.uint16, "image")
    assert "simulated" in looks["name"]
    assert looks["metadata"][KEY] == {"simulated": True, "optics": OPTICS}
    assert isinstance(OPTICS, Optics)
    assert looks["scale"] == VOXEL_SIZE_UM
    small = simulated_stack((10, 32, 32), seed=3)
    np.testing.assert_array_equal(small, simulated_stack((10, 32, 32), seed=3))
    assert small.max() > 3 * np.median(small)  # there is something to see


def test_napari_finds_the_plugin() -> None:
    npe2 = pytest.importorskip("npe2", reason="npe2 comes with napari: pip install '.[napari]'")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["napari.manifest"] == {"tenet": "tenet.napari:napari.yaml"}
    manifest = npe2.PluginManifest.from_file(ROOT / "tenet/napari/napari.yaml")
    manifest.validate_imports()
    assert manifest.name == project["name"]
    assert [w.display_name for w in manifest.contributions.widgets] == ["Enhance", "Compare"]
