"""TIFF files: calibration, 0 as white, sets of files, and files that are damaged or hostile."""

import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tenet.errors import TenetError
from tenet.io.folders import voxel_size_of
from tenet.io.open import open_stack

SHAPE = (6, 20, 30)


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4000, SHAPE).astype(np.uint16)


def refused(path: Path, said: str, **options: Any) -> str:
    """Return the one line with which a file is refused."""
    with pytest.raises(TenetError, match=said) as error:
        open_stack(path, **options).read()
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"{path}")
    return message


# Calibration


def imagej(path: Path, voxels: np.ndarray, resolution: Any = (5, 10), **metadata: Any) -> Path:
    tifffile.imwrite(
        path, voxels, imagej=True, resolution=resolution, metadata={"axes": "ZYX"} | metadata
    )
    return path


def test_imagej_leaves_a_spacing_of_one_out(tmp_path: Path, voxels: np.ndarray) -> None:
    stack = open_stack(imagej(tmp_path / "a.tif", voxels, unit="micron"))
    assert stack.voxel_size_um == pytest.approx((1.0, 0.1, 0.2))
    # Without a unit, nothing is known of any length.
    assert open_stack(imagej(tmp_path / "a.tif", voxels)).voxel_size_um is None


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"unit": "micron", "spacing": "1,0"}, "gives 1,0 as the size of its voxels along z"),
        ({"unit": "micron", "spacing": "abc"}, "gives abc as"),
        ({"unit": "micron", "spacing": 0}, "gives 0 as"),
        ({"unit": "micron", "spacing": "nan"}, "gives nan as"),
        ({"unit": "parsec", "spacing": 1}, "in 'parsec', which is no known length"),
        ({"unit": 5, "spacing": 1}, "in '5', which"),
        ({"spacing": 1}, "does not say its voxel size"),
    ],
)
def test_calibration_that_cannot_be_read_leaves_the_pixels(
    tmp_path: Path, voxels: np.ndarray, metadata: dict[str, Any], expected: str
) -> None:
    stack = open_stack(imagej(tmp_path / "a.tif", voxels, **metadata))
    np.testing.assert_array_equal(stack.read(), voxels)
    with pytest.raises(TenetError) as error:
        voxel_size_of(stack)
    assert expected in str(error.value)
    assert "give --voxel-size Z Y X" in str(error.value)
    assert voxel_size_of(stack, (1.0, 0.3, 0.3)) == (1.0, 0.3, 0.3)


def test_calibration_without_pixels(tmp_path: Path, voxels: np.ndarray) -> None:
    stack = open_stack(imagej(tmp_path / "a.tif", voxels, (0, 0), unit="um", spacing=2))
    assert stack.voxel_size_note == "says the distance of its planes (2 µm) but not its pixels"


@pytest.mark.parametrize(
    ("metadata", "size", "note"),
    [
        (
            {"PhysicalSizeX": 0.31, "PhysicalSizeY": 0.31},
            None,
            "pixels .0.31 × 0.31 µm. but not",
        ),
        ({f"PhysicalSize{a}": 1 for a in "XYZ"} | {"PhysicalSizeZUnit": "pixel"}, None, "'pixel'"),
        (
            {f"PhysicalSize{a}": 1e-5 for a in "XYZ"}
            | {f"PhysicalSize{a}Unit": "dm" for a in "XYZ"},
            (1.0, 1.0, 1.0),
            "",
        ),
    ],
    ids=["no z", "pixel", "dm"],
)
def test_ome_says_what_is_missing(
    tmp_path: Path,
    voxels: np.ndarray,
    metadata: dict[str, Any],
    size: tuple[float, ...] | None,
    note: str,
) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, voxels, metadata={"axes": "ZYX"} | metadata)
    stack = open_stack(path)
    assert stack.voxel_size_um == (pytest.approx(size) if size else None)
    if size is None:
        with pytest.raises(TenetError, match=note):
            voxel_size_of(stack)


