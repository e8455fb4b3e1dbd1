"""Where each value of an experiment comes from."""

import json
from pathlib import Path
from typing import Any

import pytest

from tenet.errors import TenetError
from tenet.settings.layers import Layers
from tenet.settings.load import (
    PACKAGED,
    explanations,
    load_experiment,
    nested_settings,
    origins,
)

PARAMS: dict[str, Any] = {
    "NA": 0.7,
    "wavelength": 0.9,
    "res_lateral": 0.05,
    "res_axial": 0.5,
    "scale": 10,
}


def write(folder: Path, name: str, content: Any) -> str:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return str(path)


def found(folder: Path, name: str, **options: Any) -> dict[str, tuple[Any, str]]:
    return {key: (value, where) for key, value, where in origins(name, folder=folder, **options)}


def test_each_value_is_from_the_last_that_says_it(tmp_path: Path) -> None:
    base = write(tmp_path, "base", {"params": PARAMS, "train_loop": {"lr": 0.5, "n_epochs": 9}})
    mine = write(tmp_path, "mine", {"extends": "base", "params": {"NA": 0.6}})
    small = write(
        tmp_path,
        "small",
        {
            "explanation": "less of all",
            "train_loop": {"n_epochs": 3},
            "by_scale": {"10": {"val_dataset": {"I": 4}}, "3": {"params": {"pZ": 7}}},
            "by_experiment": {"mine": {"train_loop": {"ema_decay": 0.5}}},
        },
    )
    settings = nested_settings(["train_loop.mrfloss_weights.l_00=2", "name=other"])
    values = found(tmp_path, "mine", overlays=["small"], settings=settings)
    assert values["params.wavelength"] == (0.9, base)
    assert values["params.NA"] == (0.6, mine)
    assert values["train_loop.lr"] == (0.5, base)
    assert values["train_loop.n_epochs"] == (3, small)
    assert values["train_loop.ema_decay"] == (0.5, small)
    assert values["val_dataset.I"] == (4, small)
    assert values["params.pZ"] == (0, "default")
    assert values["train_loop.mrfloss_weights.l_00"] == (2, "--set")
    assert values["train_loop.mrfloss_weights.l_01"] == (0, "default")
    assert values["name"] == ("other", "--set")
    assert values["explanation"] == ("", "default")
    assert found(tmp_path, "mine")["name"] == ("mine", "name of the file")


def test_the_values_are_those_of_the_experiment(tmp_path: Path) -> None:
    values = found(tmp_path, "scale3", overlays=["demo"])
    complete = load_experiment("scale3", overlays=["demo"], folder=tmp_path)
    rebuilt: dict[str, Any] = {}
    for key, (value, _) in values.items():
        *parents, last = key.split(".")
        target = rebuilt
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value
    assert rebuilt == complete.model_dump(mode="json")


def test_a_section_that_is_given_whole_or_null_has_one_origin(tmp_path: Path) -> None:
    base = write(tmp_path, "base", {"params": PARAMS, "align_params": {"nblocks": 3}})
    mine = write(tmp_path, "mine", {"extends": "base", "align_params": None})
    assert found(tmp_path, "base")["align_params.nblocks"] == (3, base)
    assert found(tmp_path, "base")["align_params.dropout"] == (None, "default")
    assert found(tmp_path, "mine")["align_params"] == (None, mine)
    write(tmp_path, "mine", {"extends": "base", "align_params": {}})
    assert found(tmp_path, "mine")["align_params.nblocks"] == (3, base)


def test_layers_are_left_as_they_were() -> None:
    base, over = Layers.of({"a": {"b": 1}}, "base"), Layers.of({"a": {"c": 2}}, "over")
    assert base.under(over).values == {"a": {"b": 1, "c": 2}}
    assert base.under(over).origins == {"a": {"b": "base", "c": "over"}}
    assert base.values == {"a": {"b": 1}}


# Where names are looked up


