"""Stacks from files: geometry, voxel size, intensities and what is refused."""

import math
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nd2
import numpy as np
import ome_zarr.io
import ome_zarr.reader
import pytest
import tifffile
import zarr
from ome_zarr.writer import write_image

from tenet.errors import TenetError
from tenet.io.axes import find_layout
from tenet.io.imagej import imagej_calibration
from tenet.io.intensities import IntensityRange, check_intensities, intensity_range, normalise
from tenet.io.nd2 import _nd2_calibration
from tenet.io.ome_tiff import ome_calibration, parse_ome
from tenet.io.ome_zarr import _Image, _multiscale_axes
from tenet.io.open import open_stack
from tenet.io.stack import Stack
from tenet.io.writing import OmeTiffWriter, OmeZarrWriter, write_ome_tiff, writer_for

VOXEL = (0.5, 0.1, 0.2)
CROP = (slice(3, 7), slice(10, 21), slice(5, 29))
DATA = Path(__file__).parents[3].parent / "shared" / "data"


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, (12, 40, 48)).astype(np.uint16)


def assert_holds(stack: Stack, voxels: np.ndarray) -> None:
    """A stack shows the shape, a crop and the whole of an array."""
    assert stack.zyx_shape == voxels.shape
    crop = stack.read(*CROP)
    assert crop.dtype == np.float32
    assert crop.flags.writeable
    np.testing.assert_array_equal(crop, voxels[CROP])
    np.testing.assert_array_equal(stack.read(), voxels)
    np.testing.assert_array_equal(np.concatenate([s for _, s in stack.slabs(20_000)]), voxels)


def assert_one_line(error: pytest.ExceptionInfo[TenetError], path: Path) -> None:
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message


# Formats


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"metadata": None},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True, "byteorder": ">"},
        {"compression": "lzw", "tile": (16, 32), "metadata": None, "bigtiff": True},
        {"tile": (16, 32)},
        {"rowsperstrip": 7, "metadata": None},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"},
    ],
    ids=str,
)
def test_tiff_of_every_kind_reads_the_same(
    tmp_path: Path, voxels: np.ndarray, options: dict[str, Any]
) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, voxels, photometric="minisblack", **options)
    stack = open_stack(path)
    assert_holds(stack, voxels)
    assert stack.dtype.kind == "u"
    assert stack.dtype.itemsize == 2
    assert stack.voxel_size_um is None
    assert_holds(pickle.loads(pickle.dumps(stack)), voxels)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float16", "float32", "float64"])
def test_npy_and_tiff_of_every_type(tmp_path: Path, voxels: np.ndarray, dtype: str) -> None:
    expected = (voxels % 100).astype(dtype)
    np.save(tmp_path / "stack.npy", expected)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(expected))
    assert_holds(open_stack(tmp_path / "stack.npy"), expected)
    assert_holds(open_stack(tmp_path / "fortran.npy"), expected)
    tifffile.imwrite(tmp_path / "stack.tif", expected, photometric="minisblack")
    assert_holds(open_stack(tmp_path / "stack.tif"), expected)


