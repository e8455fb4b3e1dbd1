"""The classes of the published notebooks: folders of stacks, beads, microglia, simulations."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_models import experiment, random_model, stack_of, transparent_model

from tenet.data.phantoms.store import save_phantom
from tenet.errors import TenetError
from tenet.model.store import save_model
from tenet.paper.evaluate.beads import bead_region
from tenet.paper.legacy.models import find_model, model_label
from tenet.paper.legacy.subjects import BeadsInference, MicrogliaInference, SimulationInference


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    """Small convolutions are fastest on one thread, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def bead_image(shape: Any, centres: Any, radius_um: float = 1.0) -> np.ndarray:
    """Gaussian spots that the transparent network sees as ½ at a radius from the centre."""
    half_level = 1 / 9  # hill(1/9) = ½
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    image = np.zeros(shape, dtype=np.float32)
    for c in centres:
        r2 = ((z - c[0]) * 0.4) ** 2 + ((y - c[1]) * 0.1) ** 2 + ((x - c[2]) * 0.1) ** 2
        image += np.exp(np.log(half_level) * r2 / radius_um**2).astype(np.float32)
    return np.clip(image, 0, 1)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    settings = experiment().model_copy(
        update={
            "pretrained_model": "scale4",
            "train_dataset": experiment().train_dataset.model_copy(
                update={"folderpath": str(tmp_path / "data")}
            ),
        }
    )
    fine_tuned, pretrained = transparent_model(), random_model()
    fine_tuned.psf.fit(
        settings.params.model_psf(), np.random.default_rng(0), target_error=1e-4, steps=200
    )
    save_model(folder / "tiny" / "fold0", fine_tuned, settings, {})
    save_model(folder / "tiny" / "fold1", fine_tuned, settings, {})
    save_model(folder / "single" / "all", fine_tuned, settings, {})
    save_model(folder / "scale4", pretrained, experiment(), {})
    (folder / "tiny" / "fold1" / "threshold.json").write_text(json.dumps({"threshold": 0.35}))
    (tmp_path / "data").mkdir()
    return folder


def test_model_is_found_by_folder_or_name(models: Path) -> None:
    assert find_model("tiny/fold0", models) == models / "tiny" / "fold0"
    assert find_model(models / "tiny" / "fold0") == models / "tiny" / "fold0"
    assert find_model("single", models) == models / "single" / "all"
    assert find_model("tiny/fold0", models, pretrained=True) == models / "scale4"
    assert find_model("scale4", models, pretrained=True) == models / "scale4"
    assert model_label(models / "tiny" / "fold0") == "tiny_fold0"
    assert model_label(models / "scale4") == "scale4"
    with pytest.raises(TenetError, match="fold0, fold1: choose one"):
        find_model("tiny", models)
    with pytest.raises(TenetError, match=r"no model 'tyni'.*scale4"):
        find_model("tyni", models)


def test_threshold_comes_from_argument_model_or_settings(models: Path, tmp_path: Path) -> None:
    def threshold(name: str, asked: float) -> float:
        return BeadsInference(name, threshold=asked, models=models, out=tmp_path).threshold

    assert threshold("tiny/fold1", -1) == 0.35
    assert threshold("tiny/fold0", -1) == 0.5
    assert threshold("tiny/fold1", 0.7) == 0.7
    with pytest.raises(TenetError, match="threshold is 3"):
        threshold("tiny/fold1", 3)
    (models / "tiny" / "fold1" / "threshold.json").write_text('{"threshold": null}')
    with pytest.raises(TenetError, match=r"threshold\.json"):
        threshold("tiny/fold1", -1)


def test_alignment_needs_a_network_for_it(models: Path) -> None:
    with pytest.raises(TenetError, match="align_params"):
        MicrogliaInference("single", with_align=True, models=models)


def test_bead_volumes_and_centres_in_their_own_stacks(models: Path, tmp_path: Path) -> None:
    shape = (9, 39, 41)
    for number, radius in ((0, 1.0), (1, 0.8)):
        image = bead_image(shape, [(4, 19, 20)], radius)
        stack_of(tmp_path / "data", image, name=f"{number:02}.ome.tif")
    beads = BeadsInference("tiny/fold0", models=models, out=tmp_path / "out", device="cpu")
    results = beads.get_result(tmp_path / "data", tile_zyx_shape=(9, 24, 24), overlap_zyx=(2, 8, 8))
    metrics = beads.evaluate(results)
    # Robust normalisation and the interpolation of four coarse planes per µm cost some per cent.
    volumes = metrics["table"]["volume_um3"].to_numpy()
    np.testing.assert_allclose(volumes, 4 / 3 * np.pi * np.array([1.0, 0.8]) ** 3, rtol=0.12)
    assert metrics["mean"] == pytest.approx(volumes.mean())
    assert metrics["sd"] == pytest.approx(volumes.std(ddof=1))
    assert metrics["n"] == 2
    offsets = metrics["table"][["offset_z", "offset_y", "offset_x"]].to_numpy()
    assert np.abs(offsets).max() < 0.1


