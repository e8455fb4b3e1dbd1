"""Stacks with changed bytes, of every format: a stack that can be read, or one line."""

import io
import math
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fuzz_changes import CHANGES, Change, all_changed
from fuzz_files import STACKS, contents, put
from fuzz_property import holds
from hypothesis import given
from hypothesis import strategies as st

from tenet.data.phantoms.store import open_phantom
from tenet.io.open import open_stack
from tenet.io.stack import Stack

PHANTOM = ("phantom", "phantom-inside")
#: What is asked for; the first of them fits every kind.
OPTIONS: tuple[dict[str, Any], ...] = (
    *({"channel": 0},) * 6, {}, {"channel": 1, "time": 0}, {"planes_are": "C"}, {"planes_are": "T"},
)  # fmt: skip
PACKED = ("zarr-zip", "zarr-zip-inside", *PHANTOM)


class Valid(NamedTuple):
    """A valid stack: its files, the name to open, and whether they are members of an archive."""

    files: dict[str, bytes]
    opened: str
    packed: bool


class Kinds(dict[str, Valid]):
    """Valid stacks by kind, which the report of a find leaves out."""

    def __repr__(self) -> str:
        return "…"


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory, phantom_folder: Path) -> Kinds:
    made = Kinds()
    for name, write in STACKS.items():
        folder = tmp_path_factory.mktemp(name)
        opened = write(folder).relative_to(folder).as_posix()
        made[name] = Valid(contents(folder), opened, False)
    members = {
        name.removeprefix("a.zarr/"): content for name, content in made["zarr-2"].files.items()
    }
    made["zarr-zip"] = Valid({"a.zarr.zip": packed(members)}, "a.zarr.zip", False)
    made["zarr-zip-inside"] = Valid(members, "a.zarr.zip", True)
    phantom = (phantom_folder / "00.zarr.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(phantom)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    made["phantom"] = Valid({"00.zarr.zip": phantom}, "00.zarr.zip", False)
    made["phantom-inside"] = Valid(members, "00.zarr.zip", True)
    return made


def packed(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name), members[name])
    return content.getvalue()


def check(stack: Stack) -> None:
    """A stack has a shape, lengths that are finite, and corners that can be read."""
    assert all(isinstance(n, int) and n > 0 for n in stack.zyx_shape)
    assert stack.channels > 0
    assert stack.times > 0
    assert stack.dtype.kind in "buif"
    if stack.voxel_size_um is not None:
        assert all(math.isfinite(um) and um > 0 for um in stack.voxel_size_um)
    for length in (stack.optics.na, stack.optics.wavelength_um):
        assert length is None or math.isfinite(length)
    assert math.isfinite(stack.offset)
    for ends in (lambda n: slice(0, min(n, 4)), lambda n: slice(max(n - 4, 0), n)):
        z, y, x = (ends(n) for n in stack.zyx_shape)
        crop = stack.read(z, y, x)
        assert crop.shape == tuple(axis.stop - axis.start for axis in (z, y, x))


@pytest.mark.parametrize("kind", [*STACKS, *PACKED])
@given(
    changes=CHANGES,
    options=st.sampled_from(OPTIONS),
)
def test_stacks(
    tmp_path_factory: pytest.TempPathFactory,
    valid: Kinds,
    kind: str,
    changes: list[Change],
    options: dict[str, Any],
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"changed-{kind}"
    files = all_changed(valid[kind].files, changes)
    if valid[kind].packed:
        files = {valid[kind].opened: packed(files)}
    put(folder, files)
    path = folder / valid[kind].opened

    def read() -> Any:
        if kind in PHANTOM:
            phantom = open_phantom(path)
            return phantom.read(*(slice(0, min(n, 4)) for n in phantom.zyx_shape))
        stack = open_stack(path, **options)
        check(stack)
        return stack

    holds(kind, read, within=folder)


@pytest.mark.parametrize("kind", [*STACKS, *PACKED])
def test_what_is_changed_is_valid_before(tmp_path: Path, valid: Kinds, kind: str) -> None:
    files = valid[kind].files
    put(tmp_path / "a", {valid[kind].opened: packed(files)} if valid[kind].packed else files)
    path = tmp_path / "a" / valid[kind].opened
    if kind in PHANTOM:
        assert open_phantom(path).zyx_shape == (24, 40, 40)
    else:
        check(open_stack(path, channel=0))
