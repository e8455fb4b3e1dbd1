"""Formats that a library of the extra `formats` reads: HDF5, IMS, BigDataViewer, CZI, LIF, OIB."""

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vendor_containers import (
    bdv_files,
    czi_file,
    ims_file,
    letters,
    lif_file,
    oib_file,
    oif_file,
)
from vendor_files import refused

from tenet.data.folds import every_stack
from tenet.errors import TenetError
from tenet.io.folders import stack_files, stack_name
from tenet.io.open import open_stack
from tenet.io.optics import Optics
from tenet.io.picks import Parts, Picks

CROP = (slice(1, 3), slice(2, 9), slice(3, 17))
WHAT_IS_ABSENT = "the extra `formats` is not installed"


@pytest.fixture
def voxels() -> np.ndarray:
    """Two time points of four planes of two channels."""
    return np.random.default_rng(0).integers(0, 60_000, (2, 4, 2, 12, 20)).astype(np.uint16)


def one_stack_of_lif(path: Path, voxels: np.ndarray) -> Path:
    return lif_file(path, {"Overview": voxels[:1, :1], "Series001": voxels})


#: How each format is written, its library, and whether channels and time points are volumes.
KINDS: dict[str, tuple[Callable[[Path, np.ndarray], Path], str, bool]] = {
    "a.ims": (ims_file, "h5py", True),
    "a.h5": (bdv_files, "h5py", True),
    "a.czi": (czi_file, "pylibCZIrw", False),
    "a.lif": (one_stack_of_lif, "liffile", False),
    "a.oif": (oif_file, "tifffile", False),
    "a.oib": (oib_file, "olefile", False),
}
over_kinds = pytest.mark.parametrize("name", KINDS)


def written(folder: Path, name: str, voxels: np.ndarray) -> Path:
    write, library, _ = KINDS[name]
    pytest.importorskip(library, reason=WHAT_IS_ABSENT)
    return write(folder / name, voxels)


@over_kinds
def test_every_channel_and_time_point(tmp_path: Path, voxels: np.ndarray, name: str) -> None:
    path = written(tmp_path, name, voxels)
    for time, channel in np.ndindex(2, 2):
        stack = open_stack(path, channel=channel, time=time)
        expected = voxels[time, :, channel]
        assert (stack.channels, stack.times) == (2, 2)
        assert (stack.zyx_shape, stack.dtype) == (expected.shape, voxels.dtype)
        np.testing.assert_array_equal(stack.read(), expected)
        np.testing.assert_array_equal(stack.read(*CROP), expected[CROP])
    refused(path, "it has 2 channels; choose one, 0 to 1")
    refused(path, "it has 2 time points; choose one, 0 to 1", channel=1)
    refused(path, "there is no channel 2", channel=2, time=0)
    parts = Parts(Picks.parse("all"), Picks.parse("1")).open(path)
    assert [stack.part for stack in parts] == ["_c0", "_c1"]
    for channel, stack in enumerate(parts):
        np.testing.assert_array_equal(stack.read(), voxels[1, :, channel])


@over_kinds
def test_lengths_and_optics(tmp_path: Path, voxels: np.ndarray, name: str) -> None:
    path = written(tmp_path, name, voxels)
    stacks = Parts(Picks.parse("all"), Picks.parse("0")).open(path)
    y = 0.25 if name == "a.czi" else 0.5
    assert stacks[0].voxel_size_um == pytest.approx((2.0, y, 0.25))
    first, second = (stack.optics for stack in stacks)
    expected = {
        "a.ims": (Optics(1.05, 0.92, None, 2), Optics(1.05, 0.488, None, 1)),
        "a.h5": (Optics(), Optics()),
        "a.czi": (Optics(1.0, 0.92, 1.33, 2), Optics(1.0, 0.488, 1.33, 1)),
        "a.lif": (Optics(0.95, 0.9, 1.33, 2),) * 2,
        "a.oif": (Optics(1.05, 0.92, 1.33, 2), Optics(1.05, 0.488, 1.33, None)),
    }
    assert (first, second) == expected["a.oif" if name == "a.oib" else name]


@over_kinds
def test_one_channel_needs_no_choice(tmp_path: Path, voxels: np.ndarray, name: str) -> None:
    path = written(tmp_path, name, voxels[:1, :, :1])
    np.testing.assert_array_equal(open_stack(path).read(), voxels[0, :, 0])


