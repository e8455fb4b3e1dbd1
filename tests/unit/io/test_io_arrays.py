"""Arrays from strangers: NPY, ND2 and OME-Zarr are read right, or refused in one line."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from test_volumes import write_nd2

from tenet.data.folds import every_stack
from tenet.errors import TenetError
from tenet.io import zarr_files
from tenet.io.axes import Layout, check_shape
from tenet.io.folders import stack_files
from tenet.io.open import open_stack
from tenet.io.stack import ContiguousReader, Stack, check_voxel_size

SIZE = (1.0, 0.31, 0.31)


@pytest.fixture
def voxels() -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(100, 4000, (6, 16, 20)).astype(np.uint16)


def multiscales(**over: Any) -> dict[str, Any]:
    """Return the metadata of an image in a Zarr of version 2 (OME-Zarr 0.4)."""
    image: dict[str, Any] = {
        "version": "0.4",
        "axes": [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"],
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [{"type": "scale", "scale": list(SIZE)}],
            }
        ],
    }
    return {"multiscales": [image | over]}


def write_zarr(path: Path, array: NDArray[Any], attributes: Any, **options: Any) -> Path:
    """Write an array as "0" of a group with these attributes (None: without any)."""
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("0", data=array, **options)
    if attributes is not None:
        (path / ".zattrs").write_text(json.dumps(attributes))
    return path


def zipped(path: Path) -> Path:
    return Path(shutil.make_archive(str(path), "zip", path))


def refused(path: Path, said: str) -> None:
    """Opening and reading a path ends in one line that names it."""
    with pytest.raises(TenetError, match=said) as error:
        open_stack(path).read()
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 600
    assert path.name in message


# NPY


def npy(header: bytes, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    length = len(header).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + length + header + data


HEADER = b"{'descr': '%s', 'fortran_order': False, 'shape': %s}\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (npy(b"{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3"), "damaged"),
        (npy(b"{'descr': '<u2', 'fortran_order'"), "damaged"),
        (npy(b"("), "damaged"),
        (npy(b"(" * 3000), "damaged"),
        (npy(b"-" * 4000 + b"1"), "damaged"),
        (npy(b"{}"), "damaged"),
        (npy(HEADER % (b"<u2", b"(-1, 3, 4)"), bytes(24)), "damaged"),
        (npy(HEADER % (b"<u2", b"(True, 3, 4)"), bytes(24)), "damaged"),
        (npy(HEADER % (b"<q9", b"(2, 3, 4)"), bytes(24)), "damaged"),
        (npy(HEADER % (b"<u2", b"(2, 3, %d)" % 2**63)), "more than can be read"),
        (npy(HEADER % (b"<u2", b"(%d, 1, 1)" % 10**300)), "more than can be read|two-dim"),
        (npy(HEADER % (b"<u2", b"(1000, 2000, 3000)"), bytes(100)), "truncated"),
        (npy(HEADER % (b"<u2", b"(2, 3, 4)"), bytes(47)), "truncated"),
        (npy(HEADER % (b"|O", b"(2, 3, 4)"), bytes(300)), "not real numbers"),
        (npy(HEADER % (b"<U8", b"(2, 3, 4)"), bytes(2000)), "not real numbers"),
        (npy(b"x" * 200_000, version=b"\x02\x00"), "header of 200000 bytes"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "header of 4294967295 bytes"),
        (b"\x93NUMPY\x09\x00" + bytes(20), "damaged"),
        (b"\x93NUMPY", "damaged"),
        (b"II*\x00" + bytes(100), "not an NPY file"),
        (b"PK\x03\x04" + bytes(100), "NPZ archive"),
    ],
    ids=range(21),
)
def test_npy_that_is_none(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "stack.npy"
    path.write_bytes(content)
    refused(path, said)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_of_each_version(
    tmp_path: Path, voxels: NDArray[Any], version: tuple[int, int]
) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, voxels, version=version)
    np.testing.assert_array_equal(open_stack(tmp_path / "a.npy").read(), voxels)


def test_structured_npy_and_npz(tmp_path: Path, voxels: NDArray[Any]) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4), [("a" * 200, "<i4"), ("b", "<f4")]))
    refused(tmp_path / "a.npy", "not real")
    np.savez(tmp_path / "b.npz", voxels)
    refused(tmp_path / "b.npz", "save the stack alone")


# Files that are none


def test_devices_pipes_loops_and_names(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "zero.nd2").symlink_to("/dev/zero")
    (tmp_path / "loop.tif").symlink_to(tmp_path / "loop.tif")
    (tmp_path / "loop.zarr").symlink_to(tmp_path / "loop.zarr")
    (tmp_path / "pipe.zarr").mkdir()
    os.mkfifo(tmp_path / "pipe.zarr/zarr.json")
    for name, said in {
        "pipe.npy": "device or a pipe",
        "zero.nd2": "device or a pipe",
        "pipe.zarr": "device or a pipe",
        "loop.tif": "cannot be opened|no such",
        "loop.zarr": "cannot be opened|no such",
    }.items():
        refused(tmp_path / name, said)
    for name in ("x" * 5000 + ".tif", "a\0b.npy"):
        with pytest.raises(TenetError, match="cannot be opened"):
            open_stack(tmp_path / name)
        with pytest.raises(TenetError, match="no such"):
            stack_files(tmp_path / name)


@pytest.mark.parametrize("suffix", [".oir", ".VSI", ".poir", ".lof"])
def test_formats_of_microscopes_are_to_be_exported(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"stack{suffix}").write_bytes(b"something")
    refused(tmp_path / f"stack{suffix}", "OME-TIFF")


def test_a_folder_that_is_no_stack(tmp_path: Path, voxels: NDArray[Any]) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "folder is empty")
    with pytest.raises(TenetError, match="empty"):
        stack_files(tmp_path / "empty")
    (tmp_path / "planes").mkdir()
    for k, plane in enumerate(voxels):
        np.save(tmp_path / f"planes/{k}.npy", plane)
    refused(tmp_path / "planes", "folder of 6 files.*join them")
    with pytest.raises(TenetError, match=r"single two-dimensional image.*join them"):
        [open_stack(path) for path in stack_files(tmp_path / "planes")]


# OME-Zarr: what is said of it


@pytest.mark.parametrize(
    "transformations",
    [
        None,
        [],
        [None],
        {"type": "scale", "scale": [1, 0.31, 0.31]},
        [{"type": "scale", "scale": "1, 0.31, 0.31"}],
        [{"type": "scale", "scale": 0.31}],
        [{"type": "scale", "scale": ["1", "0.31", "0.31"]}],
        [{"type": "scale", "scale": [1, None, 0.31]}],
        [{"type": "scale", "scale": [1, 0.31]}],
        [{"type": "scale", "scale": [0, 0, 0]}],
        [{"type": "scale"}],
        [{"type": 3}],
    ],
    ids=str,
)
def test_a_scale_that_says_nothing_has_to_be_given(
    tmp_path: Path, voxels: NDArray[Any], transformations: Any
) -> None:
    dataset = {"path": "0", "coordinateTransformations": transformations}
    stack = open_stack(write_zarr(tmp_path / "a.zarr", voxels, multiscales(datasets=[dataset])))
    np.testing.assert_array_equal(stack.read(), voxels)
    assert stack.voxel_size_um is None
    right = write_zarr(tmp_path / "b.zarr", voxels, multiscales())
    assert open_stack(right).voxel_size_um == pytest.approx(SIZE)


@pytest.mark.parametrize(
    "axes",
    [
        [{"type": "space"}] * 3,
        [{"name": None}] * 3,
        [1, 2, 3],
        "zyx",
        5,
        None,
        [{"name": n, "unit": 3} for n in "zyx"],
        [{"name": n, "unit": "furlong"} for n in "zyx"],
        ["z", "y", "x"],
    ],
    ids=str,
)
def test_axes_that_say_little(tmp_path: Path, voxels: NDArray[Any], axes: Any) -> None:
    """Three axes without names are planes, rows and columns, as in an NPY."""
    stack = open_stack(write_zarr(tmp_path / "a.zarr", voxels, multiscales(axes=axes)))
    np.testing.assert_array_equal(stack.read(), voxels)
    assert stack.voxel_size_um is None


def test_a_scale_without_unit_is_named(tmp_path: Path, voxels: NDArray[Any]) -> None:
    path = write_zarr(tmp_path / "a.zarr", voxels, multiscales(axes=list("zyx")))
    assert open_stack(path).voxel_size_note == "gives a scale of 1 × 0.31 × 0.31 without a unit"
    axes = [{"name": "z"}] + [{"name": n, "unit": "micrometer"} for n in "yx"]
    path = write_zarr(tmp_path / "b.zarr", voxels, multiscales(axes=axes))
    assert "not the distance of its planes" in open_stack(path).voxel_size_note


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"ome": "text"}, "damaged"),
        ([1], "damaged"),
        ("text", "damaged"),
        ({"multiscales": "text"}, "damaged"),
        ({"multiscales": [3]}, "damaged"),
        ({"multiscales": [{}]}, "datasets"),
        ({"multiscales": []}, r"no OME-Zarr image.*inside: 0"),
        (None, r"no OME-Zarr image.*inside: 0"),
        (multiscales(datasets=[]), "datasets"),
        (multiscales(datasets=[{}]), "path"),
        (multiscales(datasets=[{"path": 0}]), "path"),
        (multiscales(datasets=[{"path": "1"}]), "cannot be opened"),
        (multiscales(datasets=[{"path": ""}]), "leads out of it"),
        (multiscales(datasets=[{"path": "../../x"}]), "leads out of it"),
        (multiscales(datasets=[{"path": "/etc"}]), "leads out of it"),
        (multiscales(axes=list("czyx")), "axes is not recorded"),
        (multiscales(axes=list("zzx")), "named twice"),
        (multiscales(axes=list("tyx")), "time series"),
    ],
    ids=str,
)
def test_damaged_metadata_are_refused(
    tmp_path: Path, voxels: NDArray[Any], attributes: Any, said: str
) -> None:
    path = write_zarr(tmp_path / "a.zarr", voxels, attributes)
    refused(path, said)
    refused(zipped(path), said)


def test_numbers_that_nobody_reads_do_no_harm(tmp_path: Path, voxels: NDArray[Any]) -> None:
    """What viewers keep beside an image may be NaN, or the highest of 64 bits."""
    window = {"min": float("nan"), "start": float("-inf"), "max": 2**64 - 1}
    omero = {"omero": {"channels": [{"window": window}]}}
    stack = open_stack(write_zarr(tmp_path / "a.zarr", voxels, multiscales() | omero))
    assert stack.voxel_size_um == pytest.approx(SIZE)


def test_an_archive_may_hold_the_folder(tmp_path: Path, voxels: NDArray[Any]) -> None:
    path = write_zarr(tmp_path / "a.zarr", voxels, multiscales())
    archive = shutil.make_archive(str(tmp_path / "b.zarr"), "zip", tmp_path, path.name)
    stack = open_stack(archive)
    np.testing.assert_array_equal(stack.read(), voxels)
    assert stack.voxel_size_um == pytest.approx(SIZE)


def test_metadata_nested_deep_or_large(tmp_path: Path, voxels: NDArray[Any]) -> None:
    for depth in (900, 100_000):
        path = write_zarr(tmp_path / "a.zarr", voxels, multiscales())
        (path / ".zattrs").write_text('{"a":' + "[" * depth + "]" * depth + "}")
        refused(path, "nested")
        path = write_zarr(tmp_path / "b.zarr", voxels, multiscales())
        (path / "0/.zarray").write_text('{"a":' * depth + "1" + "}" * depth)
        refused(path, "nested")
    path = write_zarr(tmp_path / "c.zarr", voxels, multiscales())
    with (path / ".zattrs").open("r+b") as file:
        file.truncate(2**31)
    refused(path, "such a file has at most")


def test_planes_recorded_as_channels_or_time(tmp_path: Path, voxels: NDArray[Any]) -> None:
    transformations = [{"type": "scale", "scale": [1, 1, 0.31, 0.31]}]
    dataset = {"path": "0", "coordinateTransformations": transformations}
    for axis, flag in (("c", "C"), ("t", "T")):
        path = write_zarr(
            tmp_path / f"{axis}.zarr",
            voxels[:, None],
            multiscales(axes=[axis, "z", "y", "x"], datasets=[dataset]),
        )
        refused(path, f"--planes-are {flag}")
        stack = open_stack(path, planes_are=flag)  # type: ignore[arg-type]
        np.testing.assert_array_equal(stack.read(), voxels)


# OME-Zarr: which folder it is


def test_a_zarr_is_known_by_its_content(tmp_path: Path, voxels: NDArray[Any]) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    plain = write_zarr(data / "image", voxels, multiscales())
    for path in (plain, write_zarr(data / "other.zarr", voxels, multiscales())):
        assert stack_files(path) == [path]
        assert open_stack(path).zyx_shape == voxels.shape
    assert [path.name for path in stack_files(data)] == ["image", "other.zarr"]
    targets = [target for _, target in every_stack(data, out)]
    assert targets == [out / "image.ome.tif", out / "other.ome.tif"]
    ((stack, target),) = every_stack(plain, out)
    assert (stack.path, target) == (plain, out / "image.ome.tif")
    # A damaged one is a stack too, so that it is not passed over.
    (data / "broken.zarr").mkdir()
    assert len(stack_files(data)) == 3
    refused(data / "broken.zarr", "no Zarr metadata")


@pytest.mark.parametrize("number", [0, 1, 3])
def test_series_of_bioformats2raw(tmp_path: Path, voxels: NDArray[Any], number: int) -> None:
    root = tmp_path / "slide.zarr"
    zarr.open_group(root, mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    zarr.open_group(root / "OME", mode="w", zarr_format=2)
    for series in range(number):
        write_zarr(root / str(series), voxels + np.uint16(series), multiscales())
    if number == 1:
        for path in (root, zipped(root)):
            assert open_stack(path).voxel_size_um == pytest.approx(SIZE)
            np.testing.assert_array_equal(open_stack(path).read(), voxels)
    else:
        refused(root, f"it holds {number} images")
        refused(zipped(root), f"it holds {number} images")
    for series in range(number):
        assert stack_files(root / str(series)) == [root / str(series)]
        assert open_stack(root / str(series)).read()[0, 0, 0] == voxels[0, 0, 0] + series


@pytest.mark.parametrize("version", [2, 3])
def test_a_bare_array_is_planes_rows_columns(
    tmp_path: Path, voxels: NDArray[Any], version: int
) -> None:
    path = tmp_path / "bare"
    zarr.create_array(path, data=voxels, zarr_format=version)  # type: ignore[arg-type]
    assert stack_files(path) == [path]
    for there in (path, zipped(path).rename(tmp_path / "bare.zarr.zip")):
        stack = open_stack(there)
        np.testing.assert_array_equal(stack.read(), voxels)
        assert stack.voxel_size_um is None
    zarr.create_array(tmp_path / "four.zarr", data=voxels[None].repeat(2, 0))
    refused(tmp_path / "four.zarr", "axes is not recorded")


@pytest.mark.parametrize("order", ["zyx", "xyz", "yxz", "zcyx"])
@pytest.mark.parametrize("version", [2, 3])
def test_a_bare_array_that_names_its_axes(
    tmp_path: Path, voxels: NDArray[Any], order: str, version: int
) -> None:
    array = voxels.transpose(["zyx".index(axis) for axis in order if axis != "c"])
    if "c" in order:
        array = np.stack([array, array[::-1]], axis=1)
    path = tmp_path / "named.zarr"
    names: dict[str, Any] = {"dimension_names": list(order)}
    if version == 2:  # as xarray writes them
        names = {"attributes": {"_ARRAY_DIMENSIONS": list(order)}}
    zarr.create_array(path, data=array, zarr_format=version, **names)  # type: ignore[arg-type]
    stack = open_stack(path, channel=0 if "c" in order else None)
    np.testing.assert_array_equal(stack.read(), voxels)


def test_axes_of_a_bare_array_with_other_names_are_planes_rows_columns(
    tmp_path: Path, voxels: NDArray[Any]
) -> None:
    path = tmp_path / "named.zarr"
    zarr.create_array(path, data=voxels, dimension_names=["depth", "row", None])
    np.testing.assert_array_equal(open_stack(path).read(), voxels)


@pytest.mark.parametrize("extra", [(0,), (1,), (3,), (0, 1), (0, 4)], ids=str)
def test_axes_of_length_one_say_nothing(
    tmp_path: Path, voxels: NDArray[Any], extra: tuple[int, ...]
) -> None:
    array = np.expand_dims(voxels, extra)
    np.save(tmp_path / "a.npy", array)
    zarr.create_array(tmp_path / "a.zarr", data=array)
    for name in ("a.npy", "a.zarr"):
        np.testing.assert_array_equal(open_stack(tmp_path / name).read(), voxels)


# OME-Zarr: what is stored


def declared(path: Path, shape: list[int], chunks: list[int], dtype: str = "|u1") -> Path:
    """Write a Zarr of one small chunk that declares a shape and chunks of its own."""
    array = np.ones((1,) * len(shape), np.uint8)
    write_zarr(path, array, multiscales())
    described = json.loads((path / "0/.zarray").read_text())
    described |= {"shape": shape, "chunks": chunks, "dtype": dtype}
    (path / "0/.zarray").write_text(json.dumps(described))
    return path


@pytest.mark.parametrize(
    ("shape", "chunks", "dtype", "said"),
    [
        ([10, 200_000, 200_000], [1, 64, 64], "|u1", "more than can be read"),
        ([10**9, 20_000, 20_000], [1, 64, 64], "|u1", "more than can be read"),
        ([32, 64, 64], [3000, 2000, 2000], "|u1", "too large to be read"),
        ([6, 16, 10**7], [2, 16, 20], "|u1", "chunks of 2×16×20 voxels are too small"),
        ([10**6, 64, 64], [1, 1, 1], "|u1", "too small"),
        ([32, 64, 64], [1, 64, 64], "|O", "not real|cannot be opened"),
        ([32, 64, 64], [1, 64, 64], "<U8", "not real|cannot be opened"),
        ([32, -64, 64], [1, 64, 64], "|u1", "."),
        ([32, 64, 64], [0, 64, 64], "|u1", "."),
        ([32, 64, 64], [1, 64], "|u1", "."),
    ],
    ids=str,
)
def test_declared_sizes_are_compared_with_what_can_be_read(
    tmp_path: Path, shape: list[int], chunks: list[int], dtype: str, said: str
) -> None:
    path = declared(tmp_path / "a.zarr", shape, chunks, dtype)
    refused(path, said)
    refused(zipped(path), said)


def test_a_zarr_without_any_chunk_is_refused(tmp_path: Path) -> None:
    path = declared(tmp_path / "a.zarr", [10**6, 64, 64], [1, 64, 64])
    shutil.rmtree(path / "0/0", ignore_errors=True)
    (path / "0/0.0.0").unlink(missing_ok=True)
    refused(path, "no voxel is stored")
    refused(zipped(path), "no voxel is stored")


def test_chunks_that_are_no_files(tmp_path: Path, voxels: NDArray[Any]) -> None:
    path = write_zarr(tmp_path / "a.zarr", voxels, multiscales(), chunks=(1, 16, 20))
    chunk = next(file for file in (path / "0").rglob("*0*") if file.is_file())
    chunk.unlink()
    chunk.symlink_to("/dev/zero")
    refused(path, "no file, and so no chunk")
    chunk.unlink()
    chunk.mkdir()
    refused(path, "no file, and so no chunk")


def refused_within(path: Path, said: str) -> None:
    """A path is refused by a process that never takes 600 MiB."""
    # The peak in VmHWM is that of the process alone, unlike ru_maxrss.
    code = f"""
