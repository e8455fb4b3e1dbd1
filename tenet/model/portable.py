"""A model as TorchScript, which programs without TENET run: deconvolution and network in one.

The network and the steps of the deconvolution are traced. A trace keeps every size that it
computes outside of tensors, such as the lengths of the Fourier transforms. `band_limited` is
therefore scripted, and computes them for each image.
"""

import copy
import io
import math
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tenet.errors import TenetError
from tenet.model.tenet import TENET, log_scaled
from tenet.networks.blocks import hill
from tenet.networks.convolution import Conv
from tenet.physics.blur import LOST, WRAPPED, _occurrences, _wrap
from tenet.physics.richardson_lucy import _accelerated

#: Size that is traced. No axis is divisible by what networks divide, so that padding is traced too.
TRACED = (5, 9, 11)
#: Date of the files in an archive, so that equal models give equal bytes; zip has none before.
DATE = (1980, 1, 1, 0, 0, 0)


def to_torchscript(model: TENET) -> bytes:
    """Write a model of one microscope as a TorchScript archive, whose weights are float32.

    Parameters
    ----------
    model : TENET
        The alignment network is left out.

    Returns
    -------
    bytes
        For `torch.jit.load`. The module takes intensities in [0, 1], shape (N, 1, Z, Y, X), of any
        size, and returns shape probability and brightness, (N, 2, Z·s, Y, X). Values are those of
        `enhance_array` in float32 and in one tile. In two processes a model gives the same bytes.

    Raises
    ------
    TenetError
        If the network is shown deconvolutions by a PSF with the published sampling.

    Examples
    --------
    >>> import tenet
    >>> network = tenet.TrainedModel.load("models/mine").network
    >>> script = from_torchscript(to_torchscript(network))
    >>> script(torch.rand(1, 1, 6, 24, 20)).shape
    torch.Size([1, 2, 18, 24, 20])
    """
    if model.params.deconvolution_steps and model.params.psf_sampling != "continuous":
        raise TenetError(
            "the model deconvolves with params.psf_sampling lookup: only continuous is exported"
        )
    with _quiet(), torch.no_grad():
        portable = Portable(model)
        example = torch.linspace(0, 1, math.prod(TRACED)).reshape(1, 1, *TRACED)
        script = torch.jit.trace(portable, example, check_trace=False)
        content = io.BytesIO()
        torch.jit.save(script, content)
    return _without_source(content)


def from_torchscript(content: bytes) -> Callable[[Tensor], Tensor]:
    """Load what `to_torchscript` wrote, on the CPU."""
    with _quiet():
        script: Callable[[Tensor], Tensor] = torch.jit.load(io.BytesIO(content), "cpu")
    return script


class Portable(nn.Module):
    """What `tenet.enhance.enhance_array` does with one tile, for tracing.

    Parameters
    ----------
    model : TENET
        A model of one microscope. The module has a copy of its encoder.
    """

    kernel: Tensor

    def __init__(self, model: TENET) -> None:
        super().__init__()
        own = copy.deepcopy(model).cpu().eval()
        self.params = own.params
        self.encoder = _with_plain_convolutions(own.encoder)
        self.register_buffer("kernel", own.psf().clone())
        self.blur = torch.jit.script(band_limited)
        # Functions of the settings alone, so that no other weights come with them.
        self.shown, self.brightness = own.shown, own.brightness

    def forward(self, image: Tensor) -> Tensor:
        """Shape probability and brightness, (N, 2, Z·s, Y, X), of (N, 1, Z, Y, X) in [0, 1]."""
        params = self.params
        planes, rows, columns = image.shape[2:]
        divisors = params.coarse_divisor_zyx
        missing = [-n % d for n, d in zip((planes, rows, columns), divisors, strict=True)]
        padding = [n for after in reversed(missing) for n in (0, after)]
        image = nn.functional.pad(image, padding, mode="replicate")
        estimate = self._deconvolved(image) if params.deconvolution_steps else None
        log = params.brightness == "log"
        shown = log_scaled(image, params.sig_eps) if log else hill(image)
        encoded = self.encoder.encode(shown, self.shown(estimate))
        probability = encoded.shape_logits.float().sigmoid()
        brightness = self.brightness(encoded.brightness_logits.float(), estimate)
        both = torch.cat([probability, brightness], dim=1)
        return both[:, :, : planes * params.scale, :rows, :columns]

    def _deconvolved(self, image: Tensor) -> Tensor:
        """As `TENET.deconvolve`."""
        params = self.params
        first = (params.scale - 1 + self.kernel.shape[0] - 1) // 2
        parts = self.blur(image, self.kernel, params.scale, int(first), LOST, WRAPPED)
        steps, *fewer = params.estimate_steps
        early = fewer[0] if fewer else None
        estimate = _accelerated(image, *parts, steps=steps, background=params.sig_eps, early=early)
        return estimate.clamp_max(1) if params.brightness == "sigmoid" else estimate


