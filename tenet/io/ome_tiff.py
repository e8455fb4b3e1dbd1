"""OME-XML in a TIFF, checked before memory is allocated and further files are read by its word."""

import math
from pathlib import Path, PurePath
from xml.etree.ElementTree import Element

from tenet.errors import TenetError
from tenet.io.calibration import Calibration, calibration
from tenet.io.optics import Optics, index_of_medium, photons_of_mode
from tenet.io.stack import micrometres
from tenet.io.tiff_structure import MOST_PAGES, TiffStructure, check_tiff_structure
from tenet.io.xml import count, elements, parse_xml

#: Key of the annotation with the intensity that a count of 1 stands for; see `tenet.io.levels`.
STEP = "tenet_step"
_PLACES = ("IFD", "PlaneCount", "NumPlanes", "FirstZ", "FirstC", "FirstT")


def parse_ome(path: Path, xml: str) -> Element:
    """Parse OME-XML.

    Parameters
    ----------
    path : Path
        The file with the OME-XML, for errors.
    xml : str

    Raises
    ------
    TenetError
        If the OME-XML is broken, too large, or has entities, because entities grow without limit.
    """
    return parse_xml(path, xml, "its OME-XML")


def check_ome(path: Path, ome: Element, structure: TiffStructure) -> None:
    """Compare the declarations of OME-XML with the files.

    Parameters
    ----------
    path : Path
    ome : Element
    structure : TiffStructure
        The pages of the file.

    Raises
    ------
    TenetError
        If the file belongs to a set and is not the first of the set, if files of the set are
        missing or damaged, or if the file holds fewer planes than the OME-XML declares.
    """
    binary_only = next(elements(ome, "BinaryOnly"), None)
    if binary_only is not None:
        first = binary_only.get("MetadataFile", "")[:200]
        raise TenetError(
            f"{path}: this is one file of a set that {first} describes; "
            + (
                f"give {first}, with all files of the set beside it"
                if first.lower().endswith((".tif", ".tiff", ".btf"))
                else "open the set in Fiji (Bio-Formats) and save one TIFF"
            )
        )
    if next(elements(ome, "ModuloAlongZ", "ModuloAlongC", "ModuloAlongT"), None) is not None:
        raise TenetError(
            f"{path}: its axes are divided (a Modulo annotation); export one Z, Y, X stack"
        )
    declared = sum(_declared_planes(path, pixels) for pixels in elements(ome, "Pixels"))
    others = _check_files(path, _other_files(path, ome))
    if not others and declared > structure.pages:
        raise TenetError(
            f"{path}: the recording stopped early: {declared} planes are declared and the file "
            f"holds {structure.pages}; export the complete planes as a new TIFF"
        )
    fewest_pixels = min(found.fewest_pixels for found in (structure, *others))
    for pixels in elements(ome, "Pixels"):
        size = [count(path, pixels, f"Size{axis}", 1, 2**31) for axis in "ZCTYX"]
        if math.prod(size) // fewest_pixels > MOST_PAGES:
            raise TenetError(
                f"{path}: its OME-XML declares planes of {size[3]} × {size[4]} pixels, and those "
                "in the file are far smaller; export it again"
            )


def _declared_planes(path: Path, pixels: Element) -> int:
    """Return the number of planes of an image; 0 where the planes are not greyscale."""
    sizes = [count(path, pixels, f"Size{axis}", 1, MOST_PAGES) for axis in "ZCT"]
    for data in elements(pixels, "TiffData"):
        for name in _PLACES:
            count(path, data, name, 0, MOST_PAGES)
    declared = math.prod(sizes)
    if 0 in sizes or declared > MOST_PAGES:
        raise TenetError(
            f"{path}: its OME-XML declares {' × '.join(map(str, sizes))} planes, channels and time "
            "points, which no file holds; export it again"
        )
    colour = any(c.get("SamplesPerPixel", "1") != "1" for c in elements(pixels, "Channel"))
    return 0 if colour else declared