def test_a_name_is_looked_up_in_the_folder_and_then_among_what_is_installed(
    tmp_path: Path,
) -> None:
    write(tmp_path, "mine", {"extends": "scale3", "params": {"NA": 0.25}})
    mine = load_experiment("mine", folder=tmp_path)
    assert (mine.params.NA, mine.params.wavelength) == (0.25, 0.5)
    write(tmp_path, "scale3", {"params": PARAMS})
    assert load_experiment("scale3", folder=tmp_path).params.scale == 10
    assert load_experiment("scale3", folder=tmp_path / "none").params.scale == 3
    # What is installed extends what is installed, whatever lies in the folder.
    write(tmp_path, "default", {"params": {"NA": 0.1}})
    assert load_experiment("scale10", folder=tmp_path).params.NA == 0.7


def test_a_file_anywhere_extends_what_is_installed(tmp_path: Path) -> None:
    path = write(tmp_path, "mine", {"extends": ["sample", "scale12"]})
    assert load_experiment(path).params.scale == 12


@pytest.mark.parametrize("path", sorted(PACKAGED.glob("*.json")), ids=lambda path: path.stem)
def test_what_is_installed_needs_nothing_else(path: Path, tmp_path: Path) -> None:
    overlay = "params" not in json.loads(path.read_text()) or path.stem in (
        "demo",
        "as_published_demo",
        "published",
        "default",
    )
    if overlay:
        load_experiment("scale3", overlays=[path.stem], folder=tmp_path)
    else:
        load_experiment(path.stem, folder=tmp_path)


def test_an_overlay_leaves_out_a_file_and_keeps_what_that_file_extends(tmp_path: Path) -> None:
    write(tmp_path, "base", {"params": PARAMS, "train_loop": {"lr": 0.5, "n_epochs": 9}})
    recipe = {"extends": "base", "train_loop": {"lr": 0.1, "ema_decay": 0.9}}
    write(tmp_path, "recipe", recipe | {"microscopes": {"count": 32}})
    write(tmp_path, "mine", {"extends": "recipe", "params": {"NA": 0.6}})
    plain = write(tmp_path, "plain", {"leave_out": "recipe", "val_dataset": {"I": 4}})
    write(tmp_path, "small", {"extends": "plain", "train_loop": {"n_epochs": 3}})
    values = found(tmp_path, "mine", overlays=["plain"])
    base = str(tmp_path / "base.json")
    assert values["train_loop.lr"] == (0.5, base)
    assert values["train_loop.ema_decay"] == (None, "default")
    assert values["microscopes.count"] == (0, "default")
    assert values["params.NA"] == (0.6, str(tmp_path / "mine.json"))
    assert values["val_dataset.I"] == (4, plain)
    small = load_experiment("mine", overlays=["small"], folder=tmp_path)
    assert (small.train_loop.n_epochs, small.train_loop.lr, small.val_dataset.I) == (3, 0.5, 4)
    # The order of overlays does not matter for what they leave out.
    write(tmp_path, "other", {"train_loop": {"ema_decay": 0.7}})
    for overlays in (["plain", "other"], ["other", "plain"]):
        loop = load_experiment("mine", overlays=overlays, folder=tmp_path).train_loop
        assert (loop.lr, loop.ema_decay) == (0.5, 0.7)


@pytest.mark.parametrize(
    ("names", "words"),
    [("recipee", "no experiment 'recipee'"), (3, "leave_out must be the name"), ([1], "or a list")],
)
def test_what_an_overlay_leaves_out_must_be_there(tmp_path: Path, names: Any, words: str) -> None:
    write(tmp_path, "mine", {"params": PARAMS})
    write(tmp_path, "plain", {"leave_out": names})
    with pytest.raises(TenetError, match=words):
        load_experiment("mine", overlays=["plain"], folder=tmp_path)
    write(tmp_path, "mine", {"params": PARAMS, "leave_out": "scale3"})
    with pytest.raises(TenetError, match="unknown key 'leave_out'"):
        load_experiment("mine", folder=tmp_path)


def test_an_unknown_name_is_compared_with_what_is_installed(tmp_path: Path) -> None:
    with pytest.raises(TenetError, match=r"no experiment 'scal3' in .*; did you mean 'scale3'\?"):
        load_experiment("scal3", folder=tmp_path)


def test_what_is_listed_first_hides_what_has_its_name(tmp_path: Path) -> None:
    write(tmp_path, "sample", {"explanation": "mine"})
    listed = dict(explanations(tmp_path, PACKAGED))
    assert listed["sample"] == "mine"
    assert listed.keys() == {path.stem for path in PACKAGED.glob("*.json")}
