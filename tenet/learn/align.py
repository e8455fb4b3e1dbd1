"""Training of the alignment network: from images whose planes moved to the same images, still."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tenet.data.phantoms.store import Phantom, open_phantoms
from tenet.errors import TenetError
from tenet.io.atomic import copy_file
from tenet.io.records import regular_file
from tenet.learn.drawn_psfs import draw_microscope, psfs
from tenet.learn.loop import ALIGNMENT, Plan, generator_for, train
from tenet.learn.losses import SHAPE_LOSSES
from tenet.learn.pretrain import Batch, Drawn, Simulator
from tenet.model.store import (
    FISHER,
    HISTORY,
    MODEL,
    OPTIMISER,
    digest,
    has_file,
    is_trained,
    load_beside,
    load_model,
    phantoms_digest,
    read_experiment,
    save_model,
)
from tenet.model.tenet import TENET, alignment_network
from tenet.networks.aligner import AlignmentNet
from tenet.networks.convolution import half_precision
from tenet.settings.schema import AlignParams, Experiment


def train_alignment(
    experiment: Experiment,
    pretrained: Path,
    phantoms: Path,
    folder: Path,
    *,
    device: torch.device,
    seed: int = 0,
) -> TENET:
    """Train the alignment network for a pre-trained model, and write both as one model.

    Parameters
    ----------
    experiment : Experiment
        `align_params`, `vibration`, and what pre-training is done by: `pretrain_dataset`,
        `pretrain_val_dataset`, `pretrain_loop`, `microscopes`.
    pretrained : Path
        Folder of the pre-trained model; its encoder stands still.
    phantoms : Path
        Folder of stored phantoms.
    folder : Path
        Receives the model, with what fine-tuning needs of the pre-trained one, and the history.
    device : torch.device
        Where to compute.
    seed : int
        Everything random follows from it.

    Returns
    -------
    TENET
        The pre-trained model with the alignment network, in evaluation mode.

    Raises
    ------
    TenetError
        If the experiment has no `align_params`, or the model another scale.
    """
    if experiment.align_params is None:
        raise TenetError(f"{experiment.name} has no align_params: add them to align planes")
    model, source = load_model(pretrained, device=device)
    if source.params.scale != experiment.params.scale:
        raise TenetError(
            f"{pretrained} was trained for scale {source.params.scale}, {experiment.name} has "
            f"{experiment.params.scale}: pre-train for this scale"
        )
    identity = (
        f"align {seed} {digest(pretrained / MODEL)} {experiment.effective()} "
        f"{phantoms_digest(phantoms)}"
    )
    half_precision = experiment.pretrain_loop.half_precision
    if is_trained(folder, identity):
        model, _ = load_model(folder, device=device)
        model.half_precision = half_precision
        return model
    # What fine-tuning goes on from, and the encoder's own history; imported weights have neither.
    there = [name for name in (OPTIMISER, FISHER) if has_file(pretrained, name)]
    beside = {name: load_beside(pretrained, name) for name in there}
    has_history = has_file(pretrained, HISTORY)
    if has_history:
        regular_file(pretrained / HISTORY)
    torch.manual_seed(int(generator_for(seed, 4).integers(2**31)))
    model.aligner = alignment_network(model.params, experiment.align_params).to(device)
    model.half_precision = half_precision
    task = AlignmentTask(model, model.aligner, experiment, open_phantoms(phantoms), seed)
    settings = experiment.pretrain_loop
    plan = Plan(
        settings=settings,
        folder=folder / ALIGNMENT,
        steps_per_epoch=settings.steps_of(experiment.pretrain_dataset.I),
        seed=seed,
        best_over=3,
        identity=identity,
    )
    train(task, plan)
    if has_history:
        copy_file(pretrained / HISTORY, folder / HISTORY)
    own = read_experiment(pretrained)
    own = own.model_copy(
        update={
            "name": experiment.name,
            "align_params": experiment.align_params,
            "vibration": experiment.vibration,
        }
    )
    record = {"kind": "align", "seed": seed, "from": str(pretrained)}
    save_model(folder, model.eval(), own, record, identity=identity, beside=beside)
    return model


class AlignmentTask:
    """Learn still images from misaligned ones, judged by the encoder where `loss_mode` says so."""

    def __init__(
        self,
        tenet: TENET,
        aligner: AlignmentNet,
        experiment: Experiment,
        volumes: Sequence[Phantom],
        seed: int,
    ) -> None:
        assert experiment.align_params is not None
        self.model, self.tenet = aligner, tenet
        self.settings, self.params = experiment.pretrain_loop, experiment.align_params
        # The motion grows with epochs so that the encoder learns to see first; here it is all
        # there is to learn, so it has its full strength at once.
        self.epoch = experiment.vibration.max_step
        self.simulators = {
            part: Simulator(
                volumes[dataset.low : dataset.high],
                dataset,
                experiment.params.scale,
                experiment.vibration,
                noise=not self.settings.without_noise,
            )
            for part, dataset in (
                ("train", experiment.pretrain_dataset),
                ("val", experiment.pretrain_val_dataset),
            )
        }
        self.held_out = experiment.pretrain_val_dataset
        self.psfs = psfs(experiment.params, experiment.microscopes, generator_for(seed, 3))
        tenet.encoder.requires_grad_(False)
        tenet.encoder.eval()

    def parameter_groups(self) -> list[dict[str, list[torch.nn.Parameter]]]:
        """The parameters of the alignment network."""
        return [{"params": list(self.model.parameters())}]

    def terms(
        self, aligner: AlignmentNet, part: str, drawn: Drawn, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        """The terms of `loss_mode` on one batch."""
        microscope, nominal_psf = draw_microscope(self.tenet, self.psfs, rng)
        batch = self.simulators[part].batch(
            microscope, drawn, self.epoch, rng, nominal_psf=nominal_psf
        )
        with half_precision(batch.image.device, self.tenet.half_precision):
            aligned = aligner(batch.image)
        return alignment_terms(self.tenet, self.params, batch, aligned)

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Crops of phantoms."""
        return self.simulators["train"].draw(self.settings.batch_size, rng)

    def training_terms(
        self, epoch: int, drawn: Drawn, rng: np.random.Generator
    ) -> Mapping[str, Tensor]:
        """Terms on a fresh batch."""
        return self.terms(self.model, "train", drawn, rng)

    def validation_terms(self, model: AlignmentNet) -> Iterator[Mapping[str, Tensor]]:
        """Terms on the fixed validation batches."""
        for index in range(self.held_out.I):
            rng = generator_for(self.held_out.seed, index)
            drawn = self.simulators["val"].draw(1, rng)
            yield self.terms(model, "val", drawn, rng)