import re
from pathlib import Path
from tenet.errors import TenetError
from tenet.io.open import open_stack
try:
    open_stack({str(path)!r}).read()
except TenetError as error:
    assert {said!r} in str(error), error
    peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())
    assert int(peak[1]) < 600 * 1024, peak[1]
else:
    raise SystemExit("it was read")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_bomb_in_an_archive_takes_no_memory(tmp_path: Path) -> None:
    """A chunk of 640 MiB of zeros in a small archive is refused, not read."""
    path = declared(tmp_path / "a.zarr", [4, 64, 64], [4, 64, 64])
    (path / "0/0.0.0").unlink()
    archive = zipped(path)
    with (
        zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        file.open("0/0.0.0", "w") as chunk,
    ):
        for _ in range(40):
            chunk.write(bytes(2**24))
    refused_within(archive, "too much for a chunk")


@pytest.mark.parametrize("codec", ["zlib", "gzip", "bz2", "lzma", "zstd", "blosc"])
def test_a_chunk_that_unpacks_to_more_than_is_declared(
    tmp_path: Path, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = declared(tmp_path / "a.zarr", [4, 64, 64], [4, 64, 64])
    described = json.loads((path / "0/.zarray").read_text())
    described["compressor"] = {"id": codec}
    (path / "0/.zarray").write_text(json.dumps(described))
    packed = numcodecs.get_codec({"id": codec}).encode(np.zeros(2**23, np.uint8))
    (path / "0/0.0.0").write_bytes(packed)
    monkeypatch.setattr(zarr_files, "MOST_CHUNK_BYTES", 2**22)
    refused(path, "too much for a chunk")


def test_a_bomb_in_a_chunk_takes_no_memory(tmp_path: Path) -> None:
    """Zeros of 640 MiB where 16 KiB are declared, and a sparse file of 12 GiB."""
    path = declared(tmp_path / "a.zarr", [4, 64, 64], [4, 64, 64])
    described = json.loads((path / "0/.zarray").read_text())
    for compressor in ({"id": "zlib", "level": 1}, None):
        (path / "0/.zarray").write_text(json.dumps(described | {"compressor": compressor}))
        with (path / "0/0.0.0").open("wb") as file:
            if compressor:
                packer = zlib.compressobj(1)
                file.writelines(packer.compress(bytes(2**24)) for _ in range(40))
                file.write(packer.flush())
            else:
                file.truncate(12 * 2**30)
        refused_within(path, "too much for a chunk")


@pytest.mark.parametrize("codec", ["zlib", "gzip", "bz2", "lzma", "zstd", "blosc", "lz4"])
def test_compressed_chunks_are_read(tmp_path: Path, codec: str) -> None:
    compressor = numcodecs.get_codec({"id": codec})
    voxels = np.random.default_rng(0).integers(0, 65536, (4, 600, 600)).astype(np.uint16)
    path = write_zarr(
        tmp_path / "a.zarr", voxels, multiscales(), chunks=voxels.shape, compressors=compressor
    )
    np.testing.assert_array_equal(open_stack(path).read(), voxels)


def cut(archive: Path) -> None:
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])


