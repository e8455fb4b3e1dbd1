"""Keys of published files that have no effect: read, checked, named, and left out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenet.errors import TenetError
from tenet.settings.load import EXPERIMENTS, PACKAGED, load_experiment
from tenet.settings.published import PublishedExperiment, without_effect, without_published
from tenet.settings.schema import Experiment, parse_experiment
from tenet.settings.sections import Section, merge

ROOT = Path(__file__).parents[3]
#: What version 0.1.0 wrote beside a model, with a device and a folder of stacks.
EARLIER = Path(__file__).with_name("experiment_of_0.1.0.json")
PARAMS: dict[str, Any] = {
    "NA": 0.7,
    "wavelength": 0.9,
    "res_lateral": 0.05,
    "res_axial": 0.5,
    "scale": 10,
}
#: For each key a value that asks for what is not done; other values of these ask for nothing.
ASKING: dict[str, Any] = {
    "reconstruct": False,
    "use_fftconv": False,
    "partial": "encoder",
    "mu_z": 2.5,
    "sig_z": 0.5,
    "M": 25,
    "background": 0.5,
    "lr": 0.5,
    "device": "cuda:0",
    "labelname": "_truth",
    "size": [310, 512, 512],
    "surround": True,
    "surround_size": [8, 4, 4],
    "folderpath": "beads",
    "normalisation": "none",
    "seed": 7,
    "margin": [0, 8, 8],
    "low": 3,
    "high": 9,
    "min_foreground": 0.5,
    "augment": False,
    "path": "weights",
    "savefig_path": "figures",
    "loss_fn": "bce",
    "params": "others",
    "is_instantblur": True,
    "is_vibrate": True,
    "compile": True,
    "encoder_learns_from": "rehearsal",
    "dataset_name": "lines",
    "valid_object_num_min": 3,
    "valid_object_num_max": 9,
}
#: What only one value can be said of, or what is checked against another key.
NEVER_ASKING = {"activation", "superres", "mrfloss_order", "ewc", "scale"}


def idle_keys() -> Iterator[tuple[str, str, Any]]:
    """Section, key, and the default of every key without effect."""
    for section, field in PublishedExperiment.model_fields.items():
        kind = field.annotation
        assert isinstance(kind, type)
        assert issubclass(kind, Section)
        for key, idle in kind.model_fields.items():
            yield section, key, idle.default


def asking(section: str, key: str) -> Any:
    if key == "loss_fn" and section == "params":
        return None
    return section == "val_dataset" if key == "train" else ASKING.get(key)


KEYS = [(section, key) for section, key, _ in idle_keys()]


def test_there_are_no_fewer_keys_than_the_published_files_have() -> None:
    assert len({key for _, key in KEYS}) >= 28


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_each_key_without_effect_is_named_and_changes_nothing(
    section: str, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = asking(section, key)
    if value is None:
        assert key in NEVER_ASKING | {"loss_fn"}
        return
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(merge({"params": PARAMS}, {section: {key: value}})))
    experiment = load_experiment(path)
    assert capsys.readouterr().err == (
        f"note: {path}: has no effect here: {section}.{key}={json.dumps(value)}\n"
    )
    without = parse_experiment(merge({"params": PARAMS, "name": "mine"}, {section: {}}))
    assert experiment == without


@pytest.mark.parametrize(("section", "key", "default"), list(idle_keys()))
def test_what_is_done_anyway_is_not_named(
    section: str, key: str, default: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(merge({"params": PARAMS}, {section: {key: default}})))
    load_experiment(path)
    assert capsys.readouterr().err == ""


def test_the_published_file_is_read_as_it_stands(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared / "reference/JNet_beads.json"
    load_experiment(path)
    asked = [
        "params.reconstruct=false",
        'params.device="cuda:0"',
        "pretrain_dataset.size=[1200, 500, 500]",
        'pretrain_dataset.folderpath="_var_num_realisticdata3"',
        "pretrain_val_dataset.size=[1200, 500, 500]",
        'pretrain_val_dataset.folderpath="_var_num_realisticdata3"',
        "train_dataset.size=[310, 512, 512]",
        "val_dataset.size=[310, 512, 512]",
        'val_dataset.folderpath="_20231208_tsuji_beads_stackreged"',
    ]
    note = capsys.readouterr().err
    assert note == f"note: {path}: has no effect here: {', '.join(asked)}\n"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("params", "loss_fn", "open('x', 'w')"),
        ("params", "activation", "nn.Tanh()"),
        ("params", "M", -20),
        ("pretrain_loop", "ewc", True),
        ("train_loop", "mrfloss_order", 2),
        ("train_dataset", "size", 3),
    ],
)
def test_what_was_never_possible_is_refused(section: str, key: str, value: Any) -> None:
    data = merge({"params": PARAMS, "name": "mine"}, {section: {key: value}})
    with pytest.raises(TenetError, match=rf"{section}\.{key}"):
        parse_experiment(data)


def test_settings_that_an_earlier_version_wrote_are_read_without_a_word(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A model's experiment.json held all of its keys, whatever they do."""
    whole = PublishedExperiment().model_dump(mode="json")
    experiment = parse_experiment(merge(whole, {"params": PARAMS, "name": "mine"}))
    assert experiment == parse_experiment({"params": PARAMS, "name": "mine"} | SECTIONS)
    earlier = parse_experiment(json.loads(EARLIER.read_text()))
    same = load_experiment(
        "supp_motion_aligned",
        overlays=["demo"],
        settings={
            "train_dataset": {"folderpath": "stacks"},
            # Later keys, and every key has a default; and what the demo had then.
            "params": {
                "choose_threshold": False,
                "deconvolution_steps": 60,
                "psf_light": None,
                "nipsf_loss_target": 1e-6,
            },
        },
        folder=ROOT / EXPERIMENTS,
    )
    assert earlier.effective() == same.effective()
    assert earlier.visualization == same.visualization
    assert earlier.train_dataset == same.train_dataset
    assert capsys.readouterr().err == ""


#: Sections that a file names without a key have the defaults of their classes.
SECTIONS: dict[str, Any] = {
    section: {} for section in PublishedExperiment.model_fields if section != "params"
}


@pytest.mark.parametrize(
    "path",
    sorted([*(ROOT / EXPERIMENTS).glob("*.json"), *PACKAGED.glob("*.json")]),
    ids=lambda path: path.stem,
)
def test_none_of_our_own_files_holds_a_key_without_effect(path: Path) -> None:
    content = json.loads(path.read_text())
    parts = [content, *content.pop("by_scale", {}).values()]
    parts += content.pop("by_experiment", {}).values()
    for part in parts:
        kept, published = without_published(part, PublishedExperiment)
        assert not any(published.values())
        assert without_effect(part) == []
        assert kept == part


def test_what_decides_a_result_leaves_out_what_does_not() -> None:
    base: dict[str, Any] = {"params": PARAMS, "name": "mine", "train_dataset": {}}
    idle = {
        "explanation": "words",
        "visualization": {"mip": 3},
        "train_dataset": {"folderpath": "beads", "size": [9, 9, 9]},
        "params": {"M": 40, "device": "cuda:0", "use_fftconv": False},
    }
    assert _effective(base, idle) == _effective(base, {})
    assert _effective(base, {"params": {"NA": 0.6}}) != _effective(base, {})
    assert set(_effective(base, {})) == set(Experiment.model_fields) - {
        "explanation",
        "visualization",
    }


def _effective(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return parse_experiment(merge(base, changes)).effective()
