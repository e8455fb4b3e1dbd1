"""What `tenet --help` and `tenet --version` say."""

from importlib.metadata import version

import pytest
from command_line import run


def test_commands_stand_in_panels_by_what_they_are_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == 0
    panels: dict[str, list[str]] = {}
    for line in capsys.readouterr().out.splitlines():
        words = line.strip("│╭╰─╮╯ ").split("  ")
        if line.startswith("╭"):
            panels[words[0]] = []
        elif line.startswith("│ ") and line[2] != " ":
            list(panels.values())[-1].append(words[0])
    del panels["Options"]
    assert panels == {
        "Use a model": ["enhance", "export-model", "samples"],
        "Train a model": ["pretrain", "align", "finetune", "learn", "import-weights", "config"],
        "Phantoms": ["simulate", "phantoms"],
        "The paper": ["register", "table", "published", "bench", "rltv", "baseline", "evaluate"],
    }


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"tenet {version('tenet')}\n"
