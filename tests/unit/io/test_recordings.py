"""Recordings without a library: planes in files, Prairie View, ThorImage, Scanbox, LSM."""

import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import tifffile
from vendor_files import (
    lsm_file,
    plane_file,
    prairie_folder,
    refused,
    scanbox_file,
    thor_folder,
)

from tenet.data.folds import every_stack
from tenet.io.folders import is_one_stack, stack_files, stack_name
from tenet.io.open import open_stack
from tenet.io.optics import Optics
from tenet.io.picks import Parts, Picks

CROP = (slice(1, 3), slice(2, 9), slice(3, 17))


@pytest.fixture
def voxels() -> np.ndarray:
    """Two time points of four planes of two channels."""
    return np.random.default_rng(0).integers(0, 4000, (2, 4, 2, 12, 20)).astype(np.uint16)


def assert_parts(path: Path, voxels: np.ndarray, **options: Any) -> None:
    """Every channel and time point of T, Z, C, Y, X is read, in crops too."""
    assert [(s.part, s.zyx_shape) for s in Parts(Picks.parse("all"), Picks.parse("all")).open(path)]
    for time, channel in np.ndindex(voxels.shape[0], voxels.shape[2]):
        stack = open_stack(path, channel=channel, time=time)
        expected = voxels[time, :, channel]
        assert (stack.channels, stack.times) == (voxels.shape[2], voxels.shape[0])
        assert stack.zyx_shape == expected.shape
        assert stack.dtype == voxels.dtype
        np.testing.assert_array_equal(stack.read(), expected)
        np.testing.assert_array_equal(stack.read(*CROP), expected[CROP])
    other = open_stack(path, channel=0, time=0).at(voxels.shape[2] - 1, voxels.shape[0] - 1, "")
    np.testing.assert_array_equal(other.read(), voxels[-1, :, -1])


# Prairie View


def test_prairie(tmp_path: Path, voxels: np.ndarray) -> None:
    folder = prairie_folder(tmp_path / "TSeries-001", voxels, kind="TSeries ZSeries Element")
    assert_parts(folder, voxels)
    assert_parts(folder / "stack.xml", voxels)
    stack = open_stack(folder, channel=1, time=1)
    assert stack.voxel_size_um == (2.0, 0.4, 0.3)
    assert stack.optics == Optics(0.8, 0.92, 1.33, 2)
    refused(folder, "it has 2 channels; choose one")
    refused(folder, "it has 2 time points; choose one", channel=0)
    assert stack_name(folder) == "TSeries-001"


def test_prairie_of_one_channel_needs_no_choice(tmp_path: Path, voxels: np.ndarray) -> None:
    folder = prairie_folder(tmp_path / "a", voxels[:1, :, :1])
    np.testing.assert_array_equal(open_stack(folder).read(), voxels[0, :, 0])


def test_prairie_series_without_z_are_time_points(tmp_path: Path, voxels: np.ndarray) -> None:
    folder = prairie_folder(tmp_path / "a", voxels[:1, :, :1], kind="TSeries Timed Element")
    refused(folder, "time series of single planes")
    np.testing.assert_array_equal(open_stack(folder, planes_are="T").read(), voxels[0, :, 0])


def test_prairie_that_goes_down_and_up(tmp_path: Path, voxels: np.ndarray) -> None:
    folder = prairie_folder(
        tmp_path / "a", voxels[:, :, :1], kind="TSeries ZSeries Element",
        extra='bidirectionalZ="True"',
    )  # fmt: skip
    np.testing.assert_array_equal(open_stack(folder, time=0).read(), voxels[0, :, 0])
    np.testing.assert_array_equal(open_stack(folder, time=1).read(), voxels[1, ::-1, 0])


