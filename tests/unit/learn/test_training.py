"""Training: going on after an interruption, schedules, what is frozen, and that it learns."""

import csv
import json
import math
import shutil
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tenet.data.phantoms.store import open_phantoms
from tenet.enhance.enhance import enhance_array
from tenet.errors import TenetError
from tenet.io.intensities import IntensityRange, normalise
from tenet.io.open import open_stack
from tenet.io.stack import Stack
from tenet.learn.align import alignment_terms, train_alignment
from tenet.learn.drawn_psfs import _defocus, haze, psfs
from tenet.learn.finetune import (
    FinetuneTask,
    evaluate,
    finetune,
    finetune_task,
    raw_data,
    scan_stretch,
)
from tenet.learn.images import Crops, RawData, SimulatedCrops
from tenet.learn.loop import CHECKPOINT, Plan, _drawn_ahead, averaged, generator_for, train
from tenet.learn.pretrain import (
    Batch,
    PretrainTask,
    Simulator,
    pretrain,
    supervised_terms,
)
from tenet.model import intensity
from tenet.model.intensity import brightest_window, deconvolved_peak, stack_range
from tenet.model.store import (
    FISHER,
    HISTORY,
    MODEL,
    OPTIMISER,
    digest,
    load_model,
    load_tensors,
    read_provenance,
    read_told,
    save_model,
    save_tensors,
)
from tenet.model.tenet import TENET
from tenet.model.trained import TrainedModel
from tenet.physics.optics import psf_fwhm_um
from tenet.settings.schema import (
    Experiment,
    FreeMicroscopes,
    Microscopes,
    Optimisation,
    parse_experiment,
)
from tenet.settings.sections import merge

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    "name": "tiny",
    "params": {
        "NA": 0.7, "wavelength": 0.9, "res_lateral": 0.1, "res_axial": 0.3, "scale": 3,
        "size_z": 15, "size_y": 7, "size_x": 7, "hidden_channels_list": [2, 4], "nblocks": 1,
        "dropout": 0.3, "psf_sampling": "continuous", "poisson_weight": 0.05, "sig_eps": 0.02,
        "blur_mode": "gaussian", "bet_z": 1.0, "bet_xy": 1.5, "nipsf_loss_target": 1e-4,
    },
    "pretrain_dataset": {"cropsize": [12, 16, 16], "I": 6, "low": 0, "high": 2, "mask": True,
                         "mask_num": 1, "mask_size": [1, 4, 4]},
    "pretrain_val_dataset": {"cropsize": [12, 16, 16], "I": 2, "low": 2, "high": 3},
    "pretrain_loop": {"n_epochs": 4, "lr": 0.01, "batch_size": 2, "ema_decay": 0.9,
                      "is_vibrate": True, "warmup_epochs": 2},
    "vibration": {"max_step": 4},
    "train_dataset": {"cropsize": [12, 16, 16], "I": 4, "mask": True, "mask_num": 1,
                      "mask_size": [1, 4, 4]},
    "val_dataset": {"cropsize": [12, 16, 16], "I": 2},
    "train_loop": {"n_epochs": 3, "lr": 0.01, "ewc_batches": 3, "warmup_epochs": 2,
                   "mrfloss_weights": {"l_00": -0.5, "l_01": 0.5, "l_10": 1, "l_11": -1}},
}  # fmt: skip


def tiny(**sections: Any) -> Experiment:
    return parse_experiment(merge(SETTINGS, sections))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterable[None]:
    """Small tensors: threads would only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pretrained(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    pretrain(tiny(), phantom_folder, folder, device=CPU)
    return folder


@pytest.fixture(scope="module")
def data(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RawData:
    """Two raw stacks of camera counts, made from phantoms by averaging planes."""
    folder = tmp_path_factory.mktemp("stacks")
    stacks: list[Stack] = []
    for index, phantom in enumerate(open_phantoms(phantom_folder)[:2]):
        _, brightness = phantom.read(slice(0, 24), slice(0, 40), slice(0, 40))
        counts = 100 + 3000 * brightness.reshape(8, 3, 40, 40).mean(1)
        np.save(folder / f"{index}.npy", counts.astype(np.uint16))
        stacks.append(open_stack(folder / f"{index}.npy"))
    return RawData.prepare(stacks, stacks[:1], "percentile")


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / HISTORY).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def differences(first: Any, second: Any, where: str = "") -> list[str]:
    """Where two nested states are not equal bit for bit."""
    if isinstance(first, Tensor):
        return [] if torch.equal(first, second) else [where]
    if isinstance(first, Mapping):
        if first.keys() != second.keys():
            return [f"{where} keys"]
        return [d for key in first for d in differences(first[key], second[key], f"{where}.{key}")]
    if isinstance(first, list | tuple):
        pairs = enumerate(zip(first, second, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{where}[{i}]")]
    return [] if first == second else [where]


# A task that is easy: the mean of noisy numbers


class Easy:
    """Learn a line from noisy points; may be interrupted in the middle of an epoch."""

    def __init__(self, stop_at: tuple[int, int] | None = None) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(1, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1)
        )
        self.stop_at, self.step = stop_at, 0

    def parameter_groups(self) -> list[dict[str, Any]]:
        first, *_, last = self.model
        return [{"params": first.parameters()}, {"params": last.parameters(), "lr": 0.02}]

    def draw(self, rng: np.random.Generator) -> None:
        return None

    def loss(self, model: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
        x = torch.from_numpy(rng.normal(size=(16, 1)).astype(np.float32))
        y = 3 * x + 1 + torch.from_numpy(rng.normal(0, 0.1, (16, 1)).astype(np.float32))
        error = (model(x) - y).square().mean()
        return {"fit": error, "size": 1e-3 * sum(p.square().sum() for p in model.parameters())}

    def training_terms(
        self, epoch: int, drawn: Any, rng: np.random.Generator
    ) -> Mapping[str, Tensor]:
        self.step += 1
        if self.stop_at is not None and epoch == self.stop_at[0]:
            self.stop_at = (epoch, self.stop_at[1] - 1)
            if self.stop_at[1] < 0:
                raise KeyboardInterrupt
        return self.loss(self.model, rng)

    def validation_terms(self, model: nn.Module) -> Iterable[Mapping[str, Tensor]]:
        return (self.loss(model, generator_for(99, index)) for index in range(3))


def drawn_batch(simulator: Simulator, model: TENET, epoch: int, rng: np.random.Generator) -> Batch:
    return simulator.batch(model.microscope(), simulator.draw(1, rng), epoch, rng)


def crops_of(task: FinetuneTask, part: str, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    return task.images.batch(part, task.images.draw(part, 1, rng), rng)


class Deeper(Easy):
    """With a matrix between vectors, as Muon wants it."""

    def __init__(self, stop_at: tuple[int, int] | None = None) -> None:
        super().__init__(stop_at)
        self.model.insert(1, nn.Linear(8, 8))

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": self.model.parameters()}]


def plan(folder: Path, *, identity: str = "easy", best_over: int = 1, **settings: Any) -> Plan:
    values = {"n_epochs": 5, "lr": 0.01, "schedule": "cosine", "warmup_steps": 3} | settings
    return Plan(Optimisation(**values), folder, 4, 11, best_over, identity)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ema_decay": 0.8, "optimizer": "adamw", "weight_decay": 0.1},
        {"ema_decay": 0.8, "optimizer": "muon", "weight_decay": 0.1},
        {"schedule": "plateau", "warmup_epochs": 2, "gradient_norm": 1.0},
        {"schedule": "wsd", "ema_decay": 0.8, "es_patience": 1, "decay_epochs": 2},
    ],
    ids=["cosine", "ema-adamw", "ema-muon", "plateau", "wsd"],
)
@pytest.mark.parametrize("stop_at", [(0, 2), (1, 0), (3, 3)], ids=str)
def test_interrupted_equals_uninterrupted(
    tmp_path: Path, settings: dict[str, Any], stop_at: tuple[int, int]
) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    task = Deeper if settings.get("optimizer") == "muon" else Easy
    uninterrupted, stopped, resumed = task(), task(stop_at), task()
    state = train(uninterrupted, plan(whole, **settings))
    with pytest.raises(KeyboardInterrupt):
        train(stopped, plan(part, **settings))
    assert (part / CHECKPOINT).exists() is (stop_at[0] > 0)
    torch.manual_seed(12345)  # whatever else was drawn meanwhile
    resumed_state = train(resumed, plan(part, **settings))
    assert resumed.step == 4 * (5 - stop_at[0])  # whole epochs are not done again
    assert differences(uninterrupted.model.state_dict(), resumed.model.state_dict()) == []
    assert differences(state, resumed_state) == []
    assert history(whole) == history(part)
    assert len(history(whole)) == 5


def test_weights_are_averaged_with_a_decay_that_rises() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = averaged(model, 0.7)
    expected = None
    for step in range(1, 9):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.fill_(step**2)
        average.update(model, step)
        share = max(step ** (-2 / 3), 0.3)
        expected = step**2 if expected is None else (1 - share) * expected + share * step**2
        for name, tensor in average.module.state_dict().items():
            value = expected if tensor.is_floating_point() else step**2
            torch.testing.assert_close(tensor, torch.full_like(tensor, value), msg=name)


def test_a_checkpoint_of_another_version_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(Easy((3, 0)), plan(tmp_path))
    state = load_tensors(tmp_path / CHECKPOINT)
    del state["layout"]
    save_tensors(tmp_path / CHECKPOINT, state)
    task = Easy()
    train(task, plan(tmp_path))
    assert "is of another version" in capsys.readouterr().out
    assert task.step == 4 * 5  # all of it


def test_accumulated_batches_make_the_step_of_one_large_batch(tmp_path: Path) -> None:
    """Without batch norm and dropout, two batches of 16 points are one of 32."""

    class Line(Easy):
        points = 16

        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Sequential(nn.Linear(1, 1))

        def parameter_groups(self) -> list[dict[str, Any]]:
            return [{"params": self.model.parameters()}]

        def loss(self, model: nn.Module, rng: np.random.Generator) -> dict[str, Tensor]:
            x = torch.from_numpy(rng.normal(size=(self.points, 1)).astype(np.float32))
            return {"fit": (model(x) - 3 * x).square().mean()}

    class Large(Line):
        points = 32

    small, large = Line(), Large()
    train(small, plan(tmp_path / "small", accumulate=2))
    train(large, plan(tmp_path / "large"))
    assert small.step == 2 * large.step
    for name, weight in large.model.state_dict().items():
        torch.testing.assert_close(small.model.state_dict()[name], weight)
    rows = [history(tmp_path / name) for name in ("small", "large")]
    assert [float(r["training"]) for r in rows[0]] == pytest.approx(
        [float(r["training"]) for r in rows[1]]
    )


def test_checkpoint_holds_the_same_after_a_resumption(tmp_path: Path) -> None:
    """Averaged weights, schedule and best score too, which the final model does not show."""
    settings = {"ema_decay": 0.8, "schedule": "plateau", "warmup_epochs": 1}
    for folder, stops in (("once", [(4, 1)]), ("twice", [(2, 3), (4, 1)])):
        for stop_at in stops:
            with pytest.raises(KeyboardInterrupt):
                train(Easy(stop_at), plan(tmp_path / folder, **settings))
    once, twice = (load_tensors(tmp_path / f / CHECKPOINT) for f in ("once", "twice"))
    for state in (once, twice):
        rows = json.loads(state.pop("history"))
        assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert differences(once, twice) == []


def test_checkpoint_of_other_settings_is_not_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(Easy((2, 1)), plan(tmp_path / "a", identity="one"))
    other = Easy()
    train(other, plan(tmp_path / "a", identity="another"))
    assert other.step == 4 * 5
    assert "other settings or data" in capsys.readouterr().out
    fresh = Easy()
    train(fresh, plan(tmp_path / "b", identity="another"))
    assert differences(fresh.model.state_dict(), other.model.state_dict()) == []


def test_loss_falls_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    task = Easy()
    train(task, plan(tmp_path, n_epochs=40, schedule="constant", lr=0.05))
    rows = history(tmp_path)
    validation = [float(row["validation"]) for row in rows]
    assert min(validation) < 0.2 * validation[0]
    task.model.eval()
    with torch.no_grad():
        batches = [sum(t.item() for t in terms.values()) for terms in
                   task.validation_terms(task.model)]  # fmt: skip
    assert sum(batches) / len(batches) == pytest.approx(min(validation), rel=1e-5)
    # Each term has a column, and they add up.
    for row in rows:
        parts = float(row["validation_fit"]) + float(row["validation_size"])
        assert parts == pytest.approx(float(row["validation"]), rel=1e-6)
    assert any((tmp_path / "tensorboard").iterdir())


def test_the_next_batch_is_read_while_a_step_is_worked_on(tmp_path: Path) -> None:
    read: list[threading.Event] = [threading.Event() for _ in range(5)]

    class Waiting(Easy):
        def __init__(self) -> None:
            super().__init__()
            self.drawn = self.worked = 0

        def draw(self, rng: np.random.Generator) -> None:
            assert threading.current_thread() is not threading.main_thread()
            read[self.drawn].set()
            self.drawn += 1

        def training_terms(
            self, epoch: int, drawn: Any, rng: np.random.Generator
        ) -> Mapping[str, Tensor]:
            self.worked += 1
            assert self.worked == 4 or read[self.worked].wait(timeout=60)
            return super().training_terms(epoch, drawn, rng)

    task = Waiting()
    train(task, plan(tmp_path, n_epochs=1))
    assert task.drawn == task.worked == 4


def test_several_readers_draw_what_one_does(phantom_folder: Path, tmp_path: Path) -> None:
    """In its order, though they are done in another; from volumes that they open at once."""
    settings = plan(tmp_path, n_epochs=1)
    drawn = []
    for readers in (1, 4):
        task = PretrainTask(TENET(tiny().params), tiny(), open_phantoms(phantom_folder), seed=0)
        ahead = _drawn_ahead(task, settings, 2, readers)
        drawn.append([(rng.integers(2**32), *crops) for rng, crops in ahead])
    assert len(drawn[0]) == settings.steps_per_epoch > 1
    assert differences(*drawn) == []
    assert differences(drawn[0][0], drawn[0][1]) != []


class Worsening(Easy):
    """Gets worse after the third epoch, whatever is done."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs = 0

    def validation_terms(self, model: nn.Module) -> Iterable[Mapping[str, Tensor]]:
        self.epochs += 1
        return [{"score": torch.tensor(abs(self.epochs - 3.0))}]


