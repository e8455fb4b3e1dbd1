"""What was found of a source, and whether it is what was expected; before anything is trained."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tenet.errors import TenetError
from tenet.io.intensities import check_intensities
from tenet.io.open import open_stack
from tenet.io.records import read_table
from tenet.io.stack import Stack, check_voxel_size
from tenet.types import VoxelSize
from workflow.lib.bead_check import Region, look, other_numbering
from workflow.lib.sources import Source, fits, natural, shared_name

#: Shares by which voxel sizes may differ: what a file says from the configuration, before it is
#: mentioned; what is used from what a model is trained for, before it is an error.
MENTIONED, REFUSED = 0.01, 0.05


@dataclass
class Entry:
    """A file of a source: what it holds, and what becomes of it."""

    path: Path
    stack: Stack
    name: str
    image: int | None = None
    voxel_size_um: VoxelSize = (0.0, 0.0, 0.0)
    left_out: str = ""

    def row(self) -> dict[str, object]:
        """Give the row of the list of what was found."""
        planes, rows, columns = self.stack.zyx_shape
        z, y, x = self.voxel_size_um
        return {
            "file": self.path.name,
            "stack": "" if self.left_out else f"{self.name}.ome.tif",
            "image": "" if self.image is None else self.image,
            "planes": planes,
            "rows": rows,
            "columns": columns,
            "type": self.stack.dtype,
            "z_um": z,
            "y_um": y,
            "x_um": x,
            "left_out": self.left_out,
        }

    def line(self) -> str:
        """Say the same in a line."""
        shape = "×".join(map(str, self.stack.zyx_shape))
        number = "" if self.image is None else f", image {self.image}"
        what = f"left out: {self.left_out}" if self.left_out else f"is {self.name}"
        size = _size(self.voxel_size_um) if all(self.voxel_size_um) else "no voxel size"
        return f"  {self.path.name}: {what}{number}; {shape} {self.stack.dtype}, {size}"


@dataclass
class Survey:
    """All files of a source, what is worth knowing of them, and what is not as expected."""

    source: Source
    entries: list[Entry]
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def used(self) -> list[Entry]:
        """Files that become stacks."""
        return [entry for entry in self.entries if not entry.left_out]

    def lines(self) -> list[str]:
        """Say what was found."""
        title = f"source {self.source.name}: {len(self.used)} of {len(self.entries)} stacks used"
        return [title, *(entry.line() for entry in self.entries), *self.notes]


def survey(source: Source, files: Sequence[Path]) -> Survey:
    """Open the files of a source and compare them with what is expected.

    Parameters
    ----------
    source : Source
    files : sequence of Path
        Those that fit neither `files` nor `partner` are passed over.

    Returns
    -------
    Survey
        `problems` has one line for each difference; it is empty if there is none.
    """
    found = Survey(source, [])
    chosen = sorted((path for path in files if fits(path, source.files)), key=natural)
    names = _names(chosen, source.files)
    for path, name in zip(chosen, names, strict=True):
        try:
            stack = read(path, source)
        except TenetError as error:
            found.problems.append(f"expected a stack in {path.name}, found: {_after(error, path)}")
            continue
        found.entries.append(Entry(path, stack, name))
    if not chosen:
        held = ", ".join(path.name for path in files[:20]) or "no file at all"
        found.problems.append(f"expected stacks that fit '{source.files}', found {held}")
    passed_over = [p.name for p in files if p not in chosen and not _is_partner(p, source)]
    if passed_over:
        found.notes.append(f"  passed over, as they do not fit: {', '.join(passed_over[:20])}")
    _check_pairs(found, chosen, [path for path in files if _is_partner(path, source)])
    _check_voxels(found)
    _leave_out_short(found)
    if source.rois:
        _number(found)
    for entry in found.used[source.limit :] if source.limit else ():
        entry.left_out = f"more than limit: {source.limit}"
    _check_intensities(found)
    if source.rois:
        _check_regions(found)
    named = [entry.name for entry in found.used]
    for name in sorted({name for name in named if not source.rois and named.count(name) > 1}):
        same = _listed([entry for entry in found.used if entry.name == name])
        found.problems.append(f"expected one stack {name}, found several: {same}")
    if found.entries and not found.used:
        least = "×".join(map(str, source.least_zyx))
        found.problems.append(f"expected a stack of at least {least} voxels, found none")
    return found


def read(path: Path, source: Source) -> Stack:
    """Open a stack; where it names no planes, they are what the configuration says they are."""
    try:
        return open_stack(path, channel=source.channel)
    except TenetError:
        if source.planes_are is not None:
            with suppress(TenetError):  # the first error says what the file is
                return open_stack(path, channel=source.channel, planes_are=source.planes_are)
        raise


def _after(error: TenetError, path: Path) -> str:
    """Say what is wrong, without the place of the file."""
    return str(error).removeprefix(f"{path}: ").replace(str(path), path.name)


def _listed(entries: Sequence[Entry]) -> str:
    """Name files, with their folders where these differ."""
    top = os.path.commonpath([entry.path.parent for entry in entries])
    return ", ".join(str(entry.path.relative_to(top)) for entry in entries)


def _size(voxel_size_um: VoxelSize) -> str:
    return " × ".join(f"{n:.4g}" for n in voxel_size_um) + " µm"


def _names(paths: Sequence[Path], pattern: str) -> list[str]:
    """Name the stacks: after their files, and their folders where files have the same name."""
    names = [shared_name(path, pattern) for path in paths]
    return [
        f"{path.parent.name}_{name}" if names.count(name) > 1 else name
        for path, name in zip(paths, names, strict=True)
    ]


# Channels in files of their own -------------------------------------------------------------------


def _is_partner(path: Path, source: Source) -> bool:
    return bool(source.partner) and fits(path, source.partner)


def _check_pairs(found: Survey, chosen: Sequence[Path], others: Sequence[Path]) -> None:
    """Every stack has its partner, of the same size and of other content."""
    source = found.source
    if not source.partner:
        return
    partners = {(path.parent, shared_name(path, source.partner)): path for path in others}
    broken = set(chosen) - {entry.path for entry in found.entries}
    for path in broken:  # told already
        partners.pop((path.parent, shared_name(path, source.files)), None)
    for entry in found.entries:
        key = entry.path.parent, shared_name(entry.path, source.files)
        other = partners.pop(key, None)
        if other is None:
            found.problems.append(
                f"expected a partner that fits '{source.partner}' for {entry.path.name}, found none"
            )
            continue
        try:
            beside = read(other, source)
        except TenetError as error:
            found.problems.append(
                f"expected a stack in {other.name}, found: {_after(error, other)}"
            )
            continue
        if beside.zyx_shape != entry.stack.zyx_shape:
            shapes = ["×".join(map(str, s.zyx_shape)) for s in (entry.stack, beside)]
            found.problems.append(
                f"expected {other.name} to be as large as {entry.path.name} ({shapes[0]}), "
                f"found {shapes[1]}"
            )
        elif beside.digest == entry.stack.digest:
            found.problems.append(
                f"expected another channel in {other.name}, found the same as in {entry.path.name}"
            )
    for path in partners.values():
        found.problems.append(
            f"expected a partner that fits '{source.files}' for {path.name}, found none"
        )


# Voxels and planes --------------------------------------------------------------------------------


def _differ(first: VoxelSize, second: VoxelSize, share: float) -> bool:
    return any(abs(a / b - 1) > share for a, b in zip(first, second, strict=True))


def _check_voxels(found: Survey) -> None:
    source = found.source
    for entry in found.entries:
        said, given = entry.stack.voxel_size_um, source.voxel_size_um
        size = given or said
        if size is None:
            found.problems.append(
                f"expected a voxel size in {entry.path.name}, found that it "
                f"{entry.stack.voxel_size_note}: set voxel_size_um"
            )
            continue
        try:
            check_voxel_size(size, entry.path.name)
        except TenetError as error:
            found.problems.append(f"expected voxels of a microscope, found: {error}")
            continue
        if said and given and _differ(said, given, MENTIONED):
            found.notes.append(
                f"  warning: {entry.path.name} says {_size(said)}; voxel_size_um, {_size(given)}, "
                "goes before it"
            )
        entry.voxel_size_um = size
        for experiment, expected in (source.expected_um or {}).items():
            if _differ(size, (expected[0], expected[1], expected[2]), REFUSED):
                found.problems.append(
                    f"expected voxels of {_size(expected)} in {entry.path.name} (experiment "
                    f"{experiment}), found {_size(size)}"
                )


def _leave_out_short(found: Survey) -> None:
    """Leave out stacks that have no room for a crop, by name."""
    for entry in found.entries:
        small = [
            f"{have} {what} of {least}"
            for have, least, what in zip(
                entry.stack.zyx_shape,
                found.source.least_zyx,
                ("planes", "rows", "columns"),
                strict=True,
            )
            if have < least
        ]
        if small:
            entry.left_out = f"too small for a crop ({', '.join(small)})"


def _check_intensities(found: Survey) -> None:
    """What becomes a stack is finite, and not all equal."""
    for entry in found.used:
        try:
            check_intensities(entry.stack)
        except TenetError as error:
            found.problems.append(
                f"expected an image in {entry.path.name}, found: {_after(error, entry.path)}"
            )


# Images and regions -------------------------------------------------------------------------------


def _last_digits(path: Path, pattern: str) -> int | None:
    digits = re.findall(r"\d+", shared_name(path, pattern))
    return int(digits[-1]) if digits else None


def _number(found: Survey) -> None:
    """Give every stack the number of its image, and name it after that."""
    source = found.source
    for place, entry in enumerate(found.entries):
        digits = _last_digits(entry.path, source.files)
        if source.numbering == "digits" and digits is None:
            found.problems.append(
                f"expected the number of the image in the name of {entry.path.name}, found none: "
                "set numbering: order"
            )
            continue
        number = place if source.numbering == "order" or digits is None else digits
        entry.image = number + source.first_image
        entry.name = f"{entry.image:02}"
        if entry.image < 0:
            entry.left_out = entry.left_out or "before image 0"
    numbers = [entry.image for entry in found.entries if entry.image is not None]
    for number in sorted({n for n in numbers if numbers.count(n) > 1}):
        same = _listed([entry for entry in found.entries if entry.image == number])
        found.problems.append(f"expected one image {number}, found several: {same}")


def regions_of(rois: Sequence[str]) -> list[Region]:
    """Read tables of regions around beads; a row that stands in several tables counts once."""
    columns = ("roi", "image", "z", "y", "x", "fold")
    rows = {}
    for path in rois:
        for row in read_table(Path(path), whole=columns)[list(columns)].astype(int).values:
            roi, image, z, y, x, fold = (int(value) for value in row)
            rows[roi, image, z, y, x, fold] = Region(roi, image, (z, y, x), fold)
    return list(rows.values())


def _check_regions(found: Survey) -> None:
    """A bead is in every region, and no fold's model sees an image of its own regions."""
    regions = regions_of(found.source.rois)
    images = {entry.image: entry for entry in found.used}
    left_out = {entry.image: entry for entry in found.entries if entry.left_out}
    problems: list[str] = []
    for image in sorted({region.image for region in regions} - set(images)):
        reason = (
            f"{left_out[image].path.name}, {left_out[image].left_out}" if image in left_out else ""
        )
        of_it = ", ".join(str(region.roi) for region in regions if region.image == image)
        problems.append(f"expected image {image} (regions {of_it}), found {reason or 'none'}")
    for region in regions:
        entry = images.get(region.image)
        if entry is None or not all(entry.voxel_size_um):
            continue
        sight = look(entry.stack, region, entry.voxel_size_um)
        if not sight.is_bead:
            place = "plane {}, row {}, column {}".format(*region.centre_zyx)
            instead = (
                "the brightest place at plane {}, row {}, column {}".format(*sight.brightest_zyx)
                if sight.brightest_zyx
                else f"{'×'.join(map(str, entry.stack.zyx_shape))} voxels"
            )
            problems.append(
                f"expected a bead at {place} of {entry.path.name} (region {region.roi}, image "
                f"{region.image}), found {instead}"
            )
    if problems:
        problems += _other_numbers(found, regions)
    found.problems += problems
    _check_leaks(found, regions)


