"""Phantoms on disk, read by crops."""

import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec
from zarr.storage import MemoryStore

from tenet.errors import TenetError, one_line
from tenet.io.atomic import replacing
from tenet.io.zarr_files import MOST_CHUNK_BYTES, ArchiveStore
from tenet.types import Triple

SUFFIX = ".zarr.zip"


# ---------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------

_FORMAT = "tenet-phantom-1"
_SHAPE_BIT = 0x8000
_BRIGHTNESS_STEPS = 0x7FFF
# A crop of 240 × 112 × 112 touches few chunks, each of which costs more to call for than to
# decompress; and a volume is one file.
_CHUNKS = (120, 64, 64)


class Phantom:
    """A phantom on disk, read by crops; made by `open_phantom`.

    Attributes
    ----------
    path
        The file.
    zyx_shape
        Size of the volume.
    voxel_size_um
        Step of the grid in z, y, x in µm, or None: a phantom that is not tied to any length.
    attributes
        What the maker of the phantom noted.
    brightest
        Greatest brightness that the file can hold.

    Examples
    --------
    >>> phantom = open_phantom("phantoms/00.zarr.zip")
    >>> phantom.zyx_shape
    (24, 40, 40)
    """

    def __init__(
        self,
        path: Path,
        zyx_shape: Triple,
        voxel_size_um: tuple[float, float, float] | None,
        attributes: dict[str, Any],
        brightest: float = 1.0,
    ) -> None:
        self.path = path
        self.zyx_shape = zyx_shape
        self.voxel_size_um = voxel_size_um
        self.attributes = attributes
        self.brightest = brightest
        self._array: Any = None
        self._opened_by = 0

    def read(self, z: slice, y: slice, x: slice) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Read a crop; only the chunks that it touches are loaded.

        Parameters
        ----------
        z, y, x
            The crop, in voxels.

        Returns
        -------
        shape
            uint8, 0 or 1.
        brightness
            float32 in [0, `brightest`], exact to 1.6e-5 of it (it is stored in 32767 steps). Where
            the shape is 0, brightness is that of objects too dim to be labelled.

        Raises
        ------
        TenetError
            If the file is damaged there.

        Examples
        --------
        >>> phantom = open_phantom("phantoms/00.zarr.zip")
        >>> shape, brightness = phantom.read(slice(0, 6), slice(0, 40), slice(0, 40))
        >>> shape.shape, shape.dtype, brightness.dtype
        ((6, 40, 40), dtype('uint8'), dtype('float32'))
        """
        # Processes that share an open file would move each other's position in it.
        if self._array is None or self._opened_by != os.getpid():
            self._array = _open_zip(self.path)
            self._opened_by = os.getpid()
        # Archive, codec and array meet damaged data with whatever they run into.
        try:
            packed = self._array[z, y, x]
        except Exception as error:
            raise TenetError(
                f"phantom {self.path} is damaged ({one_line(error)}): make it anew"
            ) from error
        shape = (packed >> 15).astype(np.uint8)
        packed &= _BRIGHTNESS_STEPS
        return shape, packed.astype(np.float32) / np.float32(_BRIGHTNESS_STEPS / self.brightest)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_array": None}

    def __repr__(self) -> str:
        return f"Phantom({str(self.path)!r}, zyx_shape={self.zyx_shape})"


def save_phantom(
    path: Path | str,
    shape: NDArray[np.integer[Any] | np.bool_],
    brightness: NDArray[np.floating[Any]],
    *,
    voxel_size_um: tuple[float, float, float] | None = None,
    attributes: Mapping[str, Any] | None = None,
    brightest: float = 1.0,
) -> Phantom:
    """Store a phantom as one file: a Zarr array (version 3) in an uncompressed zip.

    A voxel is 16 bits, the shape in the highest and brightness / `brightest` × 32767, rounded, in
    the others, in chunks compressed without loss. So brightness is exact to 1.6e-5 of `brightest`.

    Parameters
    ----------
    path
        Where to; the name ends in ``.zarr.zip``. An older file is replaced. The file takes its
        name only when it is complete.
    shape
        ZYX, values 0 and 1.
    brightness
        ZYX, finite, in [0, `brightest`].
    voxel_size_um
        Step of the grid in z, y, x.
    attributes
        Anything worth noting that JSON can hold.
    brightest
        Greatest brightness that the file can hold.

    Returns
    -------
    Phantom
        The stored phantom.

    Raises
    ------
    TenetError
        If the name or the volumes are not as described.

    Examples
    --------
    >>> shape = np.zeros((12, 16, 16), np.uint8)
    >>> shape[4:8, 6:10, 6:10] = 1
    >>> phantom = save_phantom("cube.zarr.zip", shape, 0.5 * shape, voxel_size_um=(0.1, 0.1, 0.1))
    >>> phantom.zyx_shape, phantom.voxel_size_um
    ((12, 16, 16), (0.1, 0.1, 0.1))
    """
    path = Path(path)
    if not path.name.endswith(SUFFIX):
        raise TenetError(f"phantom file {path}: the name must end in {SUFFIX}")
    _check_volumes(shape, brightness, str(path), brightest)
    chunks = tuple(min(c, n) for c, n in zip(_CHUNKS, shape.shape, strict=True))
    files: dict[str, Any] = {}
    with replacing(path) as temporary:
        array: Any = zarr.create_array(
            MemoryStore(files),
            shape=shape.shape,
            dtype="uint16",
            chunks=chunks,
            compressors=BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle"),
            attributes={
                "format": _FORMAT,
                "voxel_size_um": None if voxel_size_um is None else list(voxel_size_um),
                "attributes": dict(attributes or {}),
            }
            | ({} if brightest == 1 else {"brightest": brightest}),
        )
        for start in range(0, shape.shape[0], chunks[0]):
            slab = slice(start, start + chunks[0])
            steps = brightness[slab].astype(np.float32) * (_BRIGHTNESS_STEPS / brightest)
            packed = np.rint(steps).astype(np.uint16)
            packed[shape[slab] != 0] |= _SHAPE_BIT
            array[slab] = packed
        # Equal phantoms are equal files, because the members have an order and no dates.
        with zipfile.ZipFile(temporary, "w") as archive:
            for name in sorted(files):
                archive.writestr(zipfile.ZipInfo(name), files[name].to_bytes())
    return open_phantom(path)


def open_phantom(path: Path | str) -> Phantom:
    """Open a phantom stored by `save_phantom`.

    Parameters
    ----------
    path
        The ``.zarr.zip`` file.

    Returns
    -------
    Phantom
        To be read by crops.

    Raises
    ------
    TenetError
        If the file is missing or is no phantom.

    Examples
    --------
    >>> open_phantom("phantoms/00.zarr.zip")
    Phantom('phantoms/00.zarr.zip', zyx_shape=(24, 40, 40))
    """
    path = Path(path)
    array = _open_zip(path)
    header = dict(array.attrs)
    if header.get("format") != _FORMAT or array.ndim != 3 or array.dtype != np.uint16:
        raise TenetError(f"{path} is no phantom of this format ({_FORMAT}): make it anew")
    size, brightest = header.get("voxel_size_um"), header.get("brightest", 1.0)
    right = size is None or (isinstance(size, list) and len(size) == 3 and _are_above_0(size))
    right &= _are_above_0([brightest]) and isinstance(header.get("attributes"), dict)
    if not right or 0 in array.shape or 2 * math.prod(array.chunks) > MOST_CHUNK_BYTES:
        raise TenetError(f"phantom {path} is damaged (what it says of itself): make it anew")
    z, y, x = array.shape
    voxel_size_um = None if size is None else tuple(size)
    return Phantom(path, (z, y, x), voxel_size_um, header["attributes"], brightest)


def _are_above_0(values: list[Any]) -> bool:
    return all(type(v) in (int, float) and math.isfinite(v) and v > 0 for v in values)


def open_phantoms(folder: Path | str) -> list[Phantom]:
    """Open all phantoms of a folder, sorted by name.

    Parameters
    ----------
    folder
        Folder with ``.zarr.zip`` files.

    Returns
    -------
    list of Phantom
        At least one.

    Raises
    ------
    TenetError
        If there is no phantom in it, or one cannot be opened.

    Examples
    --------
    >>> [phantom.path.name for phantom in open_phantoms("phantoms")]
    ['00.zarr.zip', '01.zarr.zip', '02.zarr.zip']
    """
    folder = Path(folder)
    paths = phantom_files(folder)
    if not paths:
        if any(folder.glob("*.npz")):
            raise TenetError(f"{folder} holds .npz files only: import them as phantoms first")
        raise TenetError(f"no phantoms (*{SUFFIX}) in {folder}: make or import some first")
    return [open_phantom(path) for path in paths]


def import_phantoms(
    npz_folder: Path | str,
    out_folder: Path | str,
    *,
    voxel_size_um: tuple[float, float, float] | None = None,
) -> list[Phantom]:
    """Store a user's own phantoms, one ``.npz`` each, in the form that training reads.

    Parameters
    ----------
    npz_folder
        Folder with ``*.npz``, each with the arrays ``shape`` (ZYX, 0 and 1) and ``brightness``
        (ZYX, finite, in [0, 1]; only that in the shape is taken).
    out_folder
        Where to; ``name.npz`` becomes ``name.zarr.zip``.
    voxel_size_um
        Step of the grid in z, y, x, if it is known.

    Returns
    -------
    list of Phantom
        The stored phantoms, sorted by name.

    Raises
    ------
    TenetError
        If there are none, a file cannot be read, or an array is missing or not as described.

    Examples
    --------
    >>> shape = np.zeros((12, 16, 16), np.uint8)
    >>> np.savez("cells.npz", shape=shape, brightness=0.5 * shape)
    >>> import_phantoms(".", "imported")
    [Phantom('imported/cells.zarr.zip', zyx_shape=(12, 16, 16))]
    """
    npz_folder, out_folder = Path(npz_folder), Path(out_folder)
    paths = sorted(npz_folder.glob("*.npz"))
    if not paths:
        raise TenetError(f"no .npz files to import in {npz_folder}: check the folder")
    phantoms = []
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                missing = {"shape", "brightness"} - set(arrays.files)
                if missing:
                    raise TenetError(
                        f"{path} lacks the array {' and '.join(sorted(missing))}: "
                        f"it holds {', '.join(arrays.files) or 'nothing'}"
                    )
                shape, brightness = arrays["shape"], arrays["brightness"]
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise TenetError(f"cannot read {path} as .npz without pickles: {error}") from error
        _check_volumes(shape, brightness, str(path))
        phantoms.append(
            save_phantom(
                out_folder / f"{path.stem}{SUFFIX}",
                shape,
                brightness * (shape > 0),
                voxel_size_um=voxel_size_um,
                attributes={"imported_from": path.name},
            )
        )
    return phantoms


def phantom_files(folder: Path) -> list[Path]:
    """List the phantoms of a folder by name."""
    return sorted(p for p in folder.glob(f"*{SUFFIX}") if not p.name.startswith("."))


def _open_zip(path: Path) -> Any:
    if not path.is_file():
        raise TenetError(f"phantom {path} not found: make or import it first")
    try:
        return zarr.open_array(ArchiveStore(path, mode="r"), mode="r")
    # Archive, metadata and codecs meet damaged data with whatever they run into.
    except Exception as error:
        raise TenetError(
            f"cannot read {path} as a phantom ({one_line(error)}): make it anew"
        ) from error


def _check_volumes(
    shape: NDArray[Any], brightness: NDArray[Any], where: str, brightest: float = 1.0
) -> None:
    if shape.ndim != 3 or 0 in shape.shape:
        raise TenetError(f"{where}: shape has the dimensions {shape.shape}, must be Z, Y, X")
    if brightness.shape != shape.shape:
        raise TenetError(
            f"{where}: shape {shape.shape} and brightness {brightness.shape} differ in size"
        )
    if shape.dtype.kind not in "bui" or shape.min() < 0 or shape.max() > 1:
        raise TenetError(f"{where}: shape must be of integers 0 and 1 only")
    # Comparisons with NaN are false, so that it is refused too.
    within = brightness.min() >= 0 and brightness.max() <= np.float32(brightest)
    if brightness.dtype.kind != "f" or not within:
        raise TenetError(
            f"{where}: brightness must be of finite floating numbers from 0 to {brightest:g}"
        )
