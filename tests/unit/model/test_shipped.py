"""The model that comes with the package: whole, of this version, the same on every machine."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from tenet.errors import TenetError
from tenet.model.shipped import ONE_PHOTON, TENET_MODELS, shipped_model
from tenet.model.trained import TrainedModel
from tenet.settings.load import load_experiment
from tenet.tasks.package import CHECK, CHECKSUMS, MOST_BYTES, check_result, check_stack

FOLDER = Path(__file__).parents[3] / "tenet/models/box"


@pytest.fixture(autouse=True)
def _own_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TENET_MODELS, raising=False)


@pytest.fixture(scope="module", params=[2, 1])
def model(request: pytest.FixtureRequest) -> TrainedModel:
    """The model, and its part for one photon."""
    part = TrainedModel.load(FOLDER).for_photons(request.param)
    assert part.params.photons == request.param
    return part


def test_the_model_of_the_package_is_whole() -> None:
    assert shipped_model() == FOLDER
    sums = dict(line.split("  ")[::-1] for line in (FOLDER / CHECKSUMS).read_text().splitlines())
    paths = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert {path.relative_to(FOLDER).as_posix() for path in paths} == {*sums, CHECKSUMS}
    for name, expected in sums.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == expected, name
    assert sum(path.stat().st_size for path in paths) <= MOST_BYTES


def test_the_model_belongs_to_the_settings_of_this_version(model: TrainedModel) -> None:
    """Whoever changes these settings trains the model anew: `snakemake model`."""
    name = {2: "box", 1: "box_one_photon"}[model.params.photons]
    assert model.serves_all
    assert model.experiment.effective() == load_experiment(name).effective()


def test_the_model_makes_the_same_on_every_machine(model: TrainedModel) -> None:
    with np.load(model.folder / CHECK) as recorded:
        np.testing.assert_array_equal(check_stack(), recorded["stack"])
        shape, brightness = check_result(model, recorded["stack"])
        np.testing.assert_allclose(shape, recorded["shape"], atol=1e-4)
        np.testing.assert_allclose(brightness, recorded["brightness"], atol=1e-4)
    # It sees the two lines, and little else.
    z, y, x = np.mgrid[:24, :28, :28]
    bent = 3 * np.sin(x / 6)
    lines = (abs(z - 10) < 3) & (abs(y - 9 - bent) < 2) | (abs(z - 16) < 3) & (
        abs(y - 19 - bent) < 2
    )
    assert shape[lines].mean() > 10 * shape[~lines].mean()


@pytest.mark.parametrize("part", [".", ONE_PHOTON])
def test_changed_weights_are_refused(tmp_path: Path, part: str) -> None:
    folder = tmp_path / "box"
    shutil.copytree(FOLDER, folder)
    weights = bytearray((folder / part / "model.pt").read_bytes())
    weights[len(weights) // 2] ^= 1
    (folder / part / "model.pt").write_bytes(weights)
    with pytest.raises(TenetError, match=r"model\.pt"):
        TrainedModel.load(folder)
    (folder / part / "model.pt").write_bytes(weights[:1000])
    with pytest.raises(TenetError, match=r"model\.pt"):
        TrainedModel.load(folder)
