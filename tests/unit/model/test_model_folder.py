"""A model folder is one thing, and nothing in it is taken on trust."""

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenet.errors import TenetError
from tenet.learn.calibrate import calibrate, complete, phantom_images
from tenet.learn.finetune import _elastic_weights
from tenet.model import store
from tenet.model.store import (
    BINS,
    EXPERIMENT,
    FISHER,
    MODEL,
    OPTIMISER,
    PROVENANCE,
    THRESHOLD,
    check_belongs,
    load_model,
    load_tensors,
    read_calibration,
    save_model,
    save_tensors,
)
from tenet.model.tenet import TENET
from tenet.model.trained import TrainedModel, missing_calibration
from tenet.model.weights import read_weights
from tenet.paper.baselines.care import CARE, CARESettings
from tenet.paper.baselines.neuroclear import FAILED, _Failed
from tenet.settings.schema import Experiment, Microscopes, parse_experiment


def tiny(**params: Any) -> Experiment:
    return parse_experiment(
        {
            "name": "tiny",
            "params": {
                "network": "coarse", "NA": 0.7, "wavelength": 0.9, "scale": 3, "size_z": 9,
                "res_lateral": 0.1, "res_axial": 0.3,
                "size_y": 5, "size_x": 5, "hidden_channels_list": [2, 4], "nblocks": 1,
                "blur_mode": "gaussian", "bet_z": 1.0, "bet_xy": 1.5, "nipsf_loss_target": 1e-2,
                "psf_sampling": "continuous", **params,
            }
        }
    )  # fmt: skip


def made(folder: Path, seed: int, **params: Any) -> Path:
    """A model with random weights, and what may lie beside it."""
    experiment = tiny(**params)
    model = TENET(experiment.params)
    model.initialise(np.random.default_rng(seed))
    beside = {OPTIMISER: {"state": {}}, FISHER: {"parameters": {}, "fisher": {}}}
    save_model(folder, model, experiment, {"kind": "pretrain"}, identity=str(seed), beside=beside)
    record = {"threshold": 0.4, "weights": store.digest(folder / MODEL), "inside": [0.5] * BINS}
    (folder / THRESHOLD).write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    return made(folder / "old", 0), made(folder / "new", 1, NA=0.25)


@pytest.fixture
def old(originals: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(originals[0], tmp_path / "model"))


@pytest.fixture(scope="module")
def new(originals: tuple[Path, Path]) -> Path:
    return originals[1]


def use(folder: Path) -> None:
    """What every command does that goes on from a model."""
    assert TrainedModel.load(folder).certainty
    for name in (OPTIMISER, FISHER):
        store.load_beside(folder, name)


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(TenetError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


# One thing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "blamed"),
    [
        ([MODEL], MODEL),
        ([EXPERIMENT], EXPERIMENT),
        ([THRESHOLD], THRESHOLD),
        ([PROVENANCE], EXPERIMENT),
        ([OPTIMISER], None),  # both are empty here
        ([MODEL, EXPERIMENT], EXPERIMENT),
        ([MODEL, PROVENANCE], EXPERIMENT),
        ([EXPERIMENT, PROVENANCE], MODEL),
        ([MODEL, EXPERIMENT, PROVENANCE], THRESHOLD),
        ([MODEL, EXPERIMENT, PROVENANCE, THRESHOLD], None),
    ],
)
def test_files_of_two_models_are_told_apart(
    names: list[str], blamed: str | None, old: Path, new: Path
) -> None:
    use(old)
    for name in names:
        shutil.copyfile(new / name, old / name)
    if blamed is None:
        use(old)
        return
    line = refusal(lambda: use(old))
    assert line.startswith(f"{old / blamed} does not belong to")
    assert "copy the whole folder" in line


@pytest.mark.parametrize("name", [OPTIMISER, FISHER])
def test_what_training_goes_on_from_belongs_to_the_weights(name: str, old: Path) -> None:
    save_tensors(old / name, {"state": {0: torch.ones(1)}})
    assert refusal(lambda: store.load_beside(old, name)).startswith(str(old / name))


