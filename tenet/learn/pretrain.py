"""Pre-training: the PSF network fitted to its model, the encoder trained on simulated phantoms."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from tenet.data.crops import PhantomCrops, mask_boxes
from tenet.data.phantoms.store import Phantom, import_phantoms, open_phantoms
from tenet.errors import TenetError
from tenet.learn.drawn_psfs import draw_microscope, psfs
from tenet.learn.ewc import ElasticWeights
from tenet.learn.loop import Plan, generator_for, train
from tenet.learn.losses import (
    SHAPE_LOSSES,
    brightness_loss,
    log_brightness_loss,
    masked_brightness_loss,
)
from tenet.model.store import (
    FISHER,
    MODEL,
    OPTIMISER,
    digest,
    is_trained,
    load_model,
    phantoms_digest,
    save_model,
)
from tenet.model.tenet import TENET
from tenet.model.weights import check_weights
from tenet.physics.blur import StridedBlur
from tenet.physics.microscope import Microscope
from tenet.physics.motion import MotionSettings, draw_displacement, shift_planes
from tenet.physics.noise import Readout, saturating_gain
from tenet.settings.schema import (
    Dataset,
    Experiment,
    Microscopes,
    PhantomDataset,
    PretrainLoop,
    Vibration,
)


def pretrain(
    experiment: Experiment,
    phantoms: Path,
    folder: Path,
    *,
    start: Path | None = None,
    device: torch.device,
    seed: int = 0,
) -> TENET:
    """Fit the PSF, train the encoder on phantoms blurred by it, and write the model.

    Parameters
    ----------
    experiment : Experiment
        `params`, `pretrain_dataset`, `pretrain_val_dataset`, `pretrain_loop`, `vibration`.
    phantoms : Path
        Folder of stored phantoms, or of the user's own ``*.npz``. Volumes with index in
        [`low`, `high`) of the data sets train and validate.
    folder : Path
        Receives the model, the optimiser's state, the Fisher information, and the history.
    start : Path, optional
        Model whose encoder the training begins with; by default its weights are drawn.
    device : torch.device
        Where to compute.
    seed : int
        Everything random follows from it.

    Returns
    -------
    TENET
        The best model, in evaluation mode; that of the folder where it was trained already.
    """
    identity = f"pretrain {seed} {experiment.effective()} {phantoms_digest(phantoms)}"
    if start is not None:
        identity += f" {digest(start / MODEL)}"
    half_precision = experiment.pretrain_loop.half_precision
    if is_trained(folder, identity):
        model, _ = load_model(folder, device=device)
        model.half_precision = half_precision
        return model
    volumes = _volumes(phantoms, folder)
    for name in ("pretrain_dataset", "pretrain_val_dataset"):
        _check_count(getattr(experiment, name), len(volumes), f"{phantoms}: {name}")
    model = TENET(experiment.params)
    error = model.initialise(generator_for(seed, 1))
    print(f"PSF network fitted to its model: mean squared error {error:.2g}")
    record = {"kind": "pretrain", "seed": seed, "psf_fit_error": error}
    if start is not None:
        _begin_with(model, start)
        record["start"] = digest(start / MODEL)
    model.to(device)
    model.half_precision = half_precision
    task = PretrainTask(model, experiment, volumes, seed)
    settings = experiment.pretrain_loop
    plan = Plan(
        settings=settings,
        folder=folder,
        steps_per_epoch=settings.steps_of(experiment.pretrain_dataset.I),
        seed=seed,
        best_over=3,
        identity=identity,
    )
    optimiser_state = train(task, plan)
    model.freeze_norm = False
    model.eval()
    elastic = task.fisher_information(experiment.train_loop.ewc_batches)
    save_model(
        folder,
        model,
        # Alignment is trained afterwards, into a model of its own.
        experiment.model_copy(update={"align_params": None}),
        record,
        identity=identity,
        beside={
            OPTIMISER: optimiser_state,
            FISHER: {"parameters": elastic.parameters, "fisher": elastic.fisher},
        },
    )
    return model


def _begin_with(model: TENET, start: Path) -> None:
    """Take the weights of the encoder of another model."""
    other, _ = load_model(start)
    state = other.encoder.state_dict()
    check_weights(model.encoder.state_dict(), state, where=f"the encoder of {start}")
    model.encoder.load_state_dict(state)


def _volumes(phantoms: Path, folder: Path) -> list[Phantom]:
    """Stored phantoms; the user's own ``*.npz`` are converted first, once."""
    if any(phantoms.glob("*.npz")):
        return import_phantoms(phantoms, folder / "phantoms")
    return open_phantoms(phantoms)


