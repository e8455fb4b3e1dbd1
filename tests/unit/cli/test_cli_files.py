"""No command replaces what its result is made of, and a full disk leaves no file."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from command_line import PUBLISHED, contents, refused

from tenet.io.writing import OmeZarrWriter


def test_a_full_disk_leaves_no_file(
    stack: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    small = tmp_path / "small"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(small)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted by root")
    try:
        line = refused(monkeypatch, capsys, "enhance", stack, "--model", model, "--out", small)
        assert "disk" in line or "space" in line
        assert not list(small.iterdir())
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("options", [[], ["--zarr"], ["--sheet"]], ids=str)
def test_enhancing_never_replaces_the_raw_stack(
    options: list[str],
    stack: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raw = tmp_path / "raw.ome.tif"
    stack.rename(raw)
    if "--zarr" in options:
        raw = tmp_path / "raw.ome.zarr"
        with OmeZarrWriter(raw, (1, 8, 20, 20), (1.0, 0.31, 0.31)) as writer:
            writer.add((0, 0, 0), np.random.default_rng(1).random((1, 8, 20, 20), np.float32))
    before = contents(tmp_path)
    words = ("enhance", raw, "--model", model, "--out", tmp_path, *options)
    assert "would replace its source" in refused(monkeypatch, capsys, *words)
    monkeypatch.chdir(tmp_path)
    words = ("enhance", raw.name, "--model", model, "--out", ".", *options)
    assert "would replace its source" in refused(monkeypatch, capsys, *words)
    assert contents(tmp_path) == before


def test_no_command_for_folders_replaces_raw_stacks(
    stack: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tuned = tmp_path / "rltv.json"
    part = {"iterations": 2, "tv_weight": 0.0, "threshold": 0.5, "score": 0.5}
    tuned.write_text(json.dumps({"rltv": part, "rltv_paper": part}))
    data = tmp_path / "data"
    data.mkdir()
    stack.rename(data / "0.ome.tif")
    before = contents(tmp_path)
    own = ("--data", data, "--out", data)
    for words in (
        ("predict", "--model", model, *own),
        ("rltv", "run", "--model", model, "--settings", tuned, *own),
        ("baseline", "run", "care", "--model", model, "--pretrained", model, *own),
        ("register", data, "--out", data),
        ("samples", "experiment", "--file", data / "0.ome.tif", "--out", data / "0.ome.tif"),
    ):
        assert "would replace its source" in refused(monkeypatch, capsys, *words)
        assert contents(tmp_path) == before


def test_tables_do_not_replace_what_they_are_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "values.csv"
    path.write_text("experiment,value\na,1\n")
    own = ("--metrics", path, "--published", PUBLISHED, "--out", path)
    for words in (
        ("table", "fig2", *own),
        ("published", *own),
        ("evaluate", "beads", "fig3_beads", "--predictions", tmp_path, "--rois", path,
         "--out", path, "--sweep", tmp_path / "sweep.csv"),
    ):  # fmt: skip
        assert "would replace its source" in refused(monkeypatch, capsys, *words)
    assert path.read_text() == "experiment,value\na,1\n"