def test_a_model_of_an_earlier_version_is_noted_once_and_used(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, key in ((PROVENANCE, "files"), (THRESHOLD, "weights")):
        record = json.loads((old / name).read_text())
        del record[key]
        (old / name).write_text(json.dumps(record))
    for _ in range(2):
        use(old)
    (note,) = capsys.readouterr().err.splitlines()
    assert note.startswith(f"note: {old} was written by an earlier version")


def test_what_was_lost_of_a_model_is_missed(old: Path) -> None:
    assert store.has_file(old, OPTIMISER)
    (old / OPTIMISER).unlink()
    assert store.has_file(old, OPTIMISER)
    assert refusal(lambda: store.load_beside(old, OPTIMISER)) == f"no weights at {old / OPTIMISER}"
    (old / PROVENANCE).unlink()
    assert not store.has_file(old, OPTIMISER)  # as a model from elsewhere


@pytest.mark.parametrize("name", [THRESHOLD, PROVENANCE])
@pytest.mark.parametrize("target", ["nowhere", "itself"])
def test_a_record_that_is_a_link_to_nothing_is_no_record_that_never_was(
    name: str, target: str, old: Path
) -> None:
    path = old / name
    path.unlink()
    path.symlink_to(path if target == "itself" else old / target)
    assert str(path) in refusal(lambda: use(old))


def test_a_threshold_that_says_of_no_weights_is_noted(old: Path) -> None:
    (old / THRESHOLD).write_text('{"threshold": 0.35}')
    model = TrainedModel.load(old)
    assert model.threshold == 0.35
    assert str(old / THRESHOLD) in (model.calibration_note or "")


def test_what_describes_old_weights_goes_before_new_ones_come(old: Path) -> None:
    experiment = tiny()
    save_model(old, TENET(experiment.params), experiment, {})
    left = {path.name for path in old.iterdir()}
    assert left == {MODEL, EXPERIMENT, PROVENANCE}


def test_weights_that_are_not_finite_are_not_written(old: Path) -> None:
    before = (old / MODEL).read_bytes()
    model, experiment = load_model(old)
    with torch.no_grad():
        model.noise.logit_a.fill_(torch.nan)
    assert "noise.logit_a is not finite" in refusal(lambda: save_model(old, model, experiment, {}))
    assert (old / MODEL).read_bytes() == before
    use(old)


def test_files_of_two_baselines_are_told_apart(tmp_path: Path) -> None:
    for seed in (0, 1):
        torch.manual_seed(seed)
        CARE(CARESettings(channels_2d=(2, 4)), 2).save(tmp_path / str(seed), {})
    shutil.copyfile(tmp_path / "0" / MODEL, tmp_path / "1" / MODEL)
    line = refusal(lambda: CARE.load(tmp_path / "1", torch.device("cpu")))
    assert line.startswith(f"{tmp_path / '1' / 'settings.json'} does not belong to")


# Weights ------------------------------------------------------------------------------------------

NAME = "encoder.stem.weight"


def _other(value: torch.Tensor) -> dict[str, Any]:
    return {
        "NaN": torch.where(torch.arange(value.numel()).view(value.shape) == 0, torch.nan, value),
        "infinity": torch.full_like(value, torch.inf),
        "beyond float32": torch.full_like(value, 1e300, dtype=torch.float64),
        "int64": torch.ones_like(value, dtype=torch.int64),
        "bool": torch.ones_like(value, dtype=torch.bool),
        "complex": torch.ones_like(value, dtype=torch.complex64),
        "text": "weights",
        "None": None,
        "list": value.tolist(),
        "sparse": value.to_sparse(),
        "quantised": torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
        "meta": value.to("meta"),
        "nested": torch.nested.nested_tensor([value, value]),
        "shape": value[..., :1],
    }


@pytest.mark.filterwarnings("ignore:.*(quantized|nested) tensor")
@pytest.mark.parametrize(
    "kind",
    [
        "NaN", "infinity", "beyond float32", "int64", "bool", "complex", "text", "None", "list",
        "sparse", "quantised", "meta", "nested", "shape",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", [NAME, "psf.correction.0.weight"])
def test_a_weight_that_is_no_dense_finite_tensor_is_refused(
    kind: str, name: str, old: Path
) -> None:
    model, _ = load_model(old)
    state = model.state_dict()
    name = name if name in state else next(n for n in state if n.startswith(name.split(".")[0]))
    save_tensors(old / MODEL, state | {name: _other(state[name])[kind]})
    (old / PROVENANCE).unlink()  # as weights from elsewhere
    line = refusal(lambda: load_model(old))
    assert str(old / MODEL) in line
    assert name in line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: torch.nested.nested_tensor([v, v]), "nested"),
        (lambda v: (-torch.ones_like(v)).to(torch.float8_e4m3fn), "negative"),
        (lambda v: v.to(torch.float8_e4m3fn), None),
        (lambda v: torch.ones(1).expand(v.shape), None),
    ],
    ids=["nested", "negative", "short floats", "one for all"],
)
@pytest.mark.filterwarnings("ignore:.*nested tensor")
def test_what_was_important_to_pretraining_is_read_as_weights_are(
    change: Callable[[torch.Tensor], torch.Tensor], said: str | None, old: Path
) -> None:
    model, _ = load_model(old)
    whole = {name: value.detach().abs() for name, value in model.encoder.named_parameters()}
    fisher = whole | {"stem.weight": change(whole["stem.weight"])}
    save_tensors(old / FISHER, {"parameters": whole, "fisher": fisher})
    (old / PROVENANCE).unlink()
    if said is not None:
        assert said in refusal(lambda: _elastic_weights(old, model))
    else:
        found = _elastic_weights(old, model).fisher
        assert {value.dtype for value in found.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("value", "fine"),
    [
        (torch.tensor(3), True),
        (torch.tensor(3, dtype=torch.int32), True),
        (torch.tensor(3.0), False),
        (torch.tensor(True), False),
    ],
)
def test_counters_are_whole_numbers(value: torch.Tensor, fine: bool, old: Path) -> None:
    model, _ = load_model(old)
    state = model.state_dict()
    (counter, *_) = (name for name in state if name.endswith("num_batches_tracked"))
    state[counter] = value
    if fine:
        model.load_weights(state, where="file")
    else:
        assert counter in refusal(lambda: model.load_weights(state, where="file"))


