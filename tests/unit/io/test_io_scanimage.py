"""ScanImage: pages are channels, frames, slices and flyback; lengths come from the field of view.

Each file holds the one scene, with the header that a version of ScanImage writes.
"""

import contextlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.scanimage import scanimage_header

SLICES, ROWS, COLUMNS = 6, 20, 30
VOXEL = (2.0, 0.5, 0.4)


@pytest.fixture
def scene() -> np.ndarray:
    shape = (SLICES, ROWS, COLUMNS)
    return np.random.default_rng(0).integers(0, 4000, shape).astype(np.int16)


def pages_of(
    scene: np.ndarray, channels: int = 1, frames: int = 1, flyback: int = 0, volumes: int = 1
) -> np.ndarray:
    """The scene as ScanImage writes it: channel c is c higher, frames differ by a zero-mean sign.

    Flyback frames are bright.
    """
    offsets = np.arange(frames) - (frames - 1) // 2
    offsets[-1] -= offsets.sum()
    volume = [
        scene[z] + 10 * c + offsets[f]
        for z in range(len(scene))
        for f in range(frames)
        for c in range(channels)
    ]
    volume += [np.full_like(scene[0], 9000)] * (flyback * channels)
    return np.stack(volume * volumes).astype(np.int16)


def lines(**entries: Any) -> dict[str, str]:
    return {name.replace("__", "."): str(value) for name, value in entries.items()}


def header_2016(
    channels: int = 1, frames: Any = 1, averaged: int = 1, **more: Any
) -> dict[str, str]:
    save = "1" if channels == 1 else f"[{';'.join(str(c + 1) for c in range(channels))}]"
    right, bottom = COLUMNS * VOXEL[2] / 2, ROWS * VOXEL[1] / 2
    fov = f"[{-right} {-bottom};{right} {-bottom};{right} {bottom};{-right} {bottom}]"
    return lines(
        SI__LINE_FORMAT_VERSION=1,
        SI__VERSION_MAJOR="'2020'",
        SI__hChannels__channelSave=save,
        SI__hFastZ__enable="false",
        SI__hRoiManager__imagingFovUm=fov,
        SI__hRoiManager__mroiEnable="false",
        SI__hRoiManager__scanZoomFactor=3.2,
        SI__hScan2D__logAverageFactor=averaged,
        SI__hStackManager__actualNumSlices=SLICES,
        SI__hStackManager__actualStackZStepSize=VOXEL[0],
        SI__hStackManager__enable="true",
        SI__hStackManager__framesPerSlice=frames,
        SI__hStackManager__numSlices=11,  # left over from an earlier recording
        SI__hStackManager__stackDefinition="'uniform'",
        SI__hStackManager__stackZStepSize=-VOXEL[0],
        SI__objectiveResolution=15,
    ) | lines(**more)


def header_2015(channels: int = 1, frames: Any = 1, averaged: int = 1) -> dict[str, str]:
    header = header_2016(channels, frames, averaged)
    del header["SI.hStackManager.actualNumSlices"], header["SI.hStackManager.enable"]
    header["SI.hStackManager.numSlices"] = str(SLICES)
    return {f"scanimage.{name}": value for name, value in header.items()}


def header_5(channels: int = 1, frames: Any = 1, averaged: int = 1, **more: Any) -> dict[str, str]:
    save = f"[{';'.join(str(c + 1) for c in range(channels))}]"
    return lines(
        scanimage__SI5__VERSION_MAJOR=5,
        scanimage__SI5__acqNumAveragedFrames=averaged,
        scanimage__SI5__acqNumFrames=frames,
        scanimage__SI5__channelsSave=save,
        scanimage__SI5__fastZEnable="false",
        scanimage__SI5__stackNumSlices=SLICES,
        scanimage__SI5__stackZStepSize=VOXEL[0],
        scanimage__SI5__zoomFactor=3,
    ) | lines(**more)


def header_4(channels: int = 1, frames: Any = 1, averaged: int = 1) -> dict[str, str]:
    header = header_5(channels, frames, averaged)
    return {name.replace("SI5", "SI4"): value for name, value in header.items()}