@pytest.mark.parametrize(("patience", "epochs"), [(1, 4), (2, 5), (4, 7), (None, 9)])
def test_early_stopping_stops(tmp_path: Path, patience: int | None, epochs: int) -> None:
    train(Worsening(), plan(tmp_path, n_epochs=9, es_patience=patience))
    assert len(history(tmp_path)) == epochs


@pytest.mark.parametrize(("patience", "epochs"), [(1, 6), (2, 7), (None, 9)])
def test_wsd_ends_when_its_rate_has_fallen(
    tmp_path: Path, patience: int | None, epochs: int
) -> None:
    settings = {"schedule": "wsd", "es_patience": patience, "decay_epochs": 2}
    train(Worsening(), plan(tmp_path, n_epochs=9, **settings))
    rates = [float(row["learning_rate"]) for row in history(tmp_path)]
    assert len(rates) == epochs
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert rates[-3] == pytest.approx(0.01)


def test_best_over_several_epochs(tmp_path: Path) -> None:
    """Means of three: 2, 1.5, 1, 0.67, 1 … so that the fourth epoch is best, not the third."""
    train(Worsening(), plan(tmp_path, n_epochs=9, es_patience=2, best_over=3))
    assert len(history(tmp_path)) == 6


def test_loss_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    class Bad(Easy):
        def training_terms(
            self, epoch: int, drawn: Any, rng: np.random.Generator
        ) -> Mapping[str, Tensor]:
            terms = super().training_terms(epoch, drawn, rng)
            return {**terms, "fit": terms["fit"] * (math.nan if epoch == 1 else 1)}

    with pytest.raises(TenetError, match="not finite in epoch 2"):
        train(Bad(), plan(tmp_path))


# Learning rates


def rates(folder: Path) -> list[float]:
    return [float(row["learning_rate"]) for row in history(folder)]


def test_cosine(tmp_path: Path) -> None:
    """Up to the base over the warm-up, then down to 0 at the very end."""
    train(Easy(), plan(tmp_path, n_epochs=5, lr=0.01, warmup_steps=8))
    # Noted after the last step of an epoch: that of the next step, 4, 8, 12, 16, 20 of 20.
    expected = [0.01 * 5 / 8] + [
        0.01 * 0.5 * (1 + math.cos(math.pi * (step - 8) / 12)) for step in (8, 12, 16, 20)
    ]
    assert rates(tmp_path) == pytest.approx(expected, abs=1e-12)
    assert rates(tmp_path)[-1] == pytest.approx(0, abs=1e-12)


def test_groups_keep_their_own_rates(tmp_path: Path) -> None:
    state = train(Easy(), plan(tmp_path, n_epochs=2, lr=0.01, schedule="constant"))
    assert [group["lr"] for group in state["param_groups"]] == [0.01, 0.02]
    state = train(Easy(), plan(tmp_path / "cosine", n_epochs=2, lr=0.01, warmup_steps=16))
    assert [group["lr"] for group in state["param_groups"]] == pytest.approx(
        [0.01 * 9 / 16, 0.02 * 9 / 16]
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"step": torch.tensor(-5.0)}, {"step": torch.ones(3)}, {"step": None}, {"step": [1]},
        {"step": torch.tensor(torch.nan)}, {"step": "soon"}, {"exp_avg": torch.ones(7)},
        {"exp_avg_sq": torch.full((8, 1), -1.0)}, {"exp_avg": torch.ones(8, 1).to("meta")},
    ],
    ids=str,
)  # fmt: skip
def test_what_no_optimiser_remembers_is_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    state = train(Easy(), plan(tmp_path / "first", n_epochs=1))
    state["state"][0] |= changed
    with pytest.raises(TenetError, match="the pre-trained model's optimiser, parameter 0") as error:
        train(Easy(), plan(tmp_path / "second", n_epochs=1), optimiser_state=state)
    assert "\n" not in str(error.value)


def test_moments_have_memory_of_their_own(tmp_path: Path) -> None:
    """One number that stands for all cannot be written to."""
    state = train(Easy(), plan(tmp_path / "first", n_epochs=1))
    state["state"][0]["exp_avg"] = torch.zeros(1).expand(8, 1)
    state["state"][0]["exp_avg_sq"] = torch.ones(8, 1, dtype=torch.float64)
    after = train(Easy(), plan(tmp_path / "second", n_epochs=1), optimiser_state=state)
    assert after["state"][0]["exp_avg_sq"].dtype == torch.float32


