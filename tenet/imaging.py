"""The forward model: what the microscope makes of a sharp volume.

    luminance = brightness * shape  ->  blur by the PSF  ->  every s-th plane  ->  noise

`StridedBlur` is the linear part with its exact adjoint, `NoiseModel` the rest. `deconvolve` inverts
the former as far as the latter permits.
"""

import math
from typing import Literal, NamedTuple, Self

import torch
from scipy.fft import next_fast_len
from torch import Tensor, nn

from tenet.errors import TenetError
from tenet.optics import lookup_padding
from tenet.recording import replayed

NoiseKind = Literal["published", "consistent"]

#: What iterations leave out of a PSF by default: little but the edges of its grid.
LOST = 0.03
#: What deconvolution begins from. One step takes most of it back, but what noise becomes in many
#: steps depends on it: a tile's own mean would tell on voxels that are far from its border.
START = 0.05
#: Fine voxels of a batch that is deconvolved on a GPU by replaying: with more the launches of its
#: steps do not matter, but the memory does.
MOST_REPLAYED = 2**24


def centred_planes(size_z: int, scale: int) -> int:
    """Number of fine PSF planes, at most `size_z`, that centres coarse planes on the fine grid.

    Coarse plane i is centred on fine plane i·s + (s - 1)/2: on a plane when s is odd, between two
    when s is even. The PSF needs as many planes (odd, even) as that.
    """
    return size_z if size_z % 2 == scale % 2 else size_z - 1


