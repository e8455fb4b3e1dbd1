"""Costs of the main steps, in a unit that machines of different speed share.

A *calibration step* is the forward and backward pass of a contiguous float32 3³ convolution from 16
to 16 channels on 96×64×64 voxels. Each row times its own work and that step in turns, in a process
of its own. The row holds the ratio of the two medians, the peak memory of the process, the
operations and bytes, and the share of the machine's peak that is reached (`tenet.paper.cost`).
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from tenet.data.crops import PhantomCrops
from tenet.data.phantoms.kinds import TrainingPhantomSettings, draw_training_phantom
from tenet.data.phantoms.sets import generate_set
from tenet.errors import TenetError
from tenet.io.atomic import save_table
from tenet.learn.ewc import ElasticWeights
from tenet.learn.finetune import FinetuneTask, RawCrops
from tenet.model.tenet import TENET
from tenet.networks.blocks import checkpoint_blocks, record_encoders
from tenet.networks.convolution import faster_in_float32
from tenet.paper.baselines.care import CARE, CARESettings
from tenet.paper.baselines.neuroclear import Neuroclear, NeuroclearSettings, neuroclear_terms
from tenet.paper.cost import NO_BFLOAT16, peaks, work_of
from tenet.physics.blur import StridedBlur
from tenet.physics.optics import Optics, gibson_lanni, psf_volume
from tenet.physics.psf import NeurIPSF
from tenet.physics.richardson_lucy import deconvolve
from tenet.settings.schema import Experiment, ModelParams, parse_experiment
from tenet.types import Triple

Action = Callable[[], Any]
COLUMNS: tuple[str, ...] = ("name", "median_s", "calibration_s", "units", "peak_mib", "device")
COLUMNS += ("gflop", "gbyte", "floor_s", "of_peak", "note")

#: The beads: ×10, 0.05 µm, PSF of 201×51×51.
BEADS: dict[str, Any] = {
    "NA": 0.7,
    "wavelength": 0.9,
    "res_lateral": 0.05,
    "res_axial": 0.5,
    "scale": 10,
    "psf_sampling": "continuous",
}
#: Crops that the steps are measured on: the paper's crop on a GPU, and a fifth of it on a CPU.
CROP: Triple = (240, 48, 48)
GPU_CROP: Triple = (240, 112, 112)
VOLUME: Triple = (1200, 500, 500)
OBJECTS, CROPS = 500, 8


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes
    ----------
    name : str
    prepare : callable
        Called once with the device; returns the work that is timed, and the divisor of the time.
    repeats : int
        Number of timed runs, after one run that is not timed.
    target, published : float, optional
        Calibration steps: the most that are wanted, and those of the published code.
    on_gpu : bool
        Whether the row can be measured on a GPU.
    half : bool
        Whether the work runs in bfloat16. A processor without bfloat16 runs the work in float32, as
        training does, and the note says so.
    """

    name: str
    prepare: Callable[[torch.device], tuple[Action, float]]
    repeats: int
    target: float | None = None
    published: float | None = None
    on_gpu: bool = True
    half: bool = False


def run_bench(
    out: Path,
    *,
    rows: Sequence[str] | None = None,
    device: str = "auto",
    repeats: int | None = None,
) -> list[dict[str, Any]]:
    """Measure, write a table, and print the table with targets and published costs.

    Parameters
    ----------
    out : Path
        CSV file with columns name, median_s, calibration_s, units (median / calibration), peak_mib,
        device, gflop (of convolutions and transforms) and gbyte (read and written), floor_s (time
        of these operations at the peak of the machine), of_peak (floor_s / median_s) and note (why
        a value is missing, or in which precision it is). On a GPU `peak_mib` is what was allocated
        there.
    rows : sequence of str, optional
        Names of rows; by default all rows.
    device : {"auto", "cpu", "cuda"}
        Device to measure on; by default the CPU, and a GPU if there is one.
    repeats : int, optional
        Number of timed runs of each row; by default that of the row.

    Returns
    -------
    list of dict
        The table.

    Raises
    ------
    TenetError
        If a row or a device is unknown, or its process fails.
    """
    gpu = ["cuda"] if torch.cuda.is_available() else []
    if device not in (possible := ["auto", "cpu", *gpu]):
        raise TenetError(f"no bench on device '{device}'; there are {', '.join(possible)}")
    unknown = set(rows or ()) - ROWS.keys()
    if unknown:
        raise TenetError(f"no bench row '{min(unknown)}'; there are {', '.join(ROWS)}")
    wanted = [ROWS[name] for name in ROWS if not rows or name in rows]
    results = []
    for measured in ["cpu", *gpu] if device == "auto" else [device]:
        for row in wanted:
            if measured == "cpu" or row.on_gpu:
                print(f"measuring {row.name} on {measured} …", flush=True)
                results.append(_in_own_process(row.name, measured, repeats or row.repeats))
    save_table(out, results)
    _print(results)
    return results


