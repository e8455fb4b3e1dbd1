"""`tenet finetune`: a pre-trained model adapts to raw stacks, without the stacks of a fold."""

from collections.abc import Sequence
from pathlib import Path

import torch

from tenet.io.atomic import exclusive
from tenet.io.stack import Stack
from tenet.learn import calibrate as calibration
from tenet.learn import finetune
from tenet.learn.images import RawData
from tenet.model.trained import missing_calibration
from tenet.settings.own_stack import fitted_to
from tenet.settings.schema import Experiment
from tenet.tasks.notes import note, warn_of_voxels
from tenet.tasks.raw_stacks import RawStacks
from tenet.tasks.training import training


def fine_tune(
    experiment: Experiment,
    pretrained: str | Path,
    out: str | Path,
    raw: RawStacks | None,
    *,
    tuning: str | Path | None = None,
    phantoms: str | Path | None = None,
    mode: finetune.TrainMode = "old",
    align: bool | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> None:
    """Fine-tune a model on raw stacks, and calibrate the model.

    The same call continues the training after an interruption.

    Parameters
    ----------
    experiment : Experiment
        Settings, as of `load_experiment`. Crops of raw stacks are shrunk to the size of the stacks.
    pretrained, out : path
        Folders of the pre-trained model and of the new one.
    raw : RawStacks or None
        The raw stacks. With None, images are made from phantoms instead.
    tuning : path, optional
        Folder of tuning phantoms; without them the model is not calibrated.
    phantoms : path, optional
        Folder of phantoms, for rehearsal, or for images if there are no raw stacks.
    mode, align, seed
        As in `tenet.learn.finetune.finetune`.
    device : torch.device or str
        Device to compute on.

    Raises
    ------
    TenetError
        If the settings, model, stacks, phantoms or checkpoint cannot be used, or another process
        trains in `out`.

    Examples
    --------
    >>> import tenet
    >>> from tenet.tasks.raw_stacks import RawStacks
    >>> experiment = tenet.load_experiment("mine")
    >>> raw = RawStacks(["stacks"])
    >>> tenet.fine_tune(experiment, "models/mine", "models/fine", raw, phantoms="phantoms")
    >>> tenet.TrainedModel.load("models/fine").params.scale
    3
    """
    pretrained, out = Path(pretrained), Path(out)
    tuning = None if tuning is None else Path(tuning)
    phantoms = None if phantoms is None else Path(phantoms)
    device = torch.device(device)
    stacks, experiment = _opened(raw, experiment, pretrained)
    images = {
        "pretrained": str(pretrained),
        "fold": None if raw is None else raw.fold,
        "images": [stack.name for stack in stacks or ()],
    }
    with training(out, pretrained):
        model = finetune.finetune(
            experiment,
            pretrained,
            out,
            data=_raw_data(stacks, experiment, pretrained, align, device),
            phantoms=phantoms,
            mode=mode,
            align=align,
            provenance=images,
            device=device,
            seed=seed,
        )
        calibration.complete(model, tuning, out, experiment.microscopes, seed=seed)


def evaluate(
    experiment: Experiment,
    pretrained: Path,
    out: Path,
    raw: RawStacks | None,
    *,
    phantoms: Path | None,
    device: torch.device,
    seed: int,
) -> dict[str, float]:
    """Losses of the fine-tuned model in `out`, by name; see `tenet.learn.finetune.evaluate`."""
    stacks, experiment = _opened(raw, experiment, pretrained)
    experiment = finetune.aligned_as(experiment, out)
    with exclusive(out):
        data = _raw_data(stacks, experiment, pretrained, None, device)
        return finetune.evaluate(
            experiment, out, pretrained, data=data, phantoms=phantoms, device=device, seed=seed
        )


def _opened(
    raw: RawStacks | None, experiment: Experiment, pretrained: Path
) -> tuple[list[Stack] | None, Experiment]:
    """The stacks that the training may see, and the experiment fitted to them."""
    if raw is None:
        return None, experiment
    stacks = raw.open(experiment.test_dataset.test_images)
    for stack in stacks:
        warn_of_voxels(stack, raw.voxel_size_um, experiment)
    note(missing_calibration(pretrained))
    return stacks, _fitted(experiment, stacks)


def _fitted(experiment: Experiment, stacks: Sequence[Stack]) -> Experiment:
    """The experiment with crops that its stacks have room for."""
    for stack in stacks:
        fitted_to(experiment, [stack.zyx_shape], where=stack.label)
    fitted = fitted_to(experiment, [stack.zyx_shape for stack in stacks])
    before, after = experiment.train_dataset.cropsize, fitted.train_dataset.cropsize
    if before != after:
        note(
            f"crops have {after} fine voxels (z, y, x) and not {before}, because the stacks are "
            "small"
        )
    return fitted


def _raw_data(
    stacks: Sequence[Stack] | None,
    experiment: Experiment,
    pretrained: Path,
    align: bool | None,
    device: torch.device,
) -> RawData | None:
    if stacks is None:
        return None
    return finetune.raw_data(stacks, experiment, pretrained, align=align, device=device)
