"""Seconds of a step by a table of `tenet bench`: one of benchmarks/, or of this machine."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from snakemake.exceptions import WorkflowError

from tenet.settings.schema import ModelParams

#: Fine voxels of the crop that rows are measured on (`tenet/paper/bench.py`).
GPU_CROP, CPU_CROP = math.prod((240, 112, 112)), math.prod((240, 48, 48))
#: Ways in which trainings run, in the column `how`, which `tenet bench` itself does not write.
AS_USED = ("", "recorded", "replayed")
#: Deconvolution steps of the row `deconvolve`, and what an iteration of RLTV takes of one of them
#: (benchmarks/rltv_against_diplib.py: 0.055 s with total variation, 0.045 s without).
DECONVOLVED, WITH_TV = 60, 1.22
#: Voxels of the crop of the row `neuroclear_step`, and what the generator alone takes of the step:
#: 1.5 of 10.3 MFLOP a voxel, by the channels of its layers.
NEUROCLEAR_CROP, GENERATOR = 36**3, 1 / 7
#: Pixels of the slices of the row `care_step`, and what a forward pass takes of a step.
CARE_PIXELS, FORWARD = 16 * 128**2, 1 / 3
#: Time that a job takes of all when several share a GPU: two at 85 ms a step, one at 57 ms alone
#: (docs/measurements/cost.md), so that sharing gains a quarter.
SHARED = 85 / (2 * 57)


@dataclass(frozen=True)
class Rates:
    """Measured seconds by row of the bench.

    Attributes
    ----------
    seconds : mapping
        Median by name of the row.
    on_gpu : bool
        Whether these are rows of a GPU.
    origin : str
        Where they are from.
    """

    seconds: Mapping[str, float]
    on_gpu: bool
    origin: str

    @classmethod
    def read(cls, root: Path, name: str) -> Self:
        """Read a table of `tenet bench`: of a GPU where it has rows of one, else of the CPU.

        Of rows that were measured more than once the last one counts.

        Parameters
        ----------
        root : Path
            The folder that `name` is relative to.
        name : str
            The table.

        Raises
        ------
        WorkflowError
            If there is no such table, or a row that is needed is missing.
        """
        try:
            with (root / name).open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if row.get("how", "") in AS_USED]
            # The tables of single GPUs have no column of devices.
            devices = {row.get("device", "cuda") for row in rows}
            device = "cuda" if "cuda" in devices else "cpu"
            seconds = {
                row["name"]: float(row["median_s"])
                for row in rows
                if row.get("device", "cuda") == device
            }
        except (OSError, KeyError, ValueError) as error:
            raise WorkflowError(f"rates: {name} is no table of tenet bench ({error})") from None
        missing = [name for name in NEEDED if name not in seconds]
        if missing:
            raise WorkflowError(
                f"rates: {name} lacks the row {missing[0]}: measure all rows with `tenet bench`"
            )
        return cls(seconds, device == "cuda", name)

    def _of_crop(self, seconds: float, voxels: float) -> float:
        """Seconds for another number of voxels than the bench's crop.

        On a GPU a smaller crop takes as long, because its kernels wait for the driver.
        """
        share = voxels / (GPU_CROP if self.on_gpu else CPU_CROP)
        return seconds * (max(share, 1.0) if self.on_gpu else share)

    def training_step(self, params: ModelParams, precision: str, voxels: float) -> float:
        """A training step on a crop, deconvolved where the settings say so."""
        step = self._network("train_step", params, precision)
        return self._of_crop(step, voxels) + self.deconvolution(params.deconvolution_steps, voxels)

    def forward(self, params: ModelParams, precision: str, voxels: float) -> float:
        """The encoder alone on a crop, deconvolved where the settings say so."""
        forward = self._network("encoder_forward", params, precision)
        return self._of_crop(forward, voxels) + self.deconvolution(
            params.deconvolution_steps, voxels
        )

    def _network(self, row: str, params: ModelParams, precision: str) -> float:
        half = 1.0
        if precision == "float32":
            half = self.seconds[f"{row}_float32"] / self.seconds[row]
        return self.seconds[f"{row}_coarse" if params.network != "jnet" else row] * half

    def deconvolution(self, steps: float, voxels: float) -> float:
        """So many steps of deconvolution of a crop."""
        return self._of_crop(self.seconds["deconvolve"], voxels) * steps / DECONVOLVED

    def rltv(self, iterations: float, voxels: float) -> float:
        """So many iterations of Richardson-Lucy with total variation."""
        return WITH_TV * self.deconvolution(iterations, voxels)

    def care_step(self, pixels: float) -> float:
        """A training step of CARE on slices of so many pixels together."""
        share = pixels / CARE_PIXELS
        return self.seconds["care_step"] * (max(share, 1.0) if self.on_gpu else share)

    def care_forward(self, pixels: float) -> float:
        """CARE's network on so many pixels."""
        return self.seconds["care_step"] * FORWARD * pixels / CARE_PIXELS

    def neuroclear_step(self, voxels: float) -> float:
        """A training step of Neuroclear on a crop.

        The row's crop is small: on a GPU a large crop is counted at the rate of CARE's
        convolutions, which have as many operations as the row.
        """
        share = voxels / NEUROCLEAR_CROP
        if not self.on_gpu:
            return self.seconds["neuroclear_step"] * share
        return max(self.seconds["neuroclear_step"], self.seconds["care_step"] * share)

    def neuroclear_forward(self, voxels: float) -> float:
        """Neuroclear's generator on so many voxels, in tiles as large as crops."""
        return self.neuroclear_step(108**3) * GENERATOR * voxels / 108**3


#: Rows without which nothing can be said.
NEEDED = (
    "train_step",
    "train_step_float32",
    "train_step_coarse",
    "encoder_forward",
    "encoder_forward_float32",
    "encoder_forward_coarse",
    "deconvolve",
    "care_step",
    "neuroclear_step",
)
