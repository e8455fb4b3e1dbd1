"""Write the SHA-256 of every file below a folder, as sha256sum does.

The pipeline follows a folder of volumes by this small file: it changes when, and only when, a
volume does, however large the volumes are and whatever their dates.
"""

import argparse
import hashlib
import os
from pathlib import Path


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
        raise SystemExit(f"{folder} holds no files: there is nothing to go on with")
    return "".join(lines)


def main() -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    partial = arguments.out.with_name(f".{arguments.out.name}.{os.getpid()}.partial")
    partial.write_text(checksums(arguments.folder), encoding="utf-8")
    os.replace(partial, arguments.out)


if __name__ == "__main__":
    main()