@pytest.mark.parametrize("axes", ["CZYX", "ZCYX"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_channel_of_tiff(
    tmp_path: Path, voxels: np.ndarray, axes: str, compression: str | None
) -> None:
    both = np.stack([voxels, voxels[::-1]])
    path = tmp_path / "two.ome.tif"
    stored = both if axes == "CZYX" else both.swapaxes(0, 1)
    tifffile.imwrite(path, stored, metadata={"axes": axes}, compression=compression)
    assert_holds(open_stack(path, channel=0), voxels)
    assert_holds(open_stack(path, channel=1), voxels[::-1])
    for channel in (None, 2, -1):
        with pytest.raises(TenetError, match="channel") as error:
            open_stack(path, channel=channel)
        assert_one_line(error, path)


def test_only_channel_may_be_named(tmp_path: Path, voxels: np.ndarray) -> None:
    np.save(tmp_path / "stack.npy", voxels)
    assert_holds(open_stack(tmp_path / "stack.npy", channel=0), voxels)
    with pytest.raises(TenetError, match="no channel 1; give 0, the only one"):
        open_stack(tmp_path / "stack.npy", channel=1)


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr(tmp_path: Path, voxels: np.ndarray, version: int) -> None:
    path = tmp_path / "image.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=version)  # type: ignore[arg-type]
    write_image(
        np.stack([voxels, voxels[::-1]]),
        group,
        scale_factors=(2,),
        axes=["c", "z", "y", "x"],
        scale={"c": 1.0, "z": 500.0, "y": 100.0, "x": 200.0},
        axes_units=dict.fromkeys("zyx", "nanometer"),
    )
    # The smaller level beside it is not read.
    assert len(list(group.array_keys())) == 2
    stack = open_stack(path, channel=1)
    assert_holds(stack, voxels[::-1])
    assert stack.voxel_size_um == pytest.approx(VOXEL)
    assert_holds(pickle.loads(pickle.dumps(stack)), voxels[::-1])
    archive = Path(shutil.make_archive(str(path), "zip", path))
    assert archive.name == "image.zarr.zip"
    assert_holds(open_stack(archive, channel=0), voxels)


def axes_of(image: dict[str, Any], ndim: int) -> tuple[str, tuple[float, float, float] | None]:
    names, found = _multiscale_axes(_Image.model_validate(image), (2,) * ndim)
    return names, found.voxel_size_um


def test_ome_zarr_metadata_of_each_version() -> None:
    scale = [{"type": "scale", "scale": [1.0, 1.0, 0.5, 0.1, 0.2]}]
    older = {"datasets": [{"path": "0"}], "axes": list("zyx")}
    assert axes_of(older, 3) == ("ZYX", None)
    assert axes_of({"datasets": [{"path": "0"}]}, 5) == ("TCZYX", None)
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    five: dict[str, Any] = {
        "axes": [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}, *axes],
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    assert axes_of(five, 5)[1] == pytest.approx(VOXEL)
    whole = five | {
        "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0, 2.0, 3.0, 4.0]}]
    }
    assert axes_of(whole, 5)[1] == pytest.approx((1.0, 0.3, 0.8))
    for axis in five["axes"]:
        axis.pop("unit", None)
    assert axes_of(five, 5) == ("TCZYX", None)


def test_zarr_without_image_is_refused(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "empty.zarr", mode="w")
    (tmp_path / "folder").mkdir()
    (tmp_path / "bad.zarr.zip").write_bytes(b"not a zip")
    for name in ("empty.zarr", "folder", "bad.zarr.zip"):
        with pytest.raises(TenetError) as error:
            open_stack(tmp_path / name)
        assert_one_line(error, tmp_path / name)


# ND2: no library writes it, so a minimal file of version 3 is built here from the format's chunks.


def _lite(name: str, value: Any) -> bytes:
    """Encode one entry of ND2's binary metadata ("lite variant")."""
    kinds: dict[type, tuple[int, str]] = {bool: (1, "?"), int: (3, "I"), float: (6, "d")}
    encoded = (name + "\0").encode("utf-16-le")
    if isinstance(value, dict):
        head = struct.pack("BB", 11, len(name) + 1) + encoded
        body = b"".join(_lite(key, item) for key, item in value.items())
        length = len(head) + 12 + len(body)
        return head + struct.pack("<IQ", len(value), length) + body + bytes(8 * len(value))
    kind, code = kinds[type(value)]
    return struct.pack("BB", kind, len(name) + 1) + encoded + struct.pack("<" + code, value)


def write_nd2(
    path: Path,
    czyx: np.ndarray,
    voxel_size_um: tuple[float, float, float],
    frames: int,
    times: int = 1,
    optics: dict[str, Any] | None = None,
    planes_of_channels: Sequence[dict[str, Any]] = (),
) -> None:
    """Write an ND2 of one stack, or of several whose planes follow one another in `czyx`.

    `optics` are entries of the picture, and `planes_of_channels` entries of each of its channels.
    """
    channels, planes, rows, columns = czyx.shape
    attributes = {
        "uiWidth": columns, "uiWidthBytes": columns * channels * 2, "uiHeight": rows,
        "uiComp": channels, "uiBpcInMemory": 16, "uiBpcSignificant": 16,
        "uiSequenceCount": frames, "eCompression": 2,
    }  # fmt: skip
    picture = {
        "dCalibration": voxel_size_um[1],
        "bCalibrated": voxel_size_um[1] > 0,
        **(optics or {}),
        "sPicturePlanes": {
            "uiCount": channels,
            "uiCompCount": channels,
            "sPlaneNew": {
                f"a{c}": {
                    "uiCompCount": 1,
                    "uiModalityMask": 1,
                    "pFluorescentProbe": {"uiColor": 255},
                    **(planes_of_channels[c] if planes_of_channels else {}),
                }
                for c in range(channels)
            },
        },
    }
    experiment = {
        "eType": 4,
        "uLoopPars": {"uiCount": planes // times, "dZStep": voxel_size_um[0], "iType": 0},
    }
    if times > 1:
        experiment = {
            "eType": 1,
            "uLoopPars": {"uiCount": times, "dStart": 0.0, "dPeriod": 1.0, "dDuration": 0.0},
            "ppNextLevelEx": {"i0": experiment},
        }
    chunks = {
        "ImageAttributesLV!": _lite("SLxImageAttributes", attributes),
        "ImageMetadataSeqLV|0!": _lite("SLxPictureMetadata", picture),
        "ImageMetadataLV!": _lite("SLxExperiment", experiment),
    }
    for k in range(frames):
        plane = np.moveaxis(czyx[:, k], 0, -1)  # channels are interleaved
        chunks[f"ImageDataSeq|{k}!"] = bytes(8) + np.ascontiguousarray(plane).tobytes()
    magic, page = 0x0ABECEDA, 4096
    file = bytearray(
        struct.pack("<IIQ32s64s", magic, 32, 64, b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0")
    )
    chunk_map = b""
    for name, data in chunks.items():
        file += bytes(-len(file) % page)
        chunk_map += name.encode() + struct.pack("<QQ", len(file), len(data))
        # A name fills up its place so that pixels begin 4096 bytes after the chunk: after the
        # header of 16 bytes, the name, and (in the data) a time of 8 bytes.
        file += struct.pack("<IIQ", magic, page - 24, len(data))
        file += name.encode().ljust(page - 24, b"\0") + data
    location = len(file)
    signature = b"ND2 CHUNK MAP SIGNATURE 0000001!"
    chunk_map += signature + struct.pack("<Q", location)
    file += struct.pack("<IIQ", magic, 32, len(chunk_map)) + b"ND2 FILEMAP SIGNATURE NAME 0001!"
    path.write_bytes(bytes(file) + chunk_map)


def test_nd2(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "stack.nd2"
    write_nd2(path, np.stack([voxels, voxels[::-1]]), (0.5, 0.1, 0.1), len(voxels))
    with nd2.ND2File(path) as file:  # the file made here is what the package takes it for
        assert dict(file.sizes) == {"Z": 12, "C": 2, "Y": 40, "X": 48}
    stack = open_stack(path, channel=1)
    assert_holds(stack, voxels[::-1])
    assert stack.voxel_size_um == pytest.approx((0.5, 0.1, 0.1))
    assert_holds(pickle.loads(pickle.dumps(stack)), voxels[::-1])
    with pytest.raises(TenetError, match="2 channels"):
        open_stack(path)

    write_nd2(path, voxels[None], (0.5, 0.0, 0.0), len(voxels))
    single = open_stack(path)
    assert_holds(single, voxels)
    assert single.voxel_size_um is None  # the plane is not calibrated


def test_nd2_of_several_time_points(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "series.nd2"
    write_nd2(path, np.stack([voxels, voxels[::-1]]), (0.5, 0.1, 0.1), len(voxels), times=3)
    with nd2.ND2File(path) as file:
        assert dict(file.sizes) == {"T": 3, "Z": 4, "C": 2, "Y": 40, "X": 48}
    with pytest.raises(TenetError, match="3 time points; choose one, 0 to 2"):
        open_stack(path, channel=0)
    stack = open_stack(path, channel=1, time=2)
    assert_holds(stack, voxels[::-1][8:])
    assert_holds(stack.at(0, 1, "_t001"), voxels[4:8])
    assert (stack.channels, stack.times) == (2, 3)


def test_nd2_that_is_damaged_or_stopped_early(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "stack.nd2"
    write_nd2(path, voxels[None], (0.5, 0.1, 0.1), 7)
    with pytest.raises(TenetError, match="only 7 of 12 planes") as error:
        open_stack(path)
    assert_one_line(error, path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"not an nd2 file at all", whole[:10]):
        path.write_bytes(damaged)
        with pytest.raises(TenetError, match="damaged or not ND2") as error:
            open_stack(path)
        assert_one_line(error, path)


def test_nd2_calibration_is_turned_from_xyz_to_zyx() -> None:
    volume = SimpleNamespace(axesCalibrated=(True, True, True), axesCalibration=(0.2, 0.1, 0.5))
    assert _nd2_calibration(volume).voxel_size_um == VOXEL
    volume.axesCalibrated = (True, True, False)
    found = _nd2_calibration(volume)
    assert found.voxel_size_um is None
    assert "not the distance of its planes" in found.note


# Axes


@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("ZYX", (5, 6, 7)),
        ("QYX", (5, 6, 7)),
        ("IYX", (5, 6, 7)),
        ("TZCYXS", (1, 5, 1, 6, 7, 1)),
        ("IZYX", (5, 1, 6, 7)),
        ("XYZ", (7, 6, 5)),
        ("ZXYT", (5, 7, 6, 1)),
    ],
)
def test_layout_finds_z_y_x(axes: str, shape: tuple[int, ...]) -> None:
    found = find_layout(Path("a.tif"), axes, shape, None)
    assert found.zyx_shape == (5, 6, 7)
    array = np.arange(math.prod(shape)).reshape(shape)
    crop = found.layout.crop(array, slice(1, 4), slice(2, 6), slice(3, 5))
    order = [axes.index(a) for a in ("I" if "I" in axes else "Q" if "Q" in axes else "Z", "Y", "X")]
    rest = [k for k in range(len(axes)) if k not in order]
    whole = array.transpose(order + rest).reshape(5, 6, 7)
    np.testing.assert_array_equal(crop, whole[1:4, 2:6, 3:5])


@pytest.mark.parametrize(
    ("axes", "shape", "said"),
    [
        ("TZYX", (3, 5, 6, 7), "3 time points; choose one, 0 to 2"),
        ("TYX", (3, 6, 7), "time series of single planes"),
        ("YX", (6, 7), "two-dimensional"),
        ("CYX", (2, 6, 7), "two-dimensional"),
        ("ZYX", (1, 6, 7), "two-dimensional"),
        ("QQYX", (2, 5, 6, 7), "axes is not recorded"),
        ("QZYX", (2, 5, 6, 7), "axes is not recorded"),
        ("YXS", (6, 7, 3), "colour"),
        ("ZYXS", (5, 6, 7, 3), "colour"),
        ("PZYX", (2, 5, 6, 7), "axis P"),
        ("ZYX", (0, 6, 7), "empty"),
        ("ZYX", (5, 6, 0), "empty"),
    ],
)
def test_layout_refuses_what_is_not_one_stack(axes: str, shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(TenetError, match=said) as error:
        find_layout(Path("a.tif"), axes, shape, None)
    assert_one_line(error, Path("a.tif"))


def test_slices_are_those_of_numpy(tmp_path: Path, voxels: np.ndarray) -> None:
    np.save(tmp_path / "stack.npy", voxels)
    stack = open_stack(tmp_path / "stack.npy")
    np.testing.assert_array_equal(stack.read(slice(-3, None), x=slice(40, 99)), voxels[-3:, :, 40:])
    assert stack.read(slice(5, 2)).shape == (0, 40, 48)
    with pytest.raises(ValueError, match="step 1"):
        stack.read(slice(None, None, 2))


# Voxel size


def test_voxel_size_of_ome_tiff(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "a.ome.tif"
    units = {"Z": (500.0, "nm"), "Y": (1e-4, "mm"), "X": (0.2, None)}  # the default unit is µm
    metadata: dict[str, Any] = {"axes": "ZYX"}
    for axis, (size, unit) in units.items():
        metadata[f"PhysicalSize{axis}"] = size
        if unit:
            metadata[f"PhysicalSize{axis}Unit"] = unit
    tifffile.imwrite(path, voxels, metadata=metadata)
    assert open_stack(path).voxel_size_um == pytest.approx(VOXEL)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ('PhysicalSizeX="0.2" PhysicalSizeY="0.1" PhysicalSizeZ="0.5"', VOXEL),
        ('PhysicalSizeX="0.2" PhysicalSizeY="0.1"', None),
        ('PhysicalSizeX="0.2" PhysicalSizeY="0.1" PhysicalSizeZ="0"', None),
        ('PhysicalSizeX="0.2" PhysicalSizeY="0.1" PhysicalSizeZ="NaN"', None),
        (
            'PhysicalSizeX="0.2" PhysicalSizeY="0.1" PhysicalSizeZ="5" PhysicalSizeZUnit="pixel"',
            None,
        ),
        (
            'PhysicalSizeX="2000" PhysicalSizeXUnit="Å" PhysicalSizeY="0.1" '
            'PhysicalSizeYUnit="μm" PhysicalSizeZ="0.5"',
            (0.5, 0.1, 0.2),
        ),
        ("", None),
    ],
)
def test_voxel_size_of_ome_xml(attributes: str, expected: tuple[float, ...] | None) -> None:
    schema = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    xml = f'<OME xmlns="{schema}"><Image><Pixels {attributes}/></Image></OME>'
    found = ome_calibration(Path("a.ome.tif"), parse_ome(Path("a.ome.tif"), xml)).voxel_size_um
    assert found == (pytest.approx(expected) if expected else None)


def test_ome_images_that_disagree_have_no_voxel_size() -> None:
    pixels = [
        f'<Image><Pixels PhysicalSizeX="{x}" PhysicalSizeY="1" PhysicalSizeZ="1"/></Image>'
        for x in (1, 2)
    ]
    path = Path("a.ome.tif")
    same = ome_calibration(path, parse_ome(path, f"<OME>{pixels[0]}{pixels[0]}</OME>"))
    assert same.voxel_size_um == (1.0, 1.0, 1.0)
    assert (
        ome_calibration(path, parse_ome(path, f"<OME>{''.join(pixels)}</OME>")).voxel_size_um
        is None
    )


@pytest.mark.parametrize("unit", ["micron", "um", "\\u00B5m"])
def test_voxel_size_of_imagej_tiff(tmp_path: Path, voxels: np.ndarray, unit: str) -> None:
    path = tmp_path / "a.tif"
    metadata = {"axes": "ZYX", "spacing": 0.5, "unit": unit}
    tifffile.imwrite(path, voxels, imagej=True, resolution=(5, 10), metadata=metadata)
    assert open_stack(path).voxel_size_um == pytest.approx(VOXEL)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"unit": "nm", "spacing": 0.5}, (0.0005, 0.0001, 0.0002)),
        ({"unit": "um", "spacing": -0.5}, VOXEL),
        ({"unit": "µm", "spacing": 0.5}, VOXEL),
        ({"unit": "\u03bcm", "spacing": 0.5}, VOXEL),
        ({"unit": "microns", "spacing": 0.5}, VOXEL),
        ({"unit": "um", "zunit": "nm", "spacing": 500.0}, VOXEL),
        ({"unit": "um"}, (1.0, 0.1, 0.2)),  # ImageJ leaves a spacing of 1 out
        ({"spacing": 0.5}, None),
        ({"unit": "pixel", "spacing": 0.5}, None),
        ({"unit": "inch", "spacing": 0.5}, None),
    ],
)
def test_voxel_size_of_imagej_metadata(
    metadata: dict[str, Any], expected: tuple[float, ...] | None
) -> None:
    found = imagej_calibration(metadata, (5, 1), (10, 1)).voxel_size_um
    assert found == (pytest.approx(expected) if expected else None)
    assert imagej_calibration(metadata, (0, 1), (10, 1)).voxel_size_um is None


def test_resolution_for_printing_is_no_voxel_size(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "a.tif"
    for unit in ("INCH", "CENTIMETER", None):
        tifffile.imwrite(
            path, voxels, resolution=(300, 300), resolutionunit=unit, photometric="minisblack"
        )
        assert open_stack(path).voxel_size_um is None
    tifffile.imwrite(path, voxels, imagej=True, resolution=(1, 1), metadata={"axes": "ZYX"})
    assert open_stack(path).voxel_size_um is None


@pytest.mark.skipif(not DATA.exists(), reason="the real stacks are not beside the repository")
def test_real_stacks() -> None:
    beads = open_stack(DATA / "beads_confocal.tif")
    assert beads.zyx_shape == (41, 150, 150)
    assert beads.voxel_size_um == pytest.approx((0.125, 0.0225, 0.0225), rel=1e-3)
    check_intensities(beads)
    reference = tifffile.imread(DATA / "beads_confocal.tif")
    np.testing.assert_array_equal(
        beads.read(slice(5, 20), x=slice(40, 90)), reference[5:20, :, 40:90]
    )
    dendrite = open_stack(DATA / "dendrite_two_photon.tif")
    assert dendrite.zyx_shape == (48, 256, 256)
    check_intensities(dendrite)
    # Background goes to zero and the dendrite spans the range.
    image = normalise(dendrite.read(), intensity_range(dendrite))
    assert np.median(image) < 0.05
    assert image.max() == 1.0


# What is refused


def test_missing_empty_and_unknown_files(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    (tmp_path / "stack.oir").write_bytes(b"OLYMPUSRAWFORMAT")
    (tmp_path / "text.tif").write_text("not an image")
    (tmp_path / "two.tif").write_text("II")
    (tmp_path / "text.npy").write_text("not an image")
    for name, said in {
        "none.tif": "no such file",
        "empty.tif": "empty",
        "stack.oir": "export it as OME-TIFF",
        "text.tif": "not a TIFF",
        "two.tif": "not a TIFF",
        "text.npy": "NPY",
    }.items():
        with pytest.raises(TenetError, match=said) as error:
            open_stack(tmp_path / name)
        assert_one_line(error, tmp_path / name)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        {"metadata": None},
        {"compression": "zlib"},
        {"compression": "zlib", "metadata": None},
        {"tile": (16, 16), "metadata": None},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"},
    ],
    ids=str,
)
def test_truncated_tiff_is_seen_on_opening(
    tmp_path: Path, voxels: np.ndarray, options: dict[str, Any]
) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, voxels, photometric="minisblack", **options)
    whole = path.read_bytes()
    for kept in (6, 100, len(whole) // 3, len(whole) * 2 // 3, len(whole) * 19 // 20, -30):
        path.write_bytes(whole[:kept])
        with pytest.raises(TenetError, match="truncated") as error:
            open_stack(path)
        assert_one_line(error, path)


def test_truncated_single_page_imagej_stack(tmp_path: Path, voxels: np.ndarray) -> None:
    """ImageJ writes stacks over 4 GB as one page whose data run on."""
    description = "ImageJ=1.54f\nimages=12\nslices=12\nunit=micron\nspacing=0.5\n"
    path = tmp_path / "stack.tif"
    tifffile.imwrite(
        path, voxels[0], description=description, metadata=None, resolution=(5, 10), software=""
    )
    path.write_bytes(path.read_bytes() + voxels[1:].tobytes())
    stack = open_stack(path)
    assert_holds(stack, voxels)
    assert stack.voxel_size_um == pytest.approx(VOXEL)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(TenetError, match="truncated"):
        open_stack(path)


def test_truncated_npy(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "stack.npy"
    np.save(path, voxels)
    whole = path.read_bytes()
    for kept in (20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(TenetError, match="truncated") as error:
            open_stack(path)
        assert_one_line(error, path)


def test_wrong_images(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "a.tif"
    cases: list[tuple[np.ndarray, dict[str, Any], str]] = [
        (voxels[0], {}, "two-dimensional"),
        (voxels.reshape(2, 6, 40, 48), {}, "axes is not recorded"),
        (np.zeros((5, 20, 20, 3), np.uint8), {"photometric": "rgb"}, "colour"),
        (np.zeros((20, 20, 3), np.uint8), {"photometric": "rgb"}, "colour"),
        (voxels.astype(np.complex64), {}, "real"),
    ]
    for data, options, said in cases:
        tifffile.imwrite(path, data, **({"photometric": "minisblack"} | options))
        with pytest.raises(TenetError, match=said) as error:
            open_stack(path)
        assert_one_line(error, path)
    for data, said in (
        (voxels[0], "two-dimensional"),
        (voxels[0, 0], "no stack"),
        (voxels.reshape(2, 6, 40, 48), "axes is not recorded"),
        (voxels.astype(np.complex64), "real"),
        (voxels[:0], "empty"),
        (np.full((2, 3, 4), None, dtype=object), "real"),
    ):
        np.save(tmp_path / "a.npy", data)
        with pytest.raises(TenetError, match=said) as error:
            open_stack(tmp_path / "a.npy")
        assert_one_line(error, tmp_path / "a.npy")


def test_several_images_in_one_file(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(voxels[0, :10, :10], photometric="minisblack")  # a preview
        tiff.write(voxels, photometric="minisblack", compression="zlib")
    assert_holds(open_stack(path), voxels)
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(voxels[:5], photometric="minisblack")
        tiff.write(voxels[5:, :20], photometric="minisblack")
    with pytest.raises(TenetError, match="2 images"):
        open_stack(path)


def test_damaged_compressed_data_are_named_on_reading(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, voxels, photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[4].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + 200] = bytes(200)
    path.write_bytes(content)
    stack = open_stack(path)
    np.testing.assert_array_equal(stack.read(slice(5, 12)), voxels[5:])
    with pytest.raises(TenetError, match="planes 4 to 4") as error:
        stack.read(slice(4, 5))
    assert_one_line(error, path)


def test_bad_intensities_are_named(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "a.npy"
    for value in (np.nan, np.inf, -np.inf):
        data = voxels.astype(np.float32)
        data[7, 3, 4] = value
        np.save(path, data)
        for check in (check_intensities, intensity_range):
            with pytest.raises(TenetError, match="plane 7") as error:
                check(open_stack(path))
            assert_one_line(error, path)
    np.save(path, np.full((4, 8, 8), 3, np.uint16))
    for check in (check_intensities, intensity_range):
        with pytest.raises(TenetError, match="all intensities are 3"):
            check(open_stack(path))


# Intensities


def fluorescence(shape: tuple[int, int, int] = (20, 64, 64)) -> np.ndarray:
    """Return a stack that is 97 % noisy background (offset 100, sd 5) and 3 % signal near 1000."""
    rng = np.random.default_rng(1)
    image = rng.normal(100, 5, shape)
    signal = rng.random(shape) < 0.03
    image[signal] += rng.normal(900, 20, signal.sum())
    return image


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "int32"])
def test_background_goes_to_zero_and_signal_stays(tmp_path: Path, dtype: str) -> None:
    image = fluorescence().astype(dtype)
    np.save(tmp_path / "a.npy", image)
    found = intensity_range(open_stack(tmp_path / "a.npy"))
    low, high = np.percentile(image, [25, 99.99])
    assert found.low == pytest.approx(low, abs=0.5)
    assert found.high == pytest.approx(high, abs=2)
    scaled = normalise(image, found)
    assert scaled.dtype == np.float32
    assert scaled.min() == 0
    assert scaled.max() == 1
    background = image < 500
    assert scaled[background].mean() < 0.01
    assert scaled[~background].min() > 0.8
    assert np.mean(scaled == 1) < 3e-4


def test_percentiles_of_negative_and_bool_integers_are_exact(tmp_path: Path) -> None:
    values = np.arange(-5000, 5000, dtype=np.int16)
    np.save(tmp_path / "a.npy", np.random.default_rng(0).permutation(values).reshape(10, 20, 50))
    found = intensity_range(open_stack(tmp_path / "a.npy"), low_percent=10, high_percent=90)
    assert (found.low, found.high) == (values[999], values[8999])
    np.save(tmp_path / "b.npy", (np.arange(1000) % 2 == 1).reshape(10, 10, 10))
    found = intensity_range(open_stack(tmp_path / "b.npy"))
    assert (found.low, found.high) == (0, 1)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("shape", [(20, 64, 64), (4, 16, 16)])
def test_one_hot_pixel_does_not_set_the_contrast(
    tmp_path: Path, dtype: str, shape: tuple[int, int, int]
) -> None:
    image = fluorescence(shape).astype(dtype)
    np.save(tmp_path / "a.npy", image)
    image[2, 3, 4] = 60_000
    np.save(tmp_path / "hot.npy", image)
    still, hot = (intensity_range(open_stack(tmp_path / name)) for name in ("a.npy", "hot.npy"))
    assert hot.high == pytest.approx(still.high, rel=0.02)
    assert intensity_range(open_stack(tmp_path / "hot.npy"), "minmax").high == 60_000


def test_large_float_stack_is_sampled_evenly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A ramp along each axis in turn: a subset that favoured some rows would shift its quartiles.
    from tenet.io import intensities

    step = intensities._sampling_step
    monkeypatch.setattr(intensities, "_sampling_step", lambda shape: step(shape, 5000))
    shape = (24, 60, 80)
    assert step(shape, 5000) > 23
    for axis in range(3):
        image = np.broadcast_to(
            np.expand_dims(np.linspace(0, 1, shape[axis]), [k for k in range(3) if k != axis]),
            shape,
        ).astype(np.float32)
        np.save(tmp_path / "a.npy", image)
        found = intensity_range(open_stack(tmp_path / "a.npy"), high_percent=75)
        assert found.low == pytest.approx(0.25, abs=0.05)
        assert found.high == pytest.approx(0.75, abs=0.05)


def test_sampling_does_not_depend_on_slabs(tmp_path: Path) -> None:
    from tenet.io.intensities import _sampling_step

    shape = (7, 30, 31)
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    np.save(tmp_path / "a.npy", image)
    stack = open_stack(tmp_path / "a.npy")
    step = _sampling_step(shape, 500)
    assert math.gcd(step, 30 * 31) == 1
    taken = [s.ravel()[-k * 930 % step :: step] for k, s in stack.slabs(8000)]
    assert len(taken) > 2
    np.testing.assert_array_equal(np.concatenate(taken), image.ravel()[::step])


def test_range_of_almost_nothing_is_refused(tmp_path: Path) -> None:
    image = np.zeros((10, 64, 64), np.uint16)
    image[5, 30, 30] = 9
    np.save(tmp_path / "a.npy", image)
    stack = open_stack(tmp_path / "a.npy")
    with pytest.raises(TenetError, match="all but a few voxels"):
        intensity_range(stack)
    assert intensity_range(stack, "minmax") == IntensityRange(0, 9, "minmax")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_saturated_detector_is_noticed(tmp_path: Path, dtype: type) -> None:
    image = np.random.default_rng(0).exponential(40, (10, 64, 64))
    for gain, saturated in ((1, True), (0.4, False)):  # the highest of all is 415
        np.save(tmp_path / "a.npy", np.minimum(gain * image, 255).astype(dtype))
        assert intensity_range(open_stack(tmp_path / "a.npy")).saturated == saturated
    # A few photons: many voxels have the most there are, but fewer than one less.
    np.save(tmp_path / "a.npy", np.random.default_rng(0).poisson(1.5, (10, 20, 20)).astype(dtype))
    stack = open_stack(tmp_path / "a.npy")
    found = intensity_range(stack, high_percent=99.5)
    few = np.minimum(stack.read(), found.high)
    np.save(tmp_path / "b.npy", few)
    assert not intensity_range(open_stack(tmp_path / "b.npy")).saturated


@pytest.mark.parametrize("saturated", [False, True])
def test_range_record(saturated: bool) -> None:
    found = IntensityRange(1.5, 9.0, "percentile 25 to 99.99", saturated)
    assert IntensityRange.from_dict(found.to_dict()) == found
    with pytest.raises(TenetError, match="low, high and method"):
        IntensityRange.from_dict({"low": 1})
    for low, high in ((2, 2), (3, 2), (math.nan, 1), (0, math.inf)):
        with pytest.raises(TenetError, match="must rise"):
            IntensityRange(low, high, "minmax")


def test_bad_percentiles_and_methods(tmp_path: Path, voxels: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", voxels)
    stack = open_stack(tmp_path / "a.npy")
    for low, high in ((50, 50), (-1, 99), (1, 100)):
        with pytest.raises(TenetError, match="percentiles"):
            intensity_range(stack, low_percent=low, high_percent=high)
    with pytest.raises(TenetError, match="method 'mean'"):
        intensity_range(stack, "mean")  # type: ignore[arg-type]


def test_normalise_clips_and_leaves_its_input() -> None:
    raw = np.array([0.0, 10, 15, 20, 90], np.float32)
    scaled = normalise(raw, IntensityRange(10, 20, "minmax"))
    np.testing.assert_allclose(scaled, [0, 0, 0.5, 1, 1])
    assert raw[0] == 0
    assert raw[-1] == 90


# Writing


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_ome_tiff_round_trip(tmp_path: Path, voxels: np.ndarray, compression: Any) -> None:
    path = tmp_path / "out.tif"
    write_ome_tiff(path, voxels, VOXEL, compression=compression)
    stack = open_stack(path)
    assert_holds(stack, voxels)
    assert stack.voxel_size_um == pytest.approx(VOXEL)
    both = np.stack([voxels / 4000, voxels[::-1] / 4000]).astype(np.float32)
    write_ome_tiff(path, both, VOXEL, ["shape", "brightness"], compression=compression)
    assert_holds(open_stack(path, channel=1), both[1])
    with tifffile.TiffFile(path) as tiff:
        assert tiff.series[0].axes == "CZYX"
        assert tiff.ome_metadata is not None
        assert 'Name="brightness"' in tiff.ome_metadata
        assert 'PhysicalSizeZUnit="µm"' in tiff.ome_metadata
        assert ".part" not in tiff.ome_metadata
    assert [p.name for p in tmp_path.iterdir()] == ["out.tif"]


@pytest.mark.parametrize("shape", [(3, 12, 16), (4, 12, 16), (12, 16, 3), (3, 5, 12, 16)])
def test_few_planes_are_no_colours(tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    write_ome_tiff(tmp_path / "a.tif", data, VOXEL)
    np.testing.assert_array_equal(
        open_stack(tmp_path / "a.tif", channel=0).read(), data[0] if data.ndim == 4 else data
    )


def test_types_that_ome_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    values = np.arange(60).reshape(3, 4, 5) % 2
    for dtype, stored in (
        ("bool", "uint8"),
        ("float16", "float32"),
        ("int64", "int32"),
        ("uint64", "uint32"),
        ("float64", "float64"),
        ("int8", "int8"),
    ):
        write_ome_tiff(path, values.astype(dtype), VOXEL)
        stack = open_stack(path)
        assert stack.dtype == stored
        np.testing.assert_array_equal(stack.read(), values)
    path.unlink()
    for bad in (
        values * 2**40,
        values.astype(np.complex64),
        values.astype(np.longdouble),
        values[0],
        values[:0],
    ):
        with pytest.raises(TenetError) as error:
            write_ome_tiff(path, bad, VOXEL)
        assert_one_line(error, path)
    with pytest.raises(TenetError, match="voxel size"):
        write_ome_tiff(path, values.astype(np.uint8), (0.0, 1.0, 1.0))
    with pytest.raises(TenetError, match="channel names"):
        write_ome_tiff(path, values.astype(np.uint8), VOXEL, ["a", "b"])
    assert not list(tmp_path.iterdir())


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_no_room_leaves_the_old_file(tmp_path: Path, voxels: np.ndarray, compression: Any) -> None:
    path = tmp_path / "out.tif"
    path.write_bytes(b"old")
    with largest_file(20_000), pytest.raises(TenetError, match="no room on the disk") as error:
        write_ome_tiff(path, voxels, VOXEL, compression=compression)
    assert_one_line(error, path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.tif"]


def test_folder_that_is_a_file(tmp_path: Path, voxels: np.ndarray) -> None:
    (tmp_path / "none").touch()
    path = tmp_path / "none" / "out.tif"
    with pytest.raises(TenetError, match="cannot be written") as error:
        write_ome_tiff(path, voxels, VOXEL)
    assert_one_line(error, path)
    with pytest.raises(TenetError), OmeTiffWriter(path, (1, 2, 3, 4), VOXEL):
        pass


def test_writer_adds_blocks(tmp_path: Path) -> None:
    path = tmp_path / "out.tif"
    rng = np.random.default_rng(0)
    expected = np.zeros((2, 9, 20, 30), np.float32)
    with OmeTiffWriter(path, expected.shape, VOXEL, ["shape", "brightness"]) as writer:
        for start in ((0, 0, 0), (3, 5, 7), (4, 10, 15), (4, 10, 15)):
            block = rng.random((2, 5, 10, 15), dtype=np.float32)
            z, y, x = start
            expected[:, z : z + 5, y : y + 10, x : x + 15] += block
            writer.add(start, block)
            assert not path.exists()
        for start in ((5, 0, 0), (0, -1, 0), (0, 0, 16)):
            with pytest.raises(ValueError, match="does not fit"):
                writer.add(start, block)
        with pytest.raises(ValueError, match="does not fit"):
            writer.add((0, 0, 0), block, channel=1)
        with pytest.raises(ValueError, match="does not fit"):
            writer.add((0, 0, 0), block, time=1)
    for channel in range(2):
        stack = open_stack(path, channel=channel)
        np.testing.assert_array_equal(stack.read(), expected[channel])
        assert stack.voxel_size_um == pytest.approx(VOXEL)
    assert [p.name for p in tmp_path.iterdir()] == ["out.tif"]
    with pytest.raises(RuntimeError, match="with block"):
        writer.add((0, 0, 0), block)


def test_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.tif"

    def stop_halfway() -> None:
        with OmeTiffWriter(path, (1, 4, 8, 8), VOXEL) as writer:
            writer.add((0, 0, 0), np.ones((1, 4, 8, 8), np.float32))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_halfway()
    assert not list(tmp_path.iterdir())


def test_writer_owns_its_space_before_the_work(tmp_path: Path) -> None:
    with OmeTiffWriter(tmp_path / "out.tif", (2, 16, 256, 256), VOXEL):
        (temporary,) = tmp_path.iterdir()
        # Blocks of 512 bytes really allocated, not a sparse file's apparent size.
        assert temporary.stat().st_blocks * 512 >= 4 * 2 * 16 * 256 * 256


def test_full_disk_is_known_before_the_work(tmp_path: Path) -> None:
    planes = shutil.disk_usage(tmp_path).free // (4 * 2**20) + 1000
    path = tmp_path / "out.tif"
    with (
        pytest.raises(TenetError, match="no room on the disk") as error,
        OmeTiffWriter(path, (1, planes, 1024, 1024), VOXEL),
    ):
        pytest.fail("the work began")
    assert_one_line(error, path)
    with (
        largest_file(50_000),
        pytest.raises(TenetError, match="no room on the disk"),
        OmeTiffWriter(path, (1, 16, 64, 64), VOXEL),
    ):
        pytest.fail("the work began")
    assert not list(tmp_path.iterdir())


def test_memory_is_that_of_the_block(tmp_path: Path) -> None:
    """Write and read 256 MiB in blocks of 32, with a peak well under the whole."""
    code = f"""
import os, resource, numpy as np
from tenet.io.ome_tiff import ome_calibration, parse_ome
from tenet.io.open import open_stack
from tenet.io.writing import OmeTiffWriter
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
path = {os.fspath(tmp_path / "a.tif")!r}
before = peak()
with OmeTiffWriter(path, (1, 64, 1024, 1024), (1, 1, 1)) as writer:
    for z in range(0, 64, 8):
        writer.add((z, 0, 0), np.ones((1, 8, 1024, 1024), np.float32))
stack = open_stack(path)
for z in range(0, 64, 8):
    assert stack.read(slice(z, z + 8)).min() == 1
grown = peak() - before
assert grown < 160 * 2**20, grown
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# OME-Zarr -----------------------------------------------------------------------------------------


def test_ome_zarr_holds_what_was_added_and_its_levels_are_means(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    whole = rng.random((2, 70, 300, 141), dtype=np.float32)
    size_um = (0.5, 0.25, 0.25)
    path = tmp_path / "out.ome.zarr"
    with writer_for(path, whole.shape, size_um, ["shape", "brightness"]) as writer:
        assert isinstance(writer, OmeZarrWriter)
        for part in (0.25, 0.75):  # blocks add up, across the borders of chunks
            for rows in (slice(0, 130), slice(130, 300)):
                writer.add((0, rows.start, 0), part * whole[:, :, rows])
        assert not path.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out.ome.zarr"]
    for channel in (0, 1):
        stack = open_stack(path, channel=channel)
        assert stack.voxel_size_um == pytest.approx(size_um)
        np.testing.assert_allclose(stack.read(), whole[channel], atol=1e-6)
    group = zarr.open_group(path, mode="r")
    assert [group[name].shape for name in ("0", "1")] == [whole.shape, (2, 35, 150, 71)]
    expected = np.pad(whole, [(0, 0), (0, 0), (0, 0), (0, 1)], mode="edge")
    expected = expected.reshape(2, 35, 2, 150, 2, 71, 2).mean((2, 4, 6))
    np.testing.assert_allclose(group["1"][:], expected, atol=1e-6)
    # Another reader finds the same levels, names and places.
    node = next(iter(ome_zarr.reader.Reader(ome_zarr.io.parse_url(path))()))
    assert [data.shape for data in node.data] == [whole.shape, (2, 35, 150, 71)]
    assert node.metadata["channel_names"] == ["shape", "brightness"]
    scale, translation = node.metadata["coordinateTransformations"][1]
    assert scale["scale"] == [1, 1, 0.5, 0.5]
    assert translation["translation"] == [0, 0.25, 0.125, 0.125]


def test_ome_zarr_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.ome.zarr"
    block = np.ones((1, 2, 3, 4), np.float32)

    def write(value: float, mistake: bool = False) -> None:
        with OmeZarrWriter(path, (1, 2, 3, 4), (1, 1, 1)) as writer:
            writer.add((0, 0, 0), value * block)
            if mistake:
                raise KeyboardInterrupt

    write(1)
    with pytest.raises(KeyboardInterrupt):
        write(2, mistake=True)
    assert open_stack(path).read().max() == 1
    write(3)
    assert open_stack(path).read().max() == 3
    with (
        pytest.raises(ValueError, match="does not fit"),
        OmeZarrWriter(path, (1, 2, 3, 4), (1, 1, 1)) as writer,
    ):
        writer.add((0, 0, 2), block)
    assert [p.name for p in tmp_path.iterdir()] == ["out.ome.zarr"]
    other = tmp_path / "notes.zarr"
    other.mkdir()
    (other / "dear.txt").write_text("diary")
    with (
        pytest.raises(TenetError, match="is no OME-Zarr"),
        OmeZarrWriter(other, (1, 2, 3, 4), (1, 1, 1)),
    ):
        pass
    assert (other / "dear.txt").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nothing_is_written_that_is_not_finite(tmp_path: Path, value: float) -> None:
    block = np.zeros((2, 3, 4, 5), np.float32)
    block[1, 2, 3, 4] = value
    with pytest.raises(TenetError, match="planes 0 to 2, rows 0 to 3, columns 0 to 4"):
        write_ome_tiff(tmp_path / "a.tif", block, VOXEL)
    for name in ("b.tif", "b.zarr"):
        place = "planes 7 to 9, rows 1 to 4, columns 2 to 6"
        writer = writer_for(tmp_path / name, (2, 10, 10, 10), VOXEL)
        with pytest.raises(TenetError, match=place), writer:
            writer.add((7, 1, 2), block)
    assert not list(tmp_path.iterdir())


def test_equal_ome_tiffs_are_equal_files(tmp_path: Path, voxels: np.ndarray) -> None:
    """The pipeline follows stacks by the checksums of their files."""
    for folder in (tmp_path, tmp_path / "again"):
        write_ome_tiff(folder / "a.ome.tif", voxels, VOXEL)
    first, again = (path.read_bytes() for path in sorted(tmp_path.rglob("a.ome.tif")))
    assert first == again