def test_prairie_with_several_planes_in_a_file(tmp_path: Path, voxels: np.ndarray) -> None:
    folder = prairie_folder(tmp_path / "a", voxels[:1, :, :1])
    for file in folder.glob("*.tif"):
        file.unlink()
    name = "stack_Cycle00001_Ch1_000001.ome.tif"
    tifffile.imwrite(folder / name, voxels[0, :, 0], photometric="minisblack")
    xml = folder / "stack.xml"
    text = xml.read_text()
    for z in range(4):
        old = f'page="1" filename="stack_Cycle00001_Ch1_{z + 1:06}.ome.tif"'
        text = text.replace(old, f'page="{z + 1}" filename="{name}"')
    xml.write_text(text)
    stack = open_stack(folder)
    np.testing.assert_array_equal(stack.read(), voxels[0, :, 0])
    np.testing.assert_array_equal(stack.read(*CROP), voxels[0, :, 0][CROP])


def test_prairie_with_a_confocal_laser(tmp_path: Path, voxels: np.ndarray) -> None:
    folder = prairie_folder(tmp_path / "a", voxels[:1, :, :1])
    xml = folder / "stack.xml"
    xml.write_text(xml.read_text().replace('"920"', '"488"'))
    assert open_stack(folder).optics == Optics(0.8, 0.488, 1.33, None)
    xml.write_text(xml.read_text().replace('subindex="0" value="-4', 'subindex="0" value="-9'))
    assert open_stack(folder).voxel_size_note == (
        "says its pixels (0.4 × 0.3 µm) but not the distance of its planes"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("Ch1_000002.ome.tif", "Ch1_000009.ome.tif"), "000009.ome.tif of the recording is miss"),
        (('filename="stack_', 'filename="../stack_'), "outside its folder"),
        (('filename="stack_', 'filename="C:\\data\\stack_'), "outside its folder"),
        (("<PVScan", "<!DOCTYPE a [<!ENTITY b 'c'>]><PVScan"), "declares entities"),
        (("</PVScan>", ""), "is broken"),
        (('page="1"', 'page="7"'), "page 7 is needed, and it has 1"),
    ],
)
def test_prairie_that_is_broken(
    tmp_path: Path, voxels: np.ndarray, change: tuple[str, str], said: str
) -> None:
    folder = prairie_folder(tmp_path / "a", voxels[:1, :, :1])
    xml = folder / "stack.xml"
    xml.write_text(xml.read_text().replace(*change))
    refused(folder, said)


def test_prairie_with_files_that_are_broken(tmp_path: Path, voxels: np.ndarray) -> None:
    folder = prairie_folder(tmp_path / "a", voxels[:1, :, :1])
    files = sorted(folder.glob("*.tif"))
    whole = files[2].read_bytes()
    files[2].write_bytes(whole[:-50])
    refused(folder, f"{files[2].name}.*truncated")
    plane_file(files[2], voxels[0, 0, 0, :5])
    refused(folder, f"{files[2].name}: its planes are 5 × 20 pixels of uint16, and others .* 12 ×")
    files[2].write_bytes(whole)
    xml = folder / "stack.xml"
    text = xml.read_text()
    cut = text.index("<Frame", text.index("<Frame") + 1)
    xml.write_text(text[:cut] + "</Sequence></PVScan>")
    refused(folder, "single two-dimensional image")
    shutil.copy(xml, folder / "again.xml")
    refused(folder, "it holds several recordings .again.xml, stack.xml.; give the XML file of one")
    assert is_one_stack(folder)


# ThorImage


def test_thor(tmp_path: Path, voxels: np.ndarray) -> None:
    folder = thor_folder(tmp_path / "a", voxels)
    assert_parts(folder, voxels)
    assert_parts(folder / "Experiment.xml", voxels)
    stack = open_stack(folder, channel=1, time=0)
    assert stack.voxel_size_um == (2.5, 0.5, 0.5)
    assert stack.optics == Optics(0.8, None, 1.33, None)
    (folder / "ChanB_0001_0001_0003_0002.tif").unlink()
    refused(folder, "1 of 16 planes are missing .2 channels, 2 time points, 4 planes", channel=0)
    plane_file(folder / "ChanB_0001_0002_0003_0002.tif", voxels[0, 0, 0])
    refused(folder, "several tiles")


