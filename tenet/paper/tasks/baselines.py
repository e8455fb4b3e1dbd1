"""What the commands of the paper do that train: a folder is held by one process."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tenet.io.atomic import exclusive
from tenet.io.stack import Stack
from tenet.paper.comparison import learned
from tenet.tasks import check_apart


def train_baseline(
    method: learned.Learned,
    model: Path,
    stacks: Sequence[Stack],
    tuning: Path,
    out: Path,
    **options: Any,
) -> dict[str, Any]:
    """Train a baseline. See `tenet.paper.comparison.learned`, which deletes its checkpoint too."""
    check_apart(out, model)
    with exclusive(out):
        return learned.train_baseline(method, model, stacks, tuning, out, **options)
