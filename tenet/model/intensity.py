"""How raw intensities map to [0, 1], so that a stack looks to a model like its phantoms.

A blurred stack does not show how bright its structures are, because the blur dims thin structures
and hardly dims thick ones. The intensity scale is therefore found in two steps. The first step
scales the stack until its brightest voxels, after deconvolution, are as bright as those of the
phantoms that the model was calibrated on. The second step compares the stack with its
reconstruction, which is the model's shape and brightness, blurred again. The stack is scaled until
the ratio of the two is that of the phantoms. A stack that is shown too bright would need structures
brighter than the model knows, and so the model makes the structures thick instead.
"""

import dataclasses
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tenet.data.crops import read_window, windows_of
from tenet.errors import TenetError
from tenet.io.intensities import IntensityRange, check_intensities, intensity_range, normalise
from tenet.io.stack import Stack
from tenet.model.store import Calibration
from tenet.model.tenet import TENET
from tenet.physics.richardson_lucy import deconvolve, saturated
from tenet.settings.schema import Experiment

#: The brightest voxels are this percentile, which is also that of the range of a raw stack.
BRIGHTEST_PERCENT = 99.99
#: Accelerated Richardson–Lucy steps: enough to distinguish thick from thin structures, and few
#: enough not to sharpen noise. The largest part of a stack that is deconvolved, in coarse planes
#: and pixels.
LEVEL_STEPS, WINDOW_ZYX = 10, (48, 128, 128)
#: Intensity scale of a saturated stack, which leaves room for light up to 2.5 times as bright.
SATURATED_LEVEL = 0.4
#: The first step: the most iterations, the precision of the intensity scale, and the distance from
#: which a last iteration needs no check.
LEVEL_ROUNDS, LEVEL_TOLERANCE, LEVEL_NEAR = 6, 0.03, 0.2
#: The second step: iterations and precision likewise, and the largest part of a stack (coarse
#: planes and pixels). The first guess of the power of the intensity scale that the gain grows with,
#: and the largest factor between the results of the two steps.
GAIN_ROUNDS, GAIN_TOLERANCE, GAIN_NEAR, GAIN_WINDOW_ZYX = 4, 0.01, 0.1, (48, 64, 64)
GAIN_SLOPE, GAIN_MOST = 0.35, 3.0


def stack_range(stack: Stack, method: str) -> IntensityRange:
    """The raw intensities of a stack that become 0 and 1.

    ``"none"`` takes 0 and 1 themselves; ``"minmax"`` and ``"percentile"`` are those of
    `intensity_range`.

    Raises
    ------
    TenetError
        If intensities are not finite or all are equal, or, with ``"none"``, are not from 0 to 1.
    """
    if method == "none":
        low, high = check_intensities(stack)
        if low < 0 or high > 1:
            raise TenetError(
                f"{stack.path}: its intensities reach from {low:g} to {high:g}, and without "
                "normalisation they must lie in 0 to 1; set train_dataset.normalisation to "
                "percentile"
            )
        return IntensityRange(0.0, 1.0, "none", offset=stack.offset)
    if method == "minmax":
        return intensity_range(stack, "minmax")
    return intensity_range(stack, "percentile")


def deconvolved_peak(model: TENET, image_zyx: NDArray[np.float32] | Tensor) -> float:
    """Brightness of the brightest voxels of an image (Z, Y, X) in [0, 1] after deconvolution."""
    image = torch.as_tensor(image_zyx)[None, None].to(model.initial_psf.device)
    planes, rows, columns = image.shape[2:]
    params = model.params
    with torch.no_grad():
        blur = model.blur((planes * params.scale, rows, columns))
        estimate = deconvolve(image, blur, steps=LEVEL_STEPS, background=params.sig_eps)
    return float(np.percentile(estimate.cpu().numpy(), BRIGHTEST_PERCENT))