@over_kinds
def test_frames_that_are_planes(tmp_path: Path, voxels: np.ndarray, name: str) -> None:
    path = written(tmp_path, name, voxels.transpose(1, 0, 2, 3, 4)[:, :1, :1])
    refused(path, "time series of single planes")
    if KINDS[name][2]:
        refused(path, "leave --planes-are out", planes_are="T")
    else:
        stack = open_stack(path, planes_are="T")
        np.testing.assert_array_equal(stack.read(), voxels[0, :, 0])


@over_kinds
def test_files_that_were_cut(tmp_path: Path, voxels: np.ndarray, name: str) -> None:
    path = written(tmp_path, name, voxels)
    whole = path.read_bytes()
    for kept in (1, 9, 40, 300, len(whole) // 3, len(whole) * 2 // 3):
        path.write_bytes(whole[:kept])
        if name == "a.oif" and kept >= 300:
            continue  # a text without its end is still one
        refused(path, "damaged|truncated|broken|whatever its name says", channel=0, time=0)
    path.write_bytes(b"")
    refused(path, "the file is empty")


@over_kinds
def test_files_whose_bytes_are_wrong(tmp_path: Path, voxels: np.ndarray, name: str) -> None:
    """Whatever stands in a file, it is read or refused."""
    path = written(tmp_path, name, voxels)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(40):
        content = bytearray(whole)
        for place in rng.integers(0, len(whole), 12):
            content[place] = rng.integers(0, 256)
        path.write_bytes(content)
        with contextlib.suppress(TenetError):
            open_stack(path, channel=1, time=1).read()


@pytest.mark.parametrize("name", [name for name in KINDS if name != "a.oif"])
def test_without_the_library(
    tmp_path: Path, voxels: np.ndarray, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, name, voxels)
    for module in list(sys.modules):
        if module.partition(".")[0] == KINDS[name][1]:
            monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, KINDS[name][1], None)
    said = refused(path, "files need the package")
    assert said.endswith("pip install 'tenet[formats]'")
    assert KINDS[name][1] in said


# HDF5


def test_views_of_the_xml_file(tmp_path: Path, voxels: np.ndarray) -> None:
    path = written(tmp_path, "a.h5", voxels)
    stack = open_stack(path.with_suffix(".xml"), channel=1, time=0)
    assert stack.voxel_size_um == (2.0, 0.5, 0.25)
    np.testing.assert_array_equal(stack.read(), voxels[0, :, 1])
    path.with_suffix(".xml").unlink()
    assert open_stack(path, channel=1, time=0).voxel_size_um is None


def test_views_that_are_no_channels(tmp_path: Path, voxels: np.ndarray) -> None:
    pytest.importorskip("h5py", reason=WHAT_IS_ABSENT)
    path = bdv_files(tmp_path / "a.h5", voxels, tiles=(0, 1))
    refused(path, "2 views .tiles.; fuse them", channel=0)
    xml = path.with_suffix(".xml")
    bdv_files(path, voxels)
    text = xml.read_text()
    xml.write_text(text.replace(">a.h5<", ">../a.h5<"))
    refused(xml, "outside its folder")
    xml.write_text(text.replace("<SpimData", "<!DOCTYPE a><SpimData"))
    refused(xml, "declares entities", channel=0)
    xml.write_text("<other/>")
    refused(xml, "describes no recording that can be read")


def hdf5(path: Path, data: Any = None, **attributes: Any) -> Path:
    h5py = pytest.importorskip("h5py", reason=WHAT_IS_ABSENT)
    options = attributes.pop("options", {})
    with h5py.File(path, "w") as file:
        volume = file.create_dataset("exported/data", data=data, **options)
        file["table"] = np.zeros((3, 4))
        for name, value in attributes.items():
            volume.attrs[name] = value
    return path


