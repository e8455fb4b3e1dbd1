"""Fine-tuning: the model learns a stack by explaining it, without any truth."""

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tenet.data.folds import split_for_validation
from tenet.data.phantoms.store import Phantom, open_phantoms
from tenet.errors import TenetError
from tenet.io.atomic import save_json
from tenet.io.stack import Stack
from tenet.learn.ewc import ElasticWeights
from tenet.learn.images import Crops, RawCrops, RawData, SimulatedCrops
from tenet.learn.loop import Plan, generator_for, train
from tenet.learn.losses import (
    fitted,
    luminance_prior,
    mrf_loss,
    one_sided,
    reconstruction_loss,
)
from tenet.learn.pretrain import Drawn, PretrainTask, Simulator, supervised_terms
from tenet.learn.psf_search import WINDOWS, scan_stretch, search_psf
from tenet.model.store import (
    FISHER,
    LOSSES,
    MODEL,
    OPTIMISER,
    PSF_SEARCH,
    Told,
    digest,
    has_file,
    is_trained,
    load_beside,
    load_model,
    phantoms_digest,
    read_calibration,
    save_model,
    stacks_digest,
)
from tenet.model.tenet import TENET, Enhanced
from tenet.model.trained import TrainedModel
from tenet.model.weights import check_weights
from tenet.settings.optics import differing_optics
from tenet.settings.schema import Experiment

TrainMode = Literal["all", "encoder", "decoder", "old"]


def raw_data(
    stacks: Sequence[Stack],
    experiment: Experiment,
    pretrained: Path,
    *,
    align: bool | None = None,
    device: torch.device | str = "cpu",
) -> RawData:
    """Raw stacks for fine-tuning, and for its validation, scaled for the pre-trained model.

    `val_dataset.stack_share` divides the stacks; see `split_for_validation`.
    Alignment comes before the encoder, and networks run in the precision, as in the fine-tuning
    itself; see `finetune`.
    """
    aligned = _with_alignment(experiment, align).align_params is not None
    model = TrainedModel.load(pretrained, device=device, align=None if aligned else False)
    model.network.half_precision = experiment.train_loop.half_precision
    normalisation = experiment.train_dataset.normalisation
    ranges = {stack: model.intensity_range(stack, normalisation) for stack in stacks}
    parts = split_for_validation(stacks, experiment.val_dataset.stack_share)
    return RawData(*parts, ranges)


