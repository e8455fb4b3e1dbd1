"""Beads, microglia and simulations, by the classes of the published notebooks."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from tenet.data.phantoms.store import SUFFIX as PHANTOM_SUFFIX
from tenet.data.phantoms.store import open_phantom
from tenet.errors import TenetError
from tenet.metrics.segmentation import average_precision, dice, iou
from tenet.metrics.shapes import measure_bead
from tenet.paper.evaluate.beads import Region, bead_region, read_rois
from tenet.paper.legacy.inference import Evaluation, Inference, Result, evaluation_of


class BeadsInference(Inference):
    """Fluorescent beads 2 µm across; see `Inference` for the parameters.

    Examples
    --------
    >>> beads = BeadsInference("mine", models=Path("models"), out=Path("pictures"))
    >>> measured = beads.evaluate(beads.get_result("stacks"))
    >>> measured["n"], list(measured["table"]["image"])
    (2, ['image1', 'image2'])
    """

    def evaluate(
        self, results: Sequence[Result], rois: Path | pd.DataFrame | None = None
    ) -> Evaluation:
        """Measure the beads.

        Parameters
        ----------
        results : sequence of Result
            Results of regions of interest with one bead each, or of whole stacks if `rois` are
            given.
        rois : Path or DataFrame, optional
            Table with the columns roi, image, z, y, x: bead centres in coarse voxels. `image` is
            the number at the end of the stack's name. A bead that is listed twice counts once
            (`read_rois`). A region has 24 planes × 128 × 128 voxels around the bead, and less in a
            small image (`bead_region`).

        Returns
        -------
        Evaluation
            ``mean`` and ``sd`` of the bead volume in µm³ (a missed bead has volume 0), and a table
            with one row per bead: volume, sphericity, z/xy ratio, total loss, offset in fine
            voxels (`BeadMetrics`).

        Raises
        ------
        TenetError
            If there is no bead to measure, or a bead lies outside of its image.

        Examples
        --------
        >>> beads = BeadsInference("mine", models=Path("models"), out=Path("pictures"))
        >>> measured = beads.evaluate(beads.get_result("stacks"), Path("rois.csv"))
        >>> list(measured["table"]["roi"])
        [1, 2]
        """
        rows = []
        for result in results:
            for roi, region in self._regions(result, rois):
                bead = measure_bead(
                    result.read("shape", region.crop),
                    self.threshold,
                    result.fine_voxel_size_um,
                    expected_centre_zyx=region.centre_zyx,
                )
                row = {"image": result.name, "roi": roi, **asdict(bead)}
                offset = row.pop("offset_zyx")
                row |= {f"offset_{a}": value for a, value in zip("zyx", offset, strict=True)}
                rows.append(row)
        if not rows:
            raise TenetError("there is no bead to measure: no result, or none of them in the ROIs")
        return evaluation_of(rows, "volume_um3", self.threshold)

    def _regions(
        self, result: Result, rois: Path | pd.DataFrame | None
    ) -> Iterator[tuple[int | str, Region]]:
        """Name and region of each bead, by the rules of the evaluation."""
        planes, rows, columns = result.stack.zyx_shape
        scale = self.model.params.scale
        fine_zyx_shape = (planes * scale, rows, columns)
        if rois is None:
            z, y, x = ((n - 1) / 2 for n in fine_zyx_shape)
            yield result.name, Region((slice(None),) * 3, (z, y, x))
            return
        table = read_rois(rois, folds=False)
        number = re.search(r"(\d+)$", result.name)
        if number is None:
            raise TenetError(
                f"{result.stack.path}: its name does not end in a number, so its ROIs cannot be "
                "found; rename it as in the column image"
            )
        for row in table[table["image"] == int(number[1])].to_dict("records"):
            centre = (float(row["z"]), float(row["y"]), float(row["x"]))
            yield row["roi"], bead_region(centre, fine_zyx_shape, scale)


class MicrogliaInference(Inference):
    """Microglia in vivo; see `Inference`.

    Parameters
    ----------
    model_name : str or Path
    is_finetuning : bool
        Whether to use the fine-tuned weights, and not the pre-trained weights.
    with_align : bool
    threshold : float
    **options
        `models`, `out` and `device` of `Inference`.

    Examples
    --------
    >>> microglia = MicrogliaInference("mine", models=Path("models"), out=Path("pictures"))
    >>> len(microglia.get_result("stacks"))
    2
    """

    def __init__(
        self,
        model_name: str | Path,
        is_finetuning: bool = True,
        with_align: bool | None = None,
        threshold: float = -1,
        **options: Any,
    ) -> None:
        super().__init__(model_name, not is_finetuning, threshold, with_align=with_align, **options)


class SimulationInference(Inference):
    """Simulated stacks, whose truth is known; see `Inference` for the parameters.

    Examples
    --------
    >>> simulation = SimulationInference("mine", models=Path("models"), out=Path("pictures"))
    >>> simulation.threshold
    0.5
    """

    def evaluate(self, results: Sequence[Result], phantoms: Path) -> Evaluation:
        """Compare shapes with the phantoms that the stacks were simulated from.

        Parameters
        ----------
        results : sequence of Result
        phantoms : Path
            Folder with a phantom of the same name for each result.

        Returns
        -------
        Evaluation
            ``mean`` and ``sd`` of the IoU at `threshold`, and a table with iou, dice and
            average_precision per image.

        Raises
        ------
        TenetError
            If a phantom is missing or has another size than its result.

        Examples
        --------
        >>> import numpy as np
        >>> from tenet.data.phantoms.store import save_phantom
        >>> truth = np.zeros((24, 24, 20), np.uint8)
        >>> truth[6:12, 8:16, 8:12] = 1
        >>> _ = save_phantom("truth/image1.zarr.zip", truth, 1.0 * truth)
        >>> simulation = SimulationInference("mine", models=Path("models"), out=Path("pictures"))
        >>> measured = simulation.evaluate(simulation.get_result("stacks", 1), Path("truth"))
        >>> list(measured["table"])
        ['image', 'iou', 'dice', 'average_precision']
        """
        rows = []
        for result in results:
            phantom = open_phantom(Path(phantoms) / f"{result.name}{PHANTOM_SUFFIX}")
            truth, _ = phantom.read(slice(None), slice(None), slice(None))
            score = result.read("shape")
            if truth.shape != score.shape:
                raise TenetError(
                    f"{phantom.path} has the shape {truth.shape}, the enhanced stack "
                    f"{score.shape}: it is not what {result.stack.path} was simulated from"
                )
            found = score >= self.threshold
            rows.append(
                {
                    "image": result.name,
                    "iou": iou(found, truth),
                    "dice": dice(found, truth),
                    "average_precision": average_precision(score, truth),
                }
            )
        if not rows:
            raise TenetError("there is nothing to compare: no results")
        return evaluation_of(rows, "iou", self.threshold)