def header_3(channels: int = 1, frames: Any = 1, averaged: int = 1) -> dict[str, str]:
    return lines(
        state__configName="'stack'",
        state__software__version=3.8,
        state__acq__numberOfChannelsSave=channels,
        state__acq__numberOfZSlices=SLICES,
        state__acq__numberOfFrames=frames,
        state__acq__numAvgFramesSave=averaged,
        state__acq__averaging=int(averaged > 1),
        state__acq__zStepSize=VOXEL[0],
        state__acq__zoomFactor=3,
    )


def write(path: Path, pages: np.ndarray, header: dict[str, str], **options: Any) -> Path:
    """Write pages with a header as ScanImage does: a directory and a description before each."""
    modern = any(name.startswith("SI.") for name in header)
    three = any(name.startswith("state.") for name in header)
    text = (
        "\r".join(f"{name}={value}" for name, value in header.items()) + "\r"
        if three
        else "\n".join(f"{name} = {value}" for name, value in header.items())
    )
    with tifffile.TiffWriter(path, bigtiff=modern) as tiff:
        for k, page in enumerate(pages):
            frame = f"frameNumbers = {k + 1}\nframeTimestamps_sec = {k / 30:.9f}\n"
            description = frame if modern else text if three else f"Frame Number = {k + 1}\n{text}"
            tiff.write(
                page,
                photometric="minisblack",
                description=description,
                software=text if modern else False,
                metadata=None,
                contiguous=False,
                **options,
            )
    return path


HEADERS = {"3.8": header_3, "4": header_4, "5": header_5, "2015": header_2015, "2016": header_2016}


@pytest.mark.parametrize("version", HEADERS)
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(
    ("frames", "averaged"), [(1, 1), (3, 1), (3, 3), (6, 3)], ids=["1", "3", "3of3", "3of6"]
)
def test_every_channel_reads_as_the_scene(
    tmp_path: Path, scene: np.ndarray, version: str, channels: int, frames: int, averaged: int
) -> None:
    pages = pages_of(scene, channels, frames // averaged)
    path = write(tmp_path / "a.tif", pages, HEADERS[version](channels, frames, averaged))
    for channel in range(channels):
        stack = open_stack(path, channel=channel)
        assert stack.zyx_shape == scene.shape
        np.testing.assert_allclose(stack.read(), scene + 10 * channel, atol=1e-3)
        crop = pickle.loads(pickle.dumps(stack)).read(slice(1, 3), slice(2, 9), slice(4, 30))
        np.testing.assert_allclose(crop, scene[1:3, 2:9, 4:] + 10 * channel, atol=1e-3)
        assert stack.read(slice(2, 2)).shape == (0, ROWS, COLUMNS)
    assert stack.dtype == (np.int16 if frames == averaged else np.float32)
    if channels == 1:
        assert open_stack(path).zyx_shape == scene.shape
        return
    for wrong in (None, channels):
        with pytest.raises(TenetError, match=r"channel") as error:
            open_stack(path, channel=wrong)
        assert str(channels) in str(error.value)


@pytest.mark.parametrize("options", [{"compression": "zlib"}, {"rowsperstrip": 7}], ids=str)
def test_pages_in_strips_and_compressed(
    tmp_path: Path, scene: np.ndarray, options: dict[str, Any]
) -> None:
    path = write(tmp_path / "a.tif", pages_of(scene, 2, 2), header_2016(2, 2), **options)
    np.testing.assert_allclose(open_stack(path, channel=1).read(), scene + 10, atol=1e-3)


def test_pages_that_another_program_has_saved_in_one_piece(
    tmp_path: Path, scene: np.ndarray
) -> None:
    """tifffile writes its own axes beside the header; the pages are by turns nonetheless."""
    text = "\n".join(f"{name} = {value}" for name, value in header_2016(2).items())
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pages_of(scene, 2), software=text, photometric="minisblack")
    np.testing.assert_array_equal(open_stack(path, channel=1).read(), scene + 10)


