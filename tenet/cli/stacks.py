"""The stacks that a command reads and the model that enhances them."""

from pathlib import Path
from typing import TYPE_CHECKING

from tenet.cli.device import choose_device
from tenet.cli.printing import note_missing_calibration

if TYPE_CHECKING:
    from tenet.io.stack import Stack
    from tenet.model.tenet import TENET
    from tenet.settings.schema import Experiment


def pairs_of(pairs: "list[tuple[Stack, Path]]", out: Path) -> "list[tuple[Stack, Path]]":
    """Stacks and the files for their results, none of which replaces a stack."""
    from tenet.io.outputs import check_outputs

    targets = [target for _, target in pairs]
    check_outputs([stack.path for stack, _ in pairs], [*targets, out / "settings.json"])
    return pairs


def model_of(
    folder: Path, device: str, threads: int | None, align: bool | None
) -> "tuple[TENET, Experiment]":
    """A model to enhance with, and its settings; a note if it was never calibrated."""
    from tenet.enhance.enhance import choose_alignment
    from tenet.model.store import load_model

    network, experiment = load_model(folder, device=choose_device(device, threads))
    network.half_precision = experiment.train_loop.precision == "bfloat16"
    choose_alignment(network, align, folder)
    note_missing_calibration(folder)
    return network, experiment
