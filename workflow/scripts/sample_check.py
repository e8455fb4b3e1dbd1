"""Refuse a sample's stacks that cannot be learned from, before anything is trained.

What headers tell is checked when the workflow is planned (`workflow.lib.sample_fit`), intensities
by a job that comes before every training:

    sample_check.py STACK --normalisation METHOD --out JSON [--channel N] [--time N]
        [--planes-are C|T] [--scan-offset find|PIXELS]

STACK may be a folder of stacks.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tenet.errors import TenetError
from tenet.io.atomic import save_json
from tenet.io.intensities import warnings_of
from tenet.io.picks import Parts, Picks, every_part
from tenet.io.scan_offset import parse_scan_offset
from tenet.model.intensity import stack_range


def main() -> None:
    """Read the command line, go through the stacks once and write their ranges of intensities."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stack", type=Path)
    parser.add_argument("--normalisation", required=True)
    parser.add_argument("--channel")
    parser.add_argument("--time")
    parser.add_argument("--planes-are", choices=["C", "T"])
    parser.add_argument("--scan-offset")
    parser.add_argument("--voxel-size", nargs=3)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()

    try:
        channel, time = (
            None if text is None else Picks.parse(text)
            for text in (arguments.channel, arguments.time)
        )
        offset = arguments.scan_offset and parse_scan_offset(arguments.scan_offset)
        parts = Parts(channel, time, arguments.planes_are, offset)
        stacks = every_part([arguments.stack], parts)
        ranges = {stack: stack_range(stack, arguments.normalisation) for stack in stacks}
        save_json(
            arguments.out,
            {
                stack.name: {"zyx_shape": stack.zyx_shape, **dataclasses.asdict(range_)}
                for stack, range_ in ranges.items()
            },
        )
    except TenetError as error:
        sys.exit(f"TenetError: {error}")
    for stack, range_ in ranges.items():
        for warning in warnings_of(range_):
            print(f"warning: {stack.label}: {warning}", file=sys.stderr)


if __name__ == "__main__":
    main()