def test_one_dataset(tmp_path: Path, voxels: np.ndarray) -> None:
    path = hdf5(tmp_path / "a.h5", voxels[0, :, 0], element_size_um=(2.0, 0.5, 0.25))
    stack = open_stack(path)
    assert stack.voxel_size_um == (2.0, 0.5, 0.25)
    np.testing.assert_array_equal(stack.read(*CROP), voxels[0, :, 0][CROP])
    tags = json.dumps({"axes": [{"key": axis} for axis in "tzcyx"]})
    path = hdf5(tmp_path / "b.hdf5", voxels, axistags=tags)
    for time, channel in np.ndindex(2, 2):
        stack = open_stack(path, channel=channel, time=time)
        np.testing.assert_array_equal(stack.read(), voxels[time, :, channel])
    other = open_stack(path, channel=0, time=0).at(1, 1, "")
    np.testing.assert_array_equal(other.read(), voxels[1, :, 1])
    assert open_stack(path, channel=0, time=0).voxel_size_um is None


def test_hdf5_that_is_no_stack(tmp_path: Path, voxels: np.ndarray) -> None:
    h5py = pytest.importorskip("h5py", reason=WHAT_IS_ABSENT)
    path = hdf5(tmp_path / "a.h5", voxels[0, :, 0])
    with h5py.File(path, "a") as file:
        file["second"] = voxels[1, :, 0]
    refused(path, "one dataset of three axes is needed, and it holds 2 .exported/data, second.")
    refused(hdf5(tmp_path / "b.h5", voxels[0, 0, 0]), "it holds none")
    for options, said in (
        ({"shape": (2**20, 2**15, 2**15), "dtype": "u1", "chunks": (64, 64, 64)}, "cannot be in"),
        ({"shape": (2**20, 2**9, 2**9), "dtype": "u1", "chunks": (64, 64, 64)}, "never written"),
        ({"shape": (2**20, 2**10, 2**10), "dtype": "u1", "chunks": (2**10,) * 3}, "too large"),
        (
            {"shape": (4, 5, 6), "dtype": "u1", "external": [("/etc/hostname", 0, 9999)]},
            "lies in other files",
        ),
    ):
        refused(hdf5(tmp_path / "c.h5", options=options), said)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["t00000/s00/0/cells"] = h5py.ExternalLink("../a.h5", "exported/data")
    refused(tmp_path / "d.h5", "outside its folder")
    layout = h5py.VirtualLayout((4, 12, 20), np.uint16)
    layout[:] = h5py.VirtualSource(str(path), "second", (4, 12, 20))
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    refused(tmp_path / "e.h5", "lies in other files")


def test_ims_that_lies(tmp_path: Path, voxels: np.ndarray) -> None:
    path = written(tmp_path, "a.ims", voxels)
    import h5py

    for axis, lie in (("Z", "999999"), ("Y", "-3"), ("X", "many")):
        ims_file(path, voxels)
        with h5py.File(path, "a") as file:
            file["DataSetInfo/Image"].attrs[axis] = letters(lie)
        refused(path, f"says '{lie}' voxels along {axis.lower()}", channel=0, time=0)
    ims_file(path, voxels)
    with h5py.File(path, "a") as file:
        del file["DataSet/ResolutionLevel 0/TimePoint 1/Channel 1"]
    refused(path, "holds no dataset DataSet/ResolutionLevel 0/TimePoint 1/Channel 1", channel=0)


# CZI


def test_czi_without_all_its_planes(tmp_path: Path, voxels: np.ndarray) -> None:
    pytest.importorskip("pylibCZIrw", reason=WHAT_IS_ABSENT)
    path = czi_file(tmp_path / "a.czi", voxels, planes=3)
    refused(path, "stopped early: 14 of 16 planes are there", channel=0, time=0)
    path = czi_file(tmp_path / "b.czi", voxels[:1, :, :1], scenes=2)
    refused(path, "holds 2 images .0 scene0, 1 scene1.; give one by name or number, as .*b.czi/0")
    for inside in ("scene1", "1"):
        stack = open_stack(path / inside)
        assert stack.zyx_shape == (4, 12, 20)
        np.testing.assert_array_equal(stack.read(*CROP), voxels[0, :, 0][CROP])
    assert stack_name(path / "scene1") == "b_scene1"


def test_czi_whose_planes_are_too_large_for_the_file(tmp_path: Path, voxels: np.ndarray) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi", reason=WHAT_IS_ABSENT)
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        for z, place in np.ndindex(2, 2):
            location = (20_000 * place, 20_000 * place)
            file.write(voxels[0, z, 0][..., np.newaxis], plane={"Z": z}, location=location)
    refused(tmp_path / "a.czi", "a plane of 20012 × 20020 pixels cannot be in a file of")