def alignment_terms(
    tenet: TENET, params: AlignParams, batch: Batch, aligned: Tensor
) -> dict[str, Tensor]:
    """How far aligned images (N, 1, Z, Y, X) are from still ones, by each part of `loss_mode`.

    ``pixelwise``: mean absolute difference, over that of the image as it was. ``perceptual``: mean
    squared difference of the encoder's features, over their mean square for the still image.
    ``segmentation``: loss of the shape that the encoder sees in the aligned image. The encoder is
    shown the deconvolution of what it looks at, which passes no gradient on.
    """
    terms = {}
    if "pixelwise" in params.loss_mode:
        before = (batch.image - batch.still).abs().mean()
        terms["pixelwise"] = (aligned - batch.still).abs().mean() / before.clamp_min(1e-6)
    if len({*params.loss_mode} - {"pixelwise"}):
        seen = tenet.enhance(aligned, batch.blur)
        if "perceptual" in params.loss_mode:
            with torch.no_grad():
                still = tenet.enhance(batch.still, batch.blur)["features"].float()
            difference = F.mse_loss(seen["features"].float(), still)
            terms["perceptual"] = difference / still.square().mean().clamp_min(1e-6)
        if "segmentation" in params.loss_mode:
            loss = SHAPE_LOSSES["bce_dice"]
            terms["segmentation"] = loss(seen["shape_logits"].float(), batch.shape)
    return terms