def finetune(
    experiment: Experiment,
    pretrained: Path,
    folder: Path,
    *,
    data: RawData | None,
    phantoms: Path | None,
    mode: TrainMode = "old",
    align: bool | None = None,
    device: torch.device,
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
) -> TENET:
    """Fine-tune a pre-trained model and write it.

    Parameters
    ----------
    experiment : Experiment
        `params`, `train_dataset`, `val_dataset`, `train_loop`.
    pretrained : Path
        Folder of the pre-trained model.
    folder : Path
        Receives the model and its history.
    data : RawData or None
        Raw stacks. None: the simulation variant, in which images are made from `phantoms` with the
        frozen pre-trained PSF.
    phantoms : Path or None
        Stored phantoms; needed for the simulation variant and for rehearsal.
    mode : {"all", "encoder", "decoder", "old"}
        What is trained. ``"decoder"`` is PSF (with `scan_stretch` found by trying) and noise;
        ``"old"`` is what the paper used: everything that requires a gradient, the same as
        ``"all"``.
    align : bool, optional
        Whether the model's alignment network comes before its encoder; by default where the
        experiment has `align_params`. It stands still, and is written with the model.
    device : torch.device
        Where to compute.
    seed : int
        Everything random follows from it.
    provenance : mapping, optional
        Written beside the model (fold, images …).

    Returns
    -------
    TENET
        The best model, in evaluation mode; that of the folder where it was trained already.
    """
    experiment = _with_alignment(experiment, align)
    task = finetune_task(
        experiment, pretrained, data=data, phantoms=phantoms, mode=mode, device=device, seed=seed
    )
    settings = experiment.train_loop
    inputs = hashlib.sha256(digest(pretrained / MODEL).encode())
    if phantoms is not None:
        inputs.update(phantoms_digest(phantoms).encode())
    if data is not None:
        stacks = (*data.training, *data.validation)
        inputs.update(stacks_digest([(s, data.ranges[s]) for s in stacks]).encode())
    identity = f"finetune {seed} {mode} {inputs.hexdigest()} {experiment.effective()}"
    if is_trained(folder, identity):
        model, _ = load_model(folder, device=device)
        model.half_precision = task.model.half_precision
        return model
    plan = Plan(
        settings=settings,
        folder=folder,
        steps_per_epoch=settings.steps_of(experiment.train_dataset.I),
        seed=seed,
        best_over=1,
        identity=identity,
    )
    state = None
    if mode in ("all", "old") and settings.optimizer == "adam" and has_file(pretrained, OPTIMISER):
        state = load_beside(pretrained, OPTIMISER)
    psf = None
    if task.scans_stretch and task.model.params.searches_form:
        windows = task.images.windows(WINDOWS, generator_for(seed, 4))
        calibration = read_calibration(pretrained)
        threshold = experiment.params.threshold if calibration is None else calibration.threshold
        found = search_psf(task.model, windows, threshold, seed)
        psf = found.record
        save_json(folder / PSF_SEARCH, psf)
        experiment = experiment.model_copy(update={"params": found.params})
    elif task.scans_stretch:
        psf = scan_stretch(task, seed)
    train(task, plan, optimiser_state=state)
    ranges = {} if data is None else {s.name: r.to_dict() for s, r in data.ranges.items()}
    record = {"kind": "finetune", "seed": seed, "mode": mode, "intensity_ranges": ranges}
    if data is not None:
        record["validation"] = [stack.path.name for stack in data.validation]
    if psf is not None:
        record["psf"] = psf
        told = task.experiment.params.model_dump(include=set(Told.model_fields))
        record["told"] = told
    record |= provenance or {}
    save_model(folder, task.model.eval(), experiment, record, identity=identity)
    return task.model


def evaluate(
    experiment: Experiment,
    model_folder: Path,
    pretrained: Path,
    *,
    data: RawData | None,
    phantoms: Path | None,
    device: torch.device,
    seed: int = 0,
) -> dict[str, float]:
    """Validation losses of a saved model, without training; also written as ``losses.json``."""
    model, _ = load_model(model_folder, device=device)
    experiment = aligned_as(experiment, model_folder)
    task = finetune_task(
        experiment, pretrained, data=data, phantoms=phantoms, mode="old", device=device, seed=seed
    )
    with torch.no_grad():
        rows = [
            {name: term.item() for name, term in terms.items()}
            for terms in task.validation_terms(model)
        ]
    losses = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    losses["total"] = sum(losses.values())
    save_json(model_folder / LOSSES, losses)
    return losses


def _with_alignment(experiment: Experiment, align: bool | None) -> Experiment:
    """The experiment with its `align_params` if they are to be used, else without."""
    if align and experiment.align_params is None:
        raise TenetError(f"--align: {experiment.name} has no align_params")
    return (
        experiment if align is not False else experiment.model_copy(update={"align_params": None})
    )


def aligned_as(experiment: Experiment, folder: Path) -> Experiment:
    """The experiment with the alignment that the fine-tuned model in a folder has, or without."""
    align_params = TrainedModel.settings_of(folder).align_params
    return experiment.model_copy(update={"align_params": align_params})