def test_a_preview_beside_a_stack_has_no_say_in_its_voxel_size(
    tmp_path: Path, voxels: np.ndarray
) -> None:
    path = tmp_path / "a.ome.tif"
    size = {"PhysicalSizeX": 0.31, "PhysicalSizeY": 0.31, "PhysicalSizeZ": 1.0}
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(voxels[0, :4, :4], metadata={"axes": "YX"})
        tiff.write(voxels, metadata={"axes": "ZYX"} | size)
    stack = open_stack(path)
    np.testing.assert_array_equal(stack.read(), voxels)
    assert stack.voxel_size_um == pytest.approx((1.0, 0.31, 0.31))


def test_axes_in_small_letters(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, voxels.transpose(2, 1, 0), metadata={"axes": "xyz"})
    np.testing.assert_array_equal(open_stack(path).read(), voxels)


# Numbers


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "uint32", "int8", "int16"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_zero_as_white_is_inverted(
    tmp_path: Path, voxels: np.ndarray, dtype: str, compression: str | None
) -> None:
    scene = (voxels % 2).astype(dtype) if dtype == "bool" else voxels.astype(dtype)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, ~scene, photometric="miniswhite", compression=compression)
    np.testing.assert_array_equal(open_stack(path).read(), scene)
    np.testing.assert_array_equal(open_stack(path).read(slice(1, 3), slice(4, 9)), scene[1:3, 4:9])


def test_zero_as_white_of_twelve_bits(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, 4095 - voxels, photometric="miniswhite", bitspersample=12)
    np.testing.assert_array_equal(open_stack(path).read(), voxels)


def test_zero_as_white_has_no_meaning_for_floats(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, voxels.astype(np.float32), photometric="miniswhite")
    refused(path, "black as 0")


def test_large_offsets_reach_the_reader_whole(tmp_path: Path, voxels: np.ndarray) -> None:
    stored = voxels.astype(np.uint32) + 2**31
    for compression in (None, "zlib"):
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, stored, photometric="minisblack", compression=compression)
        crop = open_stack(path)._reader.read(slice(0, 6), slice(0, 20), slice(0, 30))
        np.testing.assert_array_equal(crop, stored)


