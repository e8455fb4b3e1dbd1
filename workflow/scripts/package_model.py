"""Make the folder of a model that comes with the package: see `tenet.tasks.package`.

package_model.py MODEL --one-photon MODEL --out FOLDER --code HASH
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tenet.errors import TenetError
from tenet.tasks.package import package_model


def main() -> None:
    """Read the command line and make the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--one-photon", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--code", required=True)
    arguments = parser.parse_args()
    try:
        package_model(
            arguments.model, arguments.out, code=arguments.code, one_photon=arguments.one_photon
        )
    except TenetError as error:
        sys.exit(f"TenetError: {error}")


if __name__ == "__main__":
    main()
