"""The stacks that a command reads and the model that enhances them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tenet.cli.device import choose_device

if TYPE_CHECKING:
    from tenet.io.stack import Stack
    from tenet.model.trained import TrainedModel


def pairs_of(pairs: "list[tuple[Stack, Path]]", out: Path) -> "list[tuple[Stack, Path]]":
    """Stacks and the files for their results, none of which replaces a stack."""
    from tenet.io.outputs import check_outputs

    targets = [target for _, target in pairs]
    check_outputs([stack.path for stack, _ in pairs], [*targets, out / "settings.json"])
    return pairs


def model_of(folder: Path, device: str, threads: int | None, align: bool | None) -> "TrainedModel":
    """A model to enhance with; a note if it was never calibrated."""
    from tenet.model.trained import TrainedModel

    model = TrainedModel.load(folder, device=choose_device(device, threads), align=align)
    if model.calibration_note:
        print(f"note: {model.calibration_note}", file=sys.stderr)
    return model
