"""Is a stack like what a model has learned on? Told from the stack and the result alone."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tenet.learn.psf_search import explained
from tenet.model.trained import TrainedModel

#: Explained share of a stack from which it counts as like the training, and expected share of
#: wrong voxels up to which a segmentation does; `docs/model.md` says where they are from.
LEAST_EXPLAINED, MOST_WRONG = 0.8, 0.35


class Likeness(NamedTuple):
    """How well a result explains its stack.

    Attributes
    ----------
    explained : float
        Share of the variance of the stack, noise taken off, that the result explains when the
        microscope sees it. 1: all of it; 0: no more than an even grey.
    wrong : float
        Expected share of wrong voxels in the segmentation, by the calibration of the model.
    segmented : float
        Share of the voxels that is segmented.
    """

    explained: float
    wrong: float
    segmented: float

    def warnings(self) -> list[str]:
        """What to tell the user, in lines that follow the name of the stack."""
        found = []
        if self.segmented == 0:
            found.append("nothing is segmented: is there signal, and are the optics right?")
        elif self.wrong > MOST_WRONG:
            found.append(
                f"{100 * self.wrong:.0f} % of the segmented voxels are likely wrong (more than "
                f"{100 * MOST_WRONG:.0f} %): look at the channel brightness, and at --uncertainty"
            )
        if self.explained < LEAST_EXPLAINED:
            found.append(
                f"the result explains {100 * self.explained:.0f} % of what the stack shows (less "
                f"than {100 * LEAST_EXPLAINED:.0f} %): the stack is unlike the training of the "
                "model, or its PSF is wrong"
            )
        return found


@torch.no_grad()
def likeness(model: TrainedModel, windows: Sequence[Tensor]) -> Likeness:
    """Measure how well the results of a calibrated model explain parts of a stack.

    Parameters
    ----------
    model : TrainedModel
    windows : sequence of Tensor, shape (1, 1, Z, Y, X)
        Parts of the stack, with intensities as the model takes them.
    """
    network = model.network.eval()
    left, shown, segmented, wrong, voxels = 0.0, 0.0, 0.0, 0.0, 0
    for image in windows:
        seen, shape = explained(network, image, network.psf(), model.threshold)
        rest = image - seen
        noise = noise_variance(image)
        left += max(float(rest.square().mean()) - noise, 0.0)
        shown += max(float(image.var()) - noise, 0.0)
        probability = shape[shape >= model.threshold].float().cpu().numpy()
        wrong += float(model.certainty.wrong(probability).sum())
        segmented += probability.size
        voxels += shape.numel()
    return Likeness(
        max(1 - left / shown, 0.0) if shown else 0.0,
        wrong / segmented if segmented else 0.0,
        segmented / voxels,
    )


def noise_variance(image: Tensor) -> float:
    """Variance of the noise of an image (1, 1, Z, Y, X), from second differences of rows.

    Neighbours along a line may share noise, and rows do not. What is as thin as a row counts as
    noise.

    Examples
    --------
    >>> noise = torch.randn(1, 1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    >>> ramp = torch.arange(64.0)[:, None]
    >>> round(noise_variance(ramp + 0.1 * noise), 3)
    0.01
    """
    rows = image.float()
    second = 2 * rows[..., 1:-1, :] - rows[..., :-2, :] - rows[..., 2:, :]
    return float(second.square().mean() / 6) if second.numel() else 0.0
