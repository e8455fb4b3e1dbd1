"""TENET: encoder, quantisation and decoder in one."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from tenet.model.published_weights import published_names
from tenet.model.weights import check_weights, read_weights
from tenet.networks.aligner import AlignmentNet
from tenet.networks.blocks import hill
from tenet.networks.cells import CellNet
from tenet.networks.coarse import CoarseNet
from tenet.networks.convolution import half_precision
from tenet.networks.encoder import Encoder
from tenet.networks.jnet import JNet
from tenet.networks.norms import NORMS
from tenet.physics.blur import StridedBlur, centred_planes
from tenet.physics.microscope import Microscope
from tenet.physics.motion import fit_displacement, shift_planes
from tenet.physics.noise import NoiseModel
from tenet.physics.psf import NeurIPSF
from tenet.physics.richardson_lucy import deconvolve
from tenet.settings.schema import AlignParams, ModelParams, parse_params
from tenet.types import Triple

#: How often the planes of a stack are registered to the output of the alignment network.
ALIGNMENT_ROUNDS = 3
#: Least and greatest brightness on the logarithmic scale; 1 is the most that a detector shows.
DIMMEST, BRIGHTEST = 0.01, 30.0


class Enhanced(TypedDict):
    """Result of the model. Volumes are (N, 1, Z·s, Y, X), except for `reconstruction`.

    `shape` is quantised where the parameters ask for it, and `shape_probability` is never
    quantised. `reconstruction` is the re-blurred stack, (N, 1, Z, Y, X).
    """

    shape: Tensor
    shape_probability: Tensor
    shape_logits: Tensor
    brightness: Tensor
    brightness_logits: Tensor
    reconstruction: Tensor
    features: Tensor
    quantized_loss: Tensor
    psf_loss: Tensor


class TENET(nn.Module):
    """The whole method as one differentiable function of a stack.

    Parameters
    ----------
    params : ModelParams
        The `params` section of an experiment.
    align_params : AlignParams, optional
        The `align_params` section of an experiment, which adds a network that aligns planes.

    Attributes
    ----------
    encoder : JNet, CoarseNet or CellNet
    aligner : AlignmentNet or None
    psf : NeurIPSF
    noise : NoiseModel
    initial_psf : Tensor, shape (planes, radii)
        The model PSF that ℒ_PSF compares with, on the grid of `psf.radial()`.
    freeze_norm : bool
        Whether batch normalisation keeps its statistics while training goes on.
    half_precision : bool
        Whether networks run in bfloat16 where that is fast. The physics always runs in float32.
    """

    initial_psf: Tensor

    def __init__(self, params: ModelParams, align_params: AlignParams | None = None) -> None:
        super().__init__()
        self.params = params
        self.half_precision = False
        self.freeze_norm = False
        networks: dict[str, Callable[..., Encoder]] = {
            "jnet": partial(JNet, attention=params.attn_list),
            "coarse": CoarseNet,
            "cells": partial(CellNet, norm=NORMS[params.norm]),
        }
        self.encoder = networks[params.network](
            params.hidden_channels_list,
            params.scale,
            n_blocks=params.nblocks,
            dropout=params.dropout,
            estimates=len(params.estimate_steps),
        )
        self.aligner: AlignmentNet | None = None
        if align_params is not None:
            self.aligner = alignment_network(params, align_params).eval()
        size_z = params.size_z
        if params.psf_sampling == "continuous":
            size_z = centred_planes(size_z, params.scale)
        self.psf = NeurIPSF(
            (size_z, params.size_y, params.size_x),
            params.fine_voxel_size_um,
            params.scale,
            hidden=params.mid,
            sampling=params.psf_sampling,
        )
        self.noise = NoiseModel(params.poisson_weight, params.sig_eps, params.noise)
        model_psf = params.model_psf()
        self.psf.tabulate(model_psf)
        self.register_buffer("initial_psf", self.psf.target(model_psf), persistent=False)

    def train(self, mode: bool = True) -> "TENET":
        """Switch the mode. With `freeze_norm`, batch normalisation stays in evaluation mode.

        The alignment network also stays in evaluation mode, because it is trained by itself.
        """
        super().train(mode)
        if self.aligner is not None:
            self.aligner.eval()
        if self.freeze_norm:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm3d):
                    module.eval()
        return self

    def initialise(self, rng: np.random.Generator) -> float:
        """Draw the encoder's weights, fit the PSF to its model, and return the error of the fit."""
        torch.manual_seed(int(rng.integers(2**31)))
        for module in self.encoder.modules():
            if isinstance(module, nn.MultiheadAttention):
                module._reset_parameters()
            elif isinstance(module, nn.Conv3d | nn.BatchNorm3d | nn.LayerNorm | nn.Linear):
                module.reset_parameters()
        return self.psf.fit(
            self.params.model_psf(),
            rng,
            target_error=self.params.nipsf_loss_target,
            steps=self.params.num_iter_psf_pretrain,
        )

    @torch.no_grad()
    def align(self, image: Tensor) -> Tensor:
        """Align the planes of (N, 1, Z, Y, X) in [0, 1], if the model has an alignment network.

        The alignment network predicts the stack of a sample that stands still. Each plane is
        shifted to the place where it fits the prediction best, and this is repeated a few times.
        The content of a plane is therefore only shifted.
        """
        if self.aligner is None:
            return image
        return torch.stack([self._align(stack[0]) for stack in image])

    def _align(self, stack: Tensor) -> Tensor:
        """(Z, Y, X) -> (1, Z, Y, X)."""
        assert self.aligner is not None
        displacement = None
        moved = stack[None, None]
        for _ in range(ALIGNMENT_ROUNDS):
            with half_precision(stack.device, self.half_precision):
                still = self.aligner(moved)
            displacement = fit_displacement(stack, still[0, 0], displacement)
            moved = shift_planes(stack[None, None], displacement)
        return moved[0]

    def enhance(
        self, image: Tensor, blur: StridedBlur | None = None, *, estimate: Tensor | None = None
    ) -> Enhanced:
        """Enhance a stack of linear intensities, without blurring the result again.

        Parameters
        ----------
        image : Tensor, shape (N, 1, Z, Y, X)
            Intensities in [0, 1].
        blur : StridedBlur, optional
            The blur of the deconvolution, if the network is shown a deconvolved stack; by default
            that of the model's own PSF.
        estimate : Tensor, shape (N, C, Z·s, Y, X), optional
            The result of `deconvolve` for `image`, if it is known already.

        Returns
        -------
        Enhanced
            Result with an empty `reconstruction`.
        """
        if estimate is None and self.params.deconvolution_steps:
            estimate = self.deconvolve(image, blur)
        if self.params.brightness == "log":
            image = log_scaled(image, self.params.sig_eps)
        else:
            image = hill(image)
        return self(image, estimate=estimate, reconstruct=False)

    @torch.no_grad()
    def deconvolve(self, image: Tensor, blur: StridedBlur | None = None) -> Tensor:
        """Deconvolve linear intensities by `deconvolution_steps` accelerated steps.

        The estimate after `early_steps`, if there are any, is the second channel. The result is at
        most 1 if the brightness is.
        """
        planes, rows, columns = image.shape[2:]
        blur = blur or self.blur((planes * self.params.scale, rows, columns))
        steps, *fewer = self.params.estimate_steps
        early, background = fewer[0] if fewer else None, self.params.sig_eps
        estimate = deconvolve(image, blur, steps=steps, early=early, background=background)
        return estimate.clamp_max(1) if self.params.brightness == "sigmoid" else estimate

    def forward(
        self, image: Tensor, *, estimate: Tensor | None = None, reconstruct: bool = True
    ) -> Enhanced:
        """Enhance a stack and blur the result again.

        Parameters
        ----------
        image : Tensor, shape (N, 1, Z, Y, X)
            Network input in [0, 1]. Apply `network.hill` first if the training did.
        reconstruct : bool
            Whether to run the decoder; without it `reconstruction` is empty.

        Returns
        -------
        Enhanced
            A mapping; see `Enhanced`.
        """
        with half_precision(image.device, self.half_precision):
            encoded = self.encoder(image, self.shown(estimate))
        probability = encoded.shape_logits.float().sigmoid()
        brightness = self.brightness(encoded.brightness_logits.float(), estimate)
        quantised = self.quantise(probability)
        shape = probability
        if self.params.apply_vq and self.params.use_x_quantized:
            shape = quantised
        reconstruction = self.decode(shape, brightness) if reconstruct else image.new_empty(0)
        return {
            "shape": shape,
            "shape_probability": probability,
            "shape_logits": encoded.shape_logits,
            "brightness": brightness,
            "brightness_logits": encoded.brightness_logits,
            "reconstruction": reconstruction,
            "features": encoded.features,
            "quantized_loss": quantisation_loss(probability, quantised),
            "psf_loss": self.psf_loss(),
        }

    def shown(self, estimate: Tensor | None) -> Tensor | None:
        """An estimate as the encoder is shown it.

        A linear one has its edges at half of the intensity inside, which `hill` would bring near 1.
        A logarithmic one has them at the same distance below the inside, however bright that is.
        """
        if estimate is None or self.params.brightness == "sigmoid":
            return estimate
        return log_scaled(estimate, self.params.sig_eps)

    def brightness(self, logits: Tensor, estimate: Tensor | None = None) -> Tensor:
        """Brightness on the scale of the settings.

        On the logarithmic scale, `logits` of 0 are the mean estimate of the neighbourhood, so that
        the encoder learns a correction of it. The mean depends little on the noise, other than the
        highest, and so the correction is the same for stacks with much noise and with little.
        """
        if self.params.brightness == "sigmoid":
            return logits.sigmoid()
        if estimate is not None:
            near = nn.functional.avg_pool3d(estimate[:, :1], 3, 1, 1, count_include_pad=False)
            logits = logits + log_share(near).logit(0.01)
        return from_log_scale(logits.sigmoid())

    def quantise(self, probability: Tensor) -> Tensor:
        """x_q = [x >= threshold] with the gradient of x (straight-through)."""
        hard = (probability >= self.params.threshold).to(probability)
        return probability + (hard - probability).detach()

    def decode(self, shape: Tensor, brightness: Tensor) -> Tensor:
        """Blur and sample brightness · shape; (N, 1, Z·s, Y, X) -> (N, 1, Z, Y, X)."""
        return self.microscope().expose(brightness * shape)

    def microscope(self, psf: Tensor | None = None) -> Microscope:
        """The forward model with the present noise, and with `psf` or else the present PSF."""
        params = self.params
        psf = self.psf() if psf is None else psf.to(self.initial_psf.device)
        voxel_size_um, sampling = params.coarse_voxel_size_um, params.psf_sampling
        return Microscope(psf, self.noise, params.scale, voxel_size_um, sampling)

    def blur(self, zyx_shape: Triple) -> StridedBlur:
        """The linear part of `microscope` for a fine shape."""
        return self.microscope().blur(zyx_shape)

    def take_microscope(self, params: ModelParams, rng: np.random.Generator) -> None:
        """Replace the PSF by the model PSF of other optics; the network stays as it is."""
        other = TENET(params).to(self.initial_psf.device)
        other.psf.fit(
            params.model_psf(),
            rng,
            target_error=params.nipsf_loss_target,
            steps=params.num_iter_psf_pretrain,
        )
        other.psf.requires_grad_(next(self.psf.parameters()).requires_grad)
        self.params, self.psf, self.initial_psf = params, other.psf, other.initial_psf

    def for_microscope(self, params: ModelParams) -> "TENET":
        """The same encoder, noise and alignment behind other optics, planes and pixels.

        Parameters
        ----------
        params : ModelParams
            Of the other microscope. The network must be the same, one for every scale if the scale
            is another.

        Raises
        ------
        TenetError
            If the weights do not fit.
        """
        other = TENET(params).to(self.initial_psf.device)
        for part in ("encoder", "noise"):
            state = getattr(self, part).state_dict()
            check_weights(getattr(other, part).state_dict(), state, where=f"the {part}")
            getattr(other, part).load_state_dict(state)
        other.aligner = self.aligner
        other.half_precision = self.half_precision
        return other.train(self.training)

    def psf_loss(self) -> Tensor:
        """ℒ_PSF of the present PSF."""
        return psf_loss(self.psf.radial(), self.initial_psf)

    @classmethod
    def from_published(
        cls, params: Mapping[str, Any], weights: str | Path, *, device: str = "cpu"
    ) -> "TENET":
        """Load weights of the published code.

        Parameters
        ----------
        params : mapping
            The `params` section of the configuration that goes with the weights.
        weights : str or Path
            A state dictionary with the published names; names that end in ``_estimated_mean`` or
            ``_estimated_fisher`` are left out.
        device : str
            Where to put the model.

        Returns
        -------
        TENET
            The model in evaluation mode, with the published PSF sampling.

        Raises
        ------
        TenetError
            If the file is not a plain state dictionary, or belongs to another architecture.
        """
        parsed = parse_params({**params, "psf_sampling": "lookup"}, where="params")
        model = cls(parsed)
        model.load_weights(published_names(read_weights(weights)), where=str(weights))
        return model.eval().to(device)

    def load_weights(self, state: Mapping[str, Any], *, where: str) -> None:
        """Load a state dictionary of this architecture; `where` names its file in errors.

        In earlier versions the network `psf.layers` was the continuous PSF, where the model PSF now
        stands; it is left out.
        """
        if self.psf.table is not None and "psf.layers.1.weight" in state:
            state = {name: state[name] for name in state if not name.startswith("psf.layers.")}
            own = self.state_dict(keep_vars=False)
            state |= {name: own[name] for name in own if name.startswith("psf.correction.")}
        check_weights(self.state_dict(), state, where=where)
        self.load_state_dict(dict(state))


