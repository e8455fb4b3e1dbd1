"""Which images a fold leaves out."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tenet.errors import TenetError
from tenet.io.folders import STACK_SUFFIX, is_stack, listed, path_names, stack_files, stack_name
from tenet.io.ome_zarr import is_zarr
from tenet.io.open import open_stack
from tenet.io.records import read_table
from tenet.io.stack import Stack


def every_stack(
    data: Path,
    out: Path,
    rois: Path | None = None,
    fold: int | None = None,
    *,
    channel: int | None = None,
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
    channel : int, optional
        Channel of stacks with several.
    planes_are : {"C", "T"}, optional
        As in `open_stack`.

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
    if fold is not None and rois is None:
        raise TenetError("--fold needs --rois, the table that says which image is in which fold")
    if not os.path.isdir(data):
        raise TenetError(f"{data} is not a folder")
    folders = [] if is_zarr(data) else _folders_in(data, out)
    wanted = images_of(rois, fold) if rois is not None else None
    pairs = []
    for folder in folders or [data]:
        for file in stack_files(folder):
            if wanted is None or image_number(file) in wanted:
                target = out / folder.relative_to(data) / f"{stack_name(file)}.ome.tif"
                stack = open_stack(file, channel=channel, planes_are=planes_are)
                pairs.append((stack, target))
    if not pairs:
        raise TenetError(f"{data} holds none of the images that {rois} names")
    return pairs


def _folders_in(data: Path, out: Path) -> list[Path]:
    """Sub-folders of a folder, which holds no stacks beside them."""
    inside = listed(data)
    results = out.resolve()
    folders = [f for f in inside if f.is_dir() and not is_zarr(f) and f.resolve() != results]
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
    digits = re.search(r"(\d+)$", STACK_SUFFIX.sub("", path_names(path)[0]))
    if digits is None:
        raise TenetError(f"{path}: its name does not end with the number of the image")
    return int(digits.group())


def images_of(rois: Path, fold: int | None) -> set[int]:
    """Numbers of the images with a region in a fold of a table, or in any.

    Examples
    --------
    >>> images_of(Path("rois.csv"), fold=1)
    {2}
    """
    table = read_table(rois, numbers=("image", "fold"))
    image, folds = table["image"].astype(int), table["fold"].astype(int)
    if fold is None:
        return set(image)
    if fold not in set(folds):
        raise TenetError(f"{rois} has no fold {fold}; it has {sorted(set(folds))}")
    return set(image[folds == fold])


def outside_fold(
    stacks: Sequence[Stack], fold: int | None, rois: Path | None, test_images: Sequence[str] = ()
) -> list[Stack]:
    """Keep the stacks that the model of a fold may see; without a fold, all.

    Parameters
    ----------
    stacks : sequence of Stack
    fold : int or None
    rois : Path or None
        Table of regions: images with a region in the fold are left out.
    test_images : sequence of str
        Numbers of the images to leave out where there is no table.

    Raises
    ------
    TenetError
        If nothing says which images to leave out, or none is left.

    Examples
    --------
    >>> stacks = [open_stack(path) for path in stack_files(Path("stacks"))]
    >>> [stack.path.name for stack in outside_fold(stacks, 0, None, test_images=["1"])]
    ['image2.tif']
    """
    if fold is None:
        return list(stacks)
    if rois is None:
        if not test_images:
            raise TenetError(
                "--fold needs --rois, the table that says which image is in which fold"
            )
        left_out = {int(name) for name in test_images}
    else:
        left_out = images_of(rois, fold)
    kept = [stack for stack in stacks if image_number(stack.path) not in left_out]
    if not kept:
        raise TenetError(f"fold {fold} leaves no stack to train on")
    return kept