def test_optimiser_goes_on_with_its_own_rate(tmp_path: Path) -> None:
    """Moments and step counts of an earlier training, learning rates of this one."""
    before = train(Easy(), plan(tmp_path / "first", schedule="constant", optimizer="adam"))
    assert before["state"][0]["step"] == 20
    again = plan(tmp_path / "second", n_epochs=1, schedule="constant", lr=0.003)
    after = train(Easy(), again, optimiser_state=before)
    assert after["state"][0]["step"] == 24
    assert after["param_groups"][0]["lr"] == 0.003


def test_momentum_of_muon_is_no_moment_of_adam(tmp_path: Path) -> None:
    """Adam begins afresh where Muon was, and goes on where Muon was AdamW."""
    before = train(Deeper(), plan(tmp_path / "first", optimizer="muon"))
    after = train(Deeper(), plan(tmp_path / "second", n_epochs=1), optimiser_state=before)
    steps = [int(after["state"][n]["step"]) for n in range(4)]  # two layers' weights and biases
    assert steps == [24, 24, 4, 24]


class Stuck(Easy):
    """Never gets better."""

    def validation_terms(self, model: nn.Module) -> Iterable[Mapping[str, Tensor]]:
        return [{"score": torch.tensor(1.0)}]


def test_plateau(tmp_path: Path) -> None:
    """Five epochs of warm-up; then a tenth after each ten epochs that bring nothing."""
    train(Stuck(), plan(tmp_path, n_epochs=30, schedule="plateau", lr=0.01, warmup_epochs=5))
    found = rates(tmp_path)
    # Noted at the end of an epoch, so already that of the next one.
    assert found[:4] == pytest.approx([0.004, 0.006, 0.008, 0.01])
    falls = [i for i in range(5, 30) if found[i] < 0.5 * found[i - 1]]
    assert len(falls) == 2
    assert falls[1] - falls[0] == 11
    assert found[-1] == pytest.approx(0.01 / 100)


# Pre-training


class Interrupting:
    """A task's wrapper that stops in the middle of an epoch."""

    def __init__(self, task: Any, epoch: int, steps: int) -> None:
        self.task, self.epoch, self.steps = task, epoch, steps
        self.model = task.model

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def training_terms(
        self, epoch: int, drawn: Any, rng: np.random.Generator
    ) -> Mapping[str, Tensor]:
        terms = self.task.training_terms(epoch, drawn, rng)
        if epoch == self.epoch:
            self.steps -= 1
            if self.steps == 0:
                raise KeyboardInterrupt
        return terms


def interrupt(monkeypatch: pytest.MonkeyPatch, module: str, epoch: int) -> None:
    """Let the next training of a module be stopped in the second step of an epoch."""

    def stopping(task: Any, plan: Plan, **kwargs: Any) -> Any:
        return train(Interrupting(task, epoch, 2), plan, **kwargs)

    monkeypatch.setattr(f"tenet.learn.{module}.train", stopping)


