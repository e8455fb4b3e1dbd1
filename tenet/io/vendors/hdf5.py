"""HDF5: a volume in a dataset, or the volumes of BigDataViewer with an XML file beside it."""

import math
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt

from tenet.errors import TenetError
from tenet.io.axes import Layout, axes_with_planes, find_layout, plain_axes
from tenet.io.calibration import Calibration, calibration
from tenet.io.frames import beside
from tenet.io.records import parse_json
from tenet.io.stack import Stack, check_dtype
from tenet.io.tiff_structure import check_plane
from tenet.io.vendors.library import library, opened_with, refuse_planes_are
from tenet.io.xml import elements, first, read_xml, root_name
from tenet.io.zarr_files import MOST_CHUNK_BYTES

ROOT = "SpimData"
#: Objects of a file that are looked at.
_MOST_OBJECTS = 20_000
_VOLUME = Layout(("Z", "Y", "X"), "ZYX")


@dataclass(frozen=True)
class Hdf5Reader:
    """Datasets of a file.

    `names` holds those of the time points of each channel, or one that `layout` cuts.
    """

    path: Path
    names: tuple[tuple[str, ...], ...]
    layout: Layout = _VOLUME
    channel: int = 0
    time: int = 0
    #: The type that the numbers stand for, where the file gives another of the same size.
    meant: np.dtype[Any] | None = None

    def read(self, z: slice, y: slice, x: slice) -> npt.NDArray[Any]:
        """Read planes, rows and columns."""
        with opened(self.path) as file:
            crop = self.layout.crop(file[self._name], z, y, x)
        return crop if self.meant is None else crop.view(self.meant)

    def at(self, channel: int, time: int) -> "Hdf5Reader":
        """Return the reader of another channel and time point."""
        return replace(self, channel=channel, time=time, layout=self.layout.at(channel, time))

    @property
    def _name(self) -> str:
        if self.layout is not _VOLUME and len(self.names) == 1:
            return self.names[0][0]
        return self.names[self.channel][self.time]


def opened(path: Path) -> AbstractContextManager[Any]:
    """Open an HDF5 file, and turn any error of a damaged one into one line."""
    found = library(path, "h5py")
    return opened_with(path, "HDF5", lambda: found.File(path, "r"))


def dataset(path: Path, file: Any, name: str) -> Any:
    """Return a dataset whose voxels lie in the file, in chunks that memory holds.

    Raises
    ------
    TenetError
        If there is no such dataset, it was never written, or it leads out of the folder.
    """
    h5py = library(path, "h5py")
    for place in (PurePosixPath(name), *PurePosixPath(name).parents):
        link = file.get(str(place), getlink=True) if str(place) != "." else None
        if isinstance(link, h5py.ExternalLink):
            beside(path, path.parent, link.filename)
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise TenetError(f"{path}: it holds no dataset {name}; export it again")
    if found.external or found.is_virtual:
        raise TenetError(f"{path}: {name} lies in other files; export it into one file")
    check_dtype(path, found.dtype)
    if math.prod(found.chunks or (1,)) * found.dtype.itemsize > MOST_CHUNK_BYTES:
        raise TenetError(f"{path}: {name} has chunks of {found.chunks}, which are too large")
    rows, columns = [1, 1, *map(int, found.shape)][-2:]
    plane_bytes = rows * columns * found.dtype.itemsize
    check_plane(path, rows, columns, plane_bytes, path.stat().st_size)
    if found.size and not found.id.get_storage_size():
        raise TenetError(
            f"{path}: {name} was never written, so the recording stopped early; "
            "export the complete part as OME-TIFF"
        )
    return found


def one_volume(path: Path, file: Any, names: tuple[tuple[str, ...], ...]) -> Any:
    """Return the first of some datasets, which all are volumes of one shape and type.

    Raises
    ------
    TenetError
        If they are not.
    """
    found = [dataset(path, file, name) for of_channel in names for name in of_channel]
    if not found or any((d.shape, d.dtype) != (found[0].shape, found[0].dtype) for d in found):
        raise TenetError(
            f"{path}: its channels or time points differ in shape or type; export one as OME-TIFF"
        )
    if found[0].ndim != 3:
        raise TenetError(f"{path}: {found[0].name} is no volume; export it again")
    return found[0]


# Any HDF5 -----------------------------------------------------------------------------------------


def open_hdf5(
    path: Path, channel: int | None, planes_are: str | None = None, time: int | None = None
) -> Stack:
    """Open an HDF5 file, or the XML file of BigDataViewer; see `tenet.io.open.open_stack`."""
    if path.suffix.lower() == ".xml":
        xml = read_xml(path)
        name = (first(xml, "hdf5").text or "").strip()
        return _open_views(path, beside(path, path.parent, name), xml, channel, planes_are, time)
    with opened(path) as file:
        views = "t00000" in file
    if views:
        beside_it = path.with_suffix(".xml")
        known = beside_it.is_file() and root_name(beside_it) == ROOT
        xml = read_xml(beside_it) if known else Element("none")
        return _open_views(path, path, xml, channel, planes_are, time)
    return _open_dataset(path, channel, planes_are, time)


