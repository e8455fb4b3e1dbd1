"""The folder of a model that comes with the package: what is in it, and what is refused."""

import json
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from small_models import EVERY

from tenet.errors import TenetError
from tenet.learn.finetune import has_file
from tenet.model.shipped import ONE_PHOTON
from tenet.model.store import FISHER, MODEL, OPTIMISER, TUNING, load_beside, read_provenance
from tenet.model.trained import TrainedModel
from tenet.settings.schema import parse_experiment
from tenet.tasks import package
from tenet.tasks.enhance import Wanted, enhance
from tenet.tasks.package import CHECKSUMS, package_model
from tenet.tasks.pretrain import pretrain
from tenet.tasks.reading import Reading

WORLD = {"simulation_data_generation": {"worlds": [{}, {"line_fraction": 1.0}]}}


@pytest.fixture(scope="module")
def trained(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training writes, a hidden file of Snakemake's among the phantoms included."""
    folder = tmp_path_factory.mktemp("trained")
    pretrain(parse_experiment(EVERY | WORLD), phantom_folder, folder, tuning=phantom_folder)
    (folder / TUNING / ".snakemake_timestamp").touch()
    return folder


@pytest.fixture(scope="module")
def packaged(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "box"
    package_model(trained, folder, code="0123abcd")
    return folder


def test_a_part_for_one_photon_comes_without_its_fisher_information(
    trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "box"
    package_model(trained, out, code="", one_photon=trained)
    whole = {path.name for path in out.iterdir()}
    part = {path.name for path in (out / ONE_PHOTON).iterdir()}
    assert whole - part == {ONE_PHOTON, FISHER, CHECKSUMS}
    assert part < whole
    record = json.loads((out / ONE_PHOTON / "provenance.json").read_text())
    assert record["left_out"] == [OPTIMISER, FISHER]
    assert not has_file(out / ONE_PHOTON, FISHER)  # so that a fine-tuning does not look for it
    assert "Left out: `optimiser.pt`, `fisher.pt`." in (out / ONE_PHOTON / "README.md").read_text()
    done = subprocess.run(["sha256sum", "-c", CHECKSUMS], cwd=out, capture_output=True, text=True)
    assert done.returncode == 0
    assert "one_photon/model.pt: OK" in done.stdout
    loaded = TrainedModel.load(out)
    assert loaded.for_photons(1).folder == out / ONE_PHOTON
    assert loaded.for_photons(2) is loaded
    assert TrainedModel.load(trained).for_photons(1).folder == trained


@pytest.fixture
def changed(packaged: Path, tmp_path: Path) -> Path:
    """A copy that may be spoiled."""
    return Path(shutil.copytree(packaged, tmp_path / "copy"))


def test_the_folder_holds_what_enhancing_and_fine_tuning_read(packaged: Path) -> None:
    names = {path.relative_to(packaged).as_posix() for path in packaged.rglob("*")}
    phantoms = {f"tuning/{number:02}.zarr.zip" for number in range(3)}
    assert names == phantoms | {
        "README.md", "SHA256SUMS", "check.npz", "experiment.json", "fisher.pt", "history.csv",
        "model.pt", "provenance.json", "threshold.json", "tuning",
    }  # fmt: skip
    done = subprocess.run(["sha256sum", "-c", CHECKSUMS], cwd=packaged, capture_output=True)
    assert done.returncode == 0
    listed = [line.split("  ")[1] for line in (packaged / CHECKSUMS).read_text().splitlines()]
    assert {*listed, CHECKSUMS, "tuning"} == names


def test_the_optimiser_is_left_out_of_the_provenance_too(trained: Path, packaged: Path) -> None:
    assert has_file(trained, OPTIMISER)
    assert not has_file(packaged, OPTIMISER)  # so that a fine-tuning does not look for it
    assert load_beside(packaged, FISHER).keys() == {"parameters", "fisher"}
    record = json.loads((packaged / "provenance.json").read_text())
    assert (record["code"], record["left_out"]) == ("0123abcd", ["optimiser.pt"])
    assert read_provenance(packaged).identity == read_provenance(trained).identity


def test_the_packaged_model_enhances_as_the_trained_one(
    trained: Path, packaged: Path, tmp_path: Path
) -> None:
    counts = np.random.default_rng(0).poisson(20, (10, 32, 28)).astype(np.uint16)
    counts[4:6, 15:18] += 400
    tifffile.imwrite(tmp_path / "cells.tif", counts)
    reading = Reading([tmp_path / "cells.tif"], voxel_size_um=(0.8, 0.2, 0.2))
    images = []
    for model in (trained, packaged):
        out, cpu = tmp_path / model.name, torch.device("cpu")
        image, *_ = enhance(reading, model, out, Wanted(find_psf=False), device=cpu)
        images.append(tifffile.imread(image))
    np.testing.assert_array_equal(*images)
    assert TrainedModel.load(packaged).serves_all


def test_the_card_says_what_it_learned_on(packaged: Path) -> None:
    card = (packaged / "README.md").read_text()
    calibration = TrainedModel.load(packaged).calibration
    assert calibration is not None
    for said in (
        "# box: a model of every microscope",
        "| 0 | as the settings |",
        "| 1 | `line_fraction` 1.0 |",
        "4 of 12 × 16 × 16 voxels in each of 1 epochs",
        "1, 2, 3, 4, 6 |",
        "`pixels`: Least and greatest width of a PSF (FWHM) across, in pixels. | 1.5, 3 |",
        f"the threshold is {calibration.threshold:g}, with a mean IoU of {calibration.iou:g}",
        "| Code that trained it | 0123abcd |",
        f"torch {version('torch')}",
        "| Seed | 0 |",
        "Licence: MIT",
        "tenet enhance STACK --na 0.8 --wavelength 0.92 --immersion 1.33 --photons 2",
        "| Begins with | weights that are drawn |",
    ):
        assert said in card


@pytest.mark.parametrize("name", [MODEL, FISHER])
@pytest.mark.parametrize("how", ["cut", "changed", "of another model"])
def test_weights_that_are_not_those_of_the_folder_are_refused(
    changed: Path, name: str, how: str
) -> None:
    path = changed / name
    content = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "changed":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        tensors = torch.load(path, weights_only=True)
        torch.save({**tensors, "more": torch.zeros(1)}, path)
    with pytest.raises(TenetError, match=name) as error:
        TrainedModel.load(changed) if name == MODEL else load_beside(changed, name)
    assert "\n" not in str(error.value)
    done = subprocess.run(["sha256sum", "-c", CHECKSUMS], cwd=changed, capture_output=True)
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("history.csv", r"has no history\.csv: pre-train with --tuning"),
        ("threshold.json", r"has no threshold\.json: pre-train"),
        ("tuning", r"has no tuning/\*\.zarr\.zip: pre-train"),
        ("fisher.pt", r"has no fisher\.pt: pre-train"),
    ],
)
def test_a_model_that_lacks_a_file_is_refused(
    trained: Path, tmp_path: Path, lost: str, said: str
) -> None:
    copy = shutil.copytree(trained, tmp_path / "copy")
    (copy / lost).rename(tmp_path / "away")
    with pytest.raises(TenetError, match=said):
        package_model(copy, tmp_path / "box", code="")
    assert not (tmp_path / "box").exists()


def test_a_folder_that_is_too_large_is_refused(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "MOST_BYTES", 1000)
    with pytest.raises(TenetError, match=r"MB are more than the 0.001 MB that a package may carry"):
        package_model(trained, tmp_path / "box", code="")
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_one_microscope_is_refused(phantom_folder: Path, tmp_path: Path) -> None:
    one = EVERY | {"microscopes": {"count": 0}}
    pretrain(parse_experiment(one), phantom_folder, tmp_path / "one", tuning=phantom_folder)
    with pytest.raises(TenetError, match="was trained for one microscope"):
        package_model(tmp_path / "one", tmp_path / "box", code="")
