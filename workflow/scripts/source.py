"""Take the stacks of a source out of the record, and check them before anything is trained on them.

source.py --specification JSON --manifest CSV --downloads DIR --out DIR --listing CSV
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tenet.errors import TenetError
from workflow.lib.source_files import fetch_source
from workflow.lib.sources import Source


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--specification", required=True, help="as stacks.source_specification")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--downloads", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--listing", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        fetch_source(
            Source.parse(arguments.specification),
            arguments.manifest,
            arguments.downloads,
            arguments.out,
            arguments.listing,
        )
    except TenetError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
