"""The command line, run in this process or in one of its own, and what it printed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tenet import cli
from tenet.settings.load import load_experiment

VOXELS = ("--voxel-size", "1", "0.31", "0.31")


TINY = {
    "params": {
        "network": "coarse",
        "hidden_channels_list": [2, 4],
        "size_z": 9,
        "size_y": 5,
        "size_x": 5,
    },
    "pretrain_dataset": {"cropsize": [18, 8, 8], "I": 2, "mask": False, "low": 0, "high": 1},
    "pretrain_val_dataset": {"cropsize": [18, 8, 8], "I": 1, "low": 1, "high": 2},
    "pretrain_loop": {"n_epochs": 1, "batch_size": 1, "precision": "float32"},
    "train_dataset": {"cropsize": [18, 8, 8], "I": 1, "mask": False},
    "val_dataset": {"cropsize": [18, 8, 8], "I": 1},
    "train_loop": {"n_epochs": 1, "ewc_batches": 1, "precision": "float32"},
}


PUBLISHED = str(Path(__file__).parents[3] / "resources/published_values.csv")


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    """Run the command line in this process, whose signals stay its own; the status."""
    monkeypatch.setattr(cli, "end_on_signals", lambda advice: None)
    monkeypatch.setattr(sys, "argv", ["tenet", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str | Path
) -> str:
    """Run a command that must be refused; its one line."""
    assert run(monkeypatch, *words) == 2
    lines = [
        line
        for line in capsys.readouterr().err.splitlines()
        if line and not line.startswith(("warning:", "note:")) and " become 0 to 1 " not in line
    ]
    assert len(lines) == 1, lines
    assert lines[0].startswith("tenet: ")
    return lines[0]


def tenet(*words: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "tenet", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def tiny_experiment(folder: Path, **sections: object) -> Path:
    path = folder / "tiny.json"
    experiment = load_experiment("scale3", settings={**TINY, **sections})
    path.write_text(experiment.model_dump_json())
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def notes(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Lines of standard error that are notes."""
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("note:")]
