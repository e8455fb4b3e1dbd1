"""Write the SHA-256 of every file below a folder, as sha256sum does.

The pipeline follows a folder of volumes by this small file: it changes when, and only when, a
volume does, however large the volumes are and whatever their dates.
"""

import argparse
import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tenet.errors import TenetError
from tenet.io.atomic import replacing


def checksums(folder: Path) -> str:
    """One line a file, sorted by path: digest, two spaces, path relative to `folder`."""
    lines = []
    for path in sorted(folder.rglob("*")):
        # Snakemake keeps a hidden time stamp in the folders that it tracks.
        if path.is_file() and not path.name.startswith("."):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
    if not lines:
        raise TenetError(f"{folder} holds no files: there is nothing to go on with")
    return "".join(lines)


def main() -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    try:
        with replacing(arguments.out) as unfinished:
            unfinished.write_text(checksums(arguments.folder), encoding="utf-8")
    except TenetError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
