"""Colours, names and sizes that all figures share."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tenet.enhance import views
from tenet.metrics.shapes import BEAD_VOLUME_UM3


class Method(NamedTuple):
    """How a method is named and drawn."""

    label: str
    colour: str
    marker: str


METHODS: Mapping[str, Method] = {
    "tenet": Method("TENET", "#0072B2", "o"),
    "tenet_published": Method("TENET (published)", "#882255", "h"),
    "pretrained": Method("TENET, not fine-tuned", "#56B4E9", "s"),
    "box": Method("TENET (in the box)", "#999933", "p"),
    "rltv": Method("RLTV (tuned)", "#D55E00", "^"),
    "rltv_paper": Method("RLTV (paper)", "#E69F00", "v"),
    "care": Method("CARE", "#009E73", "P"),
    "neuroclear": Method("Neuroclear", "#CC79A7", "X"),
}
#: What is measured beside the methods.
LOOKS: Mapping[str, Method] = {
    "raw": Method("Raw stack", "black", "D"),
    "truth": Method("Truth", "0.55", "*"),
    **METHODS,
}
PARTS = {"noise": "with noise", "no_noise": "without noise"}
ANGLES = {"angle00": "0°", "angle45": "45°", "angle90": "90°"}
BEAD_QUANTITIES = {
    "volume_um3": ("Volume (µm³)", BEAD_VOLUME_UM3),
    "sphericity": ("Sphericity", 1.0),
    "z_xy_ratio": ("z/xy ratio", 1.0),
}
PSFS = {
    "initial": ("before", METHODS["pretrained"].colour, "-"),
    "learned": ("after", METHODS["tenet"].colour, "-"),
    "true": ("true", "black", "--"),
}

WIDTH = 7.2  # inches: two columns
#: Characters of a note that fit the width.
NOTE_CHARACTERS = 140
FONT_SIZE, SMALL = 7.0, 6.5
STYLE: dict[Any, Any] = {
    **views.STYLE,
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "axes.labelsize": FONT_SIZE,
    "axes.linewidth": 0.6,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": SMALL,
    "lines.linewidth": 1.1,
    "lines.markersize": 4,
}
THEORY: dict[str, Any] = {"color": "0.35", "linewidth": 0.8, "linestyle": (0, (4, 2))}

#: Height of a row of a strip plot, in inches.
STRIP = 0.28