def test_numbers_in_a_palette(tmp_path: Path, voxels: np.ndarray) -> None:
    scene = (voxels % 256).astype(np.uint8)
    ramp = np.stack([np.arange(256) * 257, np.zeros(256), np.zeros(256)]).astype(np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, scene, photometric="palette", colormap=ramp)
    np.testing.assert_array_equal(open_stack(path).read(), scene)
    tifffile.imwrite(path, scene, photometric="palette", colormap=ramp[:, ::-1].copy())
    refused(path, "colours in a palette")
    # A look-up table of ImageJ does not change what the pixels are.
    options: dict[str, Any] = {"imagej": True, "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(path, scene, colormap=ramp[:, ::-1].copy(), **options)
    np.testing.assert_array_equal(open_stack(path).read(), scene)


# Axes


def test_planes_under_another_name(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "a.ome.tif"
    for axis in "CT":
        tifffile.imwrite(path, voxels, photometric="minisblack", metadata={"axes": f"{axis}YX"})
        assert f"--planes-are {axis}" in refused(path, "in truth planes")
        stack = open_stack(path, planes_are=axis)  # type: ignore[arg-type]
        np.testing.assert_array_equal(stack.read(), voxels)
    both = np.stack([voxels, voxels[::-1]])
    tifffile.imwrite(path, both, photometric="minisblack", metadata={"axes": "CTYX"})
    np.testing.assert_array_equal(open_stack(path, channel=1, planes_are="T").read(), voxels[::-1])
    tifffile.imwrite(path, both, photometric="minisblack", metadata={"axes": "TZYX"})
    refused(path, "planes besides", planes_are="T")
    refused(path, "no axis C", planes_are="C")
    np.save(tmp_path / "a.npy", voxels)
    refused(tmp_path / "a.npy", "NPY names no axes", planes_are="C")


# Sets of files


def prairie(folder: Path, voxels: np.ndarray) -> list[Path]:
    """A stack as Bruker's microscopes write it: a plane a file, the first describes them all."""
    names = [f"TSeries_Cycle00001_Ch2_{k + 1:06}.ome.tif" for k in range(len(voxels))]
    schema = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    places = "".join(
        f'<TiffData FirstZ="{k}" FirstC="0" FirstT="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:{k:036}</UUID></TiffData>'
        for k, name in enumerate(names)
    )
    master = (
        f'<OME {schema} UUID="urn:uuid:{0:036}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        f'DimensionOrder="XYCZT" Type="uint16" SizeX="{SHAPE[2]}" SizeY="{SHAPE[1]}" '
        f'SizeZ="{SHAPE[0]}" SizeC="1" SizeT="1" PhysicalSizeX="0.2" PhysicalSizeY="0.1" '
        f'PhysicalSizeZ="0.5"><Channel ID="Channel:0" SamplesPerPixel="1"/>{places}</Pixels>'
        "</Image></OME>"
    )
    for k, (name, plane) in enumerate(zip(names, voxels, strict=True)):
        other = (
            f'<OME {schema} UUID="urn:uuid:{k:036}"><BinaryOnly MetadataFile="{names[0]}"/></OME>'
        )
        tifffile.imwrite(
            folder / name, plane, description=other if k else master, metadata=None,
            photometric="minisblack",
        )  # fmt: skip
    return [folder / name for name in names]


def test_set_of_files_reads_from_its_first(tmp_path: Path, voxels: np.ndarray) -> None:
    files = prairie(tmp_path, voxels)
    stack = open_stack(files[0])
    np.testing.assert_array_equal(stack.read(), voxels)
    assert stack.voxel_size_um == pytest.approx((0.5, 0.1, 0.2))
    message = refused(files[4], "one file of a set")
    assert files[0].name in message


def test_set_of_files_with_one_lost_or_cut(tmp_path: Path, voxels: np.ndarray) -> None:
    files = prairie(tmp_path, voxels)
    whole = files[3].read_bytes()
    files[3].write_bytes(whole[:-300])
    with pytest.raises(TenetError, match="truncated") as error:
        open_stack(files[0])
    assert files[3].name in str(error.value)
    files[3].unlink()
    assert files[3].name in refused(files[0], "1 of the 6 files")
    os.mkfifo(files[3])
    with pytest.raises(TenetError, match="not a file"):
        open_stack(files[0])


def test_files_outside_the_folder_are_not_opened(tmp_path: Path, voxels: np.ndarray) -> None:
    files = prairie(tmp_path, voxels)
    for name in ("/dev/zero", "../../x.ome.tif"):
        content = files[0].read_bytes()
        old = files[2].name.encode()
        new = name.encode()
        assert len(new) <= len(old)
        quoted = content.replace(
            b'"' + old + b'"', b'"' + new + b'"' + b" " * (len(old) - len(new))
        )
        path = tmp_path / "TSeries_Cycle00001_Ch2_000001.ome.tif"
        path.write_bytes(quoted)
        refused(path, "outside its folder")
        path.write_bytes(content)


def test_single_planes(tmp_path: Path, voxels: np.ndarray) -> None:
    for k, plane in enumerate(voxels):
        tifffile.imwrite(tmp_path / f"plane_{k:04}.tif", plane, photometric="minisblack")
    said = refused(tmp_path / "plane_0003.tif", "one plane, and one of 6 files")
    assert "Image Sequence" in said
    np.testing.assert_array_equal(open_stack(tmp_path).read(), voxels)
    tifffile.imwrite(tmp_path / "alone.tif", voxels[0], photometric="minisblack")
    refused(tmp_path / "alone.tif", "two-dimensional")
    refused(tmp_path, "folder of 7 TIFF files")


def test_recording_that_stopped_early(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, voxels, metadata={"axes": "ZYX"})
    xml = tifffile.tiffcomment(path)
    assert isinstance(xml, str)
    wide = xml.replace('SizeZ="6"', 'SizeZ="32"').replace('PlaneCount="6"', 'PlaneCount="32"')
    tifffile.tiffcomment(path, wide)
    refused(path, "stopped early: 32 planes are declared and the file holds 6")


# Damaged and hostile files


@pytest.fixture
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**28


def raw(
    tags: dict[int, tuple[int, list[int]]], big: bool = False, data: bytes = b"", next_page: int = 0
) -> bytes:
    """A little-endian TIFF of one page: tags of (type, values), long values after the directory."""
    basic = {256: (4, [8]), 257: (4, [8]), 258: (3, [16]), 259: (3, [1]), 262: (3, [1])}
    basic |= {277: (3, [1]), 273: (16 if big else 4, [0]), 279: (4, [len(data)])}
    tags = dict(sorted((basic | tags).items()))
    number, entry, head = ("Q", "HHQ", 16) if big else ("I", "HHI", 8)
    inline = struct.calcsize(number)
    directory = head + struct.calcsize(f"<{'Q' if big else 'H'}") + inline
    after = directory + len(tags) * (struct.calcsize(f"<{entry}") + inline)
    body, entries = b"", b""
    codes = {1: "B", 3: "H", 4: "I", 16: "Q"}
    if tags[273][1] == [0]:
        tags[273] = (tags[273][0], [after])
        body = data
    for tag, (kind, values) in tags.items():
        packed = struct.pack(f"<{len(values)}{codes[kind]}", *values)
        if len(packed) > inline:
            place, body = after + len(body), body + packed
            packed = struct.pack(f"<{number}", place)
        entries += struct.pack(f"<{entry}", tag, kind, len(values)) + packed.ljust(inline, b"\0")
    start = b"II" + (struct.pack("<HHHQ", 43, 8, 0, 16) if big else struct.pack("<HI", 42, 8))
    count = struct.pack(f"<{'Q' if big else 'H'}", len(tags))
    return start + count + entries + struct.pack(f"<{number}", next_page) + body


ZIPPED = zlib.compress(bytes(128))
HOSTILE: dict[str, tuple[bytes, str]] = {
    "page at 2**63": (b"II" + struct.pack("<HHHQ", 43, 8, 0, 2**63) + bytes(64), "truncated"),
    "next page at 2**63": (raw({}, True, bytes(128), 2**63), "truncated"),
    "next page is this one": (raw({}, False, bytes(128), 8), "in a circle"),
    "no page": (b"II" + struct.pack("<HI", 42, 0) + bytes(64), "no image"),
    "2**40 tags": (b"II" + struct.pack("<HHHQQ", 43, 8, 0, 16, 2**40) + bytes(64), "truncated"),
    "data at 2**64 - 1": (raw({273: (16, [2**64 - 1])}, True, bytes(128)), "truncated"),
    "2**64 - 1 bytes": (raw({279: (16, [2**64 - 1])}, True, bytes(128)), "truncated"),
    "no bytes": (raw({279: (4, [0])}, data=bytes(128)), "no data"),
    "offsets 3, lengths 2": (
        raw({273: (4, [150, 160, 170]), 279: (4, [4, 4])}, data=bytes(400)),
        "places of 3 strips or tiles and the lengths of 2",
    ),
    "no columns": (raw({256: (4, [0])}, data=bytes(128)), "empty"),
    "no rows": (raw({257: (4, [0])}, data=bytes(128)), "empty"),
    "2**31 columns": (raw({256: (4, [2**31])}, data=bytes(128)), "truncated or damaged"),
    "2**31 columns, zipped": (
        raw({256: (4, [2**31]), 257: (4, [1]), 259: (3, [8])}, data=ZIPPED),
        "cannot be in a file",
    ),
    "65535 bits": (raw({258: (3, [65535])}, data=bytes(128)), "truncated or damaged"),
    "tiles of 2**31": (
        raw(
            {259: (3, [8]), 322: (4, [2**31]), 323: (4, [2**31]), 324: (4, [200]), 325: (4, [9])},
            data=bytes(300),
        ),
        "no part of a plane",
    ),
    "tiles without pixels": (
        raw(
            {259: (3, [8]), 322: (4, [0]), 323: (4, [16]), 324: (4, [200]), 325: (4, [9])},
            data=bytes(300),
        ),
        "without pixels",
    ),
    "bits without a number": (
        raw({258: (3, [])}, data=bytes(128)),
        "pixel type|cannot be read|empty",
    ),
    "places without a number": (raw({273: (4, [])}, data=bytes(128)), "where its data lie"),
    "strips lost": (raw({259: (3, [8]), 278: (4, [1])}, data=ZIPPED), "lacks 7 of its 8"),
    "compression 999": (raw({259: (3, [999])}, data=ZIPPED), "compression"),
    "20 bytes": (raw({}, data=bytes(128))[:20], "truncated"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.usefixtures("little_memory")
def test_hostile_pages(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.tif"
    content, said = HOSTILE[name]
    path.write_bytes(content)
    refused(path, said)


@pytest.mark.parametrize(
    ("compression", "header", "place"),
    [
        ("jpeg", b"\xff\xc0\x00\x0b\x08", ">HH"),
        ("jpeg2000", b"\xff\x4f\xff\x51\x00\x29\0\0", ">II"),
    ],
)
@pytest.mark.usefixtures("little_memory")
def test_image_in_a_strip_has_the_size_of_the_strip(
    tmp_path: Path, voxels: np.ndarray, compression: str, header: bytes, place: str
) -> None:
    path = tmp_path / "a.tif"
    scene = (voxels % 256).astype(np.uint8)
    options: dict[str, Any] = {"photometric": "minisblack", "compression": compression}
    tifffile.imwrite(
        path, scene, compressionargs={"level": 0 if "2" in compression else 100}, **options
    )
    np.testing.assert_allclose(
        open_stack(path).read(), scene, atol=3 if compression == "jpeg" else 0
    )
    content = bytearray(path.read_bytes())
    struct.pack_into(place, content, content.rindex(header) + len(header), 65500, 65500)
    path.write_bytes(content)
    refused(path, "far larger than itself")


@pytest.mark.usefixtures("little_memory")
def test_header_of_many_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    content = raw({270: (1, list(b"xxxxxxxxx"))}, data=bytes(128))
    place = content.index(struct.pack("<HHI", 270, 1, 9)) + 4
    path.write_bytes(
        content[:place] + struct.pack("<I", 2**25) + content[place + 4 :] + bytes(2**25)
    )
    refused(path, "no header")


def with_xml(path: Path, voxels: np.ndarray, change: Callable[[str], str]) -> Path:
    tifffile.imwrite(path, voxels, metadata={"axes": "ZYX"}, compression="zlib")
    xml = tifffile.tiffcomment(path)
    assert isinstance(xml, str)
    tifffile.tiffcomment(path, change(xml).encode())
    return path


ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
MODULO = (
    '<StructuredAnnotations><XMLAnnotation ID="A" Namespace="x/modulo"><Value><Modulo>'
    '<ModuloAlongZ Type="angle" Start="0" Step="1e-9" End="10"/></Modulo></Value></XMLAnnotation>'
    "</StructuredAnnotations></OME>"
)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('SizeZ="6"', 'SizeZ="1000000000"', "SizeZ='1000000000'"),
        ('SizeZ="6"', 'SizeZ="100000"', "stopped early"),
        ('SizeZ="6"', 'SizeZ="0"', "no file holds"),
        ('SizeZ="6"', 'SizeZ="-6"', "SizeZ='-6'"),
        ('SizeZ="6"', 'SizeZ="six"', "SizeZ='six'"),
        ('SizeZ="6"', f'SizeZ="{"9" * 5000}"', "SizeZ='999"),
        ('SizeX="30"', 'SizeX="1000000000"', "far smaller"),
        ('PlaneCount="6"', 'PlaneCount="1000000000"', "PlaneCount="),
        ('IFD="0"', 'IFD="1000000000"', "IFD="),
        ("<OME", f"{ENTITIES}<OME", "entities"),
        ("</OME>", "<x></OME>", "broken"),
        ("</OME>", "", "broken"),
        ("</OME>", "</OME><!-- the end -->", "does not end with"),
        ("</OME>", MODULO, "Modulo"),
        ("</OME>", "<a/>" * 600_000 + "</OME>", "too large"),
    ],
    ids=lambda text: text[:24],
)
@pytest.mark.usefixtures("little_memory")
def test_hostile_ome_xml(tmp_path: Path, voxels: np.ndarray, old: str, new: str, said: str) -> None:
    path = with_xml(tmp_path / "a.ome.tif", voxels, lambda xml: xml.replace(old, new, 1))
    refused(path, said)


@pytest.mark.usefixtures("little_memory")
def test_hostile_ome_xml_behind_a_long_comment(tmp_path: Path, voxels: np.ndarray) -> None:
    def change(xml: str) -> str:
        return f"<!--{'x' * 5000}-->{xml[xml.index('<OME') :]}".replace(
            'SizeZ="6"', 'SizeZ="99999999"'
        )

    refused(with_xml(tmp_path / "a.ome.tif", voxels, change), "SizeZ=")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("images=abc\nslices=6\n", "images=abc"),
        ("images=6\nslices=-6\n", "slices=-6"),
        ("images=6\nslices=1,5\n", "slices=1,5"),
        ("images=1000000000\nslices=1000000000\n", "truncated"),
        ("images=6\nslices=6\nchannels=1000000\n", "truncated"),
        ("images=6\nslices=6\nunit=\\u00zz\n", ""),
    ],
)
@pytest.mark.usefixtures("little_memory")
def test_hostile_imagej_headers(tmp_path: Path, voxels: np.ndarray, header: str, said: str) -> None:
    path = tmp_path / "a.tif"
    description = f"ImageJ=1.54f\n{header}"
    for compression in (None, "zlib"):
        options: dict[str, Any] = {"metadata": None, "software": False, "photometric": 1}
        tifffile.imwrite(path, voxels, description=description, compression=compression, **options)
        if said:
            refused(path, said, channel=0)
        else:
            np.testing.assert_array_equal(open_stack(path).read(), voxels)


@pytest.mark.usefixtures("little_memory")
def test_six_gigabytes_of_zeros_are_read_tile_by_tile(tmp_path: Path) -> None:
    """Every page points at the same tiles: 48 planes of 8192² in some kB."""
    side, tile, pages = 8192, 512, 48
    packed = zlib.compress(bytes(2 * tile * tile), 9)
    path = tmp_path / "a.tif"
    page: dict[int, tuple[int, list[int]]] = {
        256: (4, [side]), 257: (4, [side]), 259: (3, [8]), 322: (4, [tile]), 323: (4, [tile]),
    }  # fmt: skip
    many = (side // tile) ** 2
    places: dict[int, tuple[int, list[int]]] = {
        324: (4, [600] * many),
        325: (4, [len(packed)] * many),
    }
    first = bytearray(raw(page | places, data=packed))
    start = first.index(packed)
    struct.pack_into(
        f"<{many}I", first, first.index(struct.pack("<4I", *[600] * 4)), *[start] * many
    )
    directory = first[8 : 8 + 2 + 12 * struct.unpack_from("<H", first, 8)[0]]
    content, link = bytes(first), 8 + len(directory)
    for _ in range(pages - 1):
        place = len(content)
        content = content[:link] + struct.pack("<I", place) + content[link + 4 :]
        content += bytes(directory) + bytes(4)
        link = len(content) - 4
    path.write_bytes(content)
    assert len(content) < 20_000
    stack = open_stack(path)
    assert stack.zyx_shape == (pages, side, side)
    assert stack.read(slice(40, 42), slice(100, 200), slice(0, 8192)).max() == 0


def test_damaged_plane_is_named(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, voxels, photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        place, length = tiff.pages[4].dataoffsets[0], tiff.pages[4].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[place : place + length // 2] = bytes(length // 2)
    path.write_bytes(content)
    refused(path, "planes 0 to 5 cannot be read .plane 4, counted from 0")


def test_nothing_of_tifffile_reaches_the_terminal(tmp_path: Path, voxels: np.ndarray) -> None:
    path = tmp_path / "a.tif"
    description = "ImageJ=1.54f\nimages=6\nslices=6\nframes=2\nmin=x\n"
    options: dict[str, Any] = {"metadata": None, "software": False, "photometric": 1}
    tifffile.imwrite(path, voxels[:, :1, :1], description=description, **options)
    script = (
        "import sys\nfrom tenet.errors import TenetError\nfrom tenet.io.open import open_stack\n"
        "import logging; logging.getLogger('tifffile').warning('a word of warning')\n"
        "try: open_stack(sys.argv[1])\nexcept TenetError: pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
    )
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "loop"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tif"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path)
    from tenet.io.tiff import open_tiff

    with pytest.raises(TenetError) as error:
        open_tiff(path, None)
    assert "\n" not in str(error.value)
