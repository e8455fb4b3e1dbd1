"""Stacks in files of torch.save: read crop by crop, and never run."""

import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tenet.errors import TenetError
from tenet.io.folders import stack_name
from tenet.io.open import open_stack


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32, torch.float64])
def test_a_tensor_is_a_stack(shape: tuple[int, ...], dtype: torch.dtype, tmp_path: Path) -> None:
    values = torch.arange(60).reshape(shape).to(dtype)
    torch.save(values, tmp_path / "07.pt")
    stack = open_stack(tmp_path / "07.pt")
    assert stack.zyx_shape == (3, 4, 5)
    assert stack.voxel_size_um is None
    assert stack_name(stack.path) == "07"
    whole = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    np.testing.assert_array_equal(stack.read(), whole)
    crop = stack.read(slice(1, 3), slice(2, 4), slice(0, 5))
    np.testing.assert_array_equal(crop, whole[1:3, 2:4])


with warnings.catch_warnings(action="ignore"):  # PyTorch has them as a prototype
    NESTED = torch.nested.nested_tensor([torch.zeros(3, 3), torch.zeros(2, 3)])


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch evil",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": torch.zeros(3)}, "a dict, not one dense tensor"),
        (torch.zeros(4), "is no stack"),
        (torch.zeros(1).expand(2000, 2000, 2000), "larger than its file"),
        (torch.zeros(2, 3, 4, dtype=torch.bfloat16), "save them as float32"),
        (torch.zeros(2, 3, 4, dtype=torch.complex64), "not real numbers"),
        (torch.zeros(2, 3, 4).to_sparse(), "not one dense tensor|no plain tensor"),
        (torch.zeros(2, 3, 4, dtype=torch.complex64).conj().imag, "cannot be read"),
        (NESTED, "not one dense"),
        (Evil(), "never run"),
    ],
)
def test_what_is_no_stack_is_told_in_one_line(
    content: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, "x.pt")
    with pytest.raises(TenetError, match=message) as error:
        open_stack("x.pt")
    assert "\n" not in str(error.value)
    assert not Path("evil").exists()


def test_a_file_that_would_unpack_to_more_is_not_unpacked(tmp_path: Path) -> None:
    """What torch.save writes is not compressed; a bomb would take all memory."""
    torch.save(torch.zeros(4, 8, 8), tmp_path / "small.pt")
    with (
        zipfile.ZipFile(tmp_path / "small.pt") as small,
        zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in small.infolist():
            bomb.writestr(entry.filename, small.read(entry))
        bomb.writestr("small/data/1", bytes(10**6))
    with pytest.raises(TenetError, match="no plain tensor, or is damaged"):
        open_stack(tmp_path / "bomb.pt")


def test_damaged_and_old_files_are_told(tmp_path: Path) -> None:
    torch.save(torch.zeros(4, 8, 8), tmp_path / "x.pt")
    content = (tmp_path / "x.pt").read_bytes()
    for damaged in (content[: len(content) // 2], b"\x80\x02" + content[2:]):
        (tmp_path / "x.pt").write_bytes(damaged)
        with pytest.raises(TenetError, match=r"x\.pt: this (is|holds) no") as error:
            open_stack(tmp_path / "x.pt")
        assert "\n" not in str(error.value)
    # Of an archive of several parts Python's own check raises (found by fuzzing).
    parts = content.replace(b"PK\x06\x07" + bytes(4), b"PK\x06\x07\x01" + bytes(3))
    assert parts != content
    (tmp_path / "x.pt").write_bytes(parts)
    with pytest.raises(TenetError, match="is no file of torch"):
        open_stack(tmp_path / "x.pt")
    torch.save(torch.zeros(4, 8, 8), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(TenetError, match="before PyTorch"):
        open_stack(tmp_path / "old.pt")
