"""Which PSF explains stacks best, with the structure following each PSF that is tried.

A gradient takes the estimated structure as fixed, although the structure follows the PSF: from a
longer PSF, deconvolution makes sharper structure. So a gradient leads to PSFs that are too long,
and with few planes it may point the wrong way. Here each PSF has an estimate of its own, of the
same windows with the same noise. The borders of windows do not count, because light comes from
beyond them. The strength of the noise does not count either, because a bead that is lost at one
PSF would else decide alone.

The form of a PSF shows in little light, far from structures. So where the form is looked for, the
structure is what the network segments at its threshold, and its brightness is fitted to the image
by some steps of deconvolution. Structure that is too thick wants a PSF that is too short, and light
that is missed wants a PSF with longer tails.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from tenet.learn.images import Crops
from tenet.learn.loop import generator_for
from tenet.learn.losses import fitted, one_sided, unscaled_reconstruction_loss
from tenet.learn.scan import MOST_TRIED as MOST_LENGTHS
from tenet.learn.scan import lowest
from tenet.learn.search import MOST_TRIED, Result, search_microscope
from tenet.model.intensity import inside
from tenet.model.tenet import TENET, Enhanced
from tenet.physics.blur import StridedBlur, centred_planes
from tenet.physics.extent import line_extent
from tenet.physics.optics import psf_volume
from tenet.physics.richardson_lucy import refined, saturated
from tenet.settings.schema import ModelParams
from tenet.types import Progress

#: Windows of the stacks on which PSFs are tried, and the size in rows and columns of the parts of
#: them whose losses are compared.
WINDOWS, PART_YX = 4, 40
#: Steps that fit the brightness where the form of the PSF is looked for.
REFINEMENT = 20
#: Share of a line's light on the PSF grid of a microscope that is tried.
LIGHT = 0.99


class Task(Protocol):
    """What fine-tuning knows of its model and its images."""

    model: TENET
    images: Crops

    def reconstruct(self, enhanced: Enhanced, image: Tensor) -> Tensor:
        """What the microscope would see of an enhanced image."""


def scan_stretch(task: Task, seed: int, progress: Progress | None = None) -> dict[str, Any]:
    """Find how long the PSF is; its form is that of the model.

    Parameters
    ----------
    task : Task
        Its encoder must know many microscopes; the model is left with the stretch that was found.
    seed : int
        Of the choice of windows.
    progress : callable, optional
        Called as ``progress(done, total)`` before every window of every try; `total` is the most.

    Returns
    -------
    dict
        `stretch`, `gain` in reconstruction loss over the nominal PSF, its `standard_error` (the
        nominal PSF stays if the gain is not twice as large), and what was `tried`.
    """
    stretch = task.model.eval().psf.log_stretch
    assert stretch is not None
    windows = _Windows(task.images.windows(WINDOWS, generator_for(seed, 4)), MOST_LENGTHS, progress)

    @torch.no_grad()
    def losses(log_stretch: float) -> list[float]:
        stretch.fill_(log_stretch)
        parts = []
        for image in windows:
            reconstruction = task.reconstruct(task.model.enhance(image), image)
            parts += _parts_losses(task.model, reconstruction, image)
        length, loss = math.exp(log_stretch), sum(parts) / len(parts)
        print(f"PSF {length:.2f} times as long: loss {loss:.4f}", flush=True)
        return parts

    found = lowest(losses, float(stretch.detach()))
    with torch.no_grad():
        stretch.fill_(found.value)
    print(f"PSF {math.exp(found.value):.2f} times as long explains the stacks best", flush=True)
    return {
        "stretch": math.exp(found.value),
        "gain": found.gain,
        "standard_error": found.standard_error,
        "tried": [{"stretch": round(math.exp(at), 4), "loss": loss} for at, loss in found.tried],
    }


def search_psf(
    model: TENET,
    windows: Sequence[Tensor],
    threshold: float,
    seed: int,
    progress: Progress | None = None,
) -> Result:
    """Find length, fill of the pupil, and spherical aberration of a two-photon PSF.

    Parameters
    ----------
    model : TENET
        Its encoder must know many microscopes; the model is left with the PSF that was found.
    windows : sequence of Tensor, shape (1, 1, Z, Y, X)
        Parts of stacks, with intensities from 0 to 1.
    threshold : float
        At which the model segments.
    seed : int
    progress : callable, optional
        As in `scan_stretch`.
    """
    model.eval()
    looked_at = _Windows(windows, MOST_TRIED, progress)

    @torch.no_grad()
    def losses(params: ModelParams) -> list[float]:
        psf = _psf(params).to(windows[0])
        images = ((explained(model, image, psf, threshold)[0], image) for image in looked_at)
        return [loss for pair in images for loss in _parts_losses(model, *pair)]

    flat = [_parts_losses(model, image.mean().expand_as(image), image) for image in windows]
    cut = sum(float(saturated(image).float().mean()) for image in windows) / len(windows)
    found = search_microscope(losses, [loss for part in flat for loss in part], model.params, cut)
    found.say()
    if found.record["gain"]:
        model.take_microscope(found.params, generator_for(seed, 5))
    return found


@dataclass
class _Windows:
    """Windows that every try goes through, and that tell how many have been looked at."""

    windows: Sequence[Tensor]
    tries: int
    progress: Progress | None
    done: int = 0

    def __iter__(self) -> Iterator[Tensor]:
        for window in self.windows:
            if self.progress is not None:
                self.progress(self.done, self.tries * len(self.windows))
            self.done += 1
            yield window


def _psf(params: ModelParams) -> Tensor:
    psf = params.model_psf()
    size_z, size_y, size_x = line_extent(psf, params.fine_voxel_size_um, LIGHT).zyx_shape
    shape = (centred_planes(size_z + 1, params.scale), size_y, size_x)
    return torch.from_numpy(psf_volume(psf, shape, params.fine_voxel_size_um))


def explained(model: TENET, image: Tensor, psf: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """What a microscope with a PSF sees of the structure in an image (1, 1, Z, Y, X).

    The probability of the structure comes second.
    """
    scale = model.params.scale
    planes, rows, columns = image.shape[2:]
    blur = StridedBlur(psf, (planes * scale, rows, columns), scale)
    enhanced = model.enhance(image, blur)
    return light_of(model, enhanced, image, blur, threshold), enhanced["shape_probability"]


def light_of(
    model: TENET, enhanced: Enhanced, image: Tensor, blur: StridedBlur, threshold: float
) -> Tensor:
    """What a microscope sees of an enhanced image (1, 1, Z, Y, X), given its blur.

    The structure is what the network segments at a threshold; its light is fitted to the image.
    """
    segmented = enhanced["shape_probability"] >= threshold
    light = refined(
        enhanced["brightness"] * segmented,
        image,
        blur,
        steps=REFINEMENT,
        background=model.params.sig_eps,
    )
    return one_sided(fitted(blur(light), image), image)


def _parts_losses(model: TENET, reconstruction: Tensor, image: Tensor) -> list[float]:
    params = model.params
    border_y, border_x = params.size_y // 2, params.size_x // 2
    inner = (..., inside(image.shape[-2], border_y), inside(image.shape[-1], border_x))
    pairs = zip(_parts(reconstruction[inner]), _parts(image[inner]), strict=True)
    variance = model.noise.variance
    return [unscaled_reconstruction_loss(a, b, variance(a)).item() for a, b in pairs]


def _parts(window: Tensor) -> list[Tensor]:
    """Parts of a window in rows and columns, at least two along each."""
    rows, columns = (max(2, round(n / PART_YX)) for n in window.shape[-2:])
    return [part for row in window.chunk(rows, -2) for part in row.chunk(columns, -1)]