def test_beads_of_one_stack_are_measured_where_the_rois_say(models: Path, tmp_path: Path) -> None:
    centres = [(14, 30, 40), (9, 90, 150)]
    stack_of(tmp_path / "data", bead_image((20, 130, 200), centres), name="image_07.ome.tif")
    rois = pd.DataFrame(
        [{"roi": k, "image": 7, "z": z, "y": y, "x": x} for k, (z, y, x) in enumerate(centres)]
        + [{"roi": 9, "image": 3, "z": 1, "y": 1, "x": 1}]
    )
    beads = BeadsInference("tiny/fold0", models=models, out=tmp_path / "out", device="cpu")
    metrics = beads.evaluate(beads.get_result(tmp_path / "data"), rois)
    assert list(metrics["table"]["roi"]) == [0, 1]
    np.testing.assert_allclose(metrics["table"]["volume_um3"], 4 / 3 * np.pi, rtol=0.12)
    offsets = metrics["table"][["offset_z", "offset_y", "offset_x"]].to_numpy()
    assert np.abs(offsets).max() < 0.1
    with pytest.raises(TenetError, match="no bead"):
        beads.evaluate([])


def test_simulation_is_compared_with_its_phantom(models: Path, tmp_path: Path) -> None:
    image = bead_image((8, 40, 40), [(3, 12, 12), (5, 28, 27)])
    stack_of(tmp_path / "data", image)
    simulation = SimulationInference("tiny/fold0", models=models, out=tmp_path / "out")
    results = simulation.get_result(tmp_path / "data")
    truth = (results[0].read("shape") >= 0.5).astype(np.uint8)
    save_phantom(tmp_path / "00.zarr.zip", truth, truth.astype(np.float32))
    assert simulation.evaluate(results, tmp_path)["mean"] == 1
    shifted = np.roll(truth, 3, axis=1)
    save_phantom(tmp_path / "00.zarr.zip", shifted, shifted.astype(np.float32))
    scores = simulation.evaluate(results, tmp_path)
    both = np.count_nonzero(truth & shifted) / np.count_nonzero(truth | shifted)
    assert scores["mean"] == pytest.approx(both)
    assert scores["table"]["dice"].iloc[0] == pytest.approx(2 * both / (1 + both))
    save_phantom(tmp_path / "00.zarr.zip", truth[1:], truth[1:].astype(np.float32))
    with pytest.raises(TenetError, match="simulated from"):
        simulation.evaluate(results, tmp_path)


def test_microglia_pictures_and_pretrained_weights(models: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    for name in ("a", "b"):
        stack_of(tmp_path / "data", rng.random((6, 30, 24)), name=f"{name}.ome.tif")
    tuned = MicrogliaInference("single", models=models, out=tmp_path / "out", device="cpu")
    results = tuned.get_result(num_results=1)
    assert [r.name for r in results] == ["a"]
    written = [*tuned.visualize(results), tuned.psf_visualize()]
    assert [p.name for p in written] == ["a_mip.png", "a_depth.png", "a_heatmap.png", "psf.png"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in written)
    assert all(p.parent == tmp_path / "out" / "single_all" for p in written)
    before = MicrogliaInference("single", is_finetuning=False, models=models, out=tmp_path / "out")
    assert before.out.name == "scale4"
    assert not np.array_equal(
        before.get_result(num_results=1)[0].read("shape"), results[0].read("shape")
    )


def test_stacks_without_voxel_size_take_the_models_and_others_are_warned_of(
    models: Path, tmp_path: Path
) -> None:
    image = bead_image((6, 20, 20), [(3, 10, 10)])
    np.save(tmp_path / "data" / "0.npy", image)
    beads = BeadsInference("single", models=models, out=tmp_path / "out")
    (result,) = beads.get_result(tmp_path / "data")
    assert result.fine_voxel_size_um == pytest.approx((0.1, 0.1, 0.1))
    stack_of(tmp_path, image, (0.4, 0.3, 0.3))
    with pytest.warns(UserWarning, match="was trained for"):
        beads.get_result(tmp_path / "00.ome.tif")


def test_beads_are_chosen_and_cut_as_the_evaluation_does(models: Path, tmp_path: Path) -> None:
    """A bead that is listed twice counts once; regions are clipped alike."""
    stack_of(tmp_path / "data", bead_image((20, 60, 44), [(10, 16, 20)]), name="image_07.ome.tif")
    beads = BeadsInference("tiny/fold0", models=models, out=tmp_path / "out", device="cpu")
    results = beads.get_result(tmp_path / "data")
    bead = {"image": 7, "z": 10, "y": 16, "x": 20, "fold": 0}
    rois = pd.DataFrame([{"roi": 0, **bead}, {"roi": 1, **bead}])
    rois.to_csv(tmp_path / "rois.csv", index=False)
    for table in (rois, tmp_path / "rois.csv"):
        assert list(beads.evaluate(results, table)["table"]["roi"]) == [0]
    # Half of the image's shorter side, as it is smaller than 256 pixels.
    ((_, region),) = beads._regions(results[0], rois)
    assert region == bead_region((10, 16, 20), (80, 60, 44), 4)
    assert region.crop == (slice(0, 80), slice(5, 27), slice(9, 31))
    with pytest.raises(TenetError, match="outside of its image"):
        beads.evaluate(results, pd.DataFrame([{"roi": 0, **bead, "y": 90}]))
    with pytest.raises(TenetError, match="lacks the columns image"):
        beads.evaluate(results, rois.drop(columns="image"))