class StridedBlur:
    """A: fine volume -> coarse stack; convolution with a PSF, then every `scale`-th plane.

    coarse[i, y, x] = Σ_klm psf[k, l, m] · fine[i·s + first - k, y + c_y - l, x + c_x - m]

    with zeros outside of the volume. Done by FFT with just enough padding for the voxels that are
    kept; the planes that are dropped are never transformed back, since sampling every s-th plane is
    a sum over the aliased axial frequencies.

    Parameters
    ----------
    psf : Tensor, shape (planes, rows, columns)
        Blur kernel on the fine grid; gradients flow to it. Rows and columns must be odd.
    zyx_shape : tuple of int
        Shape of the fine volume.
    scale : int
        s, fine planes per coarse plane.
    first : int, optional
        Fine plane on which the kernel's plane 0 falls for coarse plane 0. By default coarse plane i
        is centred on fine plane i·s + (s - 1)/2, which needs as many planes as `centred_planes`.
    coarse_planes : int, optional
        Planes of the coarse stack, by default Z // s.
    inner_only : bool
        Only coarse voxels at least half a PSF from the borders in y and x will be used: the others
        may be anything in `forward`, and are 0 in `adjoint`. It saves the padding.

    Raises
    ------
    TenetError
        If the PSF has even rows or columns, or planes that cannot be centred.
    """

    def __init__(
        self,
        psf: Tensor,
        zyx_shape: tuple[int, int, int],
        scale: int,
        *,
        first: int | None = None,
        coarse_planes: int | None = None,
        inner_only: bool = False,
    ) -> None:
        size_z, size_y, size_x = psf.shape
        if size_y % 2 == 0 or size_x % 2 == 0:
            raise TenetError(f"the PSF is {size_y}x{size_x} in y and x; both must be odd")
        if first is None:
            if size_z % 2 != scale % 2:
                raise TenetError(
                    f"a PSF of {size_z} planes cannot be centred for scale {scale}: "
                    f"use {centred_planes(size_z, scale)}"
                )
            first = (scale - 1 + size_z - 1) // 2
        self.scale = scale
        self.zyx_shape = zyx_shape
        self.coarse_planes = zyx_shape[0] // scale if coarse_planes is None else coarse_planes
        # Wrap-around may only reach voxels that are thrown away.
        last_read = (self.coarse_planes - 1) * scale + first
        n_z = max(zyx_shape[0] - first + size_z - 1, last_read + 1)
        reach_y, reach_x = (0, 0) if inner_only else (size_y // 2, size_x // 2)
        self._n = (
            scale * next_fast_len(-(-n_z // scale)),
            _fast_length(zyx_shape[1] + reach_y),
            _fast_length(zyx_shape[2] + reach_x),
        )
        padded = psf.float()
        for dim, (shift, n) in enumerate(
            zip((first, size_y // 2, size_x // 2), self._n, strict=True)
        ):
            padded = _wrap(padded, dim, n)
            padded = padded.roll(-shift, dim)
        # Axial frequencies come last in all spectra: transforms along z, the longest ones, then
        # read memory in order.
        self._otf = torch.fft.rfftn(padded).movedim(0, -1).contiguous()

    def forward(self, fine: Tensor) -> Tensor:
        """Blur and sample.

        Parameters
        ----------
        fine : Tensor, shape (N, C, Z, Y, X)

        Returns
        -------
        Tensor of float32, shape (N, C, coarse planes, Y, X)
        """
        n_z, n_y, n_x = self._n
        spectrum = torch.fft.rfft2(fine.float(), (n_y, n_x)).movedim(-3, -1)
        spectrum = nn.functional.pad(spectrum, (0, n_z - spectrum.shape[-1]))
        # chunk by chunk: a reduction over a strided axis takes ten times as long
        aliased, *others = (torch.fft.fft(spectrum) * self._otf).chunk(self.scale, -1)
        for chunk in others:
            aliased = aliased + chunk
        coarse = torch.fft.ifft(aliased / self.scale)[..., : self.coarse_planes].movedim(-1, -3)
        padded_image = torch.fft.irfft2(coarse, (n_y, n_x))
        return padded_image[..., : self.zyx_shape[1], : self.zyx_shape[2]]

    __call__ = forward

    def adjoint(self, coarse: Tensor) -> Tensor:
        """Transpose of `forward`: spread each coarse plane back by the mirrored PSF.

        Parameters
        ----------
        coarse : Tensor, shape (N, C, coarse planes, Y, X)

        Returns
        -------
        Tensor of float32, shape (N, C, Z, Y, X)
        """
        n_z, n_y, n_x = self._n
        spectrum = torch.fft.rfft2(coarse.float(), (n_y, n_x)).movedim(-3, -1)
        spectrum = torch.fft.fft(spectrum, n_z // self.scale)
        # Zeros between the planes: the spectrum repeats itself.
        repeats = self._otf.conj().unflatten(-1, (self.scale, n_z // self.scale))
        spectrum = (spectrum.unsqueeze(-2) * repeats).flatten(-2)
        fine = torch.fft.ifft(spectrum)[..., : self.zyx_shape[0]]
        # Rows that are cut off need no transform along x.
        fine = torch.fft.ifft(fine, dim=-3)[..., : self.zyx_shape[1], :, :].movedim(-1, -3)
        return torch.fft.irfft(fine, n_x, dim=-1)[..., : self.zyx_shape[2]]


class BandLimitedBlur(NamedTuple):
    """A without the axial frequencies that the PSF hardly passes, for iterations that need no more.

    An objective passes few axial frequencies: a third of those of the fine grid and less. Along z
    these few are products of matrices, and no more planes than these are transformed in y and x.
    `forward` and `adjoint` are exact transposes of each other, as in `StridedBlur`. Gradients do
    not reach the PSF.

    Attributes
    ----------
    otf : Tensor, shape (frequencies, n_y, n_x)
        Spectrum of the PSF.
    fine_waves, coarse_waves : Tensor, shape (2 × frequencies, planes)
        Cosines and negative sines of these frequencies along z.
    """

    otf: Tensor
    fine_waves: Tensor
    coarse_waves: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, blur: StridedBlur, lost: float = LOST) -> Self:
        """Keep what `blur` passes but for `lost`.

        Parameters
        ----------
        blur : StridedBlur
        lost : float
            Share of the root mean square of the PSF that may be lost: it bounds how much the image
            of white noise changes.
        """
        n_z, n_y, n_x = blur._n
        half = blur._otf.movedim(-1, 0)  # (n_z, n_y, n_x // 2 + 1): a real PSF needs no more
        power = half.abs().square().sum(1) @ _occurrences(n_x).to(half.real)
        power = (power + power.roll(-1).flip(0))[: n_z // 2 + 1]  # of a frequency and its negative
        weight = _occurrences(n_z).to(power)
        beyond = (weight * power).flip(0).cumsum(0).flip(0)  # of each frequency and all above
        frequencies = max(int((beyond > lost**2 * beyond[0]).sum()), 1)
        kept = torch.arange(frequencies, device=half.device)
        rows = torch.arange(n_y, device=half.device)
        columns = torch.arange((n_x - 1) // 2, 0, -1, device=half.device)
        mirrored = half[-kept][:, -rows][:, :, columns].conj()
        otf = torch.cat([half[kept], mirrored], -1) * (weight[kept] / n_z)[:, None, None]
        order = kept[:, None]

        def waves(planes: Tensor) -> Tensor:
            phase = (order * planes).remainder(n_z) * (2 * math.pi / n_z)
            return torch.cat([phase.cos(), -phase.sin()])

        fine = torch.arange(blur.zyx_shape[0], device=half.device)
        coarse = torch.arange(blur.coarse_planes, device=half.device) * blur.scale
        return cls(otf.contiguous(), waves(fine), waves(coarse))

    def forward(self, fine: Tensor) -> Tensor:
        """As `StridedBlur.forward`: (N, 1, Z, Y, X) -> (N, 1, coarse planes, Y, X)."""
        return self._filter(fine, self.fine_waves, self.otf, self.coarse_waves)

    def __call__(self, fine: Tensor) -> Tensor:
        """As `forward`."""
        return self.forward(fine)

    def adjoint(self, coarse: Tensor) -> Tensor:
        """As `StridedBlur.adjoint`: (N, 1, coarse planes, Y, X) -> (N, 1, Z, Y, X)."""
        return self._filter(coarse, self.coarse_waves, self.otf.conj(), self.fine_waves)

    @staticmethod
    def _filter(volume: Tensor, analysis: Tensor, otf: Tensor, synthesis: Tensor) -> Tensor:
        n, _, _, y, x = volume.shape
        real, imaginary = (analysis @ volume.float().flatten(3)).view(n, 2, -1, y, x).unbind(1)
        spectrum = torch.fft.fft2(torch.complex(real, imaginary), otf.shape[1:]) * otf
        filtered = torch.fft.ifft2(spectrum)[..., :y, :x]
        parts = torch.cat([filtered.real, filtered.imag], 1).flatten(2)
        return (synthesis.mT @ parts).view(n, 1, -1, y, x)


def momentum(step: int) -> float:
    """How far ahead of the last estimate step 1, 2, … of an accelerated iteration starts.

    In units of the last change; Nesterov's rule (Soviet Math. Dokl. 27, 372, 1983), but for the
    first two steps, as the start is no estimate yet.
    """
    return max(step - 2, 0) / (step + 1)


def deconvolve(
    image: Tensor,
    blur: StridedBlur,
    *,
    steps: int,
    background: float,
    lost: float = LOST,
) -> Tensor:
    """Accelerated Richardson–Lucy deconvolution of a batch onto the fine grid.

    Each step starts ahead of the last estimate, in the direction it came from and further from step
    to step (`momentum`); twenty such steps go further than forty plain ones. How far does not
    depend on the image, unlike with Biggs & Andrews (Appl. Opt. 36, 1766, 1997), so that tiles of a
    stack fit together. Where an image is at its maximum the detector may be saturated: more light
    than that explains it as well (of a tile that is not, this is a single voxel).

    Parameters
    ----------
    image : Tensor, shape (N, 1, Z, Y, X)
        Intensities in [0, 1].
    blur : StridedBlur
        Its fine shape is (Z·s, Y, X).
    steps : int
        At least 1.
    background : float
        Added to image and model: noise weighs little where the signal is below it. Above 0.
    lost : float
        What each blur may leave out; see `BandLimitedBlur`.

    Returns
    -------
    Tensor of float32, shape (N, 1, Z·s, Y, X)
        Not negative, in the units of `image`.
    """
    passed = BandLimitedBlur.of(blur, lost)
    if image.is_cuda and len(image) * math.prod(blur.zyx_shape) <= MOST_REPLAYED:
        return replayed(_accelerated, image, *passed, steps=steps, background=background)
    return _accelerated(image, *passed, steps=steps, background=background)


def _accelerated(
    image: Tensor,
    otf: Tensor,
    fine_waves: Tensor,
    coarse_waves: Tensor,
    *,
    steps: int,
    background: float,
) -> Tensor:
    """The steps of `deconvolve`, by a `BandLimitedBlur` of these parts."""
    blur = BandLimitedBlur(otf, fine_waves, coarse_waves)
    sensitivity = blur.adjoint(torch.ones_like(image[:1]))
    sensitivity = sensitivity.maximum(0.1 * sensitivity.amax())
    zyx_shape = (fine_waves.shape[1], *image.shape[3:])
    last = estimate = image.new_full((*image.shape[:2], *zyx_shape), START, dtype=torch.float32)
    top = saturated(image)
    for step in range(1, steps + 1):
        ahead = torch.lerp(last, estimate, 1 + momentum(step)).clamp_min_(0)
        ratio = (image + background) / (blur(ahead).clamp_min_(0) + background)
        ratio = torch.where(top, ratio.clamp_min(1), ratio)
        correction = blur.adjoint(ratio).clamp_min_(0).div_(sensitivity)
        last, estimate = estimate, ahead.mul_(correction)
    return estimate


def saturated(image: Tensor) -> Tensor:
    """Where each image (N, 1, Z, Y, X) is at its maximum; a single voxel if no detector cut it.

    Nowhere if it is constant. To 1e-5 of the range, as planes that were shifted are interpolated.
    """
    axes = (1, 2, 3, 4)
    low, high = image.amin(axes, keepdim=True), image.amax(axes, keepdim=True)
    return (image > low) & (image >= high - 1e-5 * (high - low))


def _fast_length(least: int) -> int:
    """Length of a fast transform: with a factor of four it takes 0.75 to 1 times as long."""
    return 4 * next_fast_len(-(-least // 4))


def _occurrences(n: int) -> Tensor:
    """How many frequencies each of those of a real transform stands for: its negative as well."""
    counts = torch.full((n // 2 + 1,), 2.0)
    counts[0] = 1
    if n % 2 == 0:
        counts[-1] = 1
    return counts


def _wrap(kernel: Tensor, dim: int, n: int) -> Tensor:
    """Bring one axis to length `n`: pad with zeros, or fold what is longer back onto the start.

    A kernel longer than the transform occurs when the volume is smaller than the PSF; the voxels
    that folding mixes up are among those thrown away.
    """
    size = kernel.shape[dim]
    target = -(-size // n) * n
    padding = [0, 0] * (kernel.ndim - 1 - dim) + [0, target - size]
    kernel = nn.functional.pad(kernel, padding)
    return kernel.unflatten(dim, (target // n, n)).sum(dim)


def lookup_blur(
    psf: Tensor,
    zyx_shape: tuple[int, int, int],
    scale: int,
    *,
    res_axial: float,
    res_lateral: float,
) -> StridedBlur:
    """The published geometry: zero padding, cross-correlation, stride (s, 1, 1).

    Coarse plane i is then centred on fine plane i·s + (size_z - 1)/2 - padding, which may be a few
    fine planes off the physical centre.
    """
    size_z = psf.shape[0]
    padding = lookup_padding(size_z, res_axial, res_lateral)
    return StridedBlur(
        psf.flip(0),
        zyx_shape,
        scale,
        first=size_z - 1 - padding,
        coarse_planes=(zyx_shape[0] + 2 * padding - size_z) // scale + 1,
    )


class NoiseModel(nn.Module):
    """Signal-dependent Gaussian noise with learnable strength.

    Simulation adds N(0, 1)·(a·x + σ). The score is a Gaussian negative log-likelihood with variance

    - ``"published"``: a·x + σ, as the published code has it, although that is the *standard
      deviation* with which the noise was drawn;
    - ``"consistent"``: (a·x + σ)², the variance of what was drawn.

    a and σ pass through a sigmoid and never fall under 1e-3.

    Parameters
    ----------
    a, sigma : float
        Initial values, between 0 and 1.
    kind : {"published", "consistent"}
        Which variance is scored.
    """

    # A little under 1e-3, so that a start at exactly 1e-3 still has a gradient.
    smallest = 0.99999e-3

    def __init__(self, a: float, sigma: float, kind: NoiseKind = "published") -> None:
        super().__init__()
        self.kind = kind
        self.logit_a = nn.Parameter(
            torch.logit(torch.tensor(float(a), dtype=torch.float64)).float()
        )
        self.logit_sigma = nn.Parameter(
            torch.logit(torch.tensor(float(sigma), dtype=torch.float64)).float()
        )

    @property
    def a(self) -> Tensor:
        """Noise per unit of signal, 0-dimensional."""
        return self.logit_a.sigmoid().clamp_min(self.smallest)

    @property
    def sigma(self) -> Tensor:
        """Noise without signal, 0-dimensional."""
        return self.logit_sigma.sigmoid().clamp_min(self.smallest)

    def sample(
        self,
        image: Tensor,
        generator: torch.Generator | None = None,
        stronger: Tensor | float = 1.0,
    ) -> Tensor:
        """Add noise N(0, 1)·(a·x + σ), times `stronger`, to `image` and clip to [0, 1]."""
        normal = torch.randn(
            image.shape, generator=generator, device=generator.device if generator else image.device
        ).to(image.device)
        return (image + normal * stronger * (self.a * image + self.sigma)).clamp(0, 1)

    def variance(self, image: Tensor) -> Tensor:
        """Variance that the likelihood assumes at each voxel of a noise-free `image`."""
        spread = self.a * image + self.sigma
        return spread if self.kind == "published" else spread**2