def encrypted(archive: Path) -> None:
    """Set the flag of encryption in the directory and in each file's header."""
    content = bytearray(archive.read_bytes())
    for magic, at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        place = content.find(magic)
        while place >= 0:
            content[place + at] |= 1
            place = content.find(magic, place + 4)
    archive.write_bytes(content)


def with_wrong_checksums(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    place = content.find(b"PK\x01\x02")
    while place >= 0:
        content[place + 16] ^= 255
        place = content.find(b"PK\x01\x02", place + 4)
    archive.write_bytes(content)


def of_a_later_version(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    content[content.find(b"PK\x01\x02") + 6] = 158
    archive.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, encrypted, with_wrong_checksums, of_a_later_version])
def test_damaged_archives(
    tmp_path: Path, voxels: NDArray[Any], damage: Callable[[Path], None]
) -> None:
    archive = zipped(write_zarr(tmp_path / "a.zarr", voxels, multiscales()))
    damage(archive)
    refused(archive, "archive")


# ND2


def test_nd2_whose_number_of_frames_is_lost(tmp_path: Path, voxels: NDArray[Any]) -> None:
    path = tmp_path / "stack.nd2"
    write_nd2(path, voxels[None], SIZE, len(voxels))
    name = "uiSequenceCount".encode("utf-16-le")
    content = path.read_bytes()
    assert name in content
    path.write_bytes(content.replace(name, name[:-2] + b"x\0"))
    refused(path, "damaged or not ND2")


