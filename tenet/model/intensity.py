"""How raw intensities map to [0, 1], so that a stack looks to a model like its phantoms.

A blurred stack does not tell how bright its structures are: a thin one is dimmed by the blur, a
thick one hardly. So the level is found in two steps. After deconvolution the brightest voxels are
made to reach what they do on the phantoms that the model was calibrated on. Then what the model
makes of the stack, blurred again, is made as bright as the stack is, again as on the phantoms: seen
too bright, structures would have to be brighter than the model knows them, and are made thick
instead.
"""

import dataclasses
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tenet.data.crops import windows_of
from tenet.errors import TenetError
from tenet.io.intensities import IntensityRange, check_intensities, intensity_range, normalise
from tenet.io.stack import Stack
from tenet.model.store import Calibration
from tenet.model.tenet import TENET
from tenet.physics.richardson_lucy import deconvolve
from tenet.settings.schema import Experiment

#: The brightest voxels are this percentile, as they are for the range of a raw stack.
BRIGHTEST_PERCENT = 99.99
#: Accelerated Richardson–Lucy steps, enough to tell thick from thin and few enough not to sharpen
#: noise, and the largest part of a stack that is deconvolved, in coarse planes and pixels.
LEVEL_STEPS, WINDOW_ZYX = 10, (48, 128, 128)
#: A saturated detector's highest value, which leaves room for what is up to 2.5 times as bright.
SATURATED_LEVEL = 0.4
#: How often at most, and how closely, the level of a stack is brought to that of the phantoms; and
#: from how near one more step gets there without a look.
LEVEL_ROUNDS, LEVEL_TOLERANCE, LEVEL_NEAR = 6, 0.03, 0.2
#: The same for the second step, on a smaller part of the stack (coarse planes and pixels); the
#: power of the level that the gain grows with, to begin with, and how far it may lead.
GAIN_ROUNDS, GAIN_TOLERANCE, GAIN_NEAR, GAIN_WINDOW_ZYX = 4, 0.01, 0.1, (48, 64, 64)
GAIN_SLOPE, GAIN_MOST = 0.35, 3.0


def stack_range(stack: Stack, method: str) -> IntensityRange:
    """The intensities of a stack that become 0 and 1.

    ``"none"`` takes them as they are; ``"minmax"`` and ``"percentile"`` as in `intensity_range`.

    Raises
    ------
    TenetError
        If intensities are not finite or all equal, or are taken as they are and leave 0 to 1.
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
    """What the brightest voxels of an image (Z, Y, X) in [0, 1] reach after deconvolution."""
    image = torch.as_tensor(image_zyx)[None, None].to(model.initial_psf.device)
    planes, rows, columns = image.shape[2:]
    params = model.params
    with torch.no_grad():
        blur = model.blur((planes * params.scale, rows, columns))
        estimate = deconvolve(image, blur, steps=LEVEL_STEPS, background=params.sig_eps)
    return float(np.percentile(estimate.cpu().numpy(), BRIGHTEST_PERCENT))


@torch.no_grad()
def reconstruction_gain(model: TENET, image_zyx: NDArray[np.float32]) -> float:
    """How much brighter an image (Z, Y, X) in [0, 1] is than what a model explains it by.

    The factor by which the model's shape and brightness, blurred again, fit the image best, but for
    a border of half a PSF: light comes from beyond it. Infinite where the model sees nothing.
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
    seen, explained = image[inner].double(), explained[inner].double()
    square = float(explained.square().sum())
    return float((explained * seen).sum()) / square if square > 0 else math.inf


def inside(size: int, border: int) -> slice:
    """All but a border, which takes at most half."""
    border = min(border, size // 4)
    return slice(border, size - border)


def scaled(range_: IntensityRange, level: float) -> IntensityRange:
    """A range in which what was 1 becomes `level`, at most 1."""
    high = range_.low + (range_.high - range_.low) / min(level, 1.0)
    return dataclasses.replace(range_, high=high)


def model_range(
    stack: Stack,
    model: TENET,
    experiment: Experiment,
    calibration: Calibration | None,
    method: str,
) -> IntensityRange:
    """Intensities of a stack that become 0 and 1 for a model; `TrainedModel` calls this.

    Where percentiles decide, the brightest part of the stack is brought to the level of the
    phantoms that the model was calibrated on, as the head of this module says. If the stack is
    saturated there, its level cannot be seen, and `SATURATED_LEVEL` is taken, unless the model's
    training never saw as low a ceiling.

    Parameters
    ----------
    stack : Stack
    model : TENET
        Looks at the stack as it will enhance it: on its device, in its precision, with its
        alignment network or without.
    experiment : Experiment
        The settings that the model was trained with.
    calibration : Calibration or None
        What held-out phantoms told of the model.
    method : {"none", "minmax", "percentile"}
        As in `stack_range`.
    """
    range_ = stack_range(stack, method)
    if calibration is None or calibration.deconvolved_level is None:
        return range_
    if not range_.method.startswith("percentile"):
        return range_
    if range_.saturated and experiment.microscopes.least_ceiling <= SATURATED_LEVEL:
        return scaled(range_, SATURATED_LEVEL)
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
    """What an image has to be multiplied by, at most 1, to reach `wanted` after deconvolution.

    Deconvolution with a background is not linear: dim images are sharpened less. So the logarithm
    of the level is found by the secant method, from a `first` guess on.
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
    """What an image has to be multiplied by, at most 1, for its `reconstruction_gain` to be so.

    The gain grows with the level. Found by the secant method, no further than `GAIN_MOST` times
    from the `first` guess; that is kept where the model sees nothing.
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
    """The part of a stack, at most `WINDOW_ZYX`, with the most signal; in [0, 1]."""

    def energy(window: tuple[slice, slice, slice]) -> float:
        return float(np.square(normalise(stack.read(*window), range_)).mean())

    windows = list(windows_of(stack.zyx_shape, WINDOW_ZYX))
    best = windows[0] if len(windows) == 1 else max(windows, key=energy)
    return normalise(stack.read(*best), range_)
