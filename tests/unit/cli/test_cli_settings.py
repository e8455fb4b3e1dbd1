"""`tenet config`: settings that are impossible, unknown or broken are named."""

from pathlib import Path

import pytest
from command_line import refused, run


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("params.NA=-1", "NA is -1"),
        ("params.NA=1.4", "immersion"),
        ('params.scale="3"', "integer"),
        ("pretrain_dataset.cropsize=[240,113,112]", "divisible"),
        ("params.NAA=1", "did you mean 'NA'"),
        ("pretrain_loop.loss_fnx=\"__import__('os').system('true')\"", "loss_fnx"),
    ],
)
def test_impossible_settings(
    setting: str, word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert word in refused(monkeypatch, capsys, "config", "show", "scale3", "--set", setting)


def test_an_unknown_experiment_names_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "fig3_beads" in refused(monkeypatch, capsys, "config", "show", "fig3_bead")


def test_the_list_of_experiments_names_a_broken_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("config", "list", "--experiments", tmp_path)
    (tmp_path / "good.json").write_text('{"explanation": "all is well"}')
    assert run(monkeypatch, *words) == 0
    assert capsys.readouterr().out == f"{'good':20} all is well\n"
    bad = tmp_path / "worse.json"
    bad.write_text('{"params": ')
    assert f"{bad} is not JSON" in refused(monkeypatch, capsys, *words)


def test_the_list_needs_no_folder_of_experiments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "config", "list") == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"default", "demo", "sample", "scale3", "scale10", "scale12"} <= set(names)
    assert not any(name.startswith(("fig", "supp", "quality")) for name in names)
    assert "no experiments here" in refused(
        monkeypatch, capsys, "config", "list", "--experiments", tmp_path / "none"
    )


def test_show_says_where_each_value_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"extends": "scale3", "params": {"NA": 0.25}}')
    words = ("config", "show", path, "--origin", "--set", "train_loop.n_epochs=7")
    assert run(monkeypatch, *words) == 0
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    told = {parts[0].strip(): parts[-1].strip() for parts in lines}
    assert told["params.NA = 0.25"] == str(path)
    assert told["params.wavelength = 0.5"].endswith("tenet/settings/data/scale3.json")
    assert told["train_loop.n_epochs = 7"] == "--set"
    assert told["train_loop.psf_lr = 0.0003"].endswith("tenet/settings/data/default.json")
    assert told['params.blur_mode = "gibsonlanni"'] == "default"


def test_the_reference_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "config", "reference") == 0
    assert capsys.readouterr().out.startswith("# Configuration\n")
