"""Give the results of a folder of stacks their folder, once no stack has failed.

    finish_folder.py [UNFINISHED FOLDER]

Without them, as where there is one result and no folder, there is nothing to do.
What is in UNFINISHED of stacks that no longer belong to the sample is removed: results that
``enhanced.csv`` does not name.
"""

import argparse
import csv
import glob
import shutil
from pathlib import Path

SUFFIXES = (".ome.tif", ".ome.zarr")


def main() -> None:
    """Read the command line, tidy up, and rename."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="*")
    folders = parser.parse_args().folders
    if folders:
        finish(*folders)


def finish(unfinished: Path, folder: Path) -> None:
    """Remove what does not belong, and rename.

    Parameters
    ----------
    unfinished : Path
        Folder of results, perhaps with the table that `tenet enhance` wrote last.
    folder : Path
        Its name when all is there; nothing has that name.
    """
    table = unfinished / "enhanced.csv"
    if table.exists():  # several channels of one file have no table
        _keep(table)
    unfinished.rename(folder)


def _keep(table: Path) -> None:
    """Remove results that a table does not name."""
    unfinished = table.parent
    with table.open(newline="", encoding="utf-8") as file:
        named = {unfinished / row["result"] for row in csv.DictReader(file)}
    found = {path for path in unfinished.rglob("*") if path.name.endswith(SUFFIXES)}
    for result in found - named:
        for path in _files_of(result) - set().union(*map(_files_of, named)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _files_of(result: Path) -> set[Path]:
    """A result, its record and its pictures; also those of results whose names begin alike."""
    stem = result.name.removesuffix(SUFFIXES[0]).removesuffix(SUFFIXES[1])
    own = set(result.parent.glob(f"{glob.escape(stem)}.*"))
    return (
        own
        | set(result.parent.glob(f"{glob.escape(stem)}_*.png"))
        | set(result.parent.glob(f"{glob.escape(stem)}_*.html"))
    )


if __name__ == "__main__":
    main()
