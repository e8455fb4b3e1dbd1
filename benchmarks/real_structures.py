"""How a model shows real structures, taken by microscopes that it was not told of; beside RLTV.

    python benchmarks/real_structures.py --model PRETRAINED --tuning PHANTOMS --data DATA --out OUT

DATA holds em_dendrites.npz, em_spine_tips.csv and vessels_label.nii.gz. The stacks are simulated
(`tenet.paper.real`): pieces of these structures, blurred by beams of several fills, aberrated or
not, in 8 bits, with noise, saturated. The model is fine-tuned on the stacks of each condition and
structure. The thresholds of all methods are chosen on the phantoms of --tuning. Methods:

    tenet        fine-tuned
    pretrained   not fine-tuned
    rltv         RLTV with the PSF that the model was told, tuned on the phantoms
    rltv_found   RLTV with the PSF that fine-tuning found, tuned on the phantoms
    rltv_true    RLTV with the true PSF, tuned on the phantoms: what nobody has
    raw          the stack, interpolated

Writes results.csv, psf.csv, a picture of each first stack, and prints tables. --quick takes two
conditions of dendrites, one seed and the first two methods, if no others are asked for. What was
fine-tuned is kept in OUT and not done again.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tenet.data.phantoms.store import open_phantoms
from tenet.enhance.enhance import enhance_array
from tenet.enhance.views import save
from tenet.io.intensities import normalise
from tenet.io.open import open_stack
from tenet.io.stack import Stack
from tenet.io.writing import write_ome_tiff
from tenet.metrics.intervals import bootstrap_interval
from tenet.metrics.segmentation import iou
from tenet.metrics.thresholds import best_threshold
from tenet.model.trained import TrainedModel
from tenet.paper.baselines.rltv import rltv
from tenet.paper.baselines.rltv_tuning import tune
from tenet.paper.real.camera import acquire
from tenet.paper.real.measures import false_share, reached, tail_share
from tenet.paper.real.structures import Dendrites, Scene, read_vessels, vessel_scene
from tenet.physics.blur import centred_planes
from tenet.physics.microscope import Microscope
from tenet.physics.optics import model_fwhm_um, psf_volume
from tenet.settings.load import load_experiment
from tenet.settings.schema import ModelParams
from tenet.tasks.finetune import fine_tune
from tenet.tasks.raw_stacks import RawStacks

METHODS = ("tenet", "pretrained", "rltv", "rltv_found", "rltv_true", "raw")
ITERATIONS, TV_WEIGHTS = (30, 60, 90), (0.003, 0.01, 0.03)
#: Grid of the true PSF: half depth and half width in µm.
BLUR_REACH_UM, RLTV_REACH_UM = (24.0, 6.0), (12.0, 2.5)

Volume = NDArray[np.float32]


@dataclass(frozen=True)
class Condition:
    """A microscope: None for a pupil that is filled evenly, and waves of spherical aberration."""

    fill: float | None
    spherical: float

    def __str__(self) -> str:
        fill = "uniform" if self.fill is None else f"fill{self.fill:g}"
        return fill + ("_aberrated" if self.spherical else "")

    def params(self, told: ModelParams) -> ModelParams:
        """The settings of a microscope that is as the model was told but for the beam."""
        return told.model_copy(update={"fill": self.fill, "spherical": self.spherical})

    def psf(self, told: ModelParams, reach_um: tuple[float, float]) -> torch.Tensor:
        """The true PSF on the fine grid."""
        step_um, _, pixel_um = told.fine_voxel_size_um
        planes = centred_planes(2 * round(reach_um[0] / step_um), told.scale)
        side = 2 * round(reach_um[1] / pixel_um) + 1
        model = self.params(told).model_psf()
        return torch.from_numpy(psf_volume(model, (planes, side, side), told.fine_voxel_size_um))


CONDITIONS = [Condition(fill, waves) for fill in (None, 0.7, 0.4) for waves in (0.0, 0.25)]
QUICK = [Condition(0.7, 0.0), Condition(0.4, 0.25)]


class Structures:
    """The scenes of a kind, each by its seed."""

    def __init__(self, data: Path, told: ModelParams) -> None:
        self.fine_um, self.scale = told.fine_voxel_size_um, told.scale
        self.dendrites = Dendrites.read(data / "em_dendrites.npz", data / "em_spine_tips.csv")
        self.tree = read_vessels(data / "vessels_label.nii.gz")

    def scene(self, kind: str, seed: int) -> Scene:
        """Draw a scene."""
        if kind == "dendrites":
            return self.dendrites.scene(np.random.default_rng([seed, 0]), self.fine_um, self.scale)
        return vessel_scene(self.tree, np.random.default_rng([seed, 1]), self.fine_um, self.scale)


class Deconvolution:
    """RLTV with one PSF, tuned on phantoms that are blurred by it."""

    def __init__(self, model: TrainedModel, psf: torch.Tensor, phantoms: Path) -> None:
        self.model, self.psf = model, psf
        pairs = images_of(replace(model.network.microscope(), psf=psf), phantoms)
        self.settings, _ = tune(
            pairs,
            psf,
            scale=model.params.scale,
            fine_voxel_size_um=model.params.fine_voxel_size_um,
            tv_weights=TV_WEIGHTS,
            iterations=ITERATIONS,
        )

    def __call__(self, stack: Stack) -> tuple[Volume, float]:
        """Intensities on the fine grid, and the threshold."""
        image = torch.from_numpy(normalise(stack.read(), self.model.intensity_range(stack)))
        estimate = rltv(
            image,
            self.psf,
            scale=self.model.params.scale,
            iterations=self.settings.iterations,
            tv_weight=self.settings.tv_weight,
            fine_voxel_size_um=self.model.params.fine_voxel_size_um,
            accelerated=True,
        )
        return estimate.numpy(), self.settings.threshold


class Interpolation:
    """The raw stack on the fine grid; its threshold is chosen on phantoms."""

    def __init__(self, model: TrainedModel, phantoms: Path) -> None:
        self.model = model
        pairs = images_of(model.network.microscope(), phantoms)
        self.threshold = best_threshold([(self._fine(im), truth) for im, truth in pairs]).threshold

    def _fine(self, image: Volume) -> Volume:
        volume = torch.from_numpy(image)[None, None]
        factors = (float(self.model.params.scale), 1.0, 1.0)
        fine: Any = torch.nn.functional.interpolate(volume, scale_factor=factors, mode="trilinear")
        return fine[0, 0].numpy()

    def __call__(self, stack: Stack) -> tuple[Volume, float]:
        """Intensities on the fine grid, and the threshold."""
        return self._fine(normalise(stack.read(), self.model.intensity_range(stack))), float(
            self.threshold
        )


class Enhancement:
    """TENET as it is in a folder."""

    def __init__(self, model: TrainedModel) -> None:
        self.model = model

    def __call__(self, stack: Stack) -> tuple[Volume, float]:
        """The shape, and the threshold."""
        image = normalise(stack.read(), self.model.intensity_range(stack))
        return enhance_array(self.model.network, image)[0], self.model.threshold


def images_of(microscope: Microscope, phantoms: Path) -> list[tuple[Volume, NDArray[np.uint8]]]:
    """Image and truth of every phantom, taken by a microscope."""
    pairs = []
    for index, phantom in enumerate(open_phantoms(phantoms)):
        planes, rows, columns = phantom.zyx_shape
        z = slice(0, planes // microscope.scale * microscope.scale)
        shape, brightness = phantom.read(z, slice(0, rows), slice(0, columns))
        with torch.no_grad():
            light = torch.from_numpy(brightness * shape)[None, None]
            image = microscope.acquire(light, torch.Generator().manual_seed(index))
        pairs.append((image[0, 0].numpy(), shape))
    return pairs


class Bench:
    """A model, its phantoms and the structures; the stacks of a condition are made and judged."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.told = TrainedModel.load(asked.model)
        self.params = self.told.params
        self.structures = Structures(asked.data, self.params)
        self._once: dict[str, Any] = {}

    def stacks(self, condition: Condition, kind: str) -> dict[int, tuple[Path, Scene]]:
        """Make the raw stacks of a condition, and keep the truth of each."""
        psf, made = condition.psf(self.params, BLUR_REACH_UM), {}
        for seed in range(self.asked.seeds):
            scene = self.structures.scene(kind, seed)
            rng = np.random.default_rng([seed, 2])
            levels = acquire(scene.light, psf, self.params.scale, rng)
            path = self.asked.out / f"{kind}_{condition}" / "stacks" / f"{seed:02}.ome.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_ome_tiff(path, levels, self.params.coarse_voxel_size_um)
            made[seed] = path, scene
        return made

    def fine_tuned(self, folder: Path) -> TrainedModel:
        """Fine-tune the model on the stacks of a folder, or load what was fine-tuned there."""
        out = folder / "model"
        if not (out / "threshold.json").exists():
            fine_tune(
                load_experiment(self.asked.model / "experiment.json"),
                self.asked.model,
                out,
                RawStacks([folder / "stacks"]),
                tuning=self.asked.tuning,
                phantoms=self.asked.phantoms,
                mode=self.asked.train,
            )
        return TrainedModel.load(out)

    def once(self, name: str, make: Any) -> Any:
        """What does not depend on the condition is made once."""
        if name not in self._once:
            self._once[name] = make()
        return self._once[name]

    def methods(self, condition: Condition, folder: Path) -> Iterator[tuple[str, Any]]:
        """Each method that is asked for, ready to be applied to stacks."""
        wanted, phantoms = self.asked.methods, self.asked.tuning
        if {"tenet", "rltv_found"} & set(wanted):
            found = self.fine_tuned(folder)
        if "tenet" in wanted:
            yield "tenet", Enhancement(found)
        if "pretrained" in wanted:
            yield "pretrained", Enhancement(self.told)
        if "rltv_found" in wanted:
            yield "rltv_found", Deconvolution(found, found.network.psf().detach(), phantoms)
        if "rltv_true" in wanted:
            true = condition.psf(self.params, RLTV_REACH_UM)
            yield (
                "rltv_true",
                self.once(f"true {condition}", lambda: Deconvolution(self.told, true, phantoms)),
            )
        if "rltv" in wanted:
            psf = self.told.network.psf().detach()
            yield "rltv", self.once("rltv", lambda: Deconvolution(self.told, psf, phantoms))
        if "raw" in wanted:
            yield "raw", self.once("raw", lambda: Interpolation(self.told, phantoms))


