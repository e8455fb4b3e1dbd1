"""Iterations, weight and threshold of RLTV, chosen on held-out phantoms."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from tenet.errors import TenetError
from tenet.io.records import read_json_object
from tenet.metrics.thresholds import best_threshold, threshold_sweep
from tenet.paper.baselines.rltv import EPSILON, Volume, as_volume, rltv_iterates, rltv_paper
from tenet.settings.ranges import NotNegative
from tenet.types import Progress

#: Most iterations of a run.
MOST_ITERATIONS = 100_000


@dataclass(frozen=True)
class RLTVSettings:
    """Settings chosen on held-out phantoms.

    Attributes
    ----------
    iterations, tv_weight
        As for `rltv`.
    threshold
        Segmentation threshold, in the image's units of intensity.
    score
        Mean IoU over the phantoms at these settings.
    """

    iterations: Annotated[int, Field(ge=1, le=MOST_ITERATIONS)]
    tv_weight: NotNegative
    threshold: float
    score: float


@dataclass(frozen=True)
class PublishedSettings:
    """Threshold of `rltv_paper`, whose other settings are fixed, and its score."""

    threshold: float
    score: float


@dataclass(frozen=True)
class Tuning:
    """Settings that ``tenet rltv tune`` writes, beside the table of all settings."""

    rltv: RLTVSettings
    rltv_paper: PublishedSettings


def read_tuning(path: Path) -> Tuning:
    """Read settings that ``tenet rltv tune`` wrote.

    Raises
    ------
    TenetError
        If the file is missing, is not JSON, lacks a setting, or has one out of range.
    """
    try:
        return TypeAdapter(Tuning).validate_json(json.dumps(read_json_object(path)), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        reason = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
    raise TenetError(f"{path} holds no settings of RLTV ({reason}); run tenet rltv tune again")


def tune(
    pairs: Sequence[tuple[Volume, Volume]],
    psf: Volume,
    *,
    scale: int,
    fine_voxel_size_um: Sequence[float],
    tv_weights: Sequence[float] = (0.0, 0.003, 0.01, 0.03),
    iterations: Sequence[int] = (10, 20, 40, 80, 160),
    background: float = 0.0,
    epsilon: float = EPSILON,
    progress: Progress | None = None,
    device: torch.device | str | None = None,
) -> tuple[RLTVSettings, pd.DataFrame]:
    """Choose accelerated iterations, weight and threshold of the highest IoU on held-out phantoms.

    One run for each phantom and weight gives all numbers of iterations. No estimate is kept.

    Parameters
    ----------
    pairs
        (image, truth) of each phantom: coarse stack (Z, Y, X), shape mask (Z·s, Y, X).
    tv_weights, iterations
        Grid of the search.
    progress
        Called as ``progress(done, runs)`` after every run.

    Returns
    -------
    settings : RLTVSettings
        The best settings of the grid; of equal settings those with the least weight, and then the
        fewest iterations.
    table : DataFrame
        Columns ``tv_weight``, ``iterations``, ``threshold``, ``iou``: every point of the grid
        at its own best threshold, without those where a result is not finite.

    Raises
    ------
    TenetError
        If there are no pairs, the grid is empty or no setting gives finite results, and as `rltv`
        and `threshold_sweep`.

    Notes
    -----
    Thresholds are 300 geometric steps (about 3 %) from 1/1000 to 10 times the highest intensity of
    all images.
    """
    weights, steps = sorted(tv_weights), sorted(iterations)
    if not pairs or not weights or not steps:
        raise TenetError("tuning needs at least one phantom, one weight and one iteration count")
    highest = max(float(as_volume(image, "image", None).max()) for image, _ in pairs)
    thresholds = max(highest, 1e-6) * np.geomspace(1e-3, 10, 301)
    rows = []
    for run, weight in enumerate(weights):
        sweeps: dict[int, list[NDArray[np.float64]]] = {step: [] for step in steps}
        for phantom, (image, truth) in enumerate(pairs, start=1):
            mask = torch.as_tensor(truth).cpu().numpy()
            for step, estimate in rltv_iterates(
                image,
                psf,
                scale=scale,
                snapshots=steps,
                tv_weight=weight,
                fine_voxel_size_um=fine_voxel_size_um,
                background=background,
                epsilon=epsilon,
                accelerated=True,
                device=device,
            ):
                if bool(estimate.isfinite().all()):
                    sweep = threshold_sweep(estimate.cpu().numpy(), mask, thresholds)
                    sweeps[step].append(sweep["iou"].to_numpy())
            if progress is not None:
                progress(run * len(pairs) + phantom, len(weights) * len(pairs))
        for step in (step for step in steps if len(sweeps[step]) == len(pairs)):
            mean_iou = np.mean(sweeps[step], axis=0)
            best = int(mean_iou.argmax())
            rows.append((weight, step, float(thresholds[best]), float(mean_iou[best])))
    if not rows:
        raise TenetError("no setting of RLTV gives a finite result: tune with fewer iterations")
    table = pd.DataFrame(rows, columns=["tv_weight", "iterations", "threshold", "iou"])
    weight, step, threshold, score = max(rows, key=lambda row: row[-1])
    return RLTVSettings(step, weight, threshold, score), table


def tune_published(
    pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]], psf: Volume, *, scale: int
) -> PublishedSettings:
    """Choose the threshold of `rltv_paper` by the mean IoU on the phantoms of `tune`."""
    choice = best_threshold(
        [(rltv_paper(image, psf, scale=scale).numpy(), truth) for image, truth in pairs]
    )
    return PublishedSettings(float(choice.threshold), float(choice.iou))
