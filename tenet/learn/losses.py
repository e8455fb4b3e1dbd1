"""The losses of the method, one function each."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from tenet.physics.richardson_lucy import saturated


def one_sided(reconstruction: Tensor, image: Tensor) -> Tensor:
    """The reconstruction, or the image where a detector cut the image and they do not disagree.

    A saturated voxel says "at least this much", and a voxel at 0 says "at most this much". So a
    loss of the result costs nothing, and has no gradient, where the reconstruction is brighter than
    a saturated voxel, or darker than a voxel at 0.

    Parameters
    ----------
    reconstruction, image : Tensor, shape (N, 1, Z, Y, X)
        In the same units.

    Examples
    --------
    >>> image = torch.tensor([0.0, 0.2, 0.5, 0.5]).view(1, 1, 1, 1, 4)
    >>> one_sided(torch.tensor([-0.1, 0.3, 0.9, 0.4]).view_as(image), image).flatten()
    tensor([0.0000, 0.3000, 0.5000, 0.4000])
    """
    above = torch.where(saturated(image), reconstruction.minimum(image), reconstruction)
    return torch.where(image <= 0, above.maximum(image), above)


def fitted(reconstruction: Tensor, image: Tensor) -> Tensor:
    """The reconstruction with the gain and the background that fit an image best.

    The PSF then need not make up for a wrong brightness, nor for light that no structure sends.
    Gain and background are the least squares of all voxels that are not saturated, one pair for
    each image of a batch. A background below 0 is 0.

    Parameters
    ----------
    reconstruction, image : Tensor, shape (N, 1, Z, Y, X)

    Examples
    --------
    >>> light = torch.tensor([0.0, 1.0, 3.0]).view(1, 1, 1, 1, 3)
    >>> fitted(light, 0.2 * light + 0.1).flatten()
    tensor([0.1000, 0.3000, 0.7000])
    """
    axes = (1, 2, 3, 4)
    known = (~saturated(image)).to(reconstruction)

    def mean(values: Tensor) -> Tensor:
        return (known * values).sum(axes, keepdim=True) / known.sum(axes, keepdim=True)

    light, seen = mean(reconstruction), mean(image)
    square, product = mean(reconstruction.square()), mean(reconstruction * image)
    gain = (product - light * seen) / (square - light.square()).clamp_min(1e-12)
    background = seen - gain * light
    alone = product / square.clamp_min(1e-12)
    lit = (background > 0) & (gain > 0)
    return torch.where(lit, gain, alone) * reconstruction + torch.where(lit, background, 0)


def reconstruction_loss(reconstruction: Tensor, image: Tensor, variance: Tensor) -> Tensor:
    """Gaussian negative log-likelihood of `image`: mean of ½ (log v + (rec - image)² / v)."""
    return F.gaussian_nll_loss(reconstruction, image, variance, eps=1e-6)


def unscaled_reconstruction_loss(reconstruction: Tensor, image: Tensor, variance: Tensor) -> Tensor:
    """`reconstruction_loss` at the strength of the noise that fits best.

    With v known up to a factor, the likelihood is highest at the factor mean (rec - image)² / v:

        ½ (mean log v + log mean (rec - image)² / v + 1).

    At this strength, all that the model does not explain counts as noise, so that it does not
    outweigh the rest.
    """
    variance = variance.clamp_min(1e-6)
    left = ((reconstruction - image).square() / variance).mean().clamp_min(1e-12)
    return (variance.log().mean() + left.log() + 1) / 2


def luminance_prior(brightness: Tensor) -> Tensor:
    """ℒ_Lum = mean (log z)² / 200, from a log-normal prior, which z ≤ 1 cuts at 1."""
    return brightness.clamp_min(1e-6).log().square().mean() / 200


def brightness_loss(brightness: Tensor, shape: Tensor, label: Tensor) -> Tensor:
    """Brightness in pre-training: luminance prior + ½ mean (z·shape - label)²."""
    return luminance_prior(brightness) + 0.5 * F.mse_loss(brightness * shape, label)


def masked_brightness_loss(logits: Tensor, shape: Tensor, label: Tensor) -> Tensor:
    """Luminance prior + binary cross-entropy of the brightness, averaged over the structure alone.

    This loss makes a network learn the brightness. `brightness_loss` does not: its gradient
    vanishes where the brightness saturates, and its mean includes a background without brightness.
    """
    logits = logits.float()
    # Beyond 1 the entropy would have no least value.
    label = label.clamp(max=1)
    entropy = F.binary_cross_entropy_with_logits(logits, label, weight=shape, reduction="sum")
    return luminance_prior(logits.sigmoid()) + entropy / shape.sum().clamp_min(1)


def log_brightness_loss(brightness: Tensor, shape: Tensor, label: Tensor) -> Tensor:
    """Luminance prior + Huber loss of log brightness, averaged over the structure alone.

    A factor counts the same for dim and for bright structures, and beyond a factor of e it counts
    by its logarithm: what a detector cut cannot be told better.
    """
    z, wanted = brightness.clamp_min(1e-6).log(), label.clamp_min(1e-6).log()
    misfit = shape * F.huber_loss(z, wanted, reduction="none")
    return luminance_prior(brightness) + misfit.sum() / shape.sum().clamp_min(1)


def mrf_loss(
    shape: Tensor, l00: float, l01: float, l10: float, l11: float, *, dilation: int = 1
) -> Tensor:
    """Markov random field prior over the 27-neighbourhood.

    Mean over voxels and the 27 positions (neighbours n, weight w = 1/distance, 0 at the centre,
    zeros outside of the volume) of

        w · [l00 (1-x)(1-n) + l01 (1-x) n + l10 x P + l11 x (1-P)],   P = Π over all 27 of (1-n)

    so that l10 weighs isolated voxels and l11 supported ones. Two terms are one fixed 3³
    convolution, P a product of three one-dimensional products: no 27-fold copy.

    Parameters
    ----------
    shape : Tensor, shape (N, 1, Z, Y, X)
        Values in [0, 1].
    l00, l01, l10, l11 : float
        Weights of the four configurations.
    dilation : int
        Distance of the neighbours in voxels.

    Returns
    -------
    Tensor, 0-dimensional
    """
    offsets = torch.stack(
        torch.meshgrid(*[torch.arange(-1.0, 2.0, device=shape.device)] * 3, indexing="ij")
    )
    distance = offsets.square().sum(0).sqrt()
    weight = torch.where(distance > 0, 1 / distance.clamp_min(1), distance.new_zeros(()))
    total = weight.sum()
    neighbours = F.conv3d(shape, weight[None, None].to(shape), padding=dilation, dilation=dilation)
    empty = 1 - shape
    for dim in (2, 3, 4):
        empty = _product_of_three(empty, dim, dilation)
    background = (1 - shape) * (l00 * (total - neighbours) + l01 * neighbours)
    foreground = total * shape * (l10 * empty + l11 * (1 - empty))
    return (background + foreground).mean() / 27


def _product_of_three(volume: Tensor, dim: int, dilation: int) -> Tensor:
    """v[i-d]·v[i]·v[i+d] along `dim`, with ones outside."""
    padding = [0, 0] * (volume.ndim - 1 - dim) + [dilation, dilation]
    padded = F.pad(volume, padding, value=1.0)
    n = volume.shape[dim]
    return (
        padded.narrow(dim, 0, n)
        * padded.narrow(dim, dilation, n)
        * padded.narrow(dim, 2 * dilation, n)
    )


def soft_dice_loss(probability: Tensor, label: Tensor) -> Tensor:
    """1 - soft Dice coefficient over the whole batch."""
    overlap = (probability * label).sum()
    return 1 - (2 * overlap + 1) / (probability.sum() + label.sum() + 1)


def bce_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Binary cross-entropy, from logits for the sake of half precision."""
    return F.binary_cross_entropy_with_logits(logits, label)


def bce_dice_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Binary cross-entropy + soft Dice: sparse lines weigh as much as the background."""
    return bce_loss(logits, label) + soft_dice_loss(logits.sigmoid(), label)


def mse_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Mean squared error of the probabilities."""
    return F.mse_loss(logits.sigmoid(), label)


#: What a configuration may name as a segmentation loss; the published strings are looked up here.
SHAPE_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nn.BCELoss()": bce_loss,
    "nn.BCEWithLogitsLoss()": bce_loss,
    "nn.MSELoss()": mse_loss,
    "bce": bce_loss,
    "bce_dice": bce_dice_loss,
    "mse": mse_loss,
}
