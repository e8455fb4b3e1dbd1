"""Settings for stacks of one's own: of a stack, or of all stacks of a microscope."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenet.errors import TenetError
from tenet.settings.load import load_experiment
from tenet.tasks.samples import write_settings

OPTICS: dict[str, Any] = {
    "na": 0.9, "wavelength_um": 0.92, "immersion_index": 1.33, "photons": 2,
    "channel": None, "time": None, "planes_are": None,
}  # fmt: skip


def test_a_voxel_size_alone_gives_the_settings_of_all_its_stacks(tmp_path: Path) -> None:
    base = load_experiment("sample", overlays=["demo"])
    np.save(tmp_path / "a.npy", np.zeros((20, 40, 40), np.uint8))
    size_um = (1.0, 0.25, 0.25)
    out = tmp_path / "all.json"
    params = write_settings(None, out, base, voxel_size_um=size_um, **OPTICS)
    assert (params.scale, params.NA, params.coarse_voxel_size_um) == (4, 0.9, size_um)
    of_one = tmp_path / "one.json"
    write_settings(tmp_path / "a.npy", of_one, base, voxel_size_um=size_um, **OPTICS)
    every, one = (json.loads(path.read_text()) for path in (out, of_one))
    for section in ("train_dataset", "val_dataset"):  # crops of raw stacks fit the stack
        assert every.pop(section)["cropsize"] >= one.pop(section)["cropsize"]
    assert every == one
    with pytest.raises(TenetError, match="give --file with a stack, or --voxel-size"):
        write_settings(None, out, base, voxel_size_um=None, **OPTICS)