def test_field_of_view_and_step_are_the_voxel_size(tmp_path: Path, scene: np.ndarray) -> None:
    path = tmp_path / "a.tif"
    for header in (header_2016(), header_2015()):
        assert open_stack(write(path, pages_of(scene), header)).voxel_size_um == pytest.approx(
            VOXEL
        )
    degrees = header_2016()
    del degrees["SI.hRoiManager.imagingFovUm"]
    degrees["SI.hRoiManager.imagingFovDeg"] = "[-2 -1;2 -1;2 1;-2 1]"  # 15 µm a degree
    stack = open_stack(write(path, pages_of(scene), degrees))
    assert stack.voxel_size_um == pytest.approx((2.0, 30 / ROWS, 60 / COLUMNS))
    steps = header_2016(
        SI__hStackManager__stackDefinition="'arbitrary'",
        SI__hStackManager__arbitraryZs="[0;3;6;9;12;15]",
    )
    stack = open_stack(write(path, pages_of(scene), steps))
    assert stack.voxel_size_um == pytest.approx((3.0, *VOXEL[1:]))
    steps["SI.hStackManager.arbitraryZs"] = "[0;3;6;9;12;25]"
    stack = open_stack(write(path, pages_of(scene), steps))
    assert stack.voxel_size_um is None
    assert "not the distance of its planes" in stack.voxel_size_note


@pytest.mark.parametrize("header", [header_3(), header_5()], ids=["3.8", "5"])
def test_versions_that_do_not_know_the_field_say_so(
    tmp_path: Path, scene: np.ndarray, header: dict[str, str]
) -> None:
    stack = open_stack(write(tmp_path / "a.tif", pages_of(scene), header))
    assert stack.voxel_size_um is None
    assert stack.voxel_size_note == "says the distance of its planes (2 µm) but not its pixels"


@pytest.mark.parametrize(
    "header",
    [
        header_2016(2, SI__hStackManager__numFramesPerVolume=6)
        | lines(SI__hStackManager__numFramesPerVolumeWithFlyback=8),
        header_2016(2, SI__hFastZ__enable="true")
        | lines(SI__hFastZ__numDiscardFlybackFrames=2, SI__hFastZ__discardFlybackFrames="true"),
        header_5(2, scanimage__SI5__fastZEnable="true")
        | lines(scanimage__SI5__fastZNumDiscardFrames=2),
    ],
    ids=["2020", "2016", "5"],
)
def test_flyback_frames_are_dropped(
    tmp_path: Path, scene: np.ndarray, header: dict[str, str]
) -> None:
    path = tmp_path / "a.tif"
    for flyback in (0, 2):  # they are written, or have been taken out already
        write(path, pages_of(scene, 2, flyback=flyback), header)
        np.testing.assert_array_equal(open_stack(path, channel=1).read(), scene + 10)
    write(path, pages_of(scene, 2, flyback=2, volumes=2), header)
    with pytest.raises(TenetError, match="time series of volumes"):
        open_stack(path, channel=1)


def test_frames_without_a_number_are_as_many_as_there_are(
    tmp_path: Path, scene: np.ndarray
) -> None:
    path = write(tmp_path / "a.tif", pages_of(scene, 2, 4), header_2016(2, "Inf"))
    np.testing.assert_allclose(open_stack(path, channel=0).read(), scene, atol=1e-3)


def test_old_switch_for_averaging(tmp_path: Path, scene: np.ndarray) -> None:
    header = header_3(2, 5)
    del header["state.acq.numAvgFramesSave"]
    header["state.acq.averaging"] = "1"
    path = write(tmp_path / "a.tif", pages_of(scene, 2), header)
    np.testing.assert_array_equal(open_stack(path, channel=1).read(), scene + 10)


