"""A page for each result: one HTML file to look through a stack before and after, offline."""

import base64
import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tenet.enhance.enhance import psf_before_and_after
from tenet.enhance.pictures import psf_panels
from tenet.enhance.views import STYLE, bar_length_um, levels
from tenet.errors import printable
from tenet.io.atomic import replacing
from tenet.io.open import open_stack
from tenet.io.stack import Stack
from tenet.model.trained import TrainedModel
from tenet.types import VoxelSize

#: Sections along each axis, and pixels of a side, at most.
SECTIONS, PIXELS = 32, 384
#: Bytes of the images of a page at most, and the qualities that are tried, best first.
MOST_BYTES, QUALITIES = 4_300_000, (80, 65, 50, 35, 20)
#: Axes along which sections are taken, with the names of the sections.
VIEWS = {"xy": 0, "xz": 1, "yz": 2}
_TEMPLATE = Path(__file__).with_name("page.html")

Image = NDArray[np.float32]


class Looked(NamedTuple):
    """Sections of a volume along each axis, and its projections, by the name of the view."""

    sections: dict[str, list[Image]]
    projections: dict[str, Image]


def result_page(
    out: Path,
    model: TrainedModel,
    stack: Stack,
    enhanced: Path,
    record: Mapping[str, Any],
    *,
    voxel_size_um: VoxelSize,
) -> Path:
    """Write the page of an enhanced stack.

    Parameters
    ----------
    out : Path
        Receives the HTML, of at most 5 MB.
    model : TrainedModel
        The model that enhanced the stack. Its PSF is shown.
    stack : Stack
        The raw stack.
    enhanced : Path
        The result, with channels shape and brightness.
    record : mapping
        What is written beside the result.
    voxel_size_um : tuple of float
        Voxel size of the raw stack along z, y and x.

    Returns
    -------
    Path
        `out`.
    """
    fine_um = (voxel_size_um[0] / model.params.scale, *voxel_size_um[1:])
    results = [open_stack(enhanced, channel=channel) for channel in (0, 1)]
    size_um = np.multiply(results[0].zyx_shape, fine_um)
    counts = [min(n, SECTIONS) for n in results[0].zyx_shape]
    places = [(np.arange(n) + 0.5) / n * um for n, um in zip(counts, size_um, strict=True)]
    before = _look([stack], voxel_size_um, places)
    after = _look(results, fine_um, places)
    images, size = {}, 0
    for quality in QUALITIES:
        images = {"before": _encoded(before, quality), "after": _encoded(after, quality)}
        size = sum(len(uri) for part in images.values() for view in part.values() for uri in view)
        if size <= MOST_BYTES:
            break
    sides = {"xy": (1, 2), "xz": (0, 2), "yz": (0, 1)}
    content = {
        "images": images,
        "views": {
            view: {
                "ratio": float(size_um[high] / size_um[wide]),
                "bar_um": bar_length_um(size_um[wide]),
                "width_um": float(size_um[wide]),
                "places_um": [round(float(um), 2) for um in places[VIEWS[view]]],
            }
            for view, (high, wide) in sides.items()
        },
    }
    text = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=html.escape(printable(stack.name)),
        sizes=html.escape(_sizes(stack, results[0], voxel_size_um, fine_um)),
        warnings=_list(record.get("warnings", ())),
        findings=_table(_findings(record)),
        psf=_psf(model),
        # Nothing in the JSON may end the script it stands in.
        content=json.dumps(content).replace("<", "\\u003c"),
    )
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return out


# Images -------------------------------------------------------------------------------------------


def _look(
    readers: Sequence[Stack], voxel_size_um: VoxelSize, places_um: Sequence[NDArray[Any]]
) -> Looked:
    """Go through a volume once, the product of the readers, and keep sections and projections."""
    shape = readers[0].zyx_shape
    at = [
        np.minimum((um / voxel).astype(int), n - 1)
        for um, voxel, n in zip(places_um, voxel_size_um, shape, strict=True)
    ]
    planes: dict[int, Image] = {}
    rows: list[Image] = []
    columns: list[Image] = []
    highest = np.full(shape[1:], -np.inf, np.float32)
    wanted = set(at[0].tolist())
    xz, yz = [], []
    for first, slab in readers[0].slabs():
        for other in readers[1:]:
            slab = slab * other.read(z=slice(first, first + len(slab)))
        for index in wanted.intersection(range(first, first + len(slab))):
            planes[index] = _smaller(slab[index - first])
        rows.append(slab[:, at[1]])
        columns.append(slab[:, :, at[2]])
        np.maximum(highest, slab.max(axis=0), out=highest)
        xz.append(slab.max(axis=1))
        yz.append(slab.max(axis=2))
    of_rows, of_columns = np.concatenate(rows), np.concatenate(columns)
    return Looked(
        {
            "xy": [planes[int(index)] for index in at[0]],
            "xz": [_smaller(of_rows[:, k]) for k in range(len(at[1]))],
            "yz": [_smaller(of_columns[:, :, k]) for k in range(len(at[2]))],
        },
        {
            "xy": _smaller(highest),
            "xz": _smaller(np.concatenate(xz)),
            "yz": _smaller(np.concatenate(yz)),
        },
    )