def test_interrupted_pretraining_equals_uninterrupted(
    phantom_folder: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole of it: crops, motion, noise, masks, dropout, averages, Fisher information."""
    with monkeypatch.context() as patch:
        interrupt(patch, "pretrain", epoch=2)
        with pytest.raises(KeyboardInterrupt):
            pretrain(tiny(), phantom_folder, tmp_path, device=CPU)
    assert not (tmp_path / MODEL).exists()
    pretrain(tiny(), phantom_folder, tmp_path, device=CPU)
    for name in (MODEL, OPTIMISER, FISHER):
        once, resumed = load_tensors(pretrained / name), load_tensors(tmp_path / name)
        assert differences(once, resumed, name) == []
    assert history(pretrained) == history(tmp_path)
    assert len(history(tmp_path)) == 4


def test_pretraining_moves_the_encoder_alone(
    phantom_folder: Path, pretrained: Path, tmp_path: Path
) -> None:
    model, experiment = load_model(pretrained)
    assert experiment == tiny()
    start = TENET(experiment.params)
    start.initialise(generator_for(0, 1))
    moved = {
        name.split(".")[0]
        for name, value in start.state_dict().items()
        if not torch.equal(value, model.state_dict()[name])
    }
    assert moved == {"encoder"}
    fisher = load_tensors(pretrained / FISHER)
    weights = dict(model.encoder.named_parameters())
    assert fisher["parameters"].keys() == fisher["fisher"].keys() == weights.keys()
    assert differences(fisher["parameters"], {n: w.detach() for n, w in weights.items()}) == []
    assert all((value >= 0).all() for value in fisher["fisher"].values())
    assert sum(value.sum() for value in fisher["fisher"].values()) > 0


def test_a_pretraining_may_begin_with_the_encoder_of_another_model(
    phantom_folder: Path, pretrained: Path, tmp_path: Path
) -> None:
    hardly = {"n_epochs": 1, "lr": 1e-9, "ema_decay": None}
    experiment = tiny(params={"NA": 0.5}, pretrain_loop=hardly)
    with_start = {"start": pretrained, "device": CPU}
    model = pretrain(experiment, phantom_folder, tmp_path / "a", **with_start)
    other, _ = load_model(pretrained)
    for name, weight in other.encoder.named_parameters():
        torch.testing.assert_close(model.encoder.get_parameter(name), weight, atol=1e-6, rtol=0)
    drawn = pretrain(experiment, phantom_folder, tmp_path / "b", device=CPU)
    assert torch.equal(model.psf.radial(), drawn.psf.radial())  # the PSF is that of the settings
    assert not torch.allclose(model.encoder.stem.weight, drawn.encoder.stem.weight)
    record = json.loads((tmp_path / "a" / "provenance.json").read_text())
    assert record["start"] == digest(pretrained / MODEL)
    # Without the start the training is another one.
    assert len({read_provenance(tmp_path / name).identity for name in "ab"}) == 2
    wider = tiny(params={"hidden_channels_list": [4, 8]})
    with pytest.raises(TenetError, match=r"the encoder of .*pretrained"):
        pretrain(wider, phantom_folder, tmp_path / "c", **with_start)


def test_pretraining_learns(phantom_folder: Path, tmp_path: Path) -> None:
    experiment = tiny(
        params={"dropout": 0.0, "hidden_channels_list": [4, 8]},
        pretrain_dataset={"I": 16, "mask": False},
        pretrain_loop={"n_epochs": 8, "loss_fnx": "bce_dice", "optimizer": "adamw",
                       "schedule": "cosine", "warmup_steps": 4, "is_vibrate": False,
                       "ema_decay": None},
    )  # fmt: skip
    pretrain(experiment, phantom_folder, tmp_path, device=CPU)
    rows = history(tmp_path)
    first, last = (float(rows[i]["validation_shape"]) for i in (0, -1))
    assert last < 0.8 * first


def test_statistics_of_the_norms_stay_in_the_last_epochs(phantom_folder: Path) -> None:
    """The network then learns in the mode that it is used in."""
    experiment = tiny(pretrain_loop={"n_epochs": 4, "frozen_norm": 0.5})
    model = TENET(experiment.params)
    task = PretrainTask(model, experiment, open_phantoms(phantom_folder), 0)

    def after(epoch: int) -> Tensor:
        model.train()  # as at the beginning of each epoch
        rng = generator_for(0, epoch)
        terms = task.training_terms(epoch, task.draw(rng), rng)
        sum(terms.values(), torch.zeros(())).backward()
        return torch.cat([part for name, part in model.named_buffers() if "running" in name])

    first, second, third, fourth = (after(epoch) for epoch in range(4))
    assert not torch.equal(first, second)
    assert torch.equal(second, third)
    assert torch.equal(second, fourth)
    for parameter in model.encoder.parameters():
        assert parameter.grad is not None
    assert not torch.equal(second, after(0))


def test_users_own_phantoms(tmp_path: Path) -> None:
    """A folder of .npz files with shape and brightness serves as it is."""
    folder = tmp_path / "mine"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        shape = (rng.random((12, 20, 20)) > 0.7).astype(np.uint8)
        np.savez(folder / f"{index}.npz", shape=shape, brightness=0.5 * shape.astype(np.float32))
    experiment = tiny(pretrain_loop={"n_epochs": 1})
    pretrain(experiment, folder, tmp_path / "model", device=CPU)
    assert (tmp_path / "model" / MODEL).exists()


def test_data_sets_without_phantoms_are_an_error(phantom_folder: Path, tmp_path: Path) -> None:
    """Before the PSF is fitted, which may take minutes."""
    for name in ("pretrain_dataset", "pretrain_val_dataset"):
        said = f"{name} takes phantoms 3 to 8, counted from 0, and there are 3: make more"
        with pytest.raises(TenetError, match=said):
            pretrain(tiny(**{name: {"low": 3, "high": 9}}), phantom_folder, tmp_path, device=CPU)
        assert not list(tmp_path.iterdir())


# Many microscopes


def test_drawn_psfs_span_the_nominal_one_and_are_in_focus() -> None:
    params = tiny(
        params={"blur_mode": "gibsonlanni", "size_z": 61, "size_y": 21, "size_x": 21}
    ).params
    many = Microscopes(count=12, na_spread=0.25, depth=4)
    drawn = psfs(params, many, np.random.default_rng(0))
    again = psfs(params, many, np.random.default_rng(0))
    assert all(torch.equal(a.true, b.true) for a, b in zip(drawn, again, strict=True))
    assert all(psf.true is psf.nominal for psf in drawn)
    nominal = psf_fwhm_um(
        psfs(params, Microscopes(count=1), np.random.default_rng(0))[0].nominal.numpy(),
        params.fine_voxel_size_um,
    )
    ratios = []
    for psf, *_ in drawn:
        assert float(psf.sum()) == pytest.approx(1, abs=1e-5)
        assert abs(int(psf[:, 10, 10].argmax()) - 30) <= 1
        ratios.append(
            psf_fwhm_um(psf.numpy(), params.fine_voxel_size_um)["lateral"] / nominal["lateral"]
        )
    assert 1 / 1.25 - 0.05 < min(ratios) < 0.95
    assert 1.05 < max(ratios) < 1 / 0.75 + 0.1


def test_haze_is_light_that_the_network_is_not_told_of() -> None:
    params = tiny(params={"size_z": 31, "size_y": 11, "size_x": 11}).params
    hazy = psfs(params, Microscopes(count=8, most_haze=0.4), np.random.default_rng(0))
    shares = []
    for true, nominal, *_ in hazy:
        assert float(true.sum()) == pytest.approx(1, abs=1e-5)
        assert float(nominal.sum()) == pytest.approx(1, abs=1e-5)
        # Far from the middle there is nothing else.
        share = float(true[0, 5, 5] - nominal[0, 5, 5]) / float(
            haze(nominal)[0, 5, 5] - nominal[0, 5, 5]
        )
        torch.testing.assert_close(true, torch.lerp(nominal, haze(nominal), share))
        shares.append(share)
    assert 0 <= min(shares) < 0.2 < max(shares) <= 0.4


def test_told_psfs_are_longer_and_shorter_than_those_of_the_images() -> None:
    params = tiny(params={"size_z": 91, "size_y": 41, "size_x": 41, "bet_z": 3, "bet_xy": 5}).params
    wrong = Microscopes(count=16, told_length=1.5)
    ratios = []
    for true, told, *_ in psfs(params, wrong, np.random.default_rng(0)):
        widths = [psf_fwhm_um(p.numpy(), params.fine_voxel_size_um) for p in (true, told)]
        ratios.append(widths[1]["axial"] / widths[0]["axial"])
        across = widths[1]["lateral"] / widths[0]["lateral"]
        assert across == pytest.approx(ratios[-1] ** 0.5, rel=0.02)
    assert 1 / 1.52 < min(ratios) < 0.8
    assert 1.25 < max(ratios) < 1.52


def test_free_microscopes_have_every_proportion_within_their_ranges() -> None:
    ranges = FreeMicroscopes(
        scales=(2, 5, 12), apertures=(0.4, 1.0), pixels=(2, 5), planes=(1, 8), one_photon=0.3
    )
    params = tiny(params=TWO_PHOTONS).params
    drawn = psfs(params, Microscopes(count=40, free=ranges), np.random.default_rng(0))
    assert {psf.scale for psf in drawn} == {2, 5, 12}
    apertures, photons = [], set()
    for psf in drawn:
        step_um, pixel_um, _ = psf.voxel_size_um
        assert step_um == pytest.approx(psf.scale * pixel_um)
        assert float(psf.true.sum()) == pytest.approx(1, abs=1e-5)
        width = psf_fwhm_um(psf.true.numpy(), (pixel_um,) * 3)
        assert 1.8 < width["lateral"] / pixel_um < 5.4
        assert 0.9 < width["axial"] / step_um < 8.6
        # FWHM along z over that across depends on the aperture alone, two photons or one.
        apertures.append(3.47 * 1.33 * width["lateral"] / width["axial"])
        whole = psf.true.sum((1, 2))
        photons.add(float(whole.min() / whole.max()) > 0.5)  # each plane holds as much light
    assert 0.38 < min(apertures) < 0.5 < 0.9 < max(apertures) < 1.3
    assert photons == {True, False}


def test_ranges_of_free_microscopes_that_exclude_one_another_are_refused() -> None:
    never = FreeMicroscopes(scales=(1,), pixels=(1.5, 1.6), planes=(90, 100), apertures=(1, 1.1))
    with pytest.raises(TenetError, match=r"widen pixels, planes or scales"):
        psfs(
            tiny(params=TWO_PHOTONS).params,
            Microscopes(count=1, free=never),
            np.random.default_rng(0),
        )


def test_simulated_crops_have_the_planes_of_a_free_microscope(phantom_folder: Path) -> None:
    settings = tiny(params=TWO_PHOTONS | {"network": "cells", "deconvolution_steps": 2})
    free = FreeMicroscopes(scales=(2, 4, 5), pixels=(1.5, 2), planes=(0.8, 6))
    settings = settings.model_copy(update={"microscopes": Microscopes(count=20, free=free)})
    model = TENET(settings.params)
    model.initialise(np.random.default_rng(0))
    task = PretrainTask(model, settings, open_phantoms(phantom_folder), 0)
    rng, scales = np.random.default_rng(0), set()
    for _ in range(30):
        batch = task.batch(task.training, task.draw(rng), 0, rng)
        scales.add(batch.blur.scale)
        planes = settings.pretrain_dataset.cropsize[0] // batch.blur.scale
        assert batch.image.shape[2] == planes
        assert batch.shape.shape[2] == planes * batch.blur.scale
        terms = supervised_terms(model, settings.pretrain_loop, batch)
        assert all(torch.isfinite(term) for term in terms.values())
    assert scales == {2, 4, 5}


TWO_PHOTONS = {
    "blur_mode": "gibsonlanni",
    "photons": 2,
    "NA": 0.8,
    "wavelength": 0.92,
    "res_axial": 0.36,
    "res_lateral": 0.12,
    "size_z": 121,
    "size_y": 31,
    "size_x": 31,
}


def _tail(psf: Tensor) -> float:
    """Share of the light of a line that is more than half of its grid's half from focus."""
    line = psf[:, :, psf.shape[2] // 2].sum(1)
    middle = len(line) // 4
    return float(1 - line[middle:-middle].sum() / line.sum())


def test_an_emptier_pupil_has_longer_tails_at_the_same_length() -> None:
    params = tiny(params=TWO_PHOTONS).params
    even = psfs(params, Microscopes(count=1), np.random.default_rng(0))[0].true
    width = psf_fwhm_um(even.numpy(), params.fine_voxel_size_um)["axial"]
    filled = psfs(params, Microscopes(count=6, least_fill=0.4), np.random.default_rng(0))
    for true, told, *_ in filled:
        assert told is true
        own = psf_fwhm_um(true.numpy(), params.fine_voxel_size_um)["axial"]
        assert own == pytest.approx(width, rel=0.1)
    assert max(_tail(true) for true, *_ in filled) > 3 * _tail(even)


def test_told_forms_lie_between_two_draws() -> None:
    params = tiny(params=TWO_PHOTONS).params
    forms = Microscopes(count=6, least_fill=0.4, most_spherical=0.3, told_form=1)
    drawn = psfs(params, forms, np.random.default_rng(0))
    assert all(not torch.equal(true, told) for true, told, *_ in drawn)
    skewed = [float((true - true.flip(0)).abs().sum()) for true, *_ in drawn]
    assert max(skewed) > 0.1
    signs = {np.sign(_tail(told) - _tail(true)) for true, told, *_ in drawn}
    assert signs == {-1, 1}


@pytest.mark.parametrize("fill", [0.3, 0.7, 2.0, 9.0, None])
def test_spread_of_defocus_is_that_over_the_pupil(fill: float | None) -> None:
    squared = (np.arange(200_000) + 0.5) / 200_000  # ρ², evenly
    weights = np.ones_like(squared) if fill is None else np.exp(-squared / fill**2)
    spread = math.sqrt(np.cov(squared, aweights=weights))
    assert _defocus(fill) == pytest.approx(spread, rel=1e-4)


@pytest.mark.parametrize("depth_um", [0.0, 30.0, 1000.0])
def test_focus_is_found_to_a_tenth_of_a_fine_voxel_at_any_depth(depth_um: float) -> None:
    params = tiny(
        params={"blur_mode": "gibsonlanni", "pZ": depth_um, "NA": 0.7, "res_axial": 0.3}
    ).params
    z_um = np.linspace(-2, 2, 4001)  # 1 nm
    on_axis = params.focused_psf()(z_um, np.zeros(1))[:, 0]
    assert abs(z_um[int(on_axis.argmax())]) <= params.fine_voxel_size_um[0] / 10


def test_gaussian_psfs_follow_the_aperture() -> None:
    """Width goes as 1/NA across and 1/NA² along the axis."""
    params = tiny(params={"size_z": 61, "size_y": 41, "size_x": 41, "bet_z": 3, "bet_xy": 5}).params
    for psf, *_ in psfs(params, Microscopes(count=6, na_spread=0.25), np.random.default_rng(1)):
        width = psf_fwhm_um(psf.numpy(), params.fine_voxel_size_um)
        across = width["lateral"] / (2 * math.sqrt(math.log(2)) * 5 * 0.1)
        along = width["axial"] / (2 * math.sqrt(math.log(2)) * 3 * 0.3)
        assert along == pytest.approx(across**2, rel=0.05)


def test_light_reaches_a_crop_from_its_margin(pretrained: Path, phantom_folder: Path) -> None:
    model, experiment = load_model(pretrained)
    section = experiment.pretrain_dataset.model_copy(update={"margin": (3, 4, 4), "mask": False})
    simulator = Simulator(open_phantoms(phantom_folder), section, 3, noise=False)
    extra = 0.0
    for seed in range(5):
        batch = drawn_batch(simulator, model, 0, np.random.default_rng(seed))
        assert batch.shape.shape == (1, 1, 12, 16, 16)
        assert batch.image.shape == (1, 1, 4, 16, 16)
        own = batch.blur(batch.brightness * batch.shape).detach()
        assert float((batch.image - own).min()) > -1e-5
        extra += float((batch.image - own).mean() / own.mean())
    assert extra > 0.01


# Fine-tuning


def range_for(folder: Path, stack: Stack, method: str = "percentile") -> IntensityRange:
    """Intensities of a stack that become 0 and 1 for the model of a folder as it now is."""
    return TrainedModel.load(folder).intensity_range(stack, method)


def test_stacks_are_brought_to_the_level_of_the_phantoms(
    data: RawData, pretrained: Path, tmp_path: Path
) -> None:
    """After deconvolution the brightest signal of a stack is what it was on the phantoms."""
    raw = data.validation[0].read()
    raw = raw + np.random.default_rng(0).normal(0, 10, raw.shape).astype(np.float32)
    np.save(tmp_path / "stack.npy", raw)
    stack = open_stack(tmp_path / "stack.npy")
    calibrated = tmp_path / "calibrated"
    shutil.copytree(pretrained, calibrated)
    (calibrated / "threshold.json").write_text('{"threshold": 0.3, "deconvolved_level": 0.2}')
    model, _ = load_model(calibrated)
    range_ = range_for(calibrated, stack)
    assert deconvolved_peak(model, normalise(raw, range_)) == pytest.approx(0.2, rel=0.1)
    assert range_for(calibrated, stack, "minmax") == stack_range(stack, "minmax")
    with pytest.raises(TenetError, match="0 to 1"):
        range_for(calibrated, stack, "none")
    assert range_for(pretrained, stack) == stack_range(stack, "percentile")

    # The detector's gain and offset make no difference.
    np.save(tmp_path / "other.npy", 7 * raw + 31)
    other = open_stack(tmp_path / "other.npy")
    again = normalise(other.read(), range_for(calibrated, other))
    np.testing.assert_allclose(again, normalise(raw, range_), atol=2e-3)

    # How bright a stack is that saturates the detector cannot be seen; a model that never practised
    # on such takes its level as it finds it, others the one they practised on.
    np.save(tmp_path / "saturated.npy", np.minimum(raw, np.percentile(raw, 99)))
    cut = open_stack(tmp_path / "saturated.npy")
    unpractised = range_for(calibrated, cut)
    peak = deconvolved_peak(model, normalise(cut.read(), unpractised))
    assert peak == pytest.approx(0.2, rel=0.1)
    practised = tiny(microscopes={"least_ceiling": 0.2})
    save_model(calibrated, model, practised, {})
    (calibrated / "threshold.json").write_text('{"threshold": 0.3, "deconvolved_level": 0.2}')
    saturated = range_for(calibrated, cut)
    assert saturated.saturated
    top = normalise(np.percentile(raw, 99), saturated)
    assert top == pytest.approx(intensity.SATURATED_LEVEL)
    assert not range_.saturated

    # Where light saturates pre-training's images at 1, saturated stacks are shown like those.
    save_model(calibrated, model, tiny(microscopes={"most_saturated": 0.01}), {})
    (calibrated / "threshold.json").write_text('{"threshold": 0.3, "deconvolved_level": 0.2}')
    assert range_for(calibrated, cut) == stack_range(cut, "percentile")
    assert range_for(calibrated, stack) == range_


def test_thin_and_thick_structures_of_one_brightness_get_one_level(pretrained: Path) -> None:
    """Blur dims what is thin; deconvolution tells how bright it is, where it can be told."""
    model, _ = load_model(pretrained)
    levels, blurred = [], []
    for thickness in (3, 9):
        luminance = torch.zeros(1, 1, 48, 32, 32)
        luminance[..., 24 - thickness : 24 + thickness, 12:20, 12:20] = 0.6
        with torch.no_grad():
            image = model.blur((48, 32, 32))(luminance)[0, 0]
        levels.append(deconvolved_peak(model, image))
        blurred.append(float(image.max()))
    assert blurred[0] < 0.9 * blurred[1]
    assert levels[0] / levels[1] > blurred[0] / blurred[1] + 0.5 * (1 - blurred[0] / blurred[1])


@pytest.mark.parametrize("power", [0.7, 1.0, 1.6])
def test_the_level_is_found_in_few_rounds(monkeypatch: pytest.MonkeyPatch, power: float) -> None:
    """Whatever power of the level a deconvolution's peak grows with."""
    seen = []

    def peak(model: Any, image: Any) -> float:
        seen.append(float(image.max()))
        return 5 * float(image.max()) ** power + 0.01

    monkeypatch.setattr(intensity, "deconvolved_peak", peak)
    level = intensity._level_before(None, np.ones((1, 1, 1), np.float32), 0.5)
    assert peak(None, np.full(1, level)) == pytest.approx(0.5, rel=intensity.LEVEL_TOLERANCE)
    assert len(seen) <= 5
    # An image too dim for it stays as it is.
    assert intensity._level_before(None, np.ones((1, 1, 1), np.float32), 9) == 1


def test_the_gain_is_how_much_brighter_a_stack_is_than_what_explains_it(
    pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any size; borders, where light comes in from beyond, do not count."""
    model, _ = load_model(pretrained)
    shape = torch.zeros(1, 1, 48, 42, 48)
    shape[..., 10:30, 12:30, 15:31] = 1
    with torch.no_grad():
        image = model.decode(shape, 0.8 * shape)[0, 0].numpy()[:, :41]

    def enhance(given: torch.Tensor) -> dict[str, torch.Tensor]:
        assert given.shape[3:] == (42, 48)  # a multiple of the network's lowest level
        return {"shape_probability": shape, "brightness": 0.8 * shape}

    monkeypatch.setattr(model, "enhance", enhance)
    assert intensity.reconstruction_gain(model, image) == pytest.approx(1, rel=1e-5)
    brighter = 1.2 * image
    brighter[:, :, : model.params.size_x // 2] += 1
    assert intensity.reconstruction_gain(model, brighter) == pytest.approx(1.2, rel=1e-5)
    shape.zero_()
    assert intensity.reconstruction_gain(model, image) == np.inf


@pytest.mark.parametrize("power", [0.25, 0.35, 0.6])
@pytest.mark.parametrize("first", [0.25, 0.4, 0.6])
def test_the_level_of_a_gain_is_found_in_few_rounds(
    monkeypatch: pytest.MonkeyPatch, power: float, first: float
) -> None:
    seen = []

    def gain(_: Any, image: Any) -> float:
        seen.append(float(image.max()))
        return 1.02 * (seen[-1] / 0.4) ** power

    monkeypatch.setattr(intensity, "reconstruction_gain", gain)
    level = intensity._level_of_gain(None, np.ones((1, 1, 1), np.float32), 1.02, first)
    assert level == pytest.approx(0.4, rel=0.05)
    assert len(seen) <= intensity.GAIN_ROUNDS
    # No further than so many times from where it starts, and no more than 1.
    far = intensity._level_of_gain(None, np.ones((1, 1, 1), np.float32), 9.0, first)
    assert far == pytest.approx(min(intensity.GAIN_MOST * first, 1))
    monkeypatch.setattr(intensity, "reconstruction_gain", lambda *_: np.inf)
    assert intensity._level_of_gain(None, np.ones((1, 1, 1), np.float32), 1.0, first) == first


def test_the_level_is_that_of_the_brightest_part(tmp_path: Path) -> None:
    image = np.zeros((60, 200, 150), np.float32)
    image[50:55, 140:160, 20:40] = 1
    np.save(tmp_path / "large.npy", image)
    stack = open_stack(tmp_path / "large.npy")
    window = brightest_window(stack, IntensityRange(0.0, 1.0, "percentile"))
    assert window.shape == (48, 128, 128)
    assert window.sum() == image.sum()


def test_less_light_dims_image_and_truth_alike(phantom_folder: Path) -> None:
    experiment = tiny(pretrain_dataset={"mask": False})
    volumes = open_phantoms(phantom_folder)[:2]
    model = TENET(experiment.params).eval()
    full, dim = (
        Simulator(
            volumes,
            experiment.pretrain_dataset,
            3,
            noise=False,
            microscopes=Microscopes(least_light=light),
        )
        for light in (0.999999, 0.25)  # so that both draw it
    )
    shares = []
    for index in range(20):
        bright, dimmed = (drawn_batch(s, model, 0, generator_for(3, index)) for s in (full, dim))
        share = float(dimmed.brightness.max() / bright.brightness.max())
        torch.testing.assert_close(dimmed.brightness, share * bright.brightness)
        torch.testing.assert_close(dimmed.image, share * bright.image, rtol=1e-4, atol=1e-6)
        assert torch.equal(dimmed.shape, bright.shape)
        shares.append(share)
    assert 0.25 <= min(shares) < 0.4
    assert 0.7 < max(shares) <= 1


def test_noise_contrast_and_saturation_are_drawn_for_each_image(phantom_folder: Path) -> None:
    experiment = tiny(pretrain_dataset={"mask": False})
    volumes = open_phantoms(phantom_folder)[:2]
    model = TENET(experiment.params).eval()

    def batches(noise: bool = False, **changes: float) -> list[Batch]:
        simulator = Simulator(
            volumes,
            experiment.pretrain_dataset,
            3,
            noise=noise,
            microscopes=Microscopes(**changes),
        )
        return [drawn_batch(simulator, model, 0, generator_for(3, index)) for index in range(12)]

    plain = batches()
    # The detector saturates; the truth does not.
    tops = []
    for before, after in zip(plain, batches(least_ceiling=0.01), strict=True):
        assert torch.equal(after.brightness, before.brightness)
        top = float(after.image.max())
        torch.testing.assert_close(after.image, before.image.clamp_max(top))
        tops.append(top / max(float(before.image.max()), 1e-9))
    assert min(tops) < 0.5
    # What is dim becomes dimmer, by one power everywhere; what is 1 stays.
    drawn: list[float] = []
    for before, after in zip(plain, batches(most_contrast=3), strict=True):
        inside = (before.brightness > 0) & (before.brightness < 0.9)
        powers = after.brightness[inside].log() / before.brightness[inside].log()
        if powers.numel():
            assert 1 <= float(powers.mean()) <= 3
            torch.testing.assert_close(powers, powers.mean().expand_as(powers), rtol=1e-3, atol=0)
            drawn.append(float(powers.mean()))
    assert len(drawn) > 3
    assert max(drawn) - min(drawn) > 0.3
    spreads = [
        float((after.image - after.still)[after.still < 0.5].std())
        for after in batches(noise=True, noise_spread=4)
    ]
    assert max(spreads) > 3 * min(spreads)


def test_images_of_training_are_read_out_as_the_settings_say(phantom_folder: Path) -> None:
    experiment = tiny(pretrain_dataset={"mask": False})
    volumes = open_phantoms(phantom_folder)[:2]
    model = TENET(experiment.params).eval()

    def batches(**settings: Any) -> list[Batch]:
        simulator = Simulator(
            volumes,
            experiment.pretrain_dataset,
            3,
            noise=False,
            microscopes=Microscopes.model_validate(settings),
        )
        return [drawn_batch(simulator, model, 0, generator_for(3, index)) for index in range(6)]

    plain = batches()
    for before, after in zip(plain, batches(offset=(0.1, 0.1), bits=(4,)), strict=True):
        assert torch.equal(after.brightness, before.brightness)
        levels = 15 * (before.image + 0.1).clamp_max(1)
        torch.testing.assert_close(after.image, levels.round() / 15)
    shares, gains = [], []
    for before, after in zip(plain, batches(most_saturated=0.1), strict=True):
        shares.append(float((after.image >= 1 - 1e-6).float().mean()))
        gain = after.brightness[before.brightness > 0] / before.brightness[before.brightness > 0]
        torch.testing.assert_close(gain, gain.mean().expand_as(gain))
        torch.testing.assert_close(after.image, (before.still * gain.mean()).clamp_max(1))
        gains.append(float(gain.mean()))
    assert max(shares) > 0.01
    assert max(gains) > 1.2 * min(gains)
    for full, cut in zip(
        batches(least_ceiling=0.999999, most_saturated=0.1),
        batches(least_ceiling=0.2, most_saturated=0.1),
        strict=True,
    ):  # as many are saturated at any ceiling
        ceiling = float(cut.image.max())
        assert 0.2 <= ceiling < 1
        torch.testing.assert_close(cut.image, ceiling * full.image, rtol=1e-4, atol=1e-5)
    lit = batches(least_light=0.999999, most_saturated=0.1)
    dimmed = batches(least_light=0.1, most_saturated=0.1)
    light = [
        float(dim.brightness.max() / full.brightness.max())
        for dim, full in zip(dimmed, lit, strict=True)
    ]
    assert 0.1 <= min(light) < 0.3
    assert 0.5 < max(light) <= 1
    for dim, full, share in zip(dimmed, lit, light, strict=True):
        torch.testing.assert_close(dim.brightness, share * full.brightness)


def changed(pretrained: Path, model: TENET) -> set[str]:
    """Parts of the model that are not what they were."""
    before = load_model(pretrained)[0].state_dict()
    return {
        name.split(".")[0]
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }


@pytest.mark.parametrize(
    ("mode", "moved"),
    [
        ("all", {"encoder", "psf", "noise"}),
        ("old", {"encoder", "psf", "noise"}),
        ("encoder", {"encoder"}),
        ("decoder", {"psf", "noise"}),
    ],
)
def test_modes_train_what_they_say(
    pretrained: Path, data: RawData, tmp_path: Path, mode: Any, moved: set[str]
) -> None:
    model = finetune(tiny(), pretrained, tmp_path, data=data, phantoms=None, mode=mode, device=CPU)
    assert changed(pretrained, model) == moved
    again, experiment = load_model(tmp_path)
    assert experiment == tiny()
    assert differences(model.state_dict(), again.state_dict()) == []


@pytest.mark.parametrize("mode", ["encoder", "decoder"])
def test_frozen_weights_stay(pretrained: Path, data: RawData, tmp_path: Path, mode: Any) -> None:
    model = finetune(tiny(), pretrained, tmp_path, data=data, phantoms=None, mode=mode, device=CPU)
    before = dict(load_model(pretrained)[0].named_parameters())
    moved = {
        name.split(".")[0]
        for name, value in model.named_parameters()
        if not torch.equal(value, before[name])
    }
    assert moved == ({"encoder"} if mode == "encoder" else {"psf", "noise"})


@pytest.mark.parametrize("wrong", [0.0, -0.4, 0.4])
def test_scan_finds_the_length_of_the_psf(
    pretrained: Path, phantom_folder: Path, wrong: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an encoder that knows the truth of each simulated image."""
    where: dict[str, Any] = {"data": None, "phantoms": phantom_folder, "device": CPU, "seed": 0}
    task = finetune_task(tiny(), pretrained, mode="decoder", **where)
    model, images = task.model, task.images
    assert isinstance(images, SimulatedCrops)
    assert model.psf.log_stretch is not None
    batch = images.simulators["val"].batch
    truth: dict[int, dict[str, Tensor]] = {}

    def remembered(*args: Any, **options: Any) -> Batch:
        made = batch(*args, **options)
        truth[id(made.image)] = {"shape_probability": made.shape, "brightness": made.brightness}
        seen.append(made)  # so that no other image gets its place in memory
        return made

    seen: list[Batch] = []
    monkeypatch.setattr(images.simulators["val"], "batch", remembered)
    monkeypatch.setattr(model, "align", lambda image: image)
    monkeypatch.setattr(model, "enhance", lambda image: truth[id(image)])
    with torch.no_grad():
        model.psf.log_stretch.fill_(wrong)
    record = scan_stretch(task, seed=0)
    assert float(model.psf.log_stretch.detach()) == pytest.approx(0, abs=0.05)
    assert record["stretch"] == pytest.approx(1, abs=0.05)
    if wrong:
        assert record["gain"] > 2 * record["standard_error"] > 0
    else:
        assert record["gain"] == 0


def images_of(counts: np.ndarray, pretrained: Path, folder: Path) -> Crops:
    """The images of a fine-tuning on one stack of these counts."""
    np.save(folder / "stack.npy", counts)
    stack = open_stack(folder / "stack.npy")
    data = RawData.prepare([stack], [stack], "minmax")
    return finetune_task(
        tiny(), pretrained, data=data, phantoms=None, mode="decoder", device=CPU, seed=0
    ).images


def test_the_psf_is_scanned_where_there_is_something_to_see(
    pretrained: Path, tmp_path: Path
) -> None:
    counts = np.full((8, 288, 288), 100, np.uint16)
    for n, (y, x) in enumerate([(40, 60), (100, 230), (210, 100)]):
        counts[1:3, y : y + 9, x : x + 9] = 1000 + 100 * n
    windows = images_of(counts, pretrained, tmp_path).windows(3, np.random.default_rng(0))
    assert sorted(round(float(window.max()), 2) for window in windows) == [0.82, 0.91, 1.0]
    assert all(window.shape[3:] == (96, 96) for window in windows)


@pytest.mark.parametrize(("yx", "places"), [(64, 1), (144, 1), (200, 4)])
def test_no_voxel_of_a_small_stack_is_scanned_twice(
    yx: int, places: int, pretrained: Path, tmp_path: Path
) -> None:
    counts = np.random.default_rng(0).integers(1, 1000, (4, yx, yx), dtype=np.uint16)
    windows = images_of(counts, pretrained, tmp_path).windows(4, np.random.default_rng(0))
    assert sum(window.numel() for window in windows) == counts.size
    assert len(windows) == places


def test_with_the_encoder_still_the_psf_is_scanned_and_not_trained(
    pretrained: Path, data: RawData, tmp_path: Path
) -> None:
    experiment = tiny()
    loop = experiment.train_loop.model_copy(update={"scan_stretch": True})
    experiment = experiment.model_copy(update={"train_loop": loop})
    common: dict[str, Any] = {"data": data, "phantoms": None, "device": CPU}
    model = finetune(experiment, pretrained, tmp_path, mode="decoder", **common)
    before = load_model(pretrained)[0].psf.state_dict()
    moved = {n for n, v in model.psf.state_dict().items() if not torch.equal(v, before[n])}
    assert moved <= {"log_stretch"}
    record = json.loads((tmp_path / "provenance.json").read_text())["psf"]
    assert record["stretch"] == pytest.approx(float(model.psf.log_stretch.detach().exp()))
    assert min(t["loss"] for t in record["tried"]) < max(t["loss"] for t in record["tried"])


def test_the_form_of_a_two_photon_psf_is_searched_and_saved(
    pretrained: Path, data: RawData, tmp_path: Path
) -> None:
    """The model is left, and saved, with the microscope that `psf_search.json` names."""
    optics = {"photons": 2, "psf_light": 0.995, "fill": 0.7, "blur_mode": "gibsonlanni"}
    experiment = tiny(params=optics, train_loop={"scan_stretch": True})
    common: dict[str, Any] = {"data": data, "phantoms": None, "device": CPU}
    model = finetune(experiment, pretrained, tmp_path, mode="decoder", **common)
    record = json.loads((tmp_path / "psf_search.json").read_text())
    assert record == json.loads((tmp_path / "provenance.json").read_text())["psf"]
    assert record["messages"][0].startswith("PSF found: z_R ")
    assert len({(t["length"], t["tails"], t["spherical"]) for t in record["tried"]}) > 8
    again, saved = load_model(tmp_path)
    for params in (model.params, saved.params):
        assert (params.NA, params.fill) == (record["NA"], record["fill"])
    torch.testing.assert_close(again.psf(), model.psf())
    fresh = TENET(saved.params)
    torch.testing.assert_close(fresh.psf(), model.psf())
    told = read_told(tmp_path, saved.params)  # as pictures and psf.csv show the PSF before
    assert (told.NA, told.fill, told.spherical) == (experiment.params.NA, 0.7, 0.0)


def test_a_saturated_shaft_does_not_set_the_brightness_of_all_else(pretrained: Path) -> None:
    """What the detector cut is explained by anything brighter, and by nothing dimmer."""
    model, experiment = load_model(pretrained)
    loop = {"adjust_luminance": True, "ewc_weight": 0.0}
    experiment = experiment.model_copy(
        update={"train_loop": experiment.train_loop.model_copy(update=loop)}
    )
    truth = torch.zeros(1, 1, 12, 16, 16)
    truth[..., 2:6] = 1.0
    truth[..., 10:12] = 0.2
    ones = torch.ones_like(truth)
    with torch.no_grad():
        image = model.decode(ones, truth).clamp_max(0.4)

    def loss(brightness: Tensor) -> float:
        def enhance(masked: Tensor) -> dict[str, Tensor]:
            nothing = torch.zeros(())
            return {
                "shape_probability": ones,
                "brightness": brightness,
                "quantized_loss": nothing,
            }

        model.enhance = enhance  # type: ignore[method-assign,assignment]
        task = FinetuneTask(model, experiment, None, None, None, "decoder")  # type: ignore[arg-type]
        with torch.no_grad():
            return task.terms(model, image, image)["reconstruction"].item()

    assert loss(truth) < loss(torch.where(truth == 1, 0.45, truth))
    assert loss(truth) < loss(torch.where(truth == 1, 0.2, truth))


def test_all_losses_are_in_the_history(pretrained: Path, data: RawData, tmp_path: Path) -> None:
    finetune(tiny(), pretrained, tmp_path, data=data, phantoms=None, device=CPU)
    rows = history(tmp_path)
    terms = {"reconstruction", "luminance", "quantisation", "psf", "mrf", "ewc"}
    columns = {key.removeprefix("training_") for key in rows[0] if key.startswith("training_")}
    assert columns == terms
    assert all(math.isfinite(float(value)) for row in rows for value in row.values())
    assert float(rows[-1]["training_ewc"]) > 0
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert provenance["intensity_ranges"].keys() == {"0.npy", "1.npy"}


@pytest.mark.parametrize("weight", ["ewc_weight", "qloss_weight", "mrfloss_weights"])
def test_losses_that_are_left_out_change_what_the_encoder_learns(
    pretrained: Path, data: RawData, tmp_path: Path, weight: str
) -> None:
    """By far more than rounding does: an ablation that moves nothing shows nothing."""
    none = dict.fromkeys(("l_00", "l_01", "l_10", "l_11"), 0.0)
    without = {"mrfloss_weights": none} if weight == "mrfloss_weights" else {weight: 0.0}
    start = dict(load_model(pretrained)[0].encoder.named_parameters())
    models = {}
    for name, loop in (("with", {}), ("without", without)):
        experiment = tiny(train_loop={"n_epochs": 2} | loop)
        out = tmp_path / name
        models[name] = finetune(experiment, pretrained, out, data=data, phantoms=None, device=CPU)
    moved = apart = 0.0
    other = dict(models["without"].encoder.named_parameters())
    for name, value in models["with"].encoder.named_parameters():
        moved += (value - start[name]).square().sum().item()
        apart += (value - other[name]).square().sum().item()
    assert apart > 1e-4 * moved


def test_interrupted_finetuning_equals_uninterrupted(
    pretrained: Path,
    data: RawData,
    phantom_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With rehearsal, which draws phantoms, noise and the present PSF."""
    experiment = tiny(train_loop={"rehearsal_weight": 1.0, "ema_decay": 0.9, "psf_lr": 0.003})

    def run(folder: Path) -> TENET:
        return finetune(
            experiment, pretrained, folder, data=data, phantoms=phantom_folder, device=CPU
        )

    whole = run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt(patch, "finetune", epoch=1)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "part")
    resumed = run(tmp_path / "part")
    assert differences(whole.state_dict(), resumed.state_dict()) == []
    assert history(tmp_path / "whole") == history(tmp_path / "part")
    assert "training_rehearsal" in history(tmp_path / "whole")[0]


@pytest.mark.parametrize("mode", ["old", "encoder", "decoder"])
def test_finetuning_on_simulation(
    pretrained: Path, phantom_folder: Path, tmp_path: Path, mode: Any
) -> None:
    model = finetune(
        tiny(), pretrained, tmp_path, data=None, phantoms=phantom_folder, mode=mode, device=CPU
    )
    assert len(history(tmp_path)) == 3
    assert ("psf" in changed(pretrained, model)) is (mode != "encoder")


def test_simulated_images_do_not_follow_what_is_trained(
    pretrained: Path, phantom_folder: Path
) -> None:
    """They are made by the frozen pre-trained PSF: the data must not move with the model."""
    task = finetune_task(
        tiny(), pretrained, data=None, phantoms=phantom_folder, mode="old", device=CPU, seed=0
    )
    first, _ = crops_of(task, "train", generator_for(1))
    with torch.no_grad():
        for parameter in task.model.psf.parameters():
            parameter += 1
    second, _ = crops_of(task, "train", generator_for(1))
    assert torch.equal(first, second)


def test_simulated_noise_does_not_follow_what_is_trained(
    pretrained: Path, phantom_folder: Path
) -> None:
    task = finetune_task(
        tiny(), pretrained, data=None, phantoms=phantom_folder, mode="old", device=CPU, seed=0
    )
    first, _ = crops_of(task, "val", generator_for(1))
    with torch.no_grad():
        task.model.noise.logit_a += 1
    second, _ = crops_of(task, "val", generator_for(1))
    assert torch.equal(first, second)


def test_evaluate(pretrained: Path, data: RawData, tmp_path: Path) -> None:
    """The losses of a saved model are those that its best epoch was chosen by."""
    finetune(tiny(), pretrained, tmp_path, data=data, phantoms=None, device=CPU)
    weights = (tmp_path / MODEL).read_bytes()
    losses = evaluate(tiny(), tmp_path, pretrained, data=data, phantoms=None, device=CPU)
    best = min(history(tmp_path), key=lambda row: float(row["validation"]))
    assert losses["total"] == pytest.approx(float(best["validation"]), rel=1e-5)
    for name, value in losses.items():
        if name != "total":
            assert value == pytest.approx(float(best[f"validation_{name}"]), rel=1e-4, abs=1e-7)
    assert json.loads((tmp_path / "losses.json").read_text()) == pytest.approx(losses)
    assert (tmp_path / MODEL).read_bytes() == weights


def test_moments_of_pretraining_fit_the_encoder_of_finetuning(
    pretrained: Path, data: RawData
) -> None:
    """Parameters are told apart by their order alone, so the encoder's must come first."""
    state = load_tensors(pretrained / OPTIMISER)["state"]
    task = finetune_task(
        tiny(), pretrained, data=data, phantoms=None, mode="old", device=CPU, seed=0
    )
    order = [p for group in task.parameter_groups() for p in group["params"]]
    assert len(state) == len(list(task.model.encoder.parameters())) < len(order)
    for index, moments in state.items():
        assert moments["exp_avg"].shape == order[index].shape


def test_words_and_keys_without_effect_train_nothing_anew(
    pretrained: Path, phantom_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(pretrained, folder)
    idle = {"explanation": "other words", "visualization": {"mip": 3}}
    idle |= {"params": {"M": 40, "device": "cuda:0"}, "train_dataset": {"folderpath": "stacks"}}
    pretrain(tiny(**idle), phantom_folder, folder, device=CPU)
    assert "is finished: nothing to train" in capsys.readouterr().out
    assert (folder / MODEL).read_bytes() == (pretrained / MODEL).read_bytes()


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({}, ""),
        ({"NA": 0.5}, ""),  # a Gaussian PSF has none
        (
            {"bet_z": 2.0, "res_lateral": 0.15},
            "warning: tiny has other optics than {folder}: res_lateral 0.15 (pre-trained: 0.1), "
            "bet_z 2 (pre-trained: 1); fine-tuning starts from the PSF of the pre-trained model\n",
        ),
    ],
)
def test_other_optics_than_those_of_the_pretrained_model_are_named(
    own: dict[str, Any],
    said: str,
    pretrained: Path,
    data: RawData,
    capsys: pytest.CaptureFixture[str],
) -> None:
    finetune_task(
        tiny(params=own), pretrained, data=data, phantoms=None, mode="old", device=CPU, seed=0
    )
    assert capsys.readouterr().err == said.format(folder=pretrained)


def test_pretrained_for_another_scale_is_refused(
    pretrained: Path, data: RawData, tmp_path: Path
) -> None:
    experiment = tiny(params={"scale": 2, "res_axial": 0.2})
    with pytest.raises(TenetError, match="was trained for scale 3"):
        finetune(experiment, pretrained, tmp_path, data=data, phantoms=None, device=CPU)


def test_a_model_that_was_shown_something_else_is_refused(tmp_path: Path) -> None:
    shown = tiny(params={"deconvolution_steps": 2})
    save_model(tmp_path / "new", TENET(shown.params), shown, {})
    load_model(tmp_path / "new")
    for name, experiment in (("old", shown), ("shown_no_estimate", tiny())):
        save_model(tmp_path / name, TENET(experiment.params), experiment, {"input": 1})
    load_model(tmp_path / "shown_no_estimate")
    with pytest.raises(TenetError, match=r"old was trained by an earlier version.*train it again"):
        load_model(tmp_path / "old")
    (tmp_path / "old" / "provenance.json").unlink()  # weights from elsewhere
    load_model(tmp_path / "old")


def test_what_is_missing_is_named(pretrained: Path, data: RawData, tmp_path: Path) -> None:
    with pytest.raises(TenetError, match="needs phantoms"):
        finetune(tiny(), pretrained, tmp_path, data=None, phantoms=None, device=CPU)
    with pytest.raises(TenetError, match="rehearsal_weight"):
        finetune(
            tiny(train_loop={"rehearsal_weight": 1.0}),
            pretrained,
            tmp_path,
            data=data,
            phantoms=None,
            device=CPU,
        )
    with pytest.raises(TenetError, match="is not a model"):
        finetune(tiny(), tmp_path, tmp_path, data=data, phantoms=None, device=CPU)


# Alignment ----------------------------------------------------------------------------------------

ALIGNED = {
    "align_params": {"loss_mode": "pixelwise + perceptual + segmentation"},
    # Planes with room for their motion.
    "pretrain_dataset": {"I": 40, "cropsize": [24, 32, 32]},
    "pretrain_val_dataset": {"cropsize": [24, 32, 32]},
    "pretrain_loop": {"n_epochs": 6, "lr": 0.01, "schedule": "cosine", "batch_size": 2},
}


@pytest.fixture(scope="module")
def aligned(
    pretrained: Path, phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("aligned")
    train_alignment(tiny(**ALIGNED), pretrained, phantom_folder, folder, device=CPU, seed=2)
    return folder


def test_alignment_is_trained_and_the_encoder_stays(pretrained: Path, aligned: Path) -> None:
    rows = history(aligned / "alignment")
    for name in ("pixelwise", "perceptual", "segmentation"):
        assert float(rows[-1][f"validation_{name}"]) < float(rows[0][f"training_{name}"]), name
    before, after = (load_model(f)[0].state_dict() for f in (pretrained, aligned))
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert {name.split(".")[0] for name in after.keys() - before.keys()} == {"aligner"}
    assert (aligned / FISHER).exists()
    assert (aligned / OPTIMISER).exists()


def test_alignment_brings_planes_nearer_to_still_ones(aligned: Path, phantom_folder: Path) -> None:
    """On phantoms that no training saw: nearer than the misaligned image is."""
    experiment = tiny(**ALIGNED)
    model, _ = load_model(aligned)
    simulator = Simulator(
        open_phantoms(phantom_folder)[2:3], experiment.pretrain_val_dataset, 3, experiment.vibration
    )
    before, after = 0.0, 0.0
    for index in range(8):
        batch = drawn_batch(simulator, model, 4, generator_for(77, index))
        before += (batch.image - batch.still).abs().mean().item()
        after += (model.align(batch.image) - batch.still).abs().mean().item()
    assert after < 0.9 * before


def test_perfect_alignment_costs_nothing_by_pixel_and_feature(aligned: Path) -> None:
    model, _ = load_model(aligned)
    params = parse_experiment(merge(SETTINGS, ALIGNED)).align_params
    assert params is not None
    assert params.loss_mode == ("pixelwise", "perceptual", "segmentation")
    still = torch.rand(1, 1, 4, 16, 16)
    shape = (torch.rand(1, 1, 12, 16, 16) > 0.5).float()
    moved = still.roll(1, dims=-1)
    batch = Batch(shape, shape, still, moved, moved, model.blur((12, 16, 16)))
    perfect = alignment_terms(model, params, batch, still)
    assert perfect["pixelwise"] == 0
    assert perfect["perceptual"] == 0
    nothing = alignment_terms(model, params, batch, moved)
    assert nothing["pixelwise"] == pytest.approx(1)
    assert nothing["perceptual"] > 0


@pytest.mark.parametrize("mode", ["pixelwise", "perceptual", "segmentation"])
def test_every_loss_mode_moves_the_alignment(aligned: Path, mode: str) -> None:
    model, _ = load_model(aligned)
    assert model.aligner is not None
    params = tiny(align_params={"loss_mode": mode}).align_params
    assert params is not None
    image = torch.rand(1, 1, 4, 16, 16)
    shape = (torch.rand(1, 1, 12, 16, 16) > 0.5).float()
    batch = Batch(shape, shape, image, image, image, model.blur((12, 16, 16)))
    terms = alignment_terms(model, params, batch, model.aligner(image))
    assert list(terms) == [mode]
    terms[mode].backward()
    assert sum(float(p.grad.abs().sum()) for p in model.aligner.parameters() if p.grad is not None)


def test_unknown_loss_mode_is_refused() -> None:
    with pytest.raises(TenetError, match=r"align_params\.loss_mode"):
        tiny(align_params={"loss_mode": "pixelwise + magic"})
    with pytest.raises(TenetError, match="at most as many"):
        tiny(align_params={"hidden_channels_list": [2, 2, 2]})


def test_fine_tuning_aligns_what_it_learns_from(
    aligned: Path, pretrained: Path, data: RawData, tmp_path: Path
) -> None:
    experiment = tiny(**ALIGNED)
    options: dict[str, Any] = {"data": data, "phantoms": None, "device": CPU, "mode": "decoder"}
    task = finetune_task(experiment, aligned, seed=0, **options)
    plain = finetune_task(tiny(), aligned, seed=0, **options)  # the network is left out
    assert plain.model.aligner is None
    image, _ = crops_of(task, "val", generator_for(5))
    raw, _ = crops_of(plain, "val", generator_for(5))
    assert not torch.equal(image, raw)
    torch.testing.assert_close(image, task.model.align(raw))

    model = finetune(experiment, aligned, tmp_path / "with", **options)
    loaded, saved = load_model(tmp_path / "with")
    assert saved.align_params is not None
    assert differences(model.state_dict(), loaded.state_dict()) == []
    assert evaluate(
        experiment, tmp_path / "with", aligned, data=data, phantoms=None, device=CPU
    ).keys() >= {"reconstruction", "total"}

    finetune(experiment, aligned, tmp_path / "without", align=False, **options)
    assert load_model(tmp_path / "without")[0].aligner is None
    with pytest.raises(TenetError, match="tenet align"):
        finetune(experiment, pretrained, tmp_path / "none", **options)
    with pytest.raises(TenetError, match="has no align_params"):
        finetune(tiny(), pretrained, tmp_path / "none", align=True, **options)


def test_stacks_for_fine_tuning_are_scaled_as_it_sees_them(
    aligned: Path, data: RawData, tmp_path: Path
) -> None:
    """With or without the alignment network of the pre-trained model."""
    folder = tmp_path / "calibrated"
    shutil.copytree(aligned, folder)
    (folder / "threshold.json").write_text(
        '{"threshold": 0.3, "deconvolved_level": 0.6, "gain": 1.1}'
    )
    percentile = {"train_dataset": {"normalisation": "percentile"}}
    aligns, plain = tiny(**merge(ALIGNED, percentile)), tiny(**percentile)
    seen: list[str] = []
    hook = nn.modules.module.register_module_forward_hook(
        lambda module, *_: seen.append(type(module).__name__)
    )
    try:
        for align, settings in ((None, aligns), (False, aligns), (None, plain)):
            seen.clear()
            raw_data(data.training[1:], settings, folder, align=align)
            assert "JNet" in seen
            assert ("AlignmentNet" in seen) == (align is None and settings is aligns)
    finally:
        hook.remove()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_stacks_for_fine_tuning_are_scaled_in_its_precision(
    precision: str,
    pretrained: Path,
    data: RawData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the precision in the settings of the pre-trained model."""
    monkeypatch.setattr("tenet.networks.convolution.faster_in_float32", lambda device: False)
    folder = tmp_path / "calibrated"
    shutil.copytree(pretrained, folder)
    (folder / "threshold.json").write_text(
        '{"threshold": 0.3, "deconvolved_level": 0.6, "gain": 1.1}'
    )
    settings = tiny(
        train_dataset={"normalisation": "percentile"}, train_loop={"precision": precision}
    )
    seen: set[torch.dtype] = set()

    def note(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(module, nn.Conv3d):
            seen.add(output.dtype)

    hook = nn.modules.module.register_module_forward_hook(note)
    try:
        raw_data(data.training[1:], settings, folder)
    finally:
        hook.remove()
    assert seen == {getattr(torch, precision)}


def test_inference_aligns_first_unless_told_not_to(pretrained: Path, aligned: Path) -> None:
    model, _ = load_model(aligned)
    image = np.random.default_rng(6).random((4, 16, 16), dtype=np.float32)
    once = enhance_array(model, image)[0]
    moved = model.align(torch.from_numpy(image)[None, None])[0, 0].numpy()
    plain = TrainedModel.load(aligned, align=False).network
    np.testing.assert_allclose(once, enhance_array(plain, moved)[0], atol=1e-6)
    with pytest.raises(TenetError, match="no alignment network"):
        TrainedModel.load(pretrained, align=True)