@pytest.mark.parametrize(
    ("kept", "header", "said"),
    [
        (7, header_2016(2), "stopped early"),
        (10, header_2016(2), "stopped early"),
        (24, header_2016(2, SI__hStackManager__actualNumSlices=3), "time series of volumes"),
        (24, header_2016(2, SI__hStackManager__enable="false"), "time series of one plane"),
        (24, header_5(1, scanimage__SI5__stackNumSlices=1), "time series of one plane"),
        (1, header_2016(SI__hStackManager__actualNumSlices=1), "two-dimensional"),
        (24, header_2016(2, 2, SI__hRoiManager__mroiEnable=1), "several regions"),
    ],
)
def test_what_is_not_one_stack(
    tmp_path: Path, scene: np.ndarray, kept: int, header: dict[str, str], said: str
) -> None:
    path = write(tmp_path / "a.tif", pages_of(scene, 2, 2)[:kept], header)
    with pytest.raises(TenetError, match=said) as error:
        open_stack(path, channel=0)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_frames_that_are_in_truth_planes(tmp_path: Path, scene: np.ndarray) -> None:
    header = header_2016(2, SI__hStackManager__enable="false")
    path = write(tmp_path / "a.tif", pages_of(scene, 2), header)
    np.testing.assert_array_equal(open_stack(path, channel=1, planes_are="T").read(), scene + 10)
    path = write(tmp_path / "b.tif", pages_of(scene), header_2016(6) | {
        "SI.hStackManager.actualNumSlices": "1"
    })  # fmt: skip
    np.testing.assert_array_equal(open_stack(path, planes_are="C").read(), scene)
    write(path, pages_of(scene), header_2016())
    with pytest.raises(TenetError, match="planes besides"):
        open_stack(path, planes_are="T")


def test_regions_are_counted_where_the_header_names_them(tmp_path: Path, scene: np.ndarray) -> None:
    header = header_2016(SI__hRoiManager__mroiEnable=1)
    text = "\n".join(f"{name} = {value}" for name, value in header.items())
    path = tmp_path / "a.tif"

    def write_with(rois: str) -> None:
        artist = (315, "s", 0, f'{{"RoiGroups": {{"imagingRoiGroup": {{"rois": {rois}}}}}}}', True)
        options: dict[str, Any] = {"software": text, "metadata": None, "extratags": [artist]}
        tifffile.imwrite(path, scene, photometric="minisblack", **options)

    for rois in ('{"zs": 0}', '[{"zs": 0}]'):
        write_with(rois)
        stack = open_stack(path)
        np.testing.assert_array_equal(stack.read(), scene)
        assert stack.voxel_size_um is None  # the pages show a region, not the field
    for rois, said in (("[{}, {}]", "2 regions"), ("[" * 9000, "nested")):
        write_with(rois)
        with pytest.raises(TenetError, match=said):
            open_stack(path)


@pytest.mark.parametrize(
    "value", ["1e999", "-5", "0", "NaN", "abc", "", "[]", "9" * 5000, "[1 2", "<unencodeable>"]
)
@pytest.mark.parametrize(
    "name",
    [
        "SI.hChannels.channelSave",
        "SI.hStackManager.actualNumSlices",
        "SI.hStackManager.framesPerSlice",
        "SI.hScan2D.logAverageFactor",
        "SI.hRoiManager.imagingFovUm",
        "SI.hStackManager.actualStackZStepSize",
    ],
)
def test_no_value_of_a_header_is_trusted(
    tmp_path: Path, scene: np.ndarray, name: str, value: str
) -> None:
    path = write(tmp_path / "a.tif", pages_of(scene), header_2016() | {name: value})
    with contextlib.suppress(TenetError):  # any other error fails the test
        assert open_stack(path, channel=0).read().shape[1:] == (ROWS, COLUMNS)


@pytest.mark.parametrize("filling", ["\n", " ", "\r\n", "a.", "1", "[", "= "])
def test_long_headers_take_no_time(filling: str) -> None:
    """A pattern that goes back over what it has read would need minutes for each of these."""
    long = filling * 10**6
    header = scanimage_header(f"SI.a = {long}x\nSI.b = 1\n{long}\nSI.c = 1 {long}", "")
    assert header is not None
    header.numbers("SI.a", "SI.c")


def test_headers_of_others_are_none() -> None:
    assert scanimage_header("Fiji", "ImageJ=1.54f\nimages=3\n") is None
    assert scanimage_header("", "") is None
    assert scanimage_header("SI.a.b = 1", "") == {"SI.a.b": "1"}
    assert scanimage_header("", "state.a.b=1\rstate.c='x'\r") == {
        "state.a.b": "1",
        "state.c": "'x'",
    }
    assert scanimage_header("", "Frame Number = 1\nscanimage.SI.a = [1;2]") == {"SI.a": "[1;2]"}