def test_a_reader_that_returns_less_is_noticed(tmp_path: Path, voxels: NDArray[Any]) -> None:
    voxels.tofile(tmp_path / "raw.npy")
    layout = Layout(("Z", "Y", "X"), "ZYX")
    reader = ContiguousReader(tmp_path / "raw.npy", "<u2", 0, voxels.shape, "C", layout)
    stack = Stack(tmp_path / "raw.npy", (6, 32, 20), voxels.dtype, None, reader)
    with pytest.raises(TenetError, match=r"holds \(6, 16, 20\) voxels there, not \(6, 32, 20\)"):
        stack.read()


# Sizes


def test_a_plane_must_fit_into_memory() -> None:
    check_shape(Path("a.tif"), (1000, 20_000, 20_000))
    for shape in ((2, 25_000, 25_000), (2**30, 2000, 2000)):
        with pytest.raises(TenetError, match="more than can be read"):
            check_shape(Path("a.tif"), shape)


@pytest.mark.parametrize(
    ("size_um", "said"),
    [
        ((1000, 310, 310), "is it nm[?] then give 1 0.31 0.31"),
        ((0.001, 0.00031, 0.00031), "is it mm[?] then give 1 0.31 0.31"),
        ((1e-6, 3.1e-7, 3.1e-7), "is it m[?] then give 1 0.31 0.31"),
        ((150, 50, 50), "is it nm[?] then give 0.15 0.05 0.05"),
        ((1e9, 1, 1), "check the unit"),
        ((1, 0, 0.31), "above 0"),
        ((1, -0.31, 0.31), "above 0"),
        ((float("nan"), 1, 1), "finite"),
        ((float("inf"), 1, 1), "finite"),
        ((0.1, 0.1, 0.4), "order Z Y X"),
    ],
)
def test_a_voxel_size_of_another_unit_is_refused(
    size_um: tuple[float, float, float], said: str
) -> None:
    with pytest.raises(TenetError, match=said) as error:
        check_voxel_size(size_um, "a.tif")
    assert str(error.value).startswith("a.tif: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size_um", [(1, 0.31, 0.31), (0.01, 0.01, 0.01), (100, 10, 10)])
