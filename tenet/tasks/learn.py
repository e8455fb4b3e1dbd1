"""`tenet learn`: a model of every microscope becomes a model of the microscope of some stacks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from tenet.errors import TenetError
from tenet.io.atomic import exclusive
from tenet.io.folders import voxel_size_of
from tenet.io.optics import SAME, Optics
from tenet.io.stack import Stack
from tenet.learn.serve import known_optics, serve
from tenet.learn.start import is_start, write_start
from tenet.model.store import TUNING, digests_of_enhancing
from tenet.model.trained import TrainedModel
from tenet.settings.schema import Experiment
from tenet.tasks.finetune import fine_tune
from tenet.tasks.notes import note_of_optics
from tenet.tasks.raw_stacks import RawStacks
from tenet.tasks.training import check_apart
from tenet.types import VoxelSize

#: Folder, in that of the result, of the model that learning starts from.
START = "start"


def learn(
    raw: RawStacks,
    model: Path,
    out: Path,
    optics: Optics,
    *,
    structure_um: float | None = None,
    what: Literal["psf", "all"] = "psf",
    settings: Mapping[str, Any] | None = None,
    device: torch.device,
    seed: int = 0,
) -> None:
    """Fine-tune a model of every microscope on stacks of one microscope, without any truth.

    The same call continues the training after an interruption.

    Parameters
    ----------
    raw : RawStacks
        The stacks, all with the same voxel size.
    model : Path
        Folder of a model of every microscope.
    out : Path
        Folder for the model of this microscope. It is used and fine-tuned as any other.
    optics : Optics
        What is known of the microscope.
    structure_um : float, optional
        Mean thickness of the structures in µm, where it is known.
    what : {"psf", "all"}
        What is learned: the PSF and the noise, or the encoder as well. The form of the PSF is
        looked for with "psf" alone; with "all" its length follows from gradients.
    settings : mapping, optional
        Settings laid over those of the model.
    device : torch.device
        Device to compute on.
    seed : int
        Number that all random draws follow from.

    Raises
    ------
    TenetError
        If the stacks differ in voxel size or optics, the model is of one microscope, or stacks,
        model or settings cannot be used.
    """
    start = out / START
    check_apart(out, model)
    check_apart(start, model)
    trained = TrainedModel.load(model, device=device)
    if not trained.serves_all:
        raise TenetError(
            f"{model} was trained for one microscope: `tenet finetune` learns from such a model"
        )
    stacks = raw.open()
    told = Told(optics, structure_um)
    size_um = _of_all(trained, stacks, raw, told)
    with exclusive(out):
        experiment = _start(trained, stacks[0], size_um, told, settings or {}, start, seed)
    mode: Literal["decoder", "all"] = "decoder" if what == "psf" else "all"
    tuning = trained.for_photons(experiment.params.photons).folder / TUNING
    fine_tune(experiment, start, out, raw, tuning=tuning, mode=mode, device=device, seed=seed)


class Told(NamedTuple):
    """What is known of microscope and structures; see `learn`."""

    optics: Optics
    structure_um: float | None


def _of_all(
    trained: TrainedModel, stacks: Sequence[Stack], raw: RawStacks, told: Told
) -> VoxelSize:
    """The voxel size of all stacks, whose optics are equal as well."""
    first, size_um, known = stacks[0], voxel_size_of(stacks[0], raw.voxel_size_um), None
    for stack in stacks:
        own_um = voxel_size_of(stack, raw.voxel_size_um)
        if any(abs(a - b) > SAME * b for a, b in zip(own_um, size_um, strict=True)):
            raise TenetError(
                f"{stack.label} has voxels of {own_um} µm, and {first.label} of {size_um} µm: "
                "learn from one size at a time"
            )
        own = known_optics(trained, stack, size_um, *told)
        known = known or own
        if own.optics != known.optics:
            raise TenetError(
                f"{stack.label}: {own.note}, and of {first.label}: {known.note}: learn from one "
                "microscope at a time"
            )
    return size_um


def _start(
    trained: TrainedModel,
    stack: Stack,
    voxel_size_um: VoxelSize,
    told: Told,
    settings: Mapping[str, Any],
    folder: Path,
    seed: int,
) -> Experiment:
    """Write what learning starts from, once: the weights, with the microscope as told."""
    asked = (
        digests_of_enhancing(trained.folder),
        stack.digest,
        voxel_size_um,
        told,
        settings,
        seed,
    )
    identity = f"start {asked}"
    if is_start(folder, identity):
        return TrainedModel.settings_of(folder)
    optics, structure_um = told
    served = serve(
        trained, stack, voxel_size_um, optics, structure_um=structure_um, find_psf=False, seed=seed
    )
    note_of_optics(stack, served.found)
    return write_start(served.model, settings, folder, identity)