def _check_count(dataset: PhantomDataset, count: int, where: str) -> None:
    """Refuse a data set that takes none of so many phantoms, before the PSF is fitted."""
    if not range(count)[dataset.low : dataset.high]:
        raise TenetError(
            f"{where} takes phantoms {dataset.low} to {dataset.high - 1}, counted from 0, and "
            f"there are {count}: make more, or change its low and high"
        )


Drawn = tuple[Tensor, Tensor]  # shape, brightness


class Batch(NamedTuple):
    """Truth (N, 1, Z·s, Y, X), images (N, 1, Z, Y, X), and what blurred them.

    `still` is the image before motion and noise, `masked` the image with masks.
    """

    shape: Tensor
    brightness: Tensor
    still: Tensor
    image: Tensor
    masked: Tensor
    blur: StridedBlur


class Simulator:
    """Crops of phantoms as a microscope would show them, made on the fly.

    Parameters
    ----------
    volumes : sequence of Phantom
        The truth.
    dataset : PhantomDataset
        Crop size and margin (fine voxels; less where a volume has no room), acceptance, masks.
    scale : int
        s, fine planes per coarse plane.
    vibration : Vibration, optional
        Misaligns the planes, more so as epochs go by.
    noise : bool
        Whether to add noise.
    microscopes : Microscopes
        Light (the truth gets its share), saturation, noise and contrast of each image.
    """

    def __init__(
        self,
        volumes: Sequence[Phantom],
        dataset: PhantomDataset,
        scale: int,
        vibration: Vibration | None = None,
        noise: bool = True,
        microscopes: Microscopes | None = None,
    ) -> None:
        if not volumes:
            raise TenetError(
                "there are no phantoms to train on: check low and high of the data set"
            )
        smallest = np.min([volume.zyx_shape for volume in volumes], axis=0)
        room = np.maximum(smallest - dataset.cropsize, 0) // 2
        self.margin = np.minimum(dataset.margin, room) // (scale, 1, 1) * (scale, 1, 1)
        z, y, x = (int(n) for n in dataset.cropsize + 2 * self.margin)
        self.crops = PhantomCrops(
            volumes, (z, y, x), min_foreground=dataset.min_foreground, augment=dataset.augment
        )
        self.dataset, self.scale, self.noise = dataset, scale, noise
        self.microscopes = microscopes or Microscopes()
        self.motion = None if vibration is None else _motion_settings(vibration)

    def draw(self, size: int, rng: Generator) -> Drawn:
        """Read shape and brightness, each (N, 1, Z·s, Y, X) with the margin."""
        crops = [self.crops.draw(rng) for _ in range(size)]
        shape, brightness = (np.stack(part)[:, None] for part in zip(*crops, strict=True))
        return torch.from_numpy(shape), torch.from_numpy(brightness)

    @torch.no_grad()
    def batch(
        self,
        microscope: Microscope,
        drawn: Drawn,
        epoch: int,
        rng: Generator,
        *,
        nominal_psf: Tensor | None = None,
    ) -> Batch:
        """Images of what was drawn, each by a microscope whose light and detector are drawn.

        Parameters
        ----------
        microscope : Microscope
            Its PSF blurs the images; they are computed where it is.
        drawn : Drawn
        epoch : int
            Motion grows with it.
        rng : Generator
        nominal_psf : Tensor, optional
            What `Batch.blur` blurs by, where it is not the true PSF.
        """
        device, n = microscope.psf.device, len(drawn[0])
        scale = microscope.scale
        planes = drawn[0].shape[2] // scale * scale
        shape, brightness = (part[:, :, :planes].to(device) for part in drawn)
        ranges = self.microscopes
        light = _log_uniform(ranges.least_light, 1, n, rng).to(brightness)
        ceiling = _log_uniform(ranges.least_ceiling, 1, n, rng).to(brightness)
        noisier = _log_uniform(1 / ranges.noise_spread, ranges.noise_spread, n, rng).to(brightness)
        contrast = _log_uniform(1, ranges.most_contrast, n, rng).to(brightness)
        brightness = brightness**contrast * light
        readout = Readout.draw(
            n,
            rng,
            most_row_gain=ranges.most_row_gain,
            most_row_offset=ranges.most_row_offset,
            offset=ranges.offset,
            bits=ranges.bits,
        ).to(device)
        smear: Tensor | float = 0.0
        if ranges.most_smear:
            smear = _uniform(0, ranges.most_smear, n, rng).to(brightness)
        microscope = replace(
            microscope,
            noise_strength=noisier,
            noise_smear=smear,
            ceiling=ceiling,
            readout=readout,
        )
        image = microscope.expose(brightness)  # with neuropil, which has no shape
        if ranges.most_saturated:
            saturated = _uniform(0, ranges.most_saturated, n, rng).to(brightness)
            gain = light * ceiling * saturating_gain(image, saturated)
            image, brightness = gain * image, gain * brightness
        z, y, x = self.margin
        fine = (..., _inner(z), _inner(y), _inner(x))
        shape, brightness = shape[fine], (brightness * shape)[fine]
        image = still = image[..., _inner(z // scale), _inner(y), _inner(x)]
        if self.motion is not None:
            parameters = self.motion.at(epoch)
            image = torch.cat(
                [
                    shift_planes(one[None], draw_displacement(image.shape[2], parameters, rng))
                    for one in image
                ]
            )
        generator = None
        if self.noise:
            generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        image = microscope.record(image, generator)
        masked = mask(self.dataset, scale, image, rng)
        if nominal_psf is not None:
            microscope = replace(microscope, psf=nominal_psf.to(device))
        blur = microscope.blur((shape.shape[2], shape.shape[3], shape.shape[4]))
        return Batch(shape, brightness, still, image, masked, blur)


def _log_uniform(low: float, high: float, n: int, rng: Generator) -> Tensor:
    """(n, 1, 1, 1, 1); nothing is drawn where there is no choice."""
    share = rng.random((n, 1, 1, 1, 1)) if high > low else np.zeros((n, 1, 1, 1, 1))
    return torch.from_numpy(high * (low / high) ** share)


def _uniform(low: float, high: float, n: int, rng: Generator) -> Tensor:
    """(n, 1, 1, 1, 1)."""
    return torch.from_numpy(rng.uniform(low, high, (n, 1, 1, 1, 1)))


def _inner(margin: int) -> slice:
    return slice(margin, -margin or None)


def mask(dataset: Dataset, scale: int, image: Tensor, rng: Generator) -> Tensor:
    """Blank boxes of images (N, 1, Z, Y, X) where the data set asks for it."""
    if not dataset.mask:
        return image
    zyx_shape = (image.shape[2], image.shape[3], image.shape[4])
    boxes = [
        mask_boxes(rng, zyx_shape, dataset.mask_num, dataset.mask_size) for _ in range(len(image))
    ]
    return image * torch.from_numpy(np.stack(boxes)[:, None]).to(image)


def _motion_settings(vibration: Vibration) -> MotionSettings:
    def ends(name: str) -> tuple[float, float]:
        bounds = getattr(vibration, name)
        return bounds.min, bounds.max

    return MotionSettings(
        b_sigma=ends("b_sigma"),
        amp_alpha=ends("amp_alpha"),
        omega_alpha=ends("omega_alpha"),
        noise_inv_var_alpha=ends("noise_inv_var_alpha"),
        max_step=vibration.max_step,
    )


def supervised_terms(model: TENET, settings: PretrainLoop, batch: Batch) -> dict[str, Tensor]:
    """Loss of shape and of brightness where both are known."""
    shape, brightness = batch.shape, batch.brightness
    enhanced = model.enhance(batch.masked, batch.blur)
    of_shape = SHAPE_LOSSES[settings.loss_fnx](enhanced["shape_logits"].float(), shape)
    if model.params.brightness == "log":
        of_brightness = log_brightness_loss(enhanced["brightness"], shape, brightness)
    elif settings.loss_fnz == "masked_bce":
        of_brightness = masked_brightness_loss(enhanced["brightness_logits"], shape, brightness)
    else:
        of_brightness = brightness_loss(enhanced["brightness"], shape, brightness)
    return {
        "shape": settings.weight_x * of_shape,
        "brightness": settings.weight_z * of_brightness,
    }


class PretrainTask:
    """Shape and brightness from simulated images, with the truth at hand."""

    def __init__(
        self, model: TENET, experiment: Experiment, volumes: Sequence[Phantom], seed: int
    ) -> None:
        settings = experiment.pretrain_loop
        self.model, self.settings, self.seed = model, settings, seed
        training, validation = experiment.pretrain_dataset, experiment.pretrain_val_dataset
        self.held_out = validation
        noise = not settings.without_noise
        vibration = experiment.vibration if settings.is_vibrate else None
        scale, microscopes = experiment.params.scale, experiment.microscopes
        seen = volumes[training.low : training.high]
        self.training = Simulator(seen, training, scale, vibration, noise, microscopes)
        self.validation = Simulator(
            volumes[validation.low : validation.high],
            validation,
            scale,
            noise=noise,
            microscopes=microscopes,
        )
        self.psfs = psfs(experiment.params, experiment.microscopes, generator_for(seed, 3))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The parameters of the encoder; PSF and noise model stand still."""
        return [{"params": list(self.model.encoder.parameters())}]

    def batch(self, simulator: Simulator, drawn: Drawn, epoch: int, rng: Generator) -> Batch:
        """Truth and images, taken with the model's own PSF or one drawn from `psfs`."""
        microscope, nominal_psf = draw_microscope(self.model, self.psfs, rng)
        return simulator.batch(microscope, drawn, epoch, rng, nominal_psf=nominal_psf)

    def draw(self, rng: Generator) -> Drawn:
        """Crops of phantoms."""
        return self.training.draw(self.settings.batch_size, rng)

    def training_terms(self, epoch: int, drawn: Drawn, rng: Generator) -> Mapping[str, Tensor]:
        """Terms on a fresh batch; the last epochs have frozen norms, as `freezes_norm` says."""
        if self.model.freeze_norm != self.settings.freezes_norm(epoch):
            self.model.freeze_norm = not self.model.freeze_norm
            self.model.train()
        batch = self.batch(self.training, drawn, epoch, rng)
        return supervised_terms(self.model, self.settings, batch)

    def validation_terms(self, model: Any) -> Iterator[Mapping[str, Tensor]]:
        """Terms on the fixed validation batches."""
        for index in range(self.held_out.I):
            rng = generator_for(self.held_out.seed, index)
            batch = self.batch(self.validation, self.validation.draw(1, rng), 0, rng)
            yield supervised_terms(model, self.settings, batch)

    def fisher_information(self, batches: int) -> ElasticWeights:
        """Elastic weights of the encoder at its present parameters.

        The information is that of a whole crop: the loss, a mean over voxels, is multiplied by the
        number of voxels. The whole loss counts as a log-likelihood, although soft Dice is none.
        """

        def losses() -> Iterator[Tensor]:
            for index in range(batches):
                rng = generator_for(self.seed, 2, index)
                batch = self.batch(self.training, self.training.draw(1, rng), 0, rng)
                terms = supervised_terms(self.model, self.settings, batch)
                yield batch.shape.numel() * torch.stack(list(terms.values())).sum()

        return ElasticWeights.estimate(self.model.encoder, losses())