def finetune_task(
    experiment: Experiment,
    pretrained: Path,
    *,
    data: RawData | None,
    phantoms: Path | None,
    mode: TrainMode,
    device: torch.device,
    seed: int,
) -> "FinetuneTask":
    """Load the pre-trained model and put together what fine-tuning needs."""
    source, source_experiment = load_model(pretrained)
    if source_experiment.params.scale != experiment.params.scale:
        raise TenetError(
            f"{pretrained} was trained for scale {source_experiment.params.scale}, "
            f"{experiment.name} has {experiment.params.scale}: pre-train for this scale"
        )
    if (differing := differing_optics(experiment.params, source_experiment.params)) is not None:
        print(
            f"warning: {experiment.name} has other optics than {pretrained}: {differing}; "
            "fine-tuning starts from the PSF of the pre-trained model",
            file=sys.stderr,
        )
    if experiment.align_params is not None and source.aligner is None:
        raise TenetError(
            f"{experiment.name} has align_params, {pretrained} no alignment network: train it with "
            "`python -m tenet align`, or fine-tune with --no-align"
        )
    model = TENET(experiment.params, experiment.align_params)
    if experiment.align_params is None:
        source.aligner = None
    model.load_weights(source.state_dict(), where=str(pretrained / MODEL))
    model.to(device)
    model.half_precision = experiment.train_loop.half_precision
    model.freeze_norm = experiment.train_loop.freeze_norm or mode == "decoder"
    volumes = [] if phantoms is None else open_phantoms(phantoms)
    images: Crops
    if data is not None:
        images = RawCrops(model, experiment, data)
    elif volumes:
        images = SimulatedCrops(model, experiment, volumes)
    else:
        raise TenetError("fine-tuning on simulation needs phantoms: give their folder")
    elastic = None
    held = experiment.train_loop.ewc and experiment.train_loop.ewc_weight > 0
    if held and mode != "decoder":
        elastic = _elastic(pretrained, model, experiment, volumes, seed)
        elastic = elastic and elastic.to(device)
    rehearsal = None
    if experiment.train_loop.rehearsal_weight > 0 and mode != "decoder":
        if not volumes:
            raise TenetError("rehearsal needs phantoms: give their folder, or rehearsal_weight 0")
        section, loop = experiment.pretrain_dataset, experiment.pretrain_loop
        vibration = experiment.vibration if loop.is_vibrate else None
        volumes = volumes[section.low : section.high]
        rehearsal = Simulator(
            volumes,
            section,
            experiment.params.scale,
            vibration,
            microscopes=experiment.microscopes,
        )
    return FinetuneTask(model, experiment, images, elastic, rehearsal, mode)


def _elastic(
    pretrained: Path, model: TENET, experiment: Experiment, volumes: Sequence[Phantom], seed: int
) -> ElasticWeights | None:
    """What holds the encoder to its pre-training: read, or else found on phantoms if there are any.

    Imported weights come without their Fisher information.
    """
    if has_file(pretrained, FISHER):
        return _elastic_weights(pretrained, model)
    if not volumes:
        print(
            f"note: {pretrained} has no {FISHER}, and no phantoms are given to find it on: nothing "
            "holds the weights near those of pre-training (no EWC)",
            file=sys.stderr,
        )
        return None
    print(
        f"note: {pretrained} has no {FISHER}: the Fisher information is found on phantoms, as at "
        "the end of pre-training",
        file=sys.stderr,
    )
    task = PretrainTask(model.eval(), experiment, volumes, seed)
    return task.fisher_information(experiment.train_loop.ewc_batches)


def _elastic_weights(pretrained: Path, model: TENET) -> ElasticWeights:
    """What pre-training found important in the encoder."""
    saved = load_beside(pretrained, FISHER)
    own = dict(model.encoder.named_parameters())
    where = str(pretrained / FISHER)
    parameters, fisher = (_mapping(saved.get(part)) for part in ("parameters", "fisher"))
    for part in (parameters, fisher):
        check_weights(own, part, where=where)
    parameters, fisher = (
        {name: value.to(own[name].dtype) for name, value in part.items()}
        for part in (parameters, fisher)
    )
    if any(bool((value < 0).any()) for value in fisher.values()):
        raise TenetError(f"{where} holds negative Fisher information: pre-train again")
    return ElasticWeights(parameters, fisher)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


