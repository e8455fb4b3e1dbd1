"""CARE and Neuroclear under the conditions of TENET.

Both methods use the nominal microscope of a pre-trained model (PSF, noise, intensities). Their
threshold is chosen on the phantoms that also choose TENET's. The images of their fold are never
shown to them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from tenet.enhance.restore import restore_stack
from tenet.errors import TenetError
from tenet.io.atomic import save_json
from tenet.io.stack import Stack
from tenet.learn.calibrate import phantom_images
from tenet.learn.loop import forget
from tenet.model.store import (
    MODEL,
    digest,
    digest_of,
    phantoms_digest,
    say_finished,
    say_replaced,
    stacks_digest,
)
from tenet.model.trained import TrainedModel
from tenet.paper.baselines.care import CARE
from tenet.paper.baselines.learned import Assumed, LearnedBaseline, choose_threshold
from tenet.paper.baselines.neuroclear import FAILED, Neuroclear
from tenet.progress import shown
from tenet.settings.schema import validated

Learned = Literal["care", "neuroclear"]
LEARNED: Mapping[str, type[LearnedBaseline]] = {"care": CARE, "neuroclear": Neuroclear}
Pairs = Sequence[tuple[Stack, Path]]  # a stack, and the file for its result


def train_baseline(
    method: Learned,
    model: Path,
    stacks: Sequence[Stack],
    tuning: Path,
    out: Path,
    *,
    settings: Mapping[str, Any],
    normalisation: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    device: torch.device,
    seed: int = 0,
) -> dict[str, Any]:
    """Train a baseline on raw stacks and choose its threshold on held-out phantoms.

    Parameters
    ----------
    method : {"care", "neuroclear"}
    model : Path
        Pre-trained model. The baseline knows its nominal microscope alone.
    stacks : sequence of Stack
        The raw stacks that TENET is fine-tuned on.
    tuning : Path
        Held-out phantoms.
    out : Path
        Folder for the weights and ``settings.json``.
    settings : mapping
        Settings of the method; defaults are those of its published code.
    normalisation : str, optional
        As in `TrainedModel.intensity_range`; by default that of the model.
    provenance : mapping, optional
        Entries that are written beside the weights (fold, images …).
    device : torch.device
    seed : int

    Returns
    -------
    dict
        The record: settings, threshold, its mean IoU on the phantoms, parameters.

    Raises
    ------
    TenetError
        If a setting is unknown or impossible, or a stack too small.
    """
    kind = LEARNED[method]
    chosen = validated(kind.settings_type, settings, method)
    source = TrainedModel.load(model, device=device)
    normalisation = normalisation or source.experiment.train_dataset.normalisation
    data = [(stack, source.intensity_range(stack, normalisation)) for stack in stacks]
    psf, noise = source.network.psf().detach(), source.network.noise.requires_grad_(False)
    assumed = Assumed(source.params.scale, psf, noise, source.signal_level)
    identity = digest_of(
        f"{method} {seed} {chosen.model_dump_json()} {normalisation} {digest(model / MODEL)} "
        f"{phantoms_digest(tuning)} {stacks_digest(data)}"
    )
    done = _finished(kind, out, identity, device)
    if done is not None:
        say_finished(out)
        forget(out, done["checkpoint"])
        return done
    trained = kind.learn(chosen, data, assumed, out, device=device, seed=seed)
    with torch.no_grad():
        microscope = source.network.microscope()
    microscopes = source.experiment.microscopes
    pairs = phantom_images(microscope, tuning, microscopes, noise=True, seed=seed)
    record = {
        **choose_threshold(trained, pairs),
        "n": len(pairs),
        "normalisation": normalisation,
        "signal_level": source.signal_level,
        "voxel_size_um": list(source.params.coarse_voxel_size_um),
        "seed": seed,
        "identity": identity,
        **(provenance or {}),
    }
    trained.save(out, record)
    (out / FAILED).unlink(missing_ok=True)
    forget(out, trained.checkpoint)
    return record


def _finished(
    kind: type[LearnedBaseline], out: Path, identity: str, device: torch.device
) -> dict[str, Any] | None:
    """The record in a folder, if the training of this identity wrote it."""
    try:
        _, record = kind.load(out, device)
    except TenetError:
        return None
    if record["identity"] == identity:
        return record
    say_replaced(out)
    return None


def run_baseline(
    method: Learned,
    folder: Path,
    model: Path,
    pairs: Pairs,
    out: Path,
    *,
    levels: int | None = None,
    device: torch.device,
) -> None:
    """Restore stacks with a baseline that `train_baseline` wrote.

    The threshold and the path of the baseline are written beside the results.

    `model` is the pre-trained model of that training. Intensities are scaled as for this model.
    With `levels`, results are stored as in `tenet.io.levels`.
    """
    network, record = LEARNED[method].load(folder, device)
    source = TrainedModel.load(model, device=device)
    for stack, path in pairs:
        range_ = source.intensity_range(stack, record["normalisation"])
        size = stack.voxel_size_um or tuple(record["voxel_size_um"])
        with shown(f"restoring {stack.path.name}") as meter:
            restore_stack(
                network, stack, range_, path, voxel_size_um=size, levels=levels, progress=meter
            )
    save_json(out / "settings.json", {"threshold": record["threshold"], "model": str(folder)})