def _other_numbers(found: Survey, regions: Sequence[Region]) -> list[str]:
    """Say under which numbers of images the regions fit, if there are such."""
    entries = [entry for entry in found.used if all(entry.voxel_size_um)]
    places = {entry.path: place for place, entry in enumerate(found.entries)}
    digits = [_last_digits(entry.path, found.source.files) for entry in entries]
    ways: dict[str, list[int | None]] = {
        f"numbering: digits, first_image: {first}": [
            None if number is None else number + first for number in digits
        ]
        for first in (0, -1, 1)
    } | {
        f"numbering: order, first_image: {first}": [places[e.path] + first for e in entries]
        for first in (0, 1)
    }
    words = other_numbering([(e.stack, e.voxel_size_um) for e in entries], ways, regions)
    if words:
        return [f"with {words}, every region has its bead: set these under this source"]
    return ["no other numbering of the images fits the regions: is the table that of other images?"]


def _check_leaks(found: Survey, regions: Sequence[Region]) -> None:
    """A fold leaves out its images by number; a copy under another number would be trained on."""
    by_content: dict[str, list[Entry]] = {}
    for entry in found.used:
        by_content.setdefault(entry.stack.digest, []).append(entry)
    folds = sorted({region.fold for region in regions})
    for same in (entries for entries in by_content.values() if len(entries) > 1):
        numbers = {entry.image for entry in same}
        leaking = [
            fold
            for fold in folds
            if 0 < len(numbers & {r.image for r in regions if r.fold == fold}) < len(numbers)
        ]
        if leaking:
            found.problems.append(
                f"expected images that differ, found one image under several names "
                f"({_listed(same)}): the models of folds {', '.join(map(str, leaking))} would see "
                "their own test image"
            )
    for image in sorted({region.image for region in regions}):
        shared = sorted({region.fold for region in regions if region.image == image})
        if len(shared) > 1:
            found.notes.append(
                f"  note: image {image} is tested in folds {', '.join(map(str, shared))}; each of "
                "their models leaves it out"
            )
