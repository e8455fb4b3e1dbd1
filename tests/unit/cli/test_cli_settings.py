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
