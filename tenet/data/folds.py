"""Which images a fold leaves out."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tenet.errors import TenetError
from tenet.io.folders import is_one_stack, is_stack, listed, path_names, stack_files, stack_name
from tenet.io.formats import STACK_SUFFIX
from tenet.io.picks import Parts, Picks
from tenet.io.records import read_table
from tenet.io.stack import Stack

#: Fewer stacks are not divided into some to train on and some to validate on.
LEAST_TO_SPLIT = 5


def every_stack(
    data: Path,
    out: Path,
    rois: Path | None = None,
    fold: int | None = None,
    *,
    channel: Picks | int | None = None,
    time: Picks | int | None = None,
    planes_are: Literal["C", "T"] | None = None,
) -> list[tuple[Stack, Path]]:
    """Open the stacks of a folder, or of its sub-folders, each with the file for its result.

    Parameters
    ----------
    data : Path
        Folder of stacks, or of folders of stacks.
    out : Path
        Folder of the results, laid out as `data` is; inside of `data`, it is passed over.
    rois : Path, optional
        Table of regions: only images that it names.
    fold : int, optional
        Only images with a region in this fold of the table.
    channel, time, planes_are
        As in `Parts`: each channel and time point is a stack of its own.

    Raises
    ------
    TenetError
        If there is no such stack, there are stacks and folders side by side, or no table says which
        images are in the fold.

    Examples
    --------
    >>> [(stack.path.name, out.name) for stack, out in every_stack(Path("stacks"), Path("results"))]
    [('image1.tif', 'image1.ome.tif'), ('image2.tif', 'image2.ome.tif')]
    """
    return [
        (stack, target.with_name(f"{target.name}{stack.part}.ome.tif"))
        for file, target in every_file(data, out, rois, fold)
        for stack in Parts(channel, time, planes_are).open(file)
    ]


def every_file(
    data: Path, out: Path, rois: Path | None = None, fold: int | None = None
) -> list[tuple[Path, Path]]:
    """List the files of stacks in a folder, or in its sub-folders, each with its result.

    Parameters
    ----------
    data, out, rois, fold
        As for `every_stack`.

    Returns
    -------
    list of (Path, Path)
        The file, and its result without part and suffix.

    Raises
    ------
    TenetError
        As `every_stack` raises, except that no file is opened.
    """
    if fold is not None and rois is None:
        raise TenetError("--fold needs --rois, the table that says which image is in which fold")
    if not os.path.isdir(data):
        raise TenetError(f"{data} is not a folder")
    folders = [] if is_one_stack(data) else _folders_in(data, out)
    wanted = images_of(rois, fold) if rois is not None else None
    found = [
        (file, out / folder.relative_to(data) / stack_name(file))
        for folder in folders or [data]
        for file in stack_files(folder)
        if wanted is None or image_number(file) in wanted
    ]
    if not found:
        raise TenetError(f"{data} holds none of the images that {rois} names")
    return found


def _folders_in(data: Path, out: Path) -> list[Path]:
    """Sub-folders of a folder, which holds no stacks beside them."""
    inside = listed(data)
    results = out.resolve()
    folders = [f for f in inside if f.is_dir() and not is_one_stack(f) and f.resolve() != results]
    stacks = [f for f in inside if is_stack(f)]
    if folders and stacks:
        raise TenetError(
            f"{data} holds stacks ({stacks[0].name}, …) beside folders ({folders[0].name}, …): "
            "give the stacks by name, or move them into a folder"
        )
    return folders


# Folds --------------------------------------------------------------------------------------------


def image_number(path: Path) -> int:
    """Number of an image: the digits that the name of its file or folder ends with.

    Examples
    --------
    >>> image_number(Path("beads/image07.tif"))
    7
    """
    number = _ending_number(path)
    if number is None:
        raise TenetError(f"{path}: its name does not end with the number of the image")
    return number


def _ending_number(path: Path) -> int | None:
    digits = re.search(r"(\d+)$", STACK_SUFFIX.sub("", path_names(path)[0]))
    return None if digits is None else int(digits.group())


def images_of(rois: Path, fold: int | None) -> set[int]:
    """Numbers of the images with a region in a fold of a table, or in any.

    Examples
    --------
    >>> images_of(Path("rois.csv"), fold=1)
    {2}
    """
    table = read_table(rois, whole=("image", "fold"))
    image, folds = table["image"].astype(int), table["fold"].astype(int)
    if fold is None:
        return set(image)
    if fold not in set(folds):
        raise TenetError(f"{rois} has no fold {fold}; it has {sorted(set(folds))}")
    return set(image[folds == fold])


def outside_fold(
    stacks: Sequence[Stack], fold: int | None, rois: Path | None, test_images: Sequence[str] = ()
) -> list[Stack]:
    """Keep the stacks that a training may read.

    Test images are left out in any case, and images with a region in the fold besides.

    Parameters
    ----------
    stacks : sequence of Stack
    fold : int or None
        The fold of the model; None for a model without a fold.
    rois : Path or None
        Table of regions: images with a region in the fold are left out.
    test_images : sequence of str
        Images to leave out; see `named_stacks`.

    Raises
    ------
    TenetError
        If nothing says which images a fold leaves out, a test image is not among the stacks, or
        none is left.

    Examples
    --------
    >>> from tenet.io.picks import every_part
    >>> stacks = every_part([Path("stacks")], Parts())
    >>> [stack.path.name for stack in outside_fold(stacks, 0, None, test_images=["1"])]
    ['image2.tif']
    """
    if fold is not None and rois is None and not test_images:
        raise TenetError("--fold needs --rois, the table that says which image is in which fold")
    kept = [stack for stack in stacks if stack.path not in named_stacks(stacks, test_images)]
    if fold is not None and rois is not None:
        left_out = images_of(rois, fold)
        kept = [stack for stack in kept if image_number(stack.path) not in left_out]
    if stacks and not kept:
        held = "the test images leave" if fold is None else f"fold {fold} leaves"
        raise TenetError(f"{held} no stack to train on")
    return kept


def named_stacks(stacks: Sequence[Stack], test_images: Sequence[str]) -> set[Path]:
    """Find the stacks that `test_images` names.

    An image is named by its file (``beads_03.tif``), by its file without suffixes (``beads_03``),
    or by the number that its name ends with (``3`` or ``03``), as far as no file has that name.

    Raises
    ------
    TenetError
        If a name is that of no stack.

    Examples
    --------
    >>> from tenet.io.picks import every_part
    >>> stacks = every_part([Path("stacks")], Parts())
    >>> sorted(path.name for path in named_stacks(stacks, ["image2.tif", "1"]))
    ['image1.tif', 'image2.tif']
    """
    found: set[Path] = set()
    for name in test_images:
        paths = [stack.path for stack in stacks]
        named = [path for path in paths if name in (path_names(path)[0], stack_name(path))]
        if not named and name.isdecimal():
            named = [path for path in paths if _ending_number(path) == int(name)]
        if not named:
            listed_names = ", ".join(stack_name(path) for path in paths[:20]) or "none"
            raise TenetError(
                f"test image {name!r} is none of the stacks ({listed_names}): mend "
                "test_dataset.test_images"
            )
        found.update(named)
    return found


# Validation ---------------------------------------------------------------------------------------


def split_for_validation(stacks: Sequence[Stack], share: float) -> tuple[list[Stack], list[Stack]]:
    """Divide the stacks of a training into those to train on and those to validate on.

    Of fewer than `LEAST_TO_SPLIT` stacks, both parts are all stacks: the training cannot spare one,
    and validation then takes other crops.

    Parameters
    ----------
    stacks : sequence of Stack
    share : float
        Share of the stacks to validate on, 0 to 0.5; rounded, and one stack at least. With 0 both
        parts are all stacks. The stacks are evenly spaced in the sequence, which is by name.

    Examples
    --------
    >>> from tenet.io.picks import every_part
    >>> stacks = every_part([Path("stacks")], Parts())
    >>> [len(part) for part in split_for_validation(stacks, 0.2)]  # two stacks are too few
    [2, 2]
    """
    if share == 0 or len(stacks) < LEAST_TO_SPLIT:
        return list(stacks), list(stacks)
    number = max(round(share * len(stacks)), 1)
    chosen = {(2 * k + 1) * len(stacks) // (2 * number) for k in range(number)}
    training = [stack for index, stack in enumerate(stacks) if index not in chosen]
    return training, [stacks[index] for index in sorted(chosen)]