@torch.no_grad()
def reconstruction_gain(model: TENET, image_zyx: NDArray[np.float32]) -> float:
    """How much brighter an image (Z, Y, X) in [0, 1] is than its reconstruction by a model.

    The factor by which the model's shape and brightness, blurred again, fit the image best. A
    border of half a PSF is left out, because light comes from beyond the image. Saturated voxels
    are left out, because their light is unknown. The factor is infinite where the model sees no
    structure.
    """
    params = model.params
    sizes = zip(image_zyx.shape, params.coarse_divisor_zyx, strict=True)
    padding = [(0, -n % d) for n, d in sizes]
    padded = torch.from_numpy(np.pad(image_zyx, padding, mode="edge"))[None, None]
    image = model.align(padded.to(model.initial_psf.device))
    enhanced = model.enhance(image)
    shape = model.quantise(enhanced["shape_probability"])
    explained = model.decode(shape, enhanced["brightness"])
    planes, rows, columns = image_zyx.shape
    inner = (
        ...,
        slice(planes),
        inside(rows, params.size_y // 2),
        inside(columns, params.size_x // 2),
    )
    known = ~saturated(image)[inner]
    seen, explained = image[inner][known].double(), explained[inner][known].double()
    square = float(explained.square().sum())
    return float((explained * seen).sum()) / square if square > 0 else math.inf


def inside(size: int, border: int) -> slice:
    """All but a border, which takes at most half of the axis."""
    border = min(border, size // 4)
    return slice(border, size - border)


def scaled(range_: IntensityRange, level: float) -> IntensityRange:
    """A range that maps the intensity which was 1 to `level`, at most 1."""
    high = range_.low + (range_.high - range_.low) / min(level, 1.0)
    return dataclasses.replace(range_, high=high)


def model_range(
    stack: Stack,
    model: TENET,
    experiment: Experiment,
    calibration: Calibration | None,
    method: str,
) -> IntensityRange:
    """Raw intensities of a stack that become 0 and 1 for a model; `TrainedModel` calls this.

    With percentiles, the brightest part of the stack is brought to the intensity scale of the
    phantoms that the model was calibrated on, as the head of this module says. If that part is
    saturated, its brightness cannot be seen. The intensity scale is then `SATURATED_LEVEL`, unless
    the model's training never saw as low a ceiling.

    Parameters
    ----------
    stack : Stack
    model : TENET
        The network that will enhance the stack. The stack is examined on the same device, in the
        same precision, and with or without the same alignment network.
    experiment : Experiment
        The settings that the model was trained with.
    calibration : Calibration or None
        The calibration of the model on held-out phantoms.
    method : {"none", "minmax", "percentile"}
        As in `stack_range`.
    """
    range_ = stack_range(stack, method)
    if calibration is None or calibration.deconvolved_level is None:
        return range_
    if not range_.method.startswith("percentile"):
        return range_
    microscopes = experiment.microscopes
    if range_.saturated and microscopes.least_ceiling <= SATURATED_LEVEL:
        return scaled(range_, SATURATED_LEVEL)
    if range_.saturated and microscopes.most_saturated:
        return range_  # as the saturated images of pre-training
    window = brightest_window(stack, range_)
    found = _level_before(
        model, window, calibration.deconvolved_level, calibration.signal_level or 1.0
    )
    if calibration.gain is not None:
        found = _level_of_gain(model, _brightest_part(window), calibration.gain, found)
    return scaled(range_, found)


def _level_before(
    model: TENET, image_zyx: NDArray[np.float32], wanted: float, first: float = 1.0
) -> float:
    """Factor on an image, at most 1, with which the image reaches `wanted` after deconvolution.

    Deconvolution with a background is not linear, because dim images are sharpened less. The secant
    method therefore finds the logarithm of the factor, from a `first` guess on.
    """
    level, last, slope = min(first, 1.0), None, 1.0
    for _ in range(LEVEL_ROUNDS):
        peak = deconvolved_peak(model, level * image_zyx)
        if peak <= 0 or abs(peak / wanted - 1) < LEVEL_TOLERANCE:
            break
        sure = False
        if last is not None and last[1] != peak:
            slope = math.log(peak / last[1]) / math.log(level / last[0])
            sure = abs(peak / wanted - 1) < LEVEL_NEAR
        last = level, peak
        level = min(level * (wanted / peak) ** (1 / max(slope, 0.5)), 1.0)
        if sure or level == last[0]:
            break
    return level


def _level_of_gain(
    model: TENET, image_zyx: NDArray[np.float32], wanted: float, first: float
) -> float:
    """Factor on an image, at most 1, with which its `reconstruction_gain` is the one wanted.

    The gain grows with the factor. The secant method finds the factor, within `GAIN_MOST` times of
    the `first` guess. The first guess is kept where the model sees no structure.
    """
    level, last, slope = first, None, GAIN_SLOPE
    tried = [(math.inf, first)]
    for _ in range(GAIN_ROUNDS):
        gain = reconstruction_gain(model, np.minimum(level * image_zyx, 1))
        if not (gain > 0 and math.isfinite(gain)):
            break
        off = math.log(wanted / gain)
        tried.append((abs(off), level))
        if abs(off) < GAIN_TOLERANCE:
            break
        sure = False
        if last is not None and last[0] != level:
            slope = math.log(gain / last[1]) / math.log(level / last[0])
            sure = abs(off) < GAIN_NEAR
        last = level, gain
        step = level * math.exp(off / min(max(slope, GAIN_SLOPE / 2), 2.0))
        level = min(max(step, first / GAIN_MOST), first * GAIN_MOST, 1.0)
        if sure or level == last[0]:
            return level
    return min(tried)[1]


def _brightest_part(window: NDArray[np.float32]) -> NDArray[np.float32]:
    z, y, x = window.shape
    parts = [window[place] for place in windows_of((z, y, x), GAIN_WINDOW_ZYX)]
    return max(parts, key=lambda part: float(np.square(part).mean()))


def brightest_window(stack: Stack, range_: IntensityRange) -> NDArray[np.float32]:
    """The part of a stack, at most `WINDOW_ZYX`, with the most signal; values in [0, 1]."""

    def energy(window: tuple[slice, slice, slice]) -> float:
        return read_window(stack, range_, window)[1]

    windows = list(windows_of(stack.zyx_shape, WINDOW_ZYX))
    best = windows[0] if len(windows) == 1 else max(windows, key=energy)
    return normalise(stack.read(*best), range_)