def _open_dataset(
    path: Path, channel: int | None, planes_are: str | None, time: int | None
) -> Stack:
    """Open the one dataset of a file that has three axes or more."""
    with opened(path) as file:
        names = _volumes(path, file)
        if len(names) != 1:
            said = f"{len(names)} ({', '.join(names[:4])})" if names else "none"
            raise TenetError(
                f"{path}: one dataset of three axes is needed, and it holds {said}; "
                "save the stack alone"
            )
        found = dataset(path, file, names[0])
        shape, dtype = found.shape, found.dtype
        axes = _axes(path, found)
        size = np.atleast_1d(np.asarray(found.attrs.get("element_size_um", ())))
    axes = axes_with_planes(path, axes, shape, planes_are)
    sizes = find_layout(path, axes, shape, channel, time)
    known = size.shape == (3,) and size.dtype.kind in "uif"
    z, y, x = size.tolist() if known else (None, None, None)
    lengths = calibration((z, "µm"), (y, "µm"), (x, "µm"))
    return Stack(
        path, sizes.zyx_shape, dtype, lengths.voxel_size_um,
        Hdf5Reader(path, ((names[0],),), sizes.layout), lengths.note, sizes.channels, sizes.times,
        channel=channel or 0,
    )  # fmt: skip


def _volumes(path: Path, file: Any) -> list[str]:
    """List the datasets of numbers with three axes or more."""
    h5py, names, seen = library(path, "h5py"), list[str](), 0

    def look(name: str, found: Any) -> bool | None:
        nonlocal seen
        seen += 1
        if isinstance(found, h5py.Dataset) and found.dtype.kind in "buif":
            names.extend([name] if sum(size > 1 for size in found.shape) >= 3 else [])
        return True if seen > _MOST_OBJECTS else None

    file.visititems(look)
    return names


def _axes(path: Path, found: Any) -> str:
    """Name the axes: by ilastik's tags, by the labels of HDF5, or z first."""
    tags = found.attrs.get("axistags")
    if isinstance(tags, str):
        named = parse_json(tags, where=f"{path}: its axistags", foreign=True)
        keys = [axis.get("key") for axis in named["axes"]] if isinstance(named, dict) else []
    else:
        keys = [dimension.label for dimension in found.dims]
    axes = "".join(str(key) for key in keys).upper()
    good = len(axes) == found.ndim and {"Y", "X"} <= set(axes)
    return axes if good else plain_axes(found.shape)


# BigDataViewer ------------------------------------------------------------------------------------


def _open_views(
    path: Path,
    stored: Path,
    xml: Element,
    channel: int | None,
    planes_are: str | None,
    time: int | None,
) -> Stack:
    """Open the views of BigDataViewer, whose setups are channels."""
    refuse_planes_are(path, planes_are)
    _check_setups(path, xml)
    with opened(stored) as file:
        times = sorted(name for name in file if re.fullmatch(r"t\d{5}", name))
        setups = sorted(name for name in file["t00000"] if re.fullmatch(r"s\d{2,}", name))
        names = tuple(tuple(f"{t}/{s}/0/cells" for t in times) for s in setups)
        volume = one_volume(path, file, names)
        shape, dtype = (len(setups), len(times), *volume.shape), volume.dtype
    sizes = find_layout(path, "CTZYX", shape, channel, time)
    # BigDataViewer stores numbers from 0 to 65535 as signed ones.
    meant = np.dtype(np.uint16) if dtype == np.int16 else dtype
    lengths = _views_calibration(xml)
    reader = Hdf5Reader(stored, names, _VOLUME, channel or 0, time or 0, meant)
    return Stack(
        path, sizes.zyx_shape, meant, lengths.voxel_size_um, reader, lengths.note,
        sizes.channels, sizes.times, channel=channel or 0,
    )  # fmt: skip


def _check_setups(path: Path, xml: Element) -> None:
    """Refuse setups that are angles, tiles or illuminations."""
    for what in ("angle", "tile", "illumination"):
        found = {(inner.text or "").strip() for inner in elements(xml, what)}
        if len(found) > 1:
            raise TenetError(
                f"{path}: it holds {len(found)} views ({what}s); fuse them, or export one of them "
                "as OME-TIFF"
            )


def _views_calibration(xml: Element) -> Calibration:
    voxel = first(xml, "voxelSize")
    sizes = (first(voxel, "size").text or "").split()
    unit = (first(voxel, "unit").text or "").strip() or None
    x, y, z = sizes if len(sizes) == 3 else (None, None, None)
    return calibration((z, unit), (y, unit), (x, unit))