def alignment_network(params: ModelParams, align_params: AlignParams) -> AlignmentNet:
    """The network that `align_params` describes. Omitted values are those of the encoder."""
    channels = align_params.hidden_channels_list or params.hidden_channels_list
    nblocks, dropout = align_params.nblocks, align_params.dropout
    return AlignmentNet(
        channels,
        n_blocks=params.nblocks if nblocks is None else nblocks,
        dropout=params.dropout if dropout is None else dropout,
    )


def from_log_scale(share: Tensor) -> Tensor:
    """Brightness at a share of the way from `DIMMEST` to `BRIGHTEST` on a logarithmic scale.

    Examples
    --------
    >>> from_log_scale(torch.tensor([0.1, 0.5, 0.9]))
    tensor([ 0.0223,  0.5477, 13.4713])
    """
    return DIMMEST * (BRIGHTEST / DIMMEST) ** share


def log_share(brightness: Tensor) -> Tensor:
    """Inverse of `from_log_scale`: 0 for what is dimmer than `DIMMEST`.

    Examples
    --------
    >>> log_share(from_log_scale(torch.tensor([0.1, 0.5, 0.9])))
    tensor([0.1000, 0.5000, 0.9000])
    """
    return (brightness.clamp_min(DIMMEST) / DIMMEST).log() / math.log(BRIGHTEST / DIMMEST)


def log_scaled(image: Tensor, sigma: float) -> Tensor:
    """Intensity transform arsinh(x / σ) / arsinh(1 / σ): 0 -> 0, 1 -> 1.

    The transform is linear up to the noise σ, so that it does not lift the noise, and logarithmic
    above. Each factor of ten above the noise takes the same share of the range.

    Examples
    --------
    >>> log_scaled(torch.tensor([0.0, 0.01, 0.1, 1.0, 10.0]), 0.01)
    tensor([0.0000, 0.1663, 0.5659, 1.0000, 1.4346])
    """
    return torch.asinh(image / sigma) / math.asinh(1 / sigma)


def quantisation_loss(shape: Tensor, quantised: Tensor) -> Tensor:
    """ℒ_VQ = mean (x_q - x)², which draws shape towards 0 or 1."""
    return nn.functional.mse_loss(shape, quantised.detach())


def psf_loss(psf: Tensor, initial_psf: Tensor) -> Tensor:
    """ℒ_PSF = mean (PSF - initial PSF)² over the radial samples."""
    return nn.functional.mse_loss(psf, initial_psf)
