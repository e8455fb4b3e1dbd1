"""Pre-training: the PSF network fitted to its model, the encoder trained on simulated phantoms."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenet.config import Dataset, Experiment, PretrainLoop, Vibration
from tenet.errors import TenetError
from tenet.imaging import NoiseModel, StridedBlur
from tenet.losses import SHAPE_LOSSES, ElasticWeights, brightness_loss, masked_brightness_loss
from tenet.model import TENET
from tenet.motion import MotionSettings, draw_displacement, shift_planes
from tenet.network import hill
from tenet.patches import PhantomCrops, mask_boxes
from tenet.phantoms import Phantom, import_phantoms, open_phantoms
from tenet.training.loop import Plan, generator_for, train
from tenet.training.store import FISHER, OPTIMISER, save_model, save_tensors


def pretrain(
    experiment: Experiment,
    phantoms: Path,
    folder: Path,
    *,
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
    device : torch.device
        Where to compute.
    seed : int
        Everything random follows from it.

    Returns
    -------
    TENET
        The best model, in evaluation mode.
    """
    model = TENET(experiment.params)
    error = model.initialise(generator_for(seed, 1))
    print(f"PSF network fitted to its model: mean squared error {error:.2g}")
    model.to(device)
    model.half_precision = experiment.pretrain_loop.precision == "bfloat16"
    volumes = _volumes(phantoms, folder)
    task = PretrainTask(model, experiment, volumes, seed)
    settings = experiment.pretrain_loop
    plan = Plan(
        settings=settings,
        folder=folder,
        steps_per_epoch=max(experiment.pretrain_dataset.I // settings.batch_size, 1),
        seed=seed,
        best_over=3,
        identity=f"pretrain {seed} {experiment.model_dump_json()} {[v.path.name for v in volumes]}",
    )
    optimiser_state = train(task, plan)
    model.eval()
    save_tensors(folder / OPTIMISER, optimiser_state)
    elastic = task.fisher_information(experiment.train_loop.ewc_batches)
    save_tensors(folder / FISHER, {"parameters": elastic.parameters, "fisher": elastic.fisher})
    provenance = {"kind": "pretrain", "seed": seed, "psf_fit_error": error}
    save_model(folder, model, experiment, provenance)
    return model


def _volumes(phantoms: Path, folder: Path) -> list[Phantom]:
    """Stored phantoms; the user's own ``*.npz`` are converted first, once."""
    if any(phantoms.glob("*.npz")):
        return import_phantoms(phantoms, folder / "phantoms")
    return open_phantoms(phantoms)


class Simulator:
    """Crops of phantoms as the microscope would show them, made on the fly.

    Parameters
    ----------
    volumes : sequence of Phantom
        The truth.
    dataset : Dataset
        Crop size (fine voxels), acceptance, masks.
    vibration : Vibration, optional
        Misaligns the planes, more so as epochs go by.
    noise : bool
        Whether to add noise.
    """

    def __init__(
        self,
        volumes: Sequence[Phantom],
        dataset: Dataset,
        vibration: Vibration | None = None,
        noise: bool = True,
    ) -> None:
        if not volumes:
            raise TenetError(
                "there are no phantoms to train on: check low and high of the data set"
            )
        self.crops = PhantomCrops(
            volumes,
            dataset.cropsize,
            min_foreground=dataset.min_foreground,
            augment=dataset.augment,
        )
        self.dataset = dataset
        self.noise = noise
        self.motion = None if vibration is None else _motion_settings(vibration)

    def batch(
        self,
        model: TENET,
        blur: StridedBlur,
        size: int,
        epoch: int,
        rng: np.random.Generator,
        noise: NoiseModel | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw truth and image: shape and brightness (N, 1, Z·s, Y, X), image (N, 1, Z, Y, X)."""
        drawn = [self.crops.draw(rng) for _ in range(size)]
        device = model.initial_psf.device
        shape, brightness = (
            torch.from_numpy(np.stack([pair[i] for pair in drawn])[:, None]).to(device)
            for i in (0, 1)
        )
        image = blur(brightness * shape).clamp(0, 1)
        if self.motion is not None:
            parameters = self.motion.at(epoch)
            image = torch.cat(
                [
                    shift_planes(one[None], draw_displacement(image.shape[2], parameters, rng))
                    for one in image
                ]
            )
        if self.noise:
            generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
            image = (noise or model.noise).sample(image, generator)
        if self.dataset.mask:
            image = image * masks(self.dataset, model.params.scale, image, rng)
        return shape, brightness, image


def masks(dataset: Dataset, scale: int, image: Tensor, rng: np.random.Generator) -> Tensor:
    """Boxes of zeros for the input of the network, (N, 1, Z, Y, X); sizes in coarse voxels."""
    zyx_shape = (image.shape[2], image.shape[3], image.shape[4])
    boxes = [
        mask_boxes(rng, zyx_shape, dataset.mask_num, dataset.mask_size) for _ in range(len(image))
    ]
    return torch.from_numpy(np.stack(boxes)[:, None]).to(image)


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


def supervised_terms(
    model: TENET, settings: PretrainLoop, batch: tuple[Tensor, Tensor, Tensor]
) -> dict[str, Tensor]:
    """Loss of shape and of brightness where both are known."""
    shape, brightness, image = batch
    enhanced = model(hill(image), reconstruct=False)
    of_shape = SHAPE_LOSSES[settings.loss_fnx](enhanced["shape_logits"].float(), shape)
    if settings.loss_fnz == "masked_bce":
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
        noise = not settings.without_noise
        vibration = experiment.vibration if settings.is_vibrate else None
        self.training = Simulator(volumes[training.low : training.high], training, vibration, noise)
        held_out = volumes[validation.low : validation.high]
        self.validation = Simulator(held_out, validation, noise=noise)
        with torch.no_grad():  # the PSF stands still, so its transforms are made once
            self.training_blur = model.blur(training.cropsize)
            self.validation_blur = model.blur(validation.cropsize)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The encoder's; PSF and noise model are given."""
        return [{"params": list(self.model.encoder.parameters())}]

    def terms(self, model: TENET, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        """Loss of shape and of brightness on one batch."""
        return supervised_terms(model, self.settings, batch)

    def training_terms(self, epoch: int, rng: np.random.Generator) -> Mapping[str, Tensor]:
        """Terms on a fresh batch."""
        size = self.settings.batch_size
        with torch.no_grad():
            batch = self.training.batch(self.model, self.training_blur, size, epoch, rng)
        return self.terms(self.model, batch)

    def validation_terms(self, model: Any) -> Iterator[Mapping[str, Tensor]]:
        """Terms on the fixed validation batches."""
        dataset = self.validation.dataset
        for index in range(dataset.I):
            rng = generator_for(dataset.seed, index)
            batch = self.validation.batch(self.model, self.validation_blur, 1, 0, rng)
            yield self.terms(model, batch)

    def fisher_information(self, batches: int) -> ElasticWeights:
        """Elastic weights of the encoder at its present parameters."""

        def losses() -> Iterator[Tensor]:
            for index in range(batches):
                rng = generator_for(self.seed, 2, index)
                with torch.no_grad():
                    batch = self.training.batch(self.model, self.training_blur, 1, 0, rng)
                yield torch.stack(list(self.terms(self.model, batch).values())).sum()

        return ElasticWeights.estimate(self.model.encoder, losses())
