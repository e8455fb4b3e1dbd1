"""The table of costs: that what is timed is the real thing. Nothing here is timed."""

import csv
from functools import partial
from pathlib import Path

import pytest
import torch

from tenet.errors import TenetError
from tenet.learn.finetune import FinetuneTask
from tenet.paper import bench
from tenet.paper.baselines.care import CARESettings
from tenet.paper.baselines.neuroclear import NeuroclearSettings

CPU = torch.device("cpu")


def test_calibration_step_is_the_one_described() -> None:
    step = bench.calibration_step(CPU)
    convolution, image = (cell.cell_contents for cell in step.__closure__)
    step()
    assert convolution.weight.shape == (16, 16, 3, 3, 3)
    assert image.shape == (1, 16, 96, 64, 64)
    assert image.grad is not None
    assert convolution.weight.grad is not None


@pytest.mark.parametrize("name", ["train_step", "train_step_coarse"])
def test_training_step_has_all_losses_and_moves_weights(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "CROP", (80, 16, 16))
    steps: list[tuple[FinetuneTask, set[str], list[torch.Tensor]]] = []
    real = FinetuneTask.training_terms

    def noting(task: FinetuneTask, *args, **kwargs):
        terms = real(task, *args, **kwargs)
        weights = [p.detach().clone() for p in task.model.parameters() if p.requires_grad]
        steps.append((task, set(terms), weights))
        return terms

    monkeypatch.setattr(FinetuneTask, "training_terms", noting)
    action, divisor = bench.ROWS[name].prepare(CPU)
    assert divisor == 1
    action()
    task, terms, before = steps[0]
    assert {"reconstruction", "luminance", "quantisation", "psf", "mrf", "ewc"} <= terms
    after = [p for p in task.model.parameters() if p.requires_grad]
    assert sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True)) > 100


def test_a_row_in_bfloat16_says_where_it_is_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    (row,) = bench.run_bench(
        tmp_path / "bench.csv", rows=["encoder_forward_coarse"], device="cpu", repeats=1
    )
    first, *rest = row["note"].split("; ")
    assert first == "in float32: this processor does not multiply bfloat16"
    # A busy machine may be too slow for the operations that the work is compared with.
    assert all(note.endswith(": not timed") for note in rest)
    assert row["floor_s"] > 0


def test_a_row_is_measured_in_its_own_process(tmp_path: Path) -> None:
    out = tmp_path / "bench.csv"
    bench.run_bench(out, rows=["blur"], device="cpu", repeats=1)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(bench.COLUMNS)
    assert [row["name"] for row in rows] == ["blur"]
    row = {key: float(rows[0][key]) for key in bench.COLUMNS[1:5]}
    assert row["units"] == pytest.approx(row["median_s"] / row["calibration_s"], rel=1e-2)
    assert 100 < row["peak_mib"] < 10_000


@pytest.mark.parametrize("name", ["care_step", "neuroclear_step"])
def test_steps_of_baselines_reach_their_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = partial(NeuroclearSettings, channels_3d=(4, 8, 16), linear_channels=4)
    monkeypatch.setattr(bench, "NeuroclearSettings", partial(narrow, discriminator_channels=4))
    monkeypatch.setattr(bench, "CARESettings", partial(CARESettings, channels_2d=(4, 8, 16)))
    action, _ = bench.ROWS[name].prepare(CPU)
    network = next(
        cell.cell_contents
        for cell in action.__closure__
        if isinstance(cell.cell_contents, torch.nn.Module)
    )
    action()
    missing = [n for n, p in network.named_parameters() if p.grad is None]
    assert not missing


def test_unknown_row(tmp_path: Path) -> None:
    with pytest.raises(TenetError, match="no bench row 'nothing'; there are phantom_object"):
        bench.run_bench(tmp_path / "bench.csv", rows=["nothing"])
    assert not any(tmp_path.iterdir())


def test_unknown_device(tmp_path: Path) -> None:
    with pytest.raises(TenetError, match="no bench on device 'gpu'; there are auto, cpu"):
        bench.run_bench(tmp_path / "bench.csv", device="gpu")