def judged(volume: Volume, threshold: float, scene: Scene, params: ModelParams) -> dict[str, float]:
    """What a segmentation shows of a scene."""
    mask, size_um = volume >= threshold, params.fine_voxel_size_um
    return {
        "iou": iou(mask, scene.shape),
        "reached": reached(mask, scene.tips_um, size_um),
        "tips": len(scene.tips_um),
        "false_share": false_share(mask, scene.shape, size_um),
        "threshold": threshold,
    }


def psf_row(
    condition: Condition, params: ModelParams, found: TrainedModel | None
) -> dict[str, Any]:
    """Widths and tails of the true PSF and of the one that was found."""
    size_um = params.fine_voxel_size_um
    true = condition.psf(params, BLUR_REACH_UM).numpy()
    row: dict[str, Any] = {"true_tails": tail_share(true)}
    row |= {
        f"true_{k}": v
        for k, v in model_fwhm_um(condition.params(params).model_psf(), size_um).items()
    }
    if found is not None:
        table = pd.read_csv(found.folder / "psf.csv").set_index(["which", "axis"])["fwhm_um"]
        row |= {f"found_{axis}": table["learned", axis] for axis in ("axial", "lateral")}
        row["found_tails"] = tail_share(found.network.psf().detach().numpy())
    return row


