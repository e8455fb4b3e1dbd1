"""Comparison of the microscopes of two models."""

from tenet.physics.optics import Optics
from tenet.settings.schema import ModelParams

#: Settings that the model PSF depends on.
GIBSON_LANNI = tuple(name.removesuffix("_um").removesuffix("_waves") for name in Optics._fields)
GAUSSIAN = ("bet_z", "bet_xy")
VOXELS = ("res_lateral", "res_axial")


def differing_optics(own: ModelParams, source: ModelParams) -> str | None:
    """Say in one line how the optics of two models differ, or None if they are equal.

    Parameters
    ----------
    own : ModelParams
        Settings of the model that will be trained.
    source : ModelParams
        Settings of the pre-trained model that the training starts from.

    Examples
    --------
    >>> import tenet
    >>> source = tenet.load_experiment("scale3").params
    >>> own = tenet.load_experiment("scale3", settings={"params": {"NA": 0.35}}).params
    >>> differing_optics(own, source)
    'NA 0.35 (pre-trained: 0.3)'
    """
    keys = ["blur_mode", *VOXELS, *(GAUSSIAN if own.blur_mode == "gaussian" else GIBSON_LANNI)]
    differing = [
        f"{key} {_text(getattr(own, key))} (pre-trained: {_text(getattr(source, key))})"
        for key in keys
        if getattr(own, key) != getattr(source, key)
    ]
    return ", ".join(differing) or None


def _text(value: str | float | None) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value or "none")