def test_weights_in_half_precision_are_taken(old: Path) -> None:
    model, _ = load_model(old)
    half = {n: v.half() if v.is_floating_point() else v for n, v in model.state_dict().items()}
    model.load_weights(half, where="file")
    assert torch.equal(model.state_dict()[NAME], half[NAME].float())


def _rewritten(path: Path, change: Callable[[str, bytes], bytes], **options: Any) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in parts.items():
            archive.writestr(name, change(name, content))


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.find(torch.arange(4000.0).numpy().tobytes()) + 100] ^= 1
    path.write_bytes(content)


def _promise(path: Path) -> None:
    """A tensor that is larger than its storage."""
    size = b"M" + (4000).to_bytes(2, "little")
    more = b"J" + (4_000_000).to_bytes(4, "little")
    _rewritten(path, lambda n, c: c.replace(size, more) if n.endswith("data.pkl") else c)


def _pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": os.system}))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped": (_flip, "is damaged"),
    "promise": (_promise, "cannot be read as weights"),
    "compressed": (
        lambda path: _rewritten(path, lambda _, c: c, compression=zipfile.ZIP_DEFLATED),
        "promises more than it holds",
    ),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-300]), "weights.pt"),
    "code": (_pickled, "never run"),
    "empty": (lambda path: path.write_bytes(b""), "is not a plain weights file"),
    "zeros": (lambda path: path.write_bytes(bytes(20_000)), "is not a plain weights file"),
    "names": (lambda path: torch.save({3: torch.zeros(1)}, path), "dictionary without names"),
    "folder": (lambda path: (path.unlink(), path.mkdir()), "this is a folder"),
    "pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "a device or a pipe"),
    "device": (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "a device or a pipe"),
    "loop": (lambda path: (path.unlink(), path.symlink_to(path)), "cannot be opened"),
    "missing": (lambda path: path.unlink(), "no weights at"),
    "large": (lambda path: os.truncate(path, 17 * 2**30), "such a file has at most"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_no_weights_is_refused_at_once(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.arange(4000.0)}, path)
    assert torch.equal(read_weights(path)["a"], torch.arange(4000.0))
    DAMAGES[damage][0](path)
    line = refusal(lambda: read_weights(path))
    assert str(path) in line
    assert DAMAGES[damage][1] in line


# Records ------------------------------------------------------------------------------------------

NO_NUMBERS = ["-1", "0", "NaN", "Infinity", "-Infinity", '"0.5"', "[0.5]", "1e400", "9" * 400, "{}"]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda text: text[:10])
@pytest.mark.parametrize("key", ["signal_level", "deconvolved_level", "gain"])
def test_a_level_that_is_none_is_refused_by_every_reader(key: str, value: str, old: Path) -> None:
    inside = json.dumps([0.5] * BINS)
    (old / THRESHOLD).write_text(f'{{"threshold": 0.4, "inside": {inside}, "{key}": {value}}}')
    for reader in (TrainedModel.load, missing_calibration):
        line = refusal(lambda reader=reader: reader(old))  # type: ignore[misc]
        assert line.startswith(str(old / THRESHOLD))


@pytest.mark.parametrize(
    "text",
    [
        *(f'{{"threshold": {value}}}' for value in NO_NUMBERS if value != "0"),
        *(f'{{"threshold": 0.5, "inside": {value}}}' for value in NO_NUMBERS),
        '{"threshold": 0.5, "inside": [1.5]}', '{"threshold": 0.5, "inside": [0.5]}',
        '{"threshold": 2}', "{}", "[]", "null", "3", "{", "", "[" * 2000, "\xff\xfe",
    ],
    ids=lambda text: text[:34],
)  # fmt: skip
def test_a_damaged_calibration_is_refused(text: str, old: Path) -> None:
    (old / THRESHOLD).write_bytes(text.encode("latin-1"))
    assert str(old / THRESHOLD) in refusal(lambda: read_calibration(old))


