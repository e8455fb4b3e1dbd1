"""Refuse a sample's stack that cannot be learned from, before anything is trained.

What its header tells is checked when the workflow is planned (`workflow.lib.sample_fit`), its
intensities by a job that comes before every training:

    sample_check.py STACK --normalisation METHOD --out JSON [--channel N] [--planes-are C|T]
"""

import argparse
import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tenet.errors import TenetError
from tenet.io.atomic import save_json
from tenet.io.intensities import warnings_of
from tenet.io.open import open_stack
from tenet.model.intensity import stack_range


def main() -> None:
    """Read the command line, go through the stack once and write its range of intensities."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stack", type=Path)
    parser.add_argument("--normalisation", required=True)
    parser.add_argument("--channel", type=int)
    parser.add_argument("--planes-are", choices=["C", "T"])
    parser.add_argument("--voxel-size", nargs=3)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    try:
        stack = open_stack(
            arguments.stack, channel=arguments.channel, planes_are=arguments.planes_are
        )
        range_ = stack_range(stack, arguments.normalisation)
        save_json(arguments.out, {"zyx_shape": stack.zyx_shape, **dataclasses.asdict(range_)})
    except TenetError as error:
        sys.exit(f"TenetError: {error}")
    for warning in warnings_of(range_):
        print(f"warning: {arguments.stack}: {warning}", file=sys.stderr)


if __name__ == "__main__":
    main()