class FinetuneTask:
    """Minimise ℒ_rec and the priors on raw crops, and hold on to what was learned before."""

    def __init__(
        self,
        model: TENET,
        experiment: Experiment,
        images: Crops,
        elastic: ElasticWeights | None,
        rehearsal: Simulator | None,
        mode: TrainMode,
    ) -> None:
        self.model, self.experiment, self.images = model, experiment, images
        self.settings = experiment.train_loop
        self.elastic, self.rehearsal = elastic, rehearsal
        trained = {
            "encoder": mode != "decoder",
            "psf": mode != "encoder",
            "noise": mode != "encoder",
        }
        for name, wanted in trained.items():
            getattr(model, name).requires_grad_(wanted)
        # With an encoder that stands still, gradients of the PSF are biased; see `scan_stretch`.
        self.scans_stretch = (
            mode == "decoder" and self.settings.scan_stretch and model.psf.log_stretch is not None
        )
        if self.scans_stretch:
            model.psf.requires_grad_(False)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Encoder, PSF network, and the few numbers: widths of the PSF, noise."""
        model, settings = self.model, self.settings
        psf_lr = settings.psf_lr or settings.lr
        numbers = [*model.noise.parameters()]
        if model.psf.log_stretch is not None:
            numbers.append(model.psf.log_stretch)
        groups: list[tuple[Iterable[nn.Parameter], dict[str, Any]]] = [
            (model.encoder.parameters(), {}),
            (model.psf.network.parameters(), {"lr": psf_lr, "weight_decay": 0.0}),
            (numbers, {"lr": settings.stretch_lr or psf_lr, "weight_decay": 0.0}),
        ]
        trained = [([p for p in group if p.requires_grad], own) for group, own in groups]
        return [{"params": group, **own} for group, own in trained if group]

    def reconstruct(self, enhanced: Enhanced, image: Tensor, model: TENET | None = None) -> Tensor:
        """What the microscope would see of an enhanced image, by the task's model or another."""
        model = model or self.model
        # Quantised whatever `apply_vq` says: that switch is for inference.
        shape = model.quantise(enhanced["shape_probability"])
        rec = model.decode(shape, enhanced["brightness"])
        if self.settings.adjust_luminance:
            rec = one_sided(fitted(rec, image), image)
        return rec

    def terms(self, model: TENET, image: Tensor, masked: Tensor) -> dict[str, Tensor]:
        """The weighted losses of one batch of raw crops."""
        weights = self.settings
        enhanced = model.enhance(masked)
        rec = self.reconstruct(enhanced, image, model)
        terms = {
            "reconstruction": reconstruction_loss(rec, image, model.noise.variance(rec)),
            "luminance": weights.zloss_weight * luminance_prior(enhanced["brightness"]),
            "quantisation": weights.qloss_weight * enhanced["quantized_loss"],
            "psf": weights.ploss_weight * model.psf_loss(),
        }
        mrf = weights.mrfloss_weights
        if any((mrf.l_00, mrf.l_01, mrf.l_10, mrf.l_11)):
            terms["mrf"] = mrf_loss(
                enhanced["shape_probability"],
                mrf.l_00,
                mrf.l_01,
                mrf.l_10,
                mrf.l_11,
                dilation=weights.mrfloss_dilation,
            )
        if self.elastic is not None:
            terms["ewc"] = weights.ewc_weight * self.elastic.loss(model.encoder)
        return terms

    def draw(self, rng: np.random.Generator) -> tuple[Any, Drawn | None]:
        """Crops of raw stacks, and of phantoms to rehearse on."""
        size = self.settings.batch_size
        raw = self.images.draw("train", size, rng)
        return raw, None if self.rehearsal is None else self.rehearsal.draw(size, rng)

    def training_terms(
        self, epoch: int, drawn: tuple[Any, Drawn | None], rng: np.random.Generator
    ) -> Mapping[str, Tensor]:
        """Terms on fresh crops, and on phantoms blurred by the PSF as it is now."""
        raw, phantoms = drawn
        image, masked = self.images.batch("train", raw, rng)
        terms = self.terms(self.model, image, masked)
        if self.rehearsal is not None:
            assert phantoms is not None
            loss = self._rehearse(self.rehearsal, phantoms, rng)
            terms["rehearsal"] = self.settings.rehearsal_weight * loss
        return terms

    def _rehearse(self, simulator: Simulator, drawn: Drawn, rng: np.random.Generator) -> Tensor:
        """Pre-training loss with the present PSF and noise, so that the encoder follows them."""
        settings = self.experiment.pretrain_loop
        batch = simulator.batch(self.model.microscope(), drawn, settings.n_epochs, rng)
        return torch.stack(list(supervised_terms(self.model, settings, batch).values())).sum()

    def validation_terms(self, model: Any) -> Iterator[Mapping[str, Tensor]]:
        """Terms on the fixed validation crops."""
        section = self.experiment.val_dataset
        for index in range(section.I):
            rng = generator_for(section.seed, index)
            image, masked = self.images.batch("val", self.images.draw("val", 1, rng), rng)
            yield self.terms(model, image, masked)
