"""How many voxels stacks have and how many bytes files take, before any of them is there."""

import csv
import math
from dataclasses import dataclass, replace
from pathlib import Path

from tenet.paper.evaluate.tables import PROBABILITIES
from tenet.types import Triple
from workflow.lib.catalogue import Catalogue, resolved
from workflow.lib.phantoms import TISSUES

#: Bytes of a voxel of a compressed result in the levels of its evaluation (`models.LEVELS`): of
#: probabilities, most of which are near 0 or 1, and of intensities, whose noise compresses little.
#: Measured by benchmarks/stored_levels.py on the demo's stacks (docs/measurements/cost.md), those
#: of figure 2 for all but cells; probabilities of cells take 0.03 there, and are counted twice.
PROBABILITY_BYTES = {
    "segmentation": 0.26,
    "beads": 0.36,
    "profiles": 0.17,
    "cells": 0.06,
    "none": 0.06,
}
INTENSITY_BYTES = {"segmentation": 0.59, "beads": 1.2, "profiles": 0.7, "cells": 0.52, "none": 0.52}
#: Bytes of a voxel of a raw or simulated stack, of a registered one, and of a compressed phantom
#: (shape and brightness).
RAW_BYTES, REGISTERED_BYTES, PHANTOM_BYTES = 2, 4, 0.1
#: Bytes of a weight, and copies of the weights beside a pre-trained model: optimiser and Fisher
#: information with the weights that it belongs to.
WEIGHT_BYTES, BESIDE_PRETRAINED = 4, 4
#: Weights of the published encoder, and at most of any other (channels 16 to 256).
MOST_WEIGHTS = 19_100_000


@dataclass(frozen=True)
class Stacks:
    """A number of stacks of one size.

    Attributes
    ----------
    count : int
    zyx_shape : tuple of int
        Coarse planes, rows, columns.
    """

    count: int
    zyx_shape: Triple

    @property
    def voxels(self) -> int:
        """Coarse voxels of all stacks."""
        return self.count * math.prod(self.zyx_shape)


#: The stacks of each source of the record on Zenodo: what the published code shows of them. The
#: record itself has not been seen.
EXPECTED = {
    "beads": Stacks(31, (31, 512, 512)),
    "neurons": Stacks(27, (111, 1024, 1024)),
    "microglia": Stacks(66, (26, 1972, 1972)),
    "tumour": Stacks(66, (26, 1972, 1972)),
}
#: Of another source nothing is known beforehand.
UNKNOWN = Stacks(0, (0, 0, 0))


def stacks_of(catalogue: Catalogue, experiment: str, fold: str = "all") -> Stacks:
    """Count the stacks that a method restores, parts with and without noise alike.

    Parameters
    ----------
    catalogue : Catalogue
    experiment : str
    fold : str
        Of beads only the images of this fold; ``all`` for every image with a bead.
    """
    spec = catalogue.experiments[experiment]
    if catalogue.is_simulated(experiment):
        return _simulated(catalogue, experiment)
    found = stacks_of_source(catalogue, spec["source"])
    if "rois" in spec:
        with open(catalogue.root / spec["rois"], newline="", encoding="utf-8") as file:
            rows = [r for r in csv.DictReader(file) if fold in ("all", f"fold{r['fold']}")]
        return replace(found, count=len({row["image"] for row in rows}))
    return found


def stacks_of_source(catalogue: Catalogue, source: str) -> Stacks:
    """Count the stacks of a source: those found, once it is fetched, or else those expected.

    Found stacks are counted as large as the largest of them.
    """
    listing = Path(catalogue.config["zenodo"]["folder"], f"{source}.csv")
    if listing.is_file():
        with listing.open(newline="", encoding="utf-8") as file:
            used = [row for row in csv.DictReader(file) if row["stack"]]
        sides = [max(int(row[side]) for row in used) for side in ("planes", "rows", "columns")]
        return Stacks(len(used), _triple(sides))
    found = EXPECTED.get(source, UNKNOWN)
    most = catalogue.config["sources"][source].get("limit", found.count)
    return replace(found, count=min(found.count, most))


def _simulated(catalogue: Catalogue, experiment: str) -> Stacks:
    spec = catalogue.experiments[experiment]
    phantoms = phantoms_of_set(catalogue, spec.get("phantoms", experiment))
    planes, rows, columns = phantoms.zyx_shape
    parts = 2 if spec.get("no_noise") else 1
    scale = resolved(catalogue, experiment).params.scale
    return Stacks(parts * phantoms.count, (planes // scale, rows, columns))


def phantoms_of_set(catalogue: Catalogue, name: str) -> Stacks:
    """Count the phantoms of a set; their planes are fine ones."""
    spec = catalogue.phantom_set(name)
    if spec["kind"] == "angle":
        return Stacks(len(catalogue.config["seeds"]), _triple(spec["size"]))
    if spec["kind"] in ("beads", *TISSUES):
        return Stacks(spec["count"], _triple(spec["size"]))
    if spec["kind"] == "import":
        return Stacks(0, (0, 0, 0))
    settings = resolved(catalogue, spec["experiment"]).simulation_data_generation
    size = spec.get("set", {}).get("simulation_data_generation.image_size", settings.image_size)
    return Stacks(spec.get("count", settings.train_num + settings.valid_num), _triple(size))


def _triple(size: object) -> Triple:
    z, y, x = map(int, size)  # type: ignore[call-overload]
    return z, y, x


def fine_voxels(catalogue: Catalogue, experiment: str, fold: str = "all") -> int:
    """Count the voxels on the fine grid that a method makes of an experiment's stacks."""
    scale = resolved(catalogue, experiment).params.scale
    return stacks_of(catalogue, experiment, fold).voxels * scale


def bytes_of_predictions(
    catalogue: Catalogue, experiment: str, method: str, fold: str = "all"
) -> float:
    """Bytes of a method's results for an experiment."""
    of_a_voxel = PROBABILITY_BYTES if method in PROBABILITIES else INTENSITY_BYTES
    evaluation = catalogue.experiments[experiment]["evaluation"]
    return fine_voxels(catalogue, experiment, fold) * of_a_voxel[evaluation]


def bytes_of_acquisitions(catalogue: Catalogue, experiment: str) -> float:
    """Bytes of the stacks that are simulated for an experiment."""
    return stacks_of(catalogue, experiment).voxels * RAW_BYTES


def bytes_of_registered(catalogue: Catalogue, experiment: str) -> float:
    """Bytes of the stacks that are registered for an experiment."""
    return stacks_of(catalogue, experiment).voxels * REGISTERED_BYTES


def bytes_of_phantoms(catalogue: Catalogue, name: str) -> float:
    """Bytes of a set of phantoms."""
    return phantoms_of_set(catalogue, name).voxels * PHANTOM_BYTES


def bytes_of_source(catalogue: Catalogue, source: str) -> float:
    """Bytes of the raw stacks of a source of the record."""
    return stacks_of_source(catalogue, source).voxels * RAW_BYTES


def bytes_of_model(*, pretrained: bool) -> float:
    """Bytes of a model's folder at most: that of the published encoder."""
    copies = BESIDE_PRETRAINED if pretrained else 1
    return MOST_WEIGHTS * WEIGHT_BYTES * copies