def test_voxel_sizes_of_microscopes_pass(size_um: tuple[float, float, float]) -> None:
    check_voxel_size(size_um, "a.tif")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("packable", [True, False])
def test_a_chunk_of_blosc_that_was_cut_does_not_end_the_process(
    tmp_path: Path, voxels: NDArray[np.uint16], version: Any, packable: bool
) -> None:
    """Blosc reads as far as the chunk says, which ended in a segmentation fault (by fuzzing)."""
    codec = {2: numcodecs.Blosc("lz4", shuffle=0), 3: zarr.codecs.BloscCodec(cname="lz4")}[version]
    array = np.zeros_like(voxels) + 7 if packable else voxels
    made: Any = zarr.create_array(
        tmp_path / "a.zarr", data=array, zarr_format=version, compressors=codec, chunks=array.shape
    )
    assert made[0, 0, 0] == array[0, 0, 0]
    (chunk,) = (tmp_path / "a.zarr").glob("0.0.0" if version == 2 else "c/0/0/0")
    whole = chunk.read_bytes()
    length = (2**30 + 16).to_bytes(4, "little")
    beyond = whole[:12] + length + (2**30).to_bytes(4, "little") + whole[20:]
    for damaged in (whole[:12], whole[:-1], beyond):
        chunk.write_bytes(damaged)
        with pytest.raises(TenetError, match="another length than it says") as error:
            open_stack(tmp_path / "a.zarr").read()
        assert "\n" not in str(error.value)
