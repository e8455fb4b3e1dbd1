"""What the commands that train do, all in one order.

A folder is held by one process, and is none that the training reads. The training goes on from its
checkpoint, its model is written, then what is found out about the model, and the checkpoint is
deleted last. So the same command goes on wherever it was stopped, and has nothing to do in the end.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tenet.errors import TenetError
from tenet.io.atomic import exclusive
from tenet.io.stack import Stack
from tenet.learn import align, finetune
from tenet.learn import calibrate as calibration
from tenet.learn import pretrain as pretraining
from tenet.learn.images import RawData
from tenet.learn.loop import forget
from tenet.model.store import read_provenance
from tenet.settings.own_stack import fitted_to
from tenet.settings.schema import Experiment


def pretrain(
    experiment: Experiment,
    phantoms: Path,
    out: Path,
    *,
    tuning: Path | None,
    device: torch.device,
    seed: int,
) -> None:
    """Pre-train; calibrate on `tuning` phantoms, if there are any. See `training.pretrain`."""
    with _training(out):
        model = pretraining.pretrain(experiment, phantoms, out, device=device, seed=seed)
        calibration.complete(model, tuning, out, seed=seed)


def train_alignment(
    experiment: Experiment,
    pretrained: Path,
    phantoms: Path,
    out: Path,
    *,
    tuning: Path | None,
    device: torch.device,
    seed: int,
) -> None:
    """Train the alignment of a pre-trained model, and calibrate both. See `training.align`."""
    with _training(out, pretrained):
        model = align.train_alignment(
            experiment, pretrained, phantoms, out, device=device, seed=seed
        )
        calibration.complete(model, tuning, out, seed=seed)


def evaluate(
    experiment: Experiment,
    out: Path,
    pretrained: Path,
    stacks: Sequence[Stack] | None,
    *,
    phantoms: Path | None,
    device: torch.device,
    seed: int,
) -> dict[str, float]:
    """Losses of the fine-tuned model in a folder. See `training.finetune.evaluate`."""
    experiment = finetune.aligned_as(_fitted(experiment, stacks), out)
    with exclusive(out):
        data = _raw_data(stacks, experiment, pretrained, device)
        return finetune.evaluate(
            experiment, out, pretrained, data=data, phantoms=phantoms, device=device, seed=seed
        )


def fine_tune(
    experiment: Experiment,
    pretrained: Path,
    out: Path,
    stacks: Sequence[Stack] | None,
    *,
    tuning: Path | None,
    provenance: Mapping[str, Any],
    device: torch.device,
    seed: int,
    **options: Any,
) -> None:
    """Fine-tune on stacks, and calibrate. `options` and None for stacks: `training.finetune`."""
    experiment = _fitted(experiment, stacks)
    with _training(out, pretrained):
        model = finetune.finetune(
            experiment,
            pretrained,
            out,
            data=_raw_data(stacks, experiment, pretrained, device, options.get("align")),
            provenance=provenance,
            device=device,
            seed=seed,
            **options,
        )
        calibration.complete(model, tuning, out, seed=seed)


@contextmanager
def _training(out: Path, *sources: Path) -> Iterator[None]:
    for source in sources:
        check_apart(out, source)
    with exclusive(out):
        yield
        made = read_provenance(out).identity
        for folder in (out, out / align.ALIGNMENT):
            forget(folder, made)


def check_apart(out: Path, source: Path) -> None:
    """Refuse to train into the folder of the model that the training reads."""
    for folder in (out, out / align.ALIGNMENT):
        if folder.exists() and source.exists() and folder.samefile(source):
            raise TenetError(
                f"{out}: the training would write over {source}, which it goes on from: choose "
                "another folder for --out"
            )


def _fitted(experiment: Experiment, stacks: Sequence[Stack] | None) -> Experiment:
    """The experiment with crops that its stacks have room for."""
    if not stacks:
        return experiment
    for stack in stacks:
        fitted_to(experiment, [stack.zyx_shape], where=str(stack.path))
    fitted = fitted_to(experiment, [stack.zyx_shape for stack in stacks])
    before, after = experiment.train_dataset.cropsize, fitted.train_dataset.cropsize
    if before != after:
        print(
            f"crops are {after} fine voxels (z, y, x) where {before} were asked for: stacks are "
            "small"
        )
    return fitted


def _raw_data(
    stacks: Sequence[Stack] | None,
    experiment: Experiment,
    pretrained: Path,
    device: torch.device,
    align: bool | None = None,
) -> RawData | None:
    if stacks is None:
        return None
    return finetune.raw_data(stacks, experiment, pretrained, align=align, device=device)
