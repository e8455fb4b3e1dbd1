"""Commands that write, on a disk without room: one line, and nothing half-made."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tenet import cli
from tenet.io.atomic import UNFINISHED
from tenet.io.writing import write_ome_tiff

PHANTOM = (
    "--set", "simulation_data_generation.image_size=[60, 60, 60]",
    "--set", "simulation_data_generation.train_object_num_min=30",
    "--set", "simulation_data_generation.train_object_num_max=30",
)  # fmt: skip
SMALL_PSF = ("--set", "params.size_z=9", "--set", "params.size_y=5", "--set", "params.size_x=5")
OPTICS = ("--na", "0.3", "--wavelength", "0.5", "--ni", "1.33")


@pytest.fixture
def small(small_disk: Callable[[str], Path]) -> Path:
    """A disk of 16 KiB."""
    return small_disk("16k")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Raw stacks, and a phantom as arrays and as it is stored."""
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for index in range(2):
        counts = rng.integers(100, 4000, (18, 40, 40), dtype=np.uint16)
        write_ome_tiff(tmp_path / f"data/{index:02}.ome.tif", counts, (1.0, 0.31, 0.31))
    (tmp_path / "npz").mkdir()
    shape = (rng.random((30, 60, 60)) > 0.7).astype(np.uint8)
    brightness = (shape * rng.random(shape.shape)).astype(np.float32)
    np.savez(tmp_path / "npz/a.npz", shape=shape, brightness=brightness)
    return tmp_path


def command(name: str, made: Path, small: Path) -> list[str | Path]:
    """The words of a command that writes more than fits."""
    if name == "samples experiment":
        (small / "taken").write_bytes(b"x" * 2**14)
        file = made / "data/00.ome.tif"
        return ["samples", "experiment", "--file", file, *OPTICS, "--out", small / "own.json"]
    words: dict[str, list[str | Path]] = {
        "phantoms training": ["phantoms", "training", "scale3", "--count", "1", *PHANTOM],
        "phantoms by workers": [
            "phantoms", "training", "scale3", "--count", "2", "--workers", "2", *PHANTOM,
        ],
        "phantoms import": ["phantoms", "import", made / "npz"],
        "simulate": ["simulate", "scale3", "--phantoms", made / "phantoms", *SMALL_PSF],
        "register": ["register", made / "data"],
    }  # fmt: skip
    return [*words[name], "--out", small / "out"]


@pytest.mark.parametrize(
    "name",
    [
        "phantoms training",
        "phantoms by workers",
        "phantoms import",
        "simulate",
        "register",
        "samples experiment",
    ],
)
def test_a_full_disk(
    name: str,
    made: Path,
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if name == "simulate":
        assert (
            run(monkeypatch, ["phantoms", "import", made / "npz", "--out", made / "phantoms"]) == 0
        )
    words = command(name, made, small)
    before = {path for path in small.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run(monkeypatch, words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(f"tenet: {small}")
    assert "no room on the disk" in lines[-1]
    assert not any("Traceback" in line for line in lines)
    left = {path for path in small.rglob("*") if path.is_file()} - before
    assert not [path for path in left if path.name.endswith(UNFINISHED)]
    assert not left, left


def run(monkeypatch: pytest.MonkeyPatch, words: list[str | Path]) -> int:
    """Run the command line in this process, whose signals stay its own; the status."""
    monkeypatch.setattr(cli, "end_on_signals", lambda advice: None)
    monkeypatch.setattr(sys, "argv", ["tenet", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)
