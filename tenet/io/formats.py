"""The formats that TENET reads: one list, which opens files and from which the docs are printed.

``python -m tenet.io.formats`` prints the table of `docs/formats.md`.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tenet.errors import TenetError
from tenet.io.nd2 import open_nd2
from tenet.io.npy import open_npy
from tenet.io.ome_zarr import is_zarr, open_ome_zarr
from tenet.io.pt import open_pt
from tenet.io.stack import Stack
from tenet.io.tiff import open_tiff
from tenet.io.vendors import hdf5, prairie, thor
from tenet.io.vendors.czi import open_czi
from tenet.io.vendors.hdf5 import open_hdf5
from tenet.io.vendors.imaris import open_imaris
from tenet.io.vendors.lif import open_lif
from tenet.io.vendors.olympus import open_oib, open_oif
from tenet.io.vendors.planes import is_folder_of_planes, open_planes
from tenet.io.vendors.prairie import open_prairie
from tenet.io.vendors.scanbox import open_scanbox
from tenet.io.vendors.thor import open_thor
from tenet.io.xml import has_companion, root_name

#: Opens a file by its path, a channel, what its planes are, and a time point.
Opener = Callable[[Path, int | None, Literal["C", "T"] | None, int | None], Stack]


@dataclass(frozen=True)
class Format:
    """A format, and what TENET reads of it.

    Attributes
    ----------
    name, files, reader, voxel_size, optics, parts : str
        Words for the table: the last ones say where voxel size and optics come from, and what
        channels and time points are.
    opener : callable
        Opens a file or a folder of the format.
    suffixes : tuple of str
        Ends of the names of its files, in small letters.
    listed : bool
        Whether its files are stacks wherever they lie in a folder of stacks.
    is_folder : callable, optional
        Whether a folder is one stack of the format.
    root : str
        Outermost element of the XML file that describes a stack of the format.
    several : bool
        Whether a file may hold several images, of which a path names one.
    """

    name: str
    files: str
    reader: str
    voxel_size: str
    optics: str
    parts: str
    opener: Opener
    suffixes: tuple[str, ...] = ()
    listed: bool = True
    is_folder: Callable[[Path], bool] | None = None
    root: str = ""
    several: bool = False


def _without_planes_are(opener: Callable[[Path, int | None, int | None], Stack]) -> Opener:
    def open_array(
        path: Path, channel: int | None, planes_are: str | None, time: int | None
    ) -> Stack:
        if planes_are is not None:
            kind = path.suffix[1:].upper()
            raise TenetError(
                f"{path}: {kind} names no axes, the first is z: leave --planes-are out"
            )
        return opener(path, channel, time)

    return open_array


def _xml_beside(root: str) -> Callable[[Path], bool]:
    return lambda folder: has_companion(folder, root)


def _planes_alone(folder: Path) -> bool:
    """Whether a folder is planes in files, and holds no stacks of other formats beside them."""
    others = tuple(suffix for suffix in LISTED if not suffix.startswith((".tif", ".btf")))
    try:
        names = [name.lower() for name in os.listdir(folder)]
    except OSError:
        return False
    beside = any(name.endswith((*others, ".zarr")) for name in names)
    return not beside and is_folder_of_planes(folder)


_OWN, _EXTRA = "TENET", "`[formats]`: "

#: All formats. Of several that a file or a folder may be, the first counts.
FORMATS = (
    Format(
        "TIFF, BigTIFF", "`.tif`, `.tiff`, `.btf`", "tifffile", "none", "none",
        "pages are planes", open_tiff, (".tif", ".tiff", ".btf"),
    ),
    Format(
        "ImageJ", "`.tif`", "tifffile", "description; a missing `spacing` is 1 of its unit", "none",
        "channels, time", open_tiff,
    ),
    Format(
        "OME-TIFF", "`.ome.tif`, one or a set in a folder", "tifffile", "OME-XML",
        "NA, wavelength, immersion, photons", "channels, time", open_tiff,
    ),
    Format(
        "ScanImage 3.8 to 2016 and later", "`.tif`", "tifffile", "header", "two photons",
        "channels; several frames of a slice are averaged", open_tiff,
    ),
    Format(
        "LSM (Zeiss)", "`.lsm`", "tifffile", "LSM header",
        "NA and immersion of the objective's name, wavelength, photons", "channels, time",
        open_tiff, (".lsm",),
    ),
    Format(
        "NPY", "`.npy`", "NumPy", "none", "none", "the first axis is z",
        _without_planes_are(open_npy), (".npy",),
    ),
    Format(
        "PyTorch", "`.pt`, a tensor", "PyTorch", "none", "none", "the first axis is z",
        _without_planes_are(open_pt), (".pt",), listed=False,
    ),
    Format(
        "ND2 (Nikon)", "`.nd2`", "nd2", "header", "NA, wavelength, immersion, photons",
        "channels, time", open_nd2, (".nd2",),
    ),
    Format(
        "OME-Zarr 0.1 to 0.5, bioformats2raw, Zarr", "a folder, `.zarr.zip`, `.ozx`", "zarr",
        "metadata", "none", "channels, time", open_ome_zarr, (".zarr.zip", ".ozx"),
        is_folder=is_zarr,
    ),
    Format(
        "Prairie View (Bruker)", "a folder, or its `.xml`, and a TIFF a plane", _OWN,
        "XML; plane distance from the positions", "NA, immersion, wavelength, photons",
        "channels; sequences with z are time points", open_prairie,
        is_folder=_xml_beside(prairie.ROOT), root=prairie.ROOT,
    ),
    Format(
        "ThorImage (Thorlabs)", "a folder, or its `Experiment.xml`, and TIFFs or a `.raw`", _OWN,
        "XML", "NA and immersion of the objective", "channels, time", open_thor,
        is_folder=_xml_beside(thor.ROOT), root=thor.ROOT,
    ),
    Format(
        "Scanbox (Neurolabware)", "`.sbx`, and its `.mat`", "SciPy",
        "MAT file; plane distance of the tunable lens",
        "NA and immersion of the objective's name, wavelength, two photons",
        "channels; volumes are time points", open_scanbox, (".sbx",),
    ),
    Format(
        "A plane a file", "a folder of TIFFs whose names differ by numbers", "tifffile",
        "pixels of ImageJ or OME", "those of OME",
        "letters before the numbers: z, c (or ch), t", open_planes,
        is_folder=_planes_alone,
    ),
    Format(
        "IMS (Imaris)", "`.ims`", f"{_EXTRA}h5py", "extent over voxels",
        "NA, wavelength, immersion, photons", "channels, time", open_imaris, (".ims",),
    ),
    Format(
        "BigDataViewer", "`.h5`, or its `.xml`", f"{_EXTRA}h5py", "XML", "none",
        "setups are channels; time", open_hdf5, root=hdf5.ROOT,
    ),
    Format(
        "HDF5, ilastik", "`.h5`, `.hdf5` with one dataset of three axes or more", f"{_EXTRA}h5py",
        "`element_size_um`", "none", "`axistags` or labels; else the first axis is z",
        open_hdf5, (".h5", ".hdf5"), listed=False,
    ),
    Format(
        "CZI (Zeiss)", "`.czi`, `.czi/scene0`", f"{_EXTRA}pylibCZIrw", "XML",
        "NA, wavelength, immersion, photons", "channels, time", open_czi, (".czi",),
        several=True,
    ),
    Format(
        "LIF (Leica)", "`.lif`, `.lif/Series003`", f"{_EXTRA}liffile", "XML",
        "NA, immersion, wavelength of the one line, photons", "channels, time", open_lif,
        (".lif",), several=True,
    ),
    Format(
        "OIF (Olympus)", "`.oif`, and its folder `.oif.files`", _OWN, "settings",
        "NA, wavelength, photons", "channels, time", open_oif, (".oif",),
    ),
    Format(
        "OIB (Olympus)", "`.oib`", f"{_EXTRA}olefile", "settings", "NA, wavelength, photons",
        "channels, time", open_oib, (".oib",),
    ),
)  # fmt: skip

#: Formats that only Java or a vendor's library reads.
TO_EXPORT = (
    ".lof", ".xlef", ".oir", ".poir", ".vsi", ".stk", ".dv", ".sld", ".sldy",
)  # fmt: skip

#: Ends of the names of files that are stacks wherever they lie in a folder of stacks.
LISTED = tuple(suffix for known in FORMATS if known.listed for suffix in known.suffixes)
#: The end of the name of a stack, which is no part of the stack's own name.
STACK_SUFFIX = re.compile(
    r"(\.ome)?("
    + "|".join(re.escape(suffix) for known in FORMATS for suffix in known.suffixes)
    + r"|\.zarr|\.xml)$",
    re.IGNORECASE,
)


def format_of_folder(folder: Path) -> Format | None:
    """Return the format of a folder that is one stack; None for any other folder."""
    if not os.path.isdir(folder):
        return None
    return next((known for known in FORMATS if known.is_folder and known.is_folder(folder)), None)


def format_of_file(path: Path) -> Format | None:
    """Return the format of a file by the end of its name, or by the content of an XML file."""
    name = path.name.lower()
    if name.endswith(".xml"):
        root = root_name(path)
        return next((known for known in FORMATS if known.root and known.root == root), None)
    return next((known for known in FORMATS if name.endswith(known.suffixes or ("/",))), None)


def table() -> str:
    """Return the table of all formats in Markdown."""
    rows = [
        ("Format", "Files", "Read by", "Voxel size", "Optics", "Channels and time"),
        ("---",) * 6,
        *((f.name, f.files, f.reader, f.voxel_size, f.optics, f.parts) for f in FORMATS),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    print(table())
