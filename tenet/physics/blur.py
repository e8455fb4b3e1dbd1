"""The linear part of a microscope: blur by the PSF and sampling along z, with the adjoint."""

import math
from typing import NamedTuple, Self

import torch
from scipy.fft import next_fast_len
from torch import Tensor, nn

from tenet.errors import TenetError
from tenet.physics.optics import lookup_padding

#: What iterations leave out of a PSF by default: little but the edges of its grid.
LOST = 0.03
#: The part of that share that may wrap around, from one border of the volume to the other.
WRAPPED = 0.1


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

    Examples
    --------
    >>> import torch
    >>> from tenet.physics.optics import gaussian, psf_volume
    >>> psf = torch.from_numpy(psf_volume(gaussian(0.6, 0.3), (7, 5, 5), (0.2, 0.2, 0.2)))
    >>> blur = StridedBlur(psf, (12, 16, 16), scale=3)
    >>> fine = torch.rand(1, 1, 12, 16, 16)
    >>> coarse = blur(fine)
    >>> coarse.shape
    torch.Size([1, 1, 4, 16, 16])

    The adjoint of ``blur`` satisfies ⟨blur(a), b⟩ = ⟨a, adjoint(b)⟩:

    >>> torch.allclose((coarse * coarse).sum(), (fine * blur.adjoint(coarse)).sum())
    True
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

        Examples
        --------
        >>> import torch
        >>> blur = StridedBlur(torch.ones(1, 1, 1), (6, 4, 4), scale=3)  # a PSF of one voxel
        >>> fine = torch.arange(6.0).reshape(1, 1, 6, 1, 1).expand(1, 1, 6, 4, 4)
        >>> blur.forward(fine)[0, 0, :, 0, 0].round(decimals=3)  # planes 1 and 4
        tensor([1., 4.])
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

        Examples
        --------
        >>> import torch
        >>> blur = StridedBlur(torch.ones(1, 1, 1), (6, 4, 4), scale=3)  # a PSF of one voxel
        >>> blur.adjoint(torch.ones(1, 1, 2, 4, 4))[0, 0, :, 0, 0].round(decimals=3).abs()
        tensor([0., 1., 0., 0., 1., 0.])
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
    The padding is as wide as the bright part of the PSF, so that long tails cost little: the light
    that reaches beyond it comes back at the opposite border.
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
            of white noise changes. `WRAPPED` times as much may wrap around along each axis.
        """
        kernel = _less_padded(blur, lost * WRAPPED)
        n_z, n_y, n_x = kernel.shape
        half = torch.fft.rfftn(kernel)  # (n_z, n_y, n_x // 2 + 1): a real PSF needs no more
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


def _less_padded(blur: StridedBlur, wrapped: float) -> Tensor:
    """The PSF of `blur` about its first voxel, with no more padding than its bright part needs.

    Along each axis the share `wrapped` of the root mean square of the PSF may wrap around.
    """
    kernel = torch.fft.irfftn(blur._otf.movedim(-1, 0), blur._n)
    z, y, x = blur.zyx_shape
    sizes = max(z, (blur.coarse_planes - 1) * blur.scale + 1), y, x
    for dim, (n, size) in enumerate(zip(blur._n, sizes, strict=True)):
        order = torch.arange(n, device=kernel.device)
        distance = order.minimum(n - order)
        # No two voxels are so far apart, and there the PSF may be folded.
        kernel = kernel.index_fill(dim, order[distance >= size], 0)
        profile = kernel.square().sum([other for other in range(3) if other != dim])
        of_distance = profile.new_zeros(n).index_add_(0, distance, profile)
        beyond = of_distance.flip(0).cumsum(0).flip(0)  # of each distance and all greater ones
        reach = int((beyond > wrapped**2 * beyond[0]).sum()) - 1
        least = _fast_length(size + reach)
        if least < n:
            kernel = _wrap(kernel.roll(n // 2, dim), dim, least).roll(-(n // 2), dim)
    return kernel


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