def _smaller(image: Image) -> Image:
    """Means of so many pixels that no side has more than `PIXELS`."""
    for axis in (0, 1):
        times = math.ceil(image.shape[axis] / PIXELS)
        if times > 1:
            starts = np.arange(0, image.shape[axis], times)
            counts = np.diff(np.append(starts, image.shape[axis]))
            sums = np.add.reduceat(image, starts, axis=axis)
            image = sums / np.expand_dims(counts, 1 - axis)
    return image.astype(np.float32)


def _encoded(looked: Looked, quality: int) -> dict[str, list[str]]:
    """Data URIs by view, the projection first; one grey scale for all."""
    low, high = levels(looked.projections["xy"])

    def uri(image: Image) -> str:
        grey = (np.clip((image - low) / (high - low), 0, 1) * 255).astype(np.uint8)
        found = imagecodecs.jpeg8_encode(np.ascontiguousarray(grey), level=quality)
        return "data:image/jpeg;base64," + base64.b64encode(found).decode()

    return {
        view: [uri(image) for image in (looked.projections[view], *looked.sections[view])]
        for view in VIEWS
    }


@rc_context(STYLE)
def _psf(model: TrainedModel) -> str:
    """Data URI of a picture of the PSF, as told and as found."""
    before, after, voxel_size_um = psf_before_and_after(model.network, model.told)
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    psf_panels(figure, figure.add_gridspec(1, 1)[0], before, after, voxel_size_um)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


# Words --------------------------------------------------------------------------------------------


def _sizes(stack: Stack, result: Stack, raw_um: VoxelSize, fine_um: VoxelSize) -> str:
    def said(shape: Sequence[int], um: Sequence[float]) -> str:
        sizes = " × ".join(f"{length:.3g}" for length in um)
        return f"{' × '.join(map(str, shape))} voxels of {sizes} µm (z, y, x)"

    return f"Raw: {said(stack.zyx_shape, raw_um)}. Result: {said(result.zyx_shape, fine_um)}."


def _findings(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of the table of findings: what, and how much."""
    found, told = record.get("found", {}), record.get("told", {})
    names = {"NA": "NA", "wavelength": "Wavelength (µm)", "ni": "Immersion index",
             "photons": "Photons", "fill": "Fill of the pupil",
             "spherical": "Spherical aberration (waves)"}  # fmt: skip
    rows = []
    for key, name in names.items():
        if key in found:
            own, before = _number(found[key]), _number(told.get(key))
            rows.append((name, own if own == before else f"{own} (told: {before})"))
    if record.get("structure_um") is not None:
        rows.append(("Thickness of structures, as told (µm)", _number(record["structure_um"])))
    for axis, um in record.get("psf_um", {}).items():
        rows.append(
            (f"PSF, {axis} (FWHM, µm)", "longer than its grid" if um is None else _number(um))
        )
    if "note" in record:
        rows.append(("Where the optics are from", str(record["note"])))
    like = record.get("likeness", {})
    if "explained" in like:
        rows.append(("Share of the stack that the result explains", f"{like['explained']:.0%}"))
        rows.append(("Expected share of wrong voxels", f"{like['wrong']:.0%}"))
    rows.append(("Threshold of the shape", _number(record.get("threshold"))))
    rows.append(("Model", Path(str(record.get("model", ""))).name))
    return rows


def _number(value: Any) -> str:
    if value is None:  # as the fill of a pupil is
        return "even"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(printable(value))}</td></tr>"
        for name, value in rows
    )


def _list(warnings: Sequence[str]) -> str:
    if not warnings:
        return "<p>No warnings.</p>"
    items = "".join(f"<li>{html.escape(printable(str(words)))}</li>" for words in warnings)
    return f"<ul class=warnings>{items}</ul>"
