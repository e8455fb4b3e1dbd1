"""The bench of real structures: stacks are simulated, a model learns from them, all is judged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from tenet.errors import TenetError
from tenet.io.open import open_stack
from tenet.io.optics import Optics
from tenet.io.writing import write_ome_tiff
from tenet.learn.finetune import TrainMode
from tenet.metrics.segmentation import iou
from tenet.model.shipped import shipped_model
from tenet.model.store import THRESHOLD
from tenet.model.trained import TrainedModel
from tenet.paper.evaluate.tables import read_psf_widths
from tenet.paper.real.beams import BEAMS, BLUR_REACH_UM, RLTV_REACH_UM, Beam
from tenet.paper.real.camera import acquire
from tenet.paper.real.measures import false_share, reached, tail_share
from tenet.paper.real.methods import (
    METHODS,
    Deconvolution,
    Enhancement,
    EveryMicroscope,
    Interpolation,
    Method,
    Volume,
)
from tenet.paper.real.structures import Dendrites, Scene, read_vessels, vessel_scene
from tenet.physics.optics import model_fwhm_um
from tenet.settings.schema import ModelParams
from tenet.tasks.finetune import fine_tune
from tenet.tasks.raw_stacks import RawStacks

Kind = Literal["dendrites", "vessels"]
#: Files of a folder with structures.
LABELS, TIPS, VESSELS = "em_dendrites.npz", "em_spine_tips.csv", "vessels_label.nii.gz"


@dataclass(frozen=True)
class Condition:
    """Stacks of one kind of structure, taken with one beam, and the model that meets them.

    Attributes
    ----------
    kind : {"dendrites", "vessels"}
    beam : str
        A name of `BEAMS`.
    model, tuning : Path
        Folders of the pre-trained model, and of the phantoms that thresholds are chosen on.
    data : Path
        Folder of the structures.
    out : Path
        Folder of the stacks and of the fine-tuned model.
    seeds : int
        Number of stacks.
    phantoms : Path, optional
        Folder of phantoms for rehearsal.
    train : str
        What fine-tuning trains.
    structure_um : float, optional
        Mean thickness of the structures in µm that the model of every microscope is told.
    """

    kind: Kind
    beam: str
    model: Path
    tuning: Path
    data: Path
    out: Path
    seeds: int
    phantoms: Path | None = None
    train: TrainMode = "decoder"
    structure_um: float | None = None

    @property
    def light(self) -> Beam:
        """The beam.

        Raises
        ------
        TenetError
            If there is none of that name.
        """
        if self.beam not in BEAMS:
            raise TenetError(f"there is no beam '{self.beam}': give one of {', '.join(BEAMS)}")
        return BEAMS[self.beam]

    def scenes(self, told: ModelParams) -> Iterator[Scene]:
        """Draw the structures, the same for every beam."""
        fine_um, scale = told.fine_voxel_size_um, told.scale
        rngs = (np.random.default_rng([seed, self.kind == "vessels"]) for seed in range(self.seeds))
        if self.kind == "dendrites":
            dendrites = Dendrites.read(self.data / LABELS, self.data / TIPS)
            yield from (dendrites.scene(rng, fine_um, scale) for rng in rngs)
        else:
            tree = read_vessels(self.data / VESSELS)
            yield from (vessel_scene(tree, rng, fine_um, scale) for rng in rngs)

    def take(self, scenes: Sequence[Scene], told: ModelParams) -> list[Path]:
        """Simulate and write the raw stacks."""
        psf, paths = self.light.psf(told, BLUR_REACH_UM), []
        for seed, scene in enumerate(scenes):
            path = self.out / "stacks" / f"{seed:02}.ome.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            levels = acquire(scene.light, psf, told.scale, np.random.default_rng([seed, 2]))
            write_ome_tiff(path, levels, told.coarse_voxel_size_um)
            paths.append(path)
        return paths

    def fine_tuned(self) -> TrainedModel:
        """Fine-tune the model on the stacks, or load the model that was fine-tuned on them."""
        folder = self.out / "model"
        if not (folder / THRESHOLD).exists():
            fine_tune(
                TrainedModel.settings_of(self.model),
                self.model,
                folder,
                RawStacks([self.out / "stacks"]),
                tuning=self.tuning,
                phantoms=self.phantoms,
                mode=self.train,
            )
        return TrainedModel.load(folder)

    def method(self, name: str, told: TrainedModel, found: TrainedModel) -> Method:
        """Make one of the methods ready; RLTV is tuned on the phantoms."""
        if name in ("tenet", "pretrained"):
            return Enhancement(found if name == "tenet" else told)
        if name == "box":
            params = told.params
            optics = Optics(params.NA, params.wavelength, params.ni, params.photons)
            return EveryMicroscope(shipped_model(), optics, self.structure_um)
        if name == "raw":
            return Interpolation(told, self.tuning)
        if name == "rltv":
            return deconvolution_as_told(self.model, self.tuning)
        if name == "rltv_found":
            return Deconvolution(found, found.network.psf().detach(), self.tuning)
        return Deconvolution(told, self.light.psf(told.params, RLTV_REACH_UM), self.tuning)


@cache
def deconvolution_as_told(model: Path, phantoms: Path) -> Deconvolution:
    """RLTV with the PSF of the nominal aperture, evenly filled, tuned once for all conditions."""
    told = TrainedModel.load(model)
    return Deconvolution(told, Beam(None).psf(told.params, RLTV_REACH_UM), phantoms)


@dataclass(frozen=True)
class Outcome:
    """What came of a condition.

    Attributes
    ----------
    results : DataFrame
        A row for each method and stack: kind, beam, method, seed, iou, reached, tips, false_share,
        threshold.
    psf : DataFrame
        One row: widths in µm and tails of the true PSF, and of the one that was found.
    first : Scene
        The structures of the first stack.
    scores : dict of str to (ndarray, float)
        The score of the first stack by each method, and its threshold.
    """

    results: pd.DataFrame
    psf: pd.DataFrame
    first: Scene
    scores: dict[str, tuple[Volume, float]]


def judge(condition: Condition, methods: Sequence[str]) -> Outcome:
    """Simulate the stacks of a condition, fine-tune on them, and judge every method.

    Raises
    ------
    TenetError
        If there is no such beam or method, or a file of structures cannot be read.
    """
    for name in methods:
        if name not in METHODS:
            raise TenetError(f"there is no method '{name}': give one of {', '.join(METHODS)}")
    told = TrainedModel.load(condition.model)
    scenes = list(condition.scenes(told.params))
    paths = condition.take(scenes, told.params)
    found = condition.fine_tuned() if {"tenet", "rltv_found"} & set(methods) else told
    about = {"kind": condition.kind, "beam": condition.beam}
    rows: list[dict[str, Any]] = []
    scores: dict[str, tuple[Volume, float]] = {}
    for name in methods:
        method = condition.method(name, told, found)
        for seed, (path, scene) in enumerate(zip(paths, scenes, strict=True)):
            score = method(open_stack(path))
            scores.setdefault(name, (score, method.threshold))
            measured = measures(score, method.threshold, scene, told.params)
            rows.append(about | {"method": name, "seed": seed} | measured)
    widths = pd.DataFrame([about | compared_psfs(condition.light, told.params, found)])
    return Outcome(pd.DataFrame(rows), widths, scenes[0], scores)


def measures(
    score: Volume, threshold: float, scene: Scene, params: ModelParams
) -> dict[str, float]:
    """What the part of a score above a threshold shows of a scene."""
    mask, size_um = score >= threshold, params.fine_voxel_size_um
    return {
        "iou": iou(mask, scene.shape),
        "reached": reached(mask, scene.tips_um, size_um),
        "tips": len(scene.tips_um),
        "false_share": false_share(mask, scene.shape, size_um),
        "threshold": threshold,
    }


def compared_psfs(beam: Beam, told: ModelParams, found: TrainedModel) -> dict[str, float]:
    """Widths in µm and tails of the true PSF, and of that of a model."""
    true = model_fwhm_um(beam.params(told).model_psf(), told.fine_voxel_size_um)
    table = read_psf_widths(found.folder / "psf.csv").set_index(["which", "axis"])["fwhm_um"]
    return {
        "true_z_um": true["axial"],
        "found_z_um": float(table["learned", "axial"]),
        "true_xy_um": true["lateral"],
        "found_xy_um": float(table["learned", "lateral"]),
        "true_tails": tail_share(beam.psf(told, BLUR_REACH_UM).numpy()),
        "found_tails": tail_share(found.network.psf().detach().numpy()),
    }
