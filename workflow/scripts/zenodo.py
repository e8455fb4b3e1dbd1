"""Fetch a record of Zenodo, file by file, and take folders of stacks out of its archives.

Three steps, so that a slip costs no second download:

    zenodo.py manifest RECORD --out CSV [--mirror URL]       names, checksums and addresses
    zenodo.py file NAME --manifest CSV --out FILE            one file, checked by its MD5
    zenodo.py folder PATTERN --downloads DIR --out DIR       one folder of the archives
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tenet.errors import TenetError
from workflow.lib.archives import take_folder
from workflow.lib.zenodo import download, write_manifest


def main() -> None:
    """Read the command line and do one of the steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    step = steps.add_parser("manifest", help="list the files of a record")
    step.add_argument("record")
    step.add_argument("--out", type=Path, required=True)
    step.add_argument("--mirror", default="")
    step = steps.add_parser("file", help="fetch one file of a manifest")
    step.add_argument("name")
    step.add_argument("--manifest", type=Path, required=True)
    step.add_argument("--out", type=Path, required=True)
    step = steps.add_parser("folder", help="take one folder out of the archives")
    step.add_argument("pattern")
    step.add_argument("--downloads", type=Path, required=True)
    step.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        if arguments.step == "manifest":
            mirror = arguments.mirror or os.environ.get("TENET_ZENODO_URL", "")
            write_manifest(arguments.record, arguments.out, mirror)
        elif arguments.step == "file":
            download(arguments.name, arguments.manifest, arguments.out)
        else:
            take_folder(arguments.pattern, arguments.downloads, arguments.out)
    except TenetError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
