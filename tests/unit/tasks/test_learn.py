"""A model of every microscope that learns one of them."""

from pathlib import Path
from typing import Any

import pytest
import tifffile
import torch
from small_models import EVERY as SETTINGS

from tenet.errors import TenetError
from tenet.io.optics import Optics
from tenet.learn.psf_search import search_psf
from tenet.learn.serve import SURE
from tenet.model.tenet import TENET
from tenet.model.trained import TrainedModel
from tenet.settings.schema import parse_experiment
from tenet.tasks.enhance import enhance
from tenet.tasks.learn import learn
from tenet.tasks.pretrain import pretrain
from tenet.tasks.raw_stacks import RawStacks
from tenet.tasks.reading import Reading

CPU = torch.device("cpu")
VOXEL_UM = (0.6, 0.2, 0.2)
QUICK = {
    "train_dataset": {"cropsize": [12, 16, 16], "I": 2},
    "val_dataset": {"cropsize": [12, 16, 16], "I": 1},
    "train_loop": {"n_epochs": 1, "scan_stretch": False},
}


@pytest.mark.parametrize("what", ["psf", "all"])
def test_learning_makes_a_model_of_one_microscope(
    every: Path, raw: Path, tmp_path: Path, what: str
) -> None:
    stacks = RawStacks([raw], voxel_size_um=VOXEL_UM)
    optics = Optics(0.6, 0.8, 1.4, 2)
    learn(stacks, every, tmp_path / "own", optics, what=what, settings=QUICK, device=CPU)
    own = TrainedModel.load(tmp_path / "own")
    assert not own.serves_all
    params = own.params
    assert (params.NA, params.wavelength, params.ni, params.scale) == (0.6, 0.8, 1.4, 3)
    assert own.calibration is not None
    before, after = (
        model.network.encoder.state_dict() for model in (TrainedModel.load(every), own)
    )
    same = all(torch.equal(before[name], after[name]) for name in before)
    assert same is (what == "psf")
    # It enhances as any other model, without its optics.
    reading = Reading([raw], voxel_size_um=VOXEL_UM)
    path, _ = enhance(reading, tmp_path / "own", tmp_path, device=CPU)
    assert tifffile.imread(path).shape == (2, 30, 32, 28)


def test_the_same_command_again_trains_nothing(
    every: Path, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stacks, optics, out = RawStacks([raw], voxel_size_um=VOXEL_UM), Optics(0.6), tmp_path / "own"
    learn(stacks, every, out, optics, settings=QUICK, device=CPU)
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")}
    capsys.readouterr()
    learn(stacks, every, out, optics, settings=QUICK, device=CPU)
    assert "is finished: nothing to train" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")} == written
    # Another microscope is another training.
    learn(stacks, every, out, Optics(0.5), settings=QUICK, device=CPU)
    assert TrainedModel.load(out).params.NA == 0.5


def test_the_psf_is_looked_for_with_sure_structure(
    every: Path, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def search(model: TENET, windows: list[torch.Tensor], threshold: float, seed: int) -> Any:
        asked.append(threshold)
        return search_psf(model, windows[:1], threshold, seed)

    monkeypatch.setattr("tenet.learn.finetune.search_psf", search)
    settings = QUICK | {"train_loop": {"n_epochs": 1, "scan_stretch": True}}
    stacks = RawStacks([raw], voxel_size_um=VOXEL_UM)
    learn(stacks, every, tmp_path / "own", Optics(0.6), settings=settings, device=CPU)
    assert asked == [SURE]
    threshold = TrainedModel.load(tmp_path / "own").threshold
    assert threshold != SURE


def test_what_cannot_be_learned_is_refused(every: Path, raw: Path, tmp_path: Path) -> None:
    stacks = RawStacks([raw], voxel_size_um=VOXEL_UM)
    start = every.parent / "one"
    one = SETTINGS | {"microscopes": {"count": 0}}
    pretrain(parse_experiment(one), every / "tuning", start)
    with pytest.raises(TenetError, match="was trained for one microscope: `tenet finetune`"):
        learn(stacks, start, tmp_path / "own", Optics(), device=CPU)
    with pytest.raises(TenetError, match="choose another folder for --out"):
        learn(stacks, every, every, Optics(), device=CPU)
    with pytest.raises(TenetError, match="does not say its voxel size"):
        learn(RawStacks([raw]), every, tmp_path / "own", Optics(), device=CPU)
    other = tmp_path / "other.ome.tif"
    metadata = {"axes": "ZYX", "PhysicalSizeZ": 0.7, "PhysicalSizeY": 0.2, "PhysicalSizeX": 0.2}
    tifffile.imwrite(other, tifffile.imread(raw), metadata=metadata, ome=True)
    first = tmp_path / "first.ome.tif"
    tifffile.imwrite(
        first, tifffile.imread(raw), metadata=metadata | {"PhysicalSizeZ": 0.6}, ome=True
    )
    with pytest.raises(
        TenetError, match=r"other.* has voxels of .*: learn from one size at a time"
    ):
        learn(RawStacks([first, other]), every, tmp_path / "own", Optics(), device=CPU)
    with pytest.raises(TenetError, match=r"the wavelength is not known.*give --wavelength"):
        learn(RawStacks([first]), every, tmp_path / "own", Optics(photons=1), device=CPU)
    assert not (tmp_path / "own").exists()