def test_czi_of_other_types(tmp_path: Path, voxels: np.ndarray) -> None:
    pytest.importorskip("pylibCZIrw", reason=WHAT_IS_ABSENT)
    bytes_, floats = (voxels[:1, :, :1] // 250).astype(np.uint8), voxels[:1, :, :1] / np.float32(7)
    for expected in (bytes_, floats):
        stack = open_stack(czi_file(tmp_path / "a.czi", expected))
        assert stack.dtype == expected.dtype
        np.testing.assert_array_equal(stack.read(), expected[0, :, 0])


# LIF


def test_lif_of_several_images(tmp_path: Path, voxels: np.ndarray) -> None:
    pytest.importorskip("liffile", reason=WHAT_IS_ABSENT)
    path = lif_file(tmp_path / "a.lif", {"Left": voxels, "Right": voxels})
    refused(path, "holds 2 images .0 Left, 1 Right.; give one by name .*a.lif/0", time=0)
    lif_file(path, {"Left": voxels[:1], "Right": voxels[1:]})
    for time, inside in enumerate(("Left", "Right")):
        for stack in (
            open_stack(path / f"{time}", channel=1),
            open_stack(path / inside, channel=1),
        ):
            np.testing.assert_array_equal(stack.read(), voxels[time, :, 1])
    assert stack_files(path / "Left") == [path / "Left"]
    assert stack_name(path / "Left") == "a_Left"
    refused(path / "Middle", "there is no image 'Middle'; it holds 2 images .0 Left, 1 Right.")
    (tmp_path / "b.npy").write_bytes(b"x")
    refused(tmp_path / "b.npy/Left", "b.npy is a file of one stack; give the file")
    refused(lif_file(path, {}), "there is no image")
    eight = (voxels[:1, :, :1] // 250).astype(np.uint8)
    np.testing.assert_array_equal(open_stack(lif_file(path, {"One": eight})).read(), eight[0, :, 0])


def test_lif_that_lies(tmp_path: Path, voxels: np.ndarray) -> None:
    pytest.importorskip("liffile", reason=WHAT_IS_ABSENT)
    path = lif_file(tmp_path / "a.lif", {"One": voxels[:1, :, :1]})
    whole = path.read_bytes()
    old = 'NumberOfElements="4"'.encode("utf-16-le")
    assert old in whole
    for number in ("9", "0"):
        new = f'NumberOfElements="{number}"'.encode("utf-16-le")
        path.write_bytes(whole.replace(old, new))
        refused(path, "the file is truncated|damaged|two-dimensional|empty")
    path.write_bytes(whole[:-100])
    refused(path, "the file is truncated")
    lif_file(path, {"One": voxels[:1, :, :1]}, before="<!DOCTYPE a [<!ENTITY b 'c'>]>")
    refused(path, "declares entities")
    path.write_bytes(whole[:9] + (2**31).to_bytes(4, "little") + whole[13:])
    refused(path, "not a LIF file")


# OIF and OIB


def test_oif_belongs_to_its_folder(tmp_path: Path, voxels: np.ndarray) -> None:
    data = tmp_path / "data"
    data.mkdir()
    path = oif_file(data / "a.oif", voxels[:1, :, :1])
    assert [stack.path for stack, _ in every_stack(data, tmp_path / "out")] == [path]
    folder = data / "a.oif.files"
    (folder / "s_C001Z003T001.tif").rename(folder / "other.tif")
    assert open_stack(path).zyx_shape[0] == 3
    folder.rename(data / "elsewhere")
    refused(path, "the folder a.oif.files is not beside it")


@pytest.mark.timeout(60)
def test_oib_whose_sectors_go_round_comes_to_an_end(tmp_path: Path, voxels: np.ndarray) -> None:
    path = written(tmp_path, "a.oib", voxels)
    whole = path.read_bytes()
    # The table of sectors lies behind the header: each sector leads to itself.
    for first in (1, 10):
        content = bytearray(whole)
        for sector in range(first, 100):
            content[512 + 4 * sector : 516 + 4 * sector] = sector.to_bytes(4, "little")
        path.write_bytes(content)
        with contextlib.suppress(TenetError):
            open_stack(path, channel=0, time=0).read()
