"""From the record to a folder of stacks that every later step can read as it is.

A source becomes a folder of OME-TIFFs of one channel, in Z, Y, X, with the right voxel size, named
by image number or by what its channels share. No later step needs to know how the record is made.
"""

import fcntl
import fnmatch
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tenet.errors import TenetError
from tenet.io.atomic import replacing, save_table
from tenet.io.ome_zarr import is_zarr
from tenet.io.writing import write_ome_tiff
from workflow.lib.archives import ARCHIVES, fitting, folders_of, take_archives, take_folder
from workflow.lib.record_check import Entry, Survey, survey
from workflow.lib.sources import Source, fits
from workflow.lib.zenodo import download, read_manifest


def fetch_source(source: Source, manifest: Path, downloads: Path, out: Path, listing: Path) -> None:
    """Download what a source needs, check it, and write its stacks.

    Parameters
    ----------
    source : Source
    manifest : Path
        The record's files; see `zenodo.write_manifest`.
    downloads : Path
        Folder of downloaded files, which sources share.
    out : Path
        The new folder of stacks. It appears when everything is right and written.
    listing : Path
        The list of what was found (CSV).

    Raises
    ------
    TenetError
        If the folder is not found, or what is found is not what was expected: one list of all
        differences.
    """
    with replacing(out, folder=True) as complete:
        raw = complete / ".raw"
        files = _loose if not source.folder else _from_archives
        found = survey(source, files(source, manifest, downloads, raw))
        print("\n".join(found.lines()), file=sys.stderr, flush=True)
        if found.problems:
            raise TenetError(_differences(source, found))
        _check_room(source, found, complete)
        for entry in found.used:
            _write(entry, complete)
        shutil.rmtree(raw, ignore_errors=True)
    save_table(listing, [entry.row() for entry in found.entries])


def _from_archives(source: Source, manifest: Path, downloads: Path, raw: Path) -> list[Path]:
    """Take the folder out of the first archive that holds it; no other is downloaded."""
    tried: list[Path] = []
    for name in archive_names(source, read_manifest(manifest)):
        archive = _downloaded(name, manifest, downloads)
        holding = [archive]
        found = fitting(source.folder, folders_of(holding))
        if not found:
            holding = take_archives(archive, raw / "inner" / str(len(tried)))
            found = fitting(source.folder, folders_of(holding))
        if found:
            tried = holding
            break
        tried += [archive, *holding]
    if not tried:
        held = ", ".join(sorted(read_manifest(manifest))[:50])
        raise TenetError(
            f"source {source.name}: expected an archive that fits {' or '.join(source.archives)}, "
            f"found none in the record, which holds {held}; set sources: {source.name}: archives, "
            'or folder: "" for loose files'
        )
    take_folder(source.folder, tried, raw / "files")
    shutil.rmtree(raw / "inner", ignore_errors=True)
    return _files_below(raw / "files")


def archive_names(source: Source, names: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """List the archives of a record that a source may be in, in the order of its patterns.

    Whether letters are capitals makes no difference.
    """
    archives = sorted(name for name in names if name.lower().endswith(ARCHIVES))
    fit = [
        name
        for pattern in source.archives
        for name in archives
        if fnmatch.fnmatchcase(name.lower(), pattern.lower())
    ]
    return list(dict.fromkeys(fit))


def _loose(source: Source, manifest: Path, downloads: Path, raw: Path) -> list[Path]:
    """Download the loose files of a record that fit."""
    names = list(read_manifest(manifest))
    wanted = [
        name
        for name in names
        if fits(Path(name), source.files) or (source.partner and fits(Path(name), source.partner))
    ]
    if not wanted:
        raise TenetError(
            f"source {source.name}: expected loose files that fit '{source.files}', found "
            f"{', '.join(names[:50])} in the record"
        )
    return [_downloaded(name, manifest, downloads) for name in wanted]


def _downloaded(name: str, manifest: Path, downloads: Path) -> Path:
    """Fetch a file unless it is there; sources that want the same file wait for one another."""
    path = downloads / name
    with _alone(path):
        download(name, manifest, path)
    return path


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _files_below(folder: Path) -> list[Path]:
    """List files and OME-Zarr folders, at any depth."""
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not is_zarr(path):
            found += _files_below(path)
        else:
            found.append(path)
    return found


# What is written ----------------------------------------------------------------------------------


def _check_room(source: Source, found: Survey, folder: Path) -> None:
    needed = sum(
        int(np.prod(entry.stack.zyx_shape)) * min(entry.stack.dtype.itemsize, 4)
        for entry in found.used
    )
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise TenetError(
            f"source {source.name}: {needed / 1e9:.1f} GB of stacks are to be written, "
            f"{folder.parent} has {free / 1e9:.1f} GB free; make room, or set zenodo: folder to "
            "another disk"
        )


def _write(entry: Entry, folder: Path) -> None:
    """Write a stack as OME-TIFF, in the file's own type where float32 holds all its values."""
    stack = entry.stack
    voxels = stack.read()
    if stack.step == 1 and np.can_cast(stack.dtype, np.float32):
        voxels = voxels.astype(stack.dtype, copy=False)
    write_ome_tiff(folder / f"{entry.name}.ome.tif", voxels, entry.voxel_size_um)


def _differences(source: Source, found: Survey) -> str:
    listed = "\n".join(f"  {problem}" for problem in found.problems)
    return (
        f"source {source.name}: what was found differs from what was expected "
        f"({len(found.problems)}); nothing is trained on it:\n{listed}\n"
        f"mend sources: {source.name} in the configuration (docs/pipeline.md), or the record"
    )
