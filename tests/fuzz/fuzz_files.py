"""Small valid files of each kind, which the fuzzing changes."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import tifffile
import torch
import zarr
from test_io_scanimage import SLICES, header_3, header_5, header_2016, pages_of
from test_io_scanimage import write as scanimage
from test_volumes import write_nd2
from vendor_containers import bdv_files, czi_file, ims_file, lif_file, oib_file, oif_file
from vendor_files import lsm_file, prairie_folder, scanbox_file, thor_folder
from zarr.codecs import BloscCodec

from tenet.io.writing import write_ome_tiff

Voxels = np.ndarray[Any, np.dtype[Any]]
#: T, Z, C, Y, X
VOXELS: Voxels = np.random.default_rng(0).integers(0, 4000, (1, 4, 2, 12, 16)).astype(np.uint16)
ONE = VOXELS[0, :, 0]
IMAGEJ = {"axes": "ZYX", "spacing": 0.5, "unit": "um"}
PIXELS: dict[str, Any] = {"photometric": "minisblack"}


def _tiff(**options: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        tifffile.imwrite(folder / "a.tif", ONE, **PIXELS, **options)
        return folder / "a.tif"

    return write


def _scanimage(header: Callable[..., dict[str, str]]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        scene = np.arange(SLICES * 20 * 30, dtype=np.int16).reshape(SLICES, 20, 30)
        return scanimage(folder / "a.tif", pages_of(scene, 1, 2), header(1, 2))

    return write


def _npy(folder: Path) -> Path:
    np.save(folder / "a.npy", ONE)
    return folder / "a.npy"


def _pt(folder: Path) -> Path:
    torch.save(torch.from_numpy(ONE.astype(np.float32)), folder / "a.pt")
    return folder / "a.pt"


def _nd2(folder: Path) -> Path:
    write_nd2(folder / "a.nd2", ONE[None], (0.5, 0.1, 0.1), len(ONE))
    return folder / "a.nd2"


def _ome_tiff(folder: Path) -> Path:
    write_ome_tiff(folder / "a.ome.tif", ONE.astype(np.float32), (0.5, 0.1, 0.1))
    return folder / "a.ome.tif"


def _ome_set(folder: Path) -> Path:
    both = np.moveaxis(VOXELS[0], 1, 0)
    axes = {"axes": "CZYX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.5}
    tifffile.imwrite(folder / "a.ome.tif", both, metadata=axes, compression="zlib")
    return folder / "a.ome.tif"


def _zarr(version: int, **options: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "a.zarr"
        axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
        scale = [{"type": "scale", "scale": [0.5, 0.1, 0.1]}]
        image = [
            {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
            | ({"version": "0.4"} if version == 2 else {})
        ]
        described = {"multiscales": image} if version == 2 else {
            "ome": {"version": "0.5", "multiscales": image}
        }  # fmt: skip
        kind: Any = version
        group = zarr.open_group(path, mode="w", zarr_format=kind, attributes=described)
        group.create_array("0", data=ONE, chunks=(2, 8, 8), **options)
        return path

    return write


def _planes(folder: Path) -> Path:
    path = folder / "planes"
    path.mkdir()
    for z, plane in enumerate(ONE):
        tifffile.imwrite(path / f"a_z{z:02}.tif", plane, resolution=(4, 4), imagej=True)
    return path


def _hdf5(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        made = file.create_dataset("data", data=ONE, chunks=(2, 8, 8), compression="gzip")
        made.attrs["element_size_um"] = [0.5, 0.1, 0.1]
    return folder / "a.h5"


STACKS: dict[str, Callable[[Path], Path]] = {
    "tiff": _tiff(),
    "tiff-big": _tiff(bigtiff=True),
    "tiff-zlib": _tiff(compression="zlib", predictor=True),
    "tiff-lzw": _tiff(compression="lzw", metadata=None),
    "tiff-jpeg2000": _tiff(compression="jpeg2000", metadata=None),
    "tiff-tiles": _tiff(tile=(16, 16), compression="zstd", metadata=None),
    "imagej": _tiff(imagej=True, resolution=(4, 4), metadata=IMAGEJ),
    "ome-tiff": _ome_tiff,
    "ome-tiff-channels": _ome_set,
    "scanimage-2016": _scanimage(header_2016),
    "scanimage-5": _scanimage(header_5),
    "scanimage-3": _scanimage(header_3),
    "lsm": lambda folder: lsm_file(folder / "a.lsm", VOXELS[0], [920.0, 488.0]),
    "npy": _npy,
    "pt": _pt,
    "nd2": _nd2,
    "zarr-2": _zarr(2),
    "zarr-3": _zarr(3),
    "zarr-blosc-2": _zarr(2, compressors=numcodecs.Blosc("lz4", shuffle=0)),
    "zarr-blosc-3": _zarr(3, compressors=BloscCodec(cname="lz4"), shards=(4, 16, 16)),
    "zarr-shards": _zarr(3, shards=(4, 16, 16)),
    "prairie": lambda folder: prairie_folder(folder / "recording", VOXELS),
    "thor": lambda folder: thor_folder(folder / "recording", VOXELS),
    "thor-raw": lambda folder: thor_folder(folder / "recording", VOXELS, raw=True),
    "scanbox": lambda folder: scanbox_file(folder / "a.sbx", VOXELS),
    "planes": _planes,
    "imaris": lambda folder: ims_file(folder / "a.ims", VOXELS),
    "bigdataviewer": lambda folder: bdv_files(folder / "a.h5", VOXELS).with_suffix(".xml"),
    "hdf5": _hdf5,
    "czi": lambda folder: czi_file(folder / "a.czi", VOXELS),
    "lif": lambda folder: lif_file(folder / "a.lif", {"one": VOXELS}),
    "oif": lambda folder: oif_file(folder / "a.oif", VOXELS),
    "oib": lambda folder: oib_file(folder / "a.oib", VOXELS),
}  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files under a folder by their names."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def put(folder: Path, files: dict[str, bytes]) -> None:
    """Make a folder hold these files and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