@pytest.mark.parametrize("text", ["[]", "null", "3", "{", "", "[" * 2000, '{"files": [1]}',
                                  '{"files": {"model.pt": 3}}', '{"input": "2"}'])  # fmt: skip
@pytest.mark.parametrize("name", [EXPERIMENT, PROVENANCE])
def test_other_records_that_are_damaged_are_refused(name: str, text: str, old: Path) -> None:
    (old / name).write_text(text)
    assert str(old / name) in refusal(lambda: load_model(old))


def test_a_record_that_is_no_file_is_refused(old: Path) -> None:
    (old / THRESHOLD).unlink()
    os.mkfifo(old / THRESHOLD)
    assert "a device or a pipe" in refusal(lambda: TrainedModel.load(old))


@pytest.mark.parametrize("text", ["[]", "{", "{}", '{"identity": "a", "count": -1}'])
def test_a_damaged_count_of_failed_trainings_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / FAILED).write_text(text)
    assert str(tmp_path / FAILED) in refusal(lambda: _Failed(tmp_path, "a"))


def test_a_level_that_means_nothing_is_left_out(
    old: Path, phantom_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that sees nothing explains a stack by nothing: its gain is infinite."""
    model, _ = load_model(old)
    quantise = model.quantise
    monkeypatch.setattr(model, "quantise", lambda probability: 0 * quantise(probability))
    record = calibrate(model, phantom_folder, old, Microscopes())
    assert "gain" not in record
    found = read_calibration(old)
    assert found is not None
    assert found.gain is None
    assert found.signal_level == record["signal_level"] > 0


def test_calibration_saturates_as_many_voxels_as_pre_training_on_average(
    old: Path, phantom_folder: Path
) -> None:
    """Else dim phantoms are dimmer than what the network knows."""
    with torch.no_grad():
        microscope = load_model(old)[0].microscope()
    for most, least_ceiling in ((0.0, 1.0), (0.02, 1.0), (0.1, 1.0), (0.02, 0.25), (0.0, 0.25)):
        ranges = Microscopes(most_saturated=most, least_ceiling=least_ceiling)
        images = phantom_images(microscope, phantom_folder, ranges, noise=False, seed=0)
        ceiling = least_ceiling**0.5 if most else 1.0
        for image, _ in images:
            assert (image >= ceiling * (1 - 1e-6)).mean() == pytest.approx(most / 2, abs=1e-3)
            assert image.max() <= ceiling


def test_the_threshold_is_that_of_the_settings_unless_they_let_it_be_chosen(
    tmp_path: Path, phantom_folder: Path
) -> None:
    fixed, chosen = made(tmp_path / "fixed", 1), made(tmp_path / "chosen", 1, choose_threshold=True)
    records = [
        calibrate(load_model(f)[0], phantom_folder, f, Microscopes()) for f in (fixed, chosen)
    ]
    assert records[0]["threshold"] == 0.5 == TrainedModel.load(fixed).threshold
    assert records[1]["threshold"] == TrainedModel.load(chosen).threshold != 0.5
    assert records[0]["iou"] < records[1]["iou"]
    assert [record["how"].split()[0] for record in records] == ["fixed", "highest"]
    assert records[0]["inside"] == records[1]["inside"]


def test_a_calibration_is_done_again_where_it_is_of_other_weights_or_phantoms(
    old: Path, new: Path, phantom_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _ = load_model(old)
    shutil.copyfile(new / THRESHOLD, old / THRESHOLD)
    complete(model, phantom_folder, old, Microscopes())
    assert "threshold" in capsys.readouterr().out
    use(old)
    complete(model, phantom_folder, old, Microscopes())
    assert capsys.readouterr().out == ""
    fewer = tmp_path / "fewer"
    shutil.copytree(phantom_folder, fewer)
    sorted(fewer.glob("*.zarr.zip"))[0].unlink()
    complete(model, fewer, old, Microscopes())
    assert "threshold" in capsys.readouterr().out


def test_everything_is_checked_that_belongs(old: Path) -> None:
    check_belongs(old, MODEL, EXPERIMENT, OPTIMISER, FISHER)
    assert "no such file" in refusal(lambda: check_belongs(old, "losses.json"))


def test_a_tensor_is_read_as_it_was_written(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(3)}, buffer)
    save_tensors(tmp_path / "a.pt", {"a": torch.arange(3)})
    torch.testing.assert_close(load_tensors(tmp_path / "a.pt")["a"], torch.arange(3))