def _other_files(path: Path, ome: Element) -> list[str]:
    """Names of the other files that hold planes."""
    names: dict[str, None] = {}
    for uuid in elements(ome, "UUID"):
        name = uuid.get("FileName", "")
        own = name.lower() == path.name.lower() or uuid.text == ome.get("UUID")
        if name and not own:
            names[name] = None
    return list(names)


def _check_files(path: Path, names: list[str]) -> list[TiffStructure]:
    """Check the other files of a set before they are opened."""
    if len(names) > MOST_PAGES:
        raise TenetError(f"{path}: it names {len(names)} other files, too many for a stack")
    for name in names:
        if PurePath(name).is_absolute() or ".." in PurePath(name).parts or "\0" in name:
            raise TenetError(
                f"{path}: it names the file {name[:80]!r} outside its folder; "
                "copy all files of the image into one folder and export them again"
            )
    lost = [name for name in names if not (path.parent / name).exists()]
    if lost:
        raise TenetError(
            f"{path}: {len(lost)} of the {len(names) + 1} files that hold its planes are not "
            f"beside it ({lost[0][:80]}, …); copy all files of the image into one folder"
        )
    return [check_tiff_structure(path.parent / name) for name in names]


def ome_calibration(path: Path, ome: Element) -> Calibration:
    """Return the voxel size of the images in OME-XML, previews among them, if all agree."""
    images = list(elements(ome, "Pixels"))
    stacks = [pixels for pixels in images if _declared_planes(path, pixels) > 1]
    found = {
        calibration(
            # µm is the schema's default unit.
            *(
                (pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm"))
                for axis in "ZYX"
            )
        )
        for pixels in stacks or images
    }
    if len(found) > 1:
        return Calibration(trouble="holds images of different voxel sizes")
    return found.pop() if found else Calibration()


def ome_optics(path: Path, ome: Element) -> tuple[Optics, ...]:
    """Return the optics of each channel of the stack in OME-XML.

    Parameters
    ----------
    path : Path
    ome : Element
        OME-XML that `check_ome` has passed.
    """
    images = [(image, p) for image in elements(ome, "Image") for p in elements(image, "Pixels")]
    stacks = [(image, pixels) for image, pixels in images if _declared_planes(path, pixels) > 1]
    if not images:
        return ()
    image, pixels = (stacks or images)[0]
    objectives = list(elements(ome, "Objective"))
    settings = next(elements(image, "ObjectiveSettings", "ObjectiveRef"), Element("none"))
    if settings.get("ID") is not None:
        objectives = [lens for lens in objectives if lens.get("ID") == settings.get("ID")]
    lens = objectives[0] if len(objectives) == 1 else Element("none")
    media = [settings.get("Medium", ""), lens.get("Immersion", "")]
    indices = (settings.get("RefractiveIndex"), *map(index_of_medium, media))
    channels = list(elements(pixels, "Channel"))
    channels += [Element("none")] * (count(path, pixels, "SizeC", 1, MOST_PAGES) - len(channels))
    return tuple(
        Optics.read(
            na=lens.get("LensNA"),
            # nm is the schema's default unit.
            wavelength_um=micrometres(
                channel.get("ExcitationWavelength"), channel.get("ExcitationWavelengthUnit", "nm")
            ),
            immersion_indices=indices,
            photons=photons_of_mode(channel.get("AcquisitionMode", "")),
        )
        for channel in channels
    )


def ome_step(path: Path, ome: Element) -> float:
    """Return the intensity that a count stands for: 1, unless `tenet.io.levels` wrote the file.

    Raises
    ------
    TenetError
        If the step is no positive number.
    """
    entries = [entry for entry in elements(ome, "M") if entry.get("K") == STEP]
    if not entries:
        return 1.0
    try:
        step = float(entries[0].text or "")
    except ValueError:
        step = math.nan
    if not (math.isfinite(step) and step > 0):
        raise TenetError(f"{path}: its {STEP} is {entries[0].text!r}; predict again")
    return step