def _in_own_process(name: str, device: str, repeats: int) -> dict[str, Any]:
    """Measure a row in a process of its own, because peak memory is that of a process."""
    command = [sys.executable, "-m", "tenet.paper.bench", name, device, str(repeats)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise TenetError(f"bench row {name} on {device} failed: {last}")
    return dict(json.loads(run.stdout.splitlines()[-1]))


def measure(name: str, device: torch.device, repeats: int) -> dict[str, Any]:
    """Measure one row in this process."""
    row = ROWS[name]
    action, divisor = row.prepare(device)
    calibrate = calibration_step(device)
    action()
    calibrate()
    timings: list[float] = []
    calibrations: list[float] = []
    for _ in range(repeats):  # in turns, so that both see the same load
        timings.append(_seconds(action, device) / divisor)
        calibrations.extend(_seconds(calibrate, device) for _ in range(3))
    median, calibration = statistics.median(timings), statistics.median(calibrations)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    work, rates = work_of(action), peaks(device)
    floor = rates.floor_s(work)
    emulated = row.half and faster_in_float32(device)
    notes = [f"in float32: {NO_BFLOAT16}" if emulated else "", rates.missing(work)]
    return {
        "name": name,
        "median_s": round(median, 6),
        "calibration_s": round(calibration, 6),
        "units": round(median / calibration, 3),
        "peak_mib": round(peak),
        "device": device.type,
        "gflop": round(work.total / divisor / 1e9, 3),
        "gbyte": round(work.bytes / divisor / 1e9, 3),
        "floor_s": None if floor is None else round(floor / divisor, 6),
        "of_peak": None if floor is None else round(floor / divisor / median, 3),
        "note": "; ".join(filter(None, notes)),
    }


def calibration_step(device: torch.device) -> Action:
    """Forward and backward of a 16→16 3³ convolution on 96×64×64, float32, contiguous."""
    convolution = nn.Conv3d(16, 16, 3, padding=1).to(device)
    image = torch.rand(1, 16, 96, 64, 64, device=device, requires_grad=True)

    def step() -> None:
        convolution.zero_grad()
        image.grad = None
        convolution(image).sum().backward()

    return step


def _seconds(action: Action, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


# Rows


def _phantom_object(_device: torch.device) -> tuple[Action, float]:
    """The whole cost of a volume of the paper's size with `OBJECTS` objects, for each object.

    The cost of the empty volume is shared by a third of the objects of the paper's volumes.
    """
    rng = np.random.default_rng(0)
    settings = TrainingPhantomSettings(zyx_shape=VOLUME, n_objects=(OBJECTS, OBJECTS))
    return lambda: draw_training_phantom(settings, rng), OBJECTS


def _crop_from_disk(_device: torch.device) -> tuple[Action, float]:
    """Crops of 240×112×112 from a stored phantom of the paper's size, accepted and turned."""
    folder = tempfile.TemporaryDirectory()
    settings = TrainingPhantomSettings(zyx_shape=VOLUME, n_objects=(1500, 1500))
    # Two workers are separate processes, whose memory does not count here.
    volumes = generate_set(settings, folder.name, count=1, seed=0, workers=2)
    crops = PhantomCrops(volumes, (240, 112, 112), min_foreground=0.001, augment=True)
    rng = np.random.default_rng(1)

    def draw(_keep: tempfile.TemporaryDirectory[str] = folder) -> None:
        for _ in range(CROPS):
            crops.draw(rng)

    return draw, CROPS


def _psf_fit(_device: torch.device) -> tuple[Action, float]:
    """The PSF of the beads, fitted to a mean squared error of 1e-5; each time from new weights."""
    model = gibson_lanni(Optics(NA=0.7, wavelength_um=0.9))
    psf = NeurIPSF((200, 51, 51), (0.05, 0.05, 0.05), 10, sampling="lookup")
    rng = np.random.default_rng(0)
    return lambda: psf.fit(model, rng, target_error=1e-5), 1


class _FixedCrops(RawCrops):
    """One crop that stays in memory, so that only the step is timed."""

    def __init__(self, image: Tensor) -> None:
        self.image = image

    def draw(self, part: str, size: int, rng: np.random.Generator) -> Tensor:
        return self.image

    def batch(self, part: str, drawn: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        return drawn, drawn


def _crop(device: torch.device) -> Triple:
    return GPU_CROP if device.type == "cuda" else CROP


def _experiment(scale: int, network: str, precision: str, crop: Triple) -> Experiment:
    """Fine-tuning of the paper's network, all losses on; optics of the beads."""
    params = BEADS | {"network": network, "scale": scale, "res_axial": 0.05 * scale}
    return parse_experiment(
        {
            "name": "bench",
            "params": params,
            "train_dataset": {"cropsize": crop},
            "train_loop": {
                "precision": precision,
                "mrfloss_weights": {"l_00": -0.5, "l_01": 0.5, "l_10": 1.0, "l_11": -1.0},
                "gradient_norm": 1.0,
            },
        }
    )


def _model(params: ModelParams, precision: str, device: torch.device) -> TENET:
    model = TENET(params)
    model.initialise(np.random.default_rng(0))
    model.half_precision = precision == "bfloat16"
    return model.to(device)


def _stack(scale: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    z, y, x = _crop(device)
    shape = (1, 1, z // scale, y, x)
    return (0.3 * torch.rand(shape, generator=generator)).to(device)


def _train_step(
    network: str,
    precision: str,
    scale: int = 10,
    checkpointed: bool = False,
) -> Callable[[torch.device], tuple[Action, float]]:
    """Forward, all losses, backward, clipping and a step of Adam."""

    def prepare(device: torch.device) -> tuple[Action, float]:
        experiment = _experiment(scale, network, precision, _crop(device))
        model = _model(experiment.params, precision, device).train()
        checkpoint_blocks(model, checkpointed)
        if device.type == "cuda" and not checkpointed:
            record_encoders(model, True)
        fisher = {name: torch.ones_like(p) for name, p in model.encoder.named_parameters()}
        elastic = ElasticWeights(dict(model.encoder.named_parameters()), fisher)
        crops = _FixedCrops(_stack(scale, device))
        task = FinetuneTask(model, experiment, crops, elastic, None, "all")
        optimiser = torch.optim.Adam(task.parameter_groups(), lr=1e-4)
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        rng = np.random.default_rng(0)

        def step() -> None:
            loss = torch.stack(list(task.training_terms(0, task.draw(rng), rng).values())).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()

        return step, 1

    return prepare


def _encoder_forward(
    network: str, precision: str, scale: int = 10
) -> Callable[[torch.device], tuple[Action, float]]:
    """The network alone, as in enhancing."""

    def prepare(device: torch.device) -> tuple[Action, float]:
        experiment = _experiment(scale, network, precision, _crop(device))
        model = _model(experiment.params, precision, device).eval()
        image = _stack(scale, device)

        def step() -> None:
            with torch.no_grad():
                model.enhance(image)

        return step, 1

    return prepare


def _care_step(device: torch.device) -> tuple[Action, float]:
    """Forward and backward of CARE's published network: 16 slices of 128×128."""
    network = CARE(CARESettings(), 10).to(device).train()
    slices = torch.rand(16, 1, 128, 128, device=device)
    return lambda: network(slices).mean().backward(), 1


def _neuroclear_step(device: torch.device) -> tuple[Action, float]:
    """All terms of Neuroclear's published networks and backward, on 36³; published: 108³."""
    network = Neuroclear(NeuroclearSettings(), 10).to(device).train()
    crop = torch.rand(1, 1, 36, 36, 36, device=device)

    def step() -> None:
        terms = neuroclear_terms(network, crop, np.random.default_rng(0))
        torch.stack(list(terms.values())).sum().backward()

    return step, 1


def _beads_psf(device: torch.device) -> Tensor:
    optics = Optics(NA=0.7, wavelength_um=0.9)
    psf = psf_volume(gibson_lanni(optics), (200, 51, 51), (0.05, 0.05, 0.05))
    return torch.from_numpy(psf).to(device)


def _deconvolve(device: torch.device) -> tuple[Action, float]:
    """Sixty accelerated steps, as before every step of training by default; preparation of both."""
    psf, image = _beads_psf(device), _stack(10, device)

    def action() -> None:
        deconvolve(image, StridedBlur(psf, _crop(device), 10), steps=60, background=0.01)

    return action, 1


def _blur(device: torch.device) -> tuple[Action, float]:
    """A crop of 240×112×112 blurred by the beads' PSF and sampled ×10; transform of both."""
    kernel = _beads_psf(device)
    fine = torch.rand(1, 1, *GPU_CROP, device=device)
    return lambda: StridedBlur(kernel, GPU_CROP, 10)(fine), 1


ROWS = {
    row.name: row
    for row in (
        Row("phantom_object", _phantom_object, 5, 0.024, 33, on_gpu=False),
        Row("crop_from_disk", _crop_from_disk, 9, 0.2, 35, on_gpu=False),
        Row("psf_fit", _psf_fit, 5, 10, 530, on_gpu=False),
        Row("train_step", _train_step("jnet", "bfloat16"), 5, 28, 115, half=True),
        Row(
            "train_step_checkpoint",
            _train_step("jnet", "bfloat16", checkpointed=True),
            5,
            None,
            115,
            half=True,
        ),
        Row("train_step_float32", _train_step("jnet", "float32"), 5, None, 115),
        Row("train_step_coarse", _train_step("coarse", "bfloat16"), 7, 10, 115, half=True),
        Row("encoder_forward", _encoder_forward("jnet", "bfloat16"), 7, 7, 13, half=True),
        Row("encoder_forward_float32", _encoder_forward("jnet", "float32"), 7, None, 13),
        Row(
            "encoder_forward_coarse", _encoder_forward("coarse", "bfloat16"), 9, None, 13, half=True
        ),
        Row("blur", _blur, 15, 1.0, 2.0),
        Row("deconvolve", _deconvolve, 5),
        Row("care_step", _care_step, 3),
        Row("neuroclear_step", _neuroclear_step, 3),
    )
}


def _print(results: Sequence[dict[str, Any]]) -> None:
    """Show the table with the targets and the costs of the published code."""
    heads = ("name", "seconds", "units", "wanted", "published", "peak MiB", "device")
    table = Table(*heads, "GFLOP", "GB", "of the peak", "note")
    for result in results:
        row = ROWS[result["name"]]
        on_gpu = result["device"] == "cuda"  # another crop
        table.add_row(
            row.name,
            f"{result['median_s']:.4g}",
            f"{result['units']:.3g}",
            "" if on_gpu or row.target is None else f"≤ {row.target:g}",
            "" if on_gpu or row.published is None else f"{row.published:g}",
            f"{result['peak_mib']:.0f}",
            result["device"],
            f"{result['gflop']:.3g}" if result["gflop"] else "",
            f"{result['gbyte']:.3g}" if result["gflop"] else "",
            "" if result["of_peak"] is None or not result["gflop"] else f"{result['of_peak']:.0%}",
            result["note"],
        )
    console = Console()
    console.width = max(console.width, 120)  # a file or a log shows the whole table
    console.print(table)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], torch.device(sys.argv[2]), int(sys.argv[3]))))
