"""The commands of the paper: a mistake costs one clear line and no file."""

from pathlib import Path

import pytest
from command_line import PUBLISHED, refused


def test_settings_of_rltv_that_are_missing_or_broken(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tuned.json"
    words = ("rltv", "run", "--model", model, "--settings", path, "--data", tmp_path)
    assert "no such file" in refused(monkeypatch, capsys, *words, "--out", tmp_path / "out")
    path.write_text("{")
    assert str(path) in refused(monkeypatch, capsys, *words, "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("baseline", "train", "care", "--set", "chanels_2d=[4]"), "did you mean 'channels_2d'"),
        (("baseline", "train", "neuroclear", "--set", 'lr="a"'), "lr: Input should be a valid"),
        (("baseline", "run", "care"), "train again"),
        (("evaluate", "profiles", "fig4_neurons", "--predictions", "nowhere"), "no such folder"),
        (("evaluate", "cells", "fig5_microglia", "--predictions", "nowhere"), "no such folder"),
        (("published", "--metrics", "nowhere.csv", "--published", PUBLISHED), "no such table"),
        (("register", "nowhere"), "not a folder"),
        (("phantoms", "tissue", "tumour", "fig5_tumour", "--cells", "900"), "no room for 900"),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else None,
)
def test_mistakes_with_baselines_and_tissue_get_one_line(
    words: tuple[str, ...],
    message: str,
    stack: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more: list[str | Path] = ["--out", tmp_path / "out"]
    if words[0] == "baseline":
        more += ["--model", model, "--data", stack.parent]
        more += ["--tuning", tmp_path] if words[1] == "train" else ["--pretrained", model]
    if "profiles" in words:
        more += ["--data", stack.parent]
    if "cells" in words:
        more += ["--cells", tmp_path / "cells.csv", "--projections", tmp_path / "cells.npz"]
    if "tissue" in words:
        more += ["--size", "40", "40", "40"]
    assert message in refused(monkeypatch, capsys, *words, *more)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