def _with_plain_convolutions(network: Any) -> Any:
    """Replace convolutions that choose the fastest way by size, which a trace cannot."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, Conv):
                z, y, x = child.kernel_size
                plain = nn.Conv3d(
                    child.in_channels,
                    child.out_channels,
                    (z, y, x),
                    padding=child.border_zyx,
                    padding_mode="replicate",
                    bias=child.bias is not None,
                )
                plain.load_state_dict(child.state_dict())
                setattr(module, name, plain)
    return network.requires_grad_(False)


# Scripted -----------------------------------------------------------------------------------------
# The part of Python that TorchScript knows has no comprehensions with a condition, no `return` in
# an endless loop, and no functions of SciPy.


def fast_length(least: int) -> int:
    """As `scipy.fft.next_fast_len`: the least length from `least` on without factors above 11."""
    length, rest = least - 1, 0
    while rest != 1:
        length += 1
        rest = length
        for factor in (2, 3, 5, 7, 11):
            while rest % factor == 0:
                rest = rest // factor
    return length


def band_limited(
    image: Tensor, psf: Tensor, scale: int, first: int, lost: float, wrapped: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As `BandLimitedBlur.of` the `StridedBlur` of an image: the same sizes, and the same parts.

    Parameters
    ----------
    image : Tensor, shape (N, 1, Z, Y, X)
        Only its shape counts.
    psf : Tensor, shape (planes, rows, columns)
        On the fine grid, with sum 1.
    scale : int
        Fine planes per coarse plane.
    first : int
        As for `StridedBlur`.
    lost, wrapped : float
        As `LOST` and `WRAPPED` of `tenet.physics.blur`.

    Returns
    -------
    otf, fine_waves, coarse_waves : Tensor
        As the attributes of `BandLimitedBlur`.
    """
    coarse_planes = image.shape[2]
    size = [coarse_planes * scale, image.shape[3], image.shape[4]]
    centre = [first, psf.shape[1] // 2, psf.shape[2] // 2]
    least = max(size[0] - first + psf.shape[0] - 1, (coarse_planes - 1) * scale + first + 1)
    whole = [
        scale * fast_length((least + scale - 1) // scale),
        4 * fast_length((size[1] + centre[1] + 3) // 4),
        4 * fast_length((size[2] + centre[2] + 3) // 4),
    ]
    kernel = psf
    for dim in range(3):
        kernel = _wrap(kernel, dim, whole[dim]).roll([-centre[dim]], [dim])
    for dim in range(3):  # as `_less_padded`
        n = whole[dim]
        order = torch.arange(n, device=psf.device)
        distance = order.minimum(n - order)
        kernel = kernel.index_fill(dim, order[distance >= size[dim]], 0.0)
        profile = kernel.square().movedim(dim, 0).flatten(1).sum(1)
        of_distance = torch.zeros_like(profile).index_add_(0, distance, profile)
        beyond = of_distance.flip([0]).cumsum(0).flip([0])
        reach = int((beyond > (lost * wrapped) ** 2 * beyond[0]).sum()) - 1
        shorter = 4 * fast_length((size[dim] + reach + 3) // 4)
        if shorter < n:
            kernel = _wrap(kernel.roll([n // 2], [dim]), dim, shorter).roll([-(n // 2)], [dim])
    n_z = kernel.shape[0]
    spectrum = torch.fft.fftn(kernel)
    power = spectrum.abs().square().sum([1, 2])[: n_z // 2 + 1]
    weight = _occurrences(n_z).to(power)
    beyond = (weight * power).flip([0]).cumsum(0).flip([0])
    kept = max(int((beyond > lost**2 * beyond[0]).sum()), 1)
    otf = spectrum[:kept] * (weight[:kept] / n_z)[:, None, None]
    order = torch.arange(kept, device=psf.device)[:, None]
    fine = torch.arange(size[0], device=psf.device)
    coarse = torch.arange(coarse_planes, device=psf.device) * scale
    fine_phase = (order * fine).remainder(n_z) * (2 * math.pi / n_z)
    coarse_phase = (order * coarse).remainder(n_z) * (2 * math.pi / n_z)
    return (
        otf,
        torch.cat([fine_phase.cos(), -fine_phase.sin()]),
        torch.cat([coarse_phase.cos(), -coarse_phase.sin()]),
    )


# Archive ------------------------------------------------------------------------------------------


def _without_source(content: io.BytesIO) -> bytes:
    """Leave out where each line of the code was, which differs from machine to machine."""
    shorter = io.BytesIO()
    with zipfile.ZipFile(content) as archive, zipfile.ZipFile(shorter, "w") as copied:
        for name in archive.namelist():
            if not name.endswith(".debug_pkl"):
                copied.writestr(zipfile.ZipInfo(name, DATE), archive.read(name))
    return shorter.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the warnings that TorchScript will be replaced, and that a trace has sizes."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning, torch.jit.TracerWarning):
            warnings.simplefilter("ignore", category)
        yield