def test_thor_raw(tmp_path: Path, voxels: np.ndarray) -> None:
    folder = thor_folder(tmp_path / "a", voxels, raw=True)
    assert_parts(folder, voxels)
    raw = folder / "Image_0001_0001.raw"
    whole = raw.read_bytes()
    for content in (whole[:-2], whole[: len(whole) // 2 + 480], b"\0"):
        raw.write_bytes(content)
        refused(folder, "stopped early or is truncated", channel=0, time=0)


def test_thor_raw_of_a_fast_stage(tmp_path: Path, voxels: np.ndarray) -> None:
    """The last frame of each volume is the flyback."""
    folder = thor_folder(
        tmp_path / "a", voxels, raw=True, mode=1, fast=1, frames=8, flyback=1, steps=3
    )
    assert_parts(folder, voxels[:, :3])


def test_thor_whose_header_lies(tmp_path: Path, voxels: np.ndarray) -> None:
    folder = thor_folder(tmp_path / "a", voxels, raw=True)
    xml = folder / "Experiment.xml"
    text = xml.read_text()
    for old, new, said in (
        ('pixelX="20"', 'pixelX="99999999"', "pixelX='99999999'"),
        ('pixelX="20"', 'pixelX="0"', "frames: it stopped early or is truncated"),
        ('steps="4"', 'steps="-4"', "steps='-4'"),
        ("<ThorImage", "<!DOCTYPE x><ThorImage", "declares entities"),
    ):
        xml.write_text(text.replace(old, new, 1))
        refused(folder, said)


# Scanbox


def test_scanbox(tmp_path: Path, voxels: np.ndarray) -> None:
    path = scanbox_file(tmp_path / "a.sbx", voxels)
    assert_parts(path, voxels)
    stack = open_stack(path, channel=0, time=0)
    assert stack.voxel_size_um == (20.0, 0.8, 0.75)
    assert stack.optics == Optics(0.8, 0.92, 1.33, 2)


def test_scanbox_of_a_plane(tmp_path: Path, voxels: np.ndarray) -> None:
    path = scanbox_file(tmp_path / "a.sbx", voxels.transpose(1, 0, 2, 3, 4)[:, :1, :1])
    refused(path, "time series of single planes")
    np.testing.assert_array_equal(open_stack(path, planes_are="T").read(), voxels[0, :, 0])
    path = scanbox_file(
        tmp_path / "b.sbx", voxels[:1, :, :1], channels=7, chan={"nchan": 1}, dxcal=0.5, dycal=0.6
    )
    assert open_stack(path).voxel_size_um == (20.0, 0.6, 0.5)


def test_scanbox_that_is_broken(tmp_path: Path, voxels: np.ndarray) -> None:
    path = scanbox_file(tmp_path / "a.sbx", voxels)
    mat, whole = path.with_suffix(".mat"), path.read_bytes()
    path.write_bytes(whole[:-3])
    refused(path, "the file is truncated", channel=0)
    path.write_bytes(whole)
    information = mat.read_bytes()
    mat.write_bytes(information[:200])
    refused(mat.with_suffix(".sbx"), "MAT file cannot be read|no `info`")
    mat.write_bytes(b"x" * 300)
    refused(path, "MAT file cannot be read")
    scipy.io.savemat(mat, {"other": 1})
    refused(path, "holds no `info` of Scanbox")
    scanbox_file(path, voxels, sz=np.array([10**6, 10**6]))
    refused(path, "more than can be read")
    scanbox_file(path, voxels, channels=9)
    refused(path, "how many channels")
    mat.unlink()
    refused(path, "a.mat is not beside it")


def test_a_mat_file_that_grows_without_limit_is_not_inflated(
    tmp_path: Path, voxels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenet.io.vendors.scanbox._MOST_INFLATED", 2**20)
    path = scanbox_file(tmp_path / "a.sbx", voxels, bomb=np.zeros(2**23))
    assert path.with_suffix(".mat").stat().st_size < 2**18
    tracemalloc.start()
    refused(path, "grows beyond 1048576 bytes")
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


# LSM


@pytest.mark.parametrize("channels", [1, 2])
def test_lsm(tmp_path: Path, voxels: np.ndarray, channels: int) -> None:
    path = lsm_file(tmp_path / "a.lsm", voxels[0, :, :channels], [488.0, 920.0][:channels])
    assert_parts(path, voxels[:1, :, :channels])
    first = open_stack(path, channel=0)
    assert first.voxel_size_um == pytest.approx((1.5, 0.25, 0.2))
    assert first.optics == Optics(1.0, 0.488, 1.33, None)
    if channels == 2:
        assert open_stack(path, channel=1).optics == Optics(1.0, 0.92, 1.33, 2)
        refused(path, "it has 2 channels; choose one")


def test_lsm_that_is_broken(tmp_path: Path, voxels: np.ndarray) -> None:
    path = lsm_file(tmp_path / "a.lsm", voxels[0], [488.0, 920.0])
    whole = path.read_bytes()
    for kept in (6, 100, len(whole) // 2):
        path.write_bytes(whole[:kept])
        refused(path, "truncated|not a TIFF")
    record = whole.index((67127628).to_bytes(4, "little"))
    planes = slice(record + 16, record + 20)
    assert int.from_bytes(whole[planes], "little") == 4
    for lie in (5, 2**31 - 1, 0):
        path.write_bytes(whole[: planes.start] + lie.to_bytes(4, "little") + whole[planes.stop :])
        refused(path, "truncated|two-dimensional|cannot be read", channel=0)


# A plane a file


def name_of_plane(c: int, t: int, z: int) -> str:
    return f"img_t{t:02}_z{z:03}_c{c}.tif"


def planes_folder(
    folder: Path, voxels: np.ndarray, name: Callable[[int, int, int], str], **options: Any
) -> Path:
    folder.mkdir(exist_ok=True)
    for t, z, c in np.ndindex(voxels.shape[:3]):
        tifffile.imwrite(
            folder / name(c, t, z), voxels[t, z, c], photometric="minisblack", **options
        )
    return folder


def test_planes_in_files(tmp_path: Path, voxels: np.ndarray) -> None:
    folder = planes_folder(tmp_path / "a", voxels, name_of_plane)
    assert_parts(folder, voxels)
    stack = open_stack(folder, channel=0, time=0)
    assert stack.voxel_size_um is None
    assert stack.optics == Optics()
    # One number needs no letter, nor leading zeros.
    folder = planes_folder(
        tmp_path / "b", voxels.repeat(3, 1)[:1, :, :1], lambda c, t, z: f"{z}.tif"
    )
    np.testing.assert_array_equal(open_stack(folder).read(), voxels[0, :, 0].repeat(3, 0))


def test_planes_keep_the_pixels_of_imagej(tmp_path: Path, voxels: np.ndarray) -> None:
    folder = planes_folder(
        tmp_path / "a", voxels[:1, :, :1], name_of_plane, imagej=True, resolution=(4, 5),
        metadata={"unit": "micron"},
    )  # fmt: skip
    assert open_stack(folder).voxel_size_note == (
        "says its pixels (0.2 × 0.25 µm) but not the distance of its planes"
    )


def test_planes_keep_what_ome_says(tmp_path: Path, voxels: np.ndarray) -> None:
    metadata = {"axes": "YX", "PhysicalSizeX": 0.2, "PhysicalSizeY": 0.2, "PhysicalSizeZ": 1.0}
    folder = planes_folder(
        tmp_path / "a", voxels[:1, :, :1], lambda c, t, z: f"a{z}.ome.tif", ome=True,
        metadata=metadata,
    )  # fmt: skip
    stack = open_stack(folder)
    assert stack.voxel_size_um == (1.0, 0.2, 0.2)
    np.testing.assert_array_equal(stack.read(), voxels[0, :, 0])


def test_compressed_planes(tmp_path: Path, voxels: np.ndarray) -> None:
    folder = planes_folder(
        tmp_path / "a", voxels[:1, :, :1], name_of_plane, compression="zlib", tile=(16, 16)
    )
    np.testing.assert_array_equal(open_stack(folder).read(*CROP), voxels[0, :, 0][CROP])


def test_planes_that_are_no_stack(tmp_path: Path, voxels: np.ndarray) -> None:
    folder = planes_folder(tmp_path / "a", voxels, name_of_plane)
    (folder / name_of_plane(1, 1, 3)).unlink()
    refused(folder, "1 of 16 planes are missing")
    folder = planes_folder(tmp_path / "b", voxels[:1, :, :1], name_of_plane)
    (folder / name_of_plane(0, 0, 1)).unlink()
    refused(folder, "planes between 0 and 2 are missing")
    folder = planes_folder(tmp_path / "c", voxels[:, :, :1], lambda c, t, z: f"{t}_{z}.tif")
    refused(folder, "2 numbers of its file names count something .*write z, c or t")
    colours = np.zeros((4, 12, 20, 3), np.uint8)
    (tmp_path / "d").mkdir()
    for z, plane in enumerate(colours):
        tifffile.imwrite(tmp_path / f"d/{z}.tif", plane, photometric="rgb")
    refused(tmp_path / "d", "folder of 4 TIFF files, not a stack")


def test_folders_of_stacks_stay_folders_of_stacks(tmp_path: Path, voxels: np.ndarray) -> None:
    folder = tmp_path / "stacks"
    folder.mkdir()
    for k in range(3):
        tifffile.imwrite(folder / f"cells{k}.tif", voxels[0, :, 0] + k, photometric="minisblack")
    assert not is_one_stack(folder)
    assert [path.name for path in stack_files(folder)] == ["cells0.tif", "cells1.tif", "cells2.tif"]
    refused(folder, "folder of 3 TIFF files, not a stack")
    # One picture among them, of the same name and size, changes nothing.
    plane_file(folder / "cells0.tif", voxels[0, 0, 0])
    assert not is_one_stack(folder)
    # Planes beside a stack are a mistake that is told.
    mixed = planes_folder(tmp_path / "mixed", voxels[:1, :, :1], name_of_plane)
    assert is_one_stack(mixed)
    np.save(mixed / "other.npy", voxels[0, :, 0])
    assert not is_one_stack(mixed)
    # A stack of 4 GB and more of ImageJ is one page and a number.
    for k in range(3):
        path = folder / f"cells{k}.tif"
        tifffile.imwrite(path, voxels[0, :, 0], imagej=True)
        content = path.read_bytes()
        assert b"images=4" in content
    assert not is_one_stack(folder)


def test_recordings_lie_among_stacks(tmp_path: Path, voxels: np.ndarray) -> None:
    data = tmp_path / "data"
    data.mkdir()
    one = voxels[:1, :, :1]
    prairie_folder(data / "prairie", one)
    thor_folder(data / "thor", one)
    planes_folder(data / "planes", one, name_of_plane)
    lsm_file(data / "zeiss.lsm", one[0], [488.0])
    tifffile.imwrite(data / "plain.tif", one[0, :, 0], photometric="minisblack")
    found = every_stack(data, tmp_path / "out")
    assert [target.name for _, target in found] == [
        "plain.ome.tif", "planes.ome.tif", "prairie.ome.tif", "thor.ome.tif", "zeiss.ome.tif",
    ]  # fmt: skip
    for stack, _ in found:
        np.testing.assert_array_equal(stack.read(), one[0, :, 0])
