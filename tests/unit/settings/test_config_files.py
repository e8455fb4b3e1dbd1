"""Files of experiments that strangers made, and settings of the command line: what is refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tenet.errors import TenetError
from tenet.settings.load import explanations, load_experiment, nested_settings
from tenet.settings.schema import Experiment

PARAMS: dict[str, Any] = {
    "NA": 0.7,
    "wavelength": 0.9,
    "res_lateral": 0.05,
    "res_axial": 0.5,
    "scale": 10,
}
DEEP = "[" * 900 + "]" * 900


def write(folder: Path, name: str, content: Any) -> Path:
    path = folder / f"{name}.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def load(folder: Path, name: str = "mine", **kwargs: Any) -> Experiment:
    return load_experiment(name, folder=folder, **kwargs)


def refusal(folder: Path, content: Any, **kwargs: Any) -> str:
    """What is said of an experiment that is wrong; always one short line."""
    write(folder, "mine", content)
    with pytest.raises(TenetError) as error:
        load(folder, **kwargs)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700 + 2 * len(str(folder))
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f'{{"explanation": {DEEP}}}', "64 levels"),
        (f'{{"explanation": {"[" * 10**5}', "64 levels"),
        (f'{{"params": {{"scale": {"1" * 400}}}}}', "18 digits"),
        (f'{{"params": {{"scale": {"1" * 5000}}}}}', "18 digits"),
        ('{"params": {"NA": 1e999}}', "float64"),
        ('{"params": {"NA": NaN}}', "NaN"),
        ("null", "a JSON object is needed, and it holds null"),
        ("[]", "a JSON object is needed, and it holds a list"),
        ('{"explanation": "' + "x" * 2**18 + '"}', "MiB"),
        ('{"name": "\\ud800", "params": {}}', "JSON cannot hold"),
        ('{"params": {"wave\\nlength": 1}}', r"unknown key 'wave\nlength'"),
        ('{"params": {"' + "x" * 10**5 + '": 1}}', "unknown key 'xxx"),
        ('{"params": {"NA": "' + "x" * 10**5 + '"}}', "params.NA: Input should be a valid number"),
    ],
    ids=range(13),
)
def test_files_beyond_the_limits(tmp_path: Path, content: str, expected: str) -> None:
    message = refusal(tmp_path, content)
    assert "mine.json" in message
    assert expected in message


def test_keys_of_a_section_that_may_be_left_out(tmp_path: Path) -> None:
    message = refusal(tmp_path, {"params": PARAMS, "align_params": {"nblokcs": 1}})
    assert "align_params: unknown key 'nblokcs'; did you mean 'nblocks'?" in message


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    (tmp_path / "nowhere.json").symlink_to(tmp_path / "nothing.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.json")
    expected = {
        "folder": "this is a folder",
        "loop": "cannot be opened",
        "nowhere": "no such file",
        "zero": "a device or a pipe",
        "pipe": "a device or a pipe",
    }
    for name, words in expected.items():
        with pytest.raises(TenetError, match=words):
            load(tmp_path, name)
        assert words in refusal(tmp_path, {"extends": name, "params": PARAMS})
        assert words in refusal(tmp_path, {"params": PARAMS}, overlays=[name])


@pytest.mark.parametrize("name", ["a\0b", "a" * 300, "a" * 10**5, "a\nb", ""], ids=range(5))
def test_names_that_no_file_has(tmp_path: Path, name: str) -> None:
    write(tmp_path, "other", {"params": PARAMS})
    refusal(tmp_path, {"extends": name, "params": PARAMS})
    refusal(tmp_path, {"params": PARAMS}, overlays=[name])
    for path in (name, f"{name}/x.json", f"{tmp_path}/{name}/y.json"):
        with pytest.raises(TenetError) as error:
            load(tmp_path, path)
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 400


def test_extends_has_limits(tmp_path: Path) -> None:
    """A chain of 2000; 28 files each of which reads the next one twice; a hundred at once."""
    for step in range(2000):
        write(tmp_path, f"chain{step}", {"extends": f"chain{step + 1}"})
    assert "chain of more than 16 files" in refusal(tmp_path, {"extends": "chain0"})
    for step in range(28):
        write(tmp_path, f"twice{step}", {"extends": [f"twice{step + 1}"] * 2})
    assert "chain of more than 16 files" in refusal(tmp_path, {"extends": "twice0"})
    write(tmp_path, "twice15", {"params": PARAMS})
    write(tmp_path, "mine", {"extends": "twice1"})
    assert load(tmp_path).params.NA == 0.7
    for number in range(100):
        write(tmp_path, f"wide{number}", {})
    wide = [f"wide{number}" for number in range(100)]
    assert "more than 64 files" in refusal(tmp_path, {"extends": wide, "params": PARAMS})


@pytest.mark.parametrize("section", ["by_scale", "by_experiment"])
@pytest.mark.parametrize("content", [[], 3, None, "x", {"10": 1}, {"10": [1]}, {"10": None}])
def test_overlays_hold_objects(tmp_path: Path, section: str, content: Any) -> None:
    write(tmp_path, "small", {section: content})
    message = refusal(tmp_path, {"params": PARAMS}, overlays=["small"])
    assert f"small.json: {section} must hold an object" in message


@pytest.mark.parametrize("params", [None, 3, [1], "x"])
def test_params_that_are_no_object(tmp_path: Path, params: Any) -> None:
    write(tmp_path, "small", {"by_scale": {"10": {"train_loop": {"n_epochs": 4}}}})
    assert "params: " in refusal(tmp_path, {"params": params}, overlays=["small"])


def test_the_list_goes_on_after_a_broken_file(tmp_path: Path) -> None:
    write(tmp_path, "bad", "{")
    write(tmp_path, "fine", {"explanation": "all\nis well"})
    write(tmp_path, "odd", '{"explanation": ["\\ud800"]}')
    listed = explanations(tmp_path)
    assert next(listed) == ("fine", "all is well")
    name, text = next(listed)
    assert (name, text.isprintable()) == ("odd", True)
    with pytest.raises(TenetError, match=r"bad\.json is not JSON"):
        next(listed)
    with pytest.raises(TenetError, match="no experiments here"):
        next(explanations(tmp_path / "nothing"))


# Settings of the command line


def test_settings_are_nested() -> None:
    options = ["params.NA=0.5", "params.NA=0.8", "name=3d stack", "a=[1, 2]", 'b={"c": {"d": 1}}']
    assert nested_settings([*options, "b.c.e=true", "b.f=", "x=NaN", "y=1=2"]) == {
        "params": {"NA": 0.8},
        "name": "3d stack",
        "a": [1, 2],
        "b": {"c": {"d": 1, "e": True}, "f": ""},
        "x": "NaN",
        "y": "1=2",
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["a=1", "a.b=2"], "--set a.b: another --set"),
        (["a.b=2", "a=1"], "--set a: another --set"),
        (["a=[1]", "a.b.c=2"], "--set a.b.c: another --set"),
        (["=1"], "write KEY=VALUE"),
        (["a..b=1"], "write KEY=VALUE"),
        ([".a=1"], "write KEY=VALUE"),
        (["a.=1"], "write KEY=VALUE"),
        (["a"], "write KEY=VALUE"),
        (["a\nb"], r"--set a\nb: write"),
        (["a=" + "[" * 10**5], "64 levels"),
        (["a=[1,"], "--set a is not JSON"),
        (['a={"b": NaN}'], "NaN is not"),
    ],
    ids=range(12),
)
def test_settings_that_cannot_be_meant(options: list[str], expected: str) -> None:
    with pytest.raises(TenetError) as error:
        nested_settings(options)
    assert expected in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "option",
    [
        "params=1",
        "params.NA=NaN",
        "params.NA=1e999",
        "params.scale=" + "9" * 5000,
        ".".join(["params"] * 5000) + "=1",
        "params.NA={}",
    ],
    ids=range(6),
)
def test_settings_are_checked(tmp_path: Path, option: str) -> None:
    settings = nested_settings([option])
    assert "mine.json" in refusal(tmp_path, {"params": PARAMS}, settings=settings)