def picture(
    shown: dict[str, tuple[Volume, float]], scene: Scene, params: ModelParams, path: Path
) -> None:
    """Projections along y and z of truth, raw stack and results, with what is segmented."""
    size_z, _, size_x = params.fine_voxel_size_um
    panels = {"truth": (scene.light**0.5, None), **shown}
    figure, axes = plt.subplots(
        2, len(panels), figsize=(2.2 * len(panels), 5), constrained_layout=True, squeeze=False
    )
    for column, (name, (volume, threshold)) in enumerate(panels.items()):
        for row, axis in enumerate((1, 0)):
            panel, flat = axes[row, column], volume.max(axis)
            height = flat.shape[0] * (size_z if axis else size_x)
            extent = (0, flat.shape[1] * size_x, height, 0)
            panel.imshow(flat, cmap="gray", extent=extent, vmax=np.quantile(flat, 0.998) + 1e-9)
            if threshold is not None:
                contour = (volume >= threshold).max(axis)
                panel.contour(
                    contour, [0.5], colors="#d55e00", linewidths=0.5, extent=extent, origin="upper"
                )
            tips = scene.tips_um
            panel.plot(tips[:, 2], tips[:, 1 if axis == 0 else 0], ".", ms=2, color="#56b4e9")
            panel.set_title(name if axis else None, fontsize=8)
            panel.tick_params(labelsize=6)
    figure.suptitle(f"{path.parent.name}, simulated; along y and along z, µm", fontsize=8)
    save(figure, path, dpi=110)


def summary(results: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean IoU with interval over stacks, tips reached, false share."""
    rows = []
    for key, group in results.groupby(by, sort=False):
        rng = np.random.default_rng(0)
        middle, low, high = bootstrap_interval(group["iou"], group["seed"].to_numpy(), rng=rng)
        tips = group[group["tips"] > 0]
        reach = f"{tips['reached'].sum():.0f} of {tips['tips'].sum():.0f}"
        share = tips["reached"].sum() / max(tips["tips"].sum(), 1)
        rows.append(
            dict(zip(by, key, strict=True))
            | {
                "n": len(group),
                "IoU": f"{middle:.3f}",
                "95 %": "" if np.isnan(low) else f"{low:.3f} to {high:.3f}",
                "tips": f"{reach} ({share:.0%})" if len(tips) else "",
                "false": f"{group['false_share'].mean():.1%}",
            }
        )
    return pd.DataFrame(rows)


def printed(table: pd.DataFrame) -> str:
    """A table in Markdown."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).values.tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model", "tuning", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of the structures")
    parser.add_argument("--phantoms", type=Path, help="training phantoms, for rehearsal")
    parser.add_argument("--train", default="decoder", help="what fine-tuning trains")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--kinds", nargs="+", default=["dendrites", "vessels"])
    parser.add_argument("--methods", nargs="+", choices=METHODS)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    if asked.quick:
        asked.seeds, asked.kinds = 1, ["dendrites"]
    asked.methods = asked.methods or (METHODS[:2] if asked.quick else METHODS)
    return asked


def main() -> None:
    """Make the stacks, run the methods, judge, print."""
    asked = arguments()
    torch.set_num_threads(1)
    bench, rows, psfs = Bench(asked), [], []
    asked.out.mkdir(parents=True, exist_ok=True)
    for condition in QUICK if asked.quick else CONDITIONS:
        for kind in asked.kinds:
            folder = asked.out / f"{kind}_{condition}"
            about = {"kind": kind, "condition": str(condition)}
            stacks = bench.stacks(condition, kind)
            shown: dict[str, tuple[Volume, float]] = {}
            found = None
            for name, method in bench.methods(condition, folder):
                started = time.process_time()
                if name == "tenet":
                    found = method.model
                for seed, (path, scene) in stacks.items():
                    volume, threshold = method(open_stack(path))
                    values = judged(volume, threshold, scene, bench.params)
                    rows.append(about | {"method": name, "seed": seed} | values)
                    if seed == 0:
                        shown[name] = volume, threshold
                seconds = (time.process_time() - started) / len(stacks)
                print(f"{kind} {condition} {name}: {seconds:.1f} CPU s a stack", flush=True)
            picture(shown, stacks[0][1], bench.params, folder / "picture.png")
            psfs.append(about | psf_row(condition, bench.params, found))
            pd.DataFrame(rows).to_csv(asked.out / "results.csv", index=False)
            pd.DataFrame(psfs).to_csv(asked.out / "psf.csv", index=False)
    results = pd.DataFrame(rows)
    for by in (["method", "kind", "condition"], ["method", "kind"]):
        print("\n" + printed(summary(results, by)))
    print("\n" + printed(pd.DataFrame(psfs).round(3)))


if __name__ == "__main__":
    main()
