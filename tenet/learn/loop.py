"""The training loop, read from top to bottom, for pre-training and fine-tuning alike.

Every random draw of a step is a function of (seed, epoch, step), and never of what ran before. So a
training that was interrupted and goes on from its checkpoint ends with the same weights as a
training that never stopped.
"""

import contextlib
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from tenet.errors import TenetError, one_line
from tenet.io.atomic import save_table
from tenet.io.records import parse_json
from tenet.learn.log import EventLog, event_log
from tenet.learn.schedule import Schedule
from tenet.model.store import HISTORY, digest_of, load_tensors, not_finite, on_cpu, save_tensors
from tenet.model.weights import check_weights
from tenet.networks.blocks import checkpoint_blocks, record_encoders
from tenet.progress import shown
from tenet.settings.schema import Optimisation, Section, validated

if TYPE_CHECKING:
    from timm.utils import ModelEmaV3

CHECKPOINT = "checkpoint.pt"
#: Where the history and the checkpoint of an alignment are, below the folder of the model.
ALIGNMENT = "alignment"
#: Counts the ways in which its contents have been laid out.
LAYOUT = 3
#: Threads that read crops for a GPU, which is done with one sooner than a thread has read it.
MOST_READERS = 8
Terms = Mapping[str, Tensor]


class Task(Protocol):
    """A task to learn: parameters, and the weighted terms of the loss for a step."""

    @property
    def model(self) -> nn.Module:
        """The module whose weights are kept."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters to train, as groups for an optimiser."""
        ...

    def draw(self, rng: np.random.Generator) -> Any:
        """Read what a batch is made of, on the CPU; done ahead of time, in another thread."""
        ...

    def training_terms(self, epoch: int, drawn: Any, rng: np.random.Generator) -> Terms:
        """Terms of the loss on a fresh batch of what was drawn; their sum is minimised."""
        ...

    def validation_terms(self, model: Any) -> Iterable[Terms]:
        """Terms of the loss of `model` on each of a fixed set of batches."""
        ...


@dataclass(frozen=True)
class Plan:
    """How long to train, where to write, and what must be equal for a checkpoint to be used.

    Attributes
    ----------
    settings : Optimisation
    folder : Path
        History, TensorBoard log and checkpoint go here.
    steps_per_epoch : int
    seed : int
    best_over : int
        The best model is that of the lowest mean validation loss over so many epochs.
    identity : str
        Description of the training (settings, data); a checkpoint of another one is not resumed.
    keep_last : bool
        Keep the last weights: adversarial losses do not say which are the best.
    """

    settings: Optimisation
    folder: Path
    steps_per_epoch: int
    seed: int
    best_over: int
    identity: str
    keep_last: bool = False


def generator_for(*key: int) -> np.random.Generator:
    """A generator that depends on `key` alone, all non-negative."""
    return np.random.default_rng(list(key))


def train(
    task: Task, plan: Plan, *, optimiser_state: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Train, keeping the best weights.

    The checkpoint stays, so that the same training, started again, goes straight to its end. Who
    has written all results of the training calls `forget`.

    Parameters
    ----------
    task : Task
        Its model is left with the best weights.
    plan : Plan
        Settings, folder, seed.
    optimiser_state : mapping, optional
        State to go on from, as returned by an earlier training of the same parameters.

    Returns
    -------
    dict
        The optimiser's final state.

    Raises
    ------
    TenetError
        If a loss or a weight is not finite, or the checkpoint is damaged.
    """
    settings, model = plan.settings, task.model
    checkpoint_blocks(model, settings.checkpoint)
    optimiser = _optimiser(task, settings)
    if optimiser_state is not None:
        _adopt(optimiser, optimiser_state)
    schedule = Schedule(optimiser, settings, plan.steps_per_epoch)
    average = averaged(model, settings.ema_decay) if settings.ema_decay else None
    run = _Run(plan, model, optimiser, schedule, average)
    run.resume()
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    on_gpu = any(parameter.is_cuda for parameter in parameters)
    if on_gpu and settings.accumulate == 1 and not settings.checkpoint:
        record_encoders(model, True)
    readers = min(MOST_READERS, torch.get_num_threads()) if on_gpu else 1
    total = settings.n_epochs * plan.steps_per_epoch
    done = run.epoch * plan.steps_per_epoch
    with shown("training", done=done) as meter, event_log(plan.folder, run.epoch) as log:
        while run.epoch < settings.n_epochs and not run.stopped_early:
            started = time.monotonic()
            model.train()
            totals: dict[str, Tensor] = {}  # read once an epoch: a GPU need not wait
            batches = plan.steps_per_epoch * settings.accumulate
            ahead = _drawn_ahead(task, plan, run.epoch, readers)
            for step, (rng, drawn) in enumerate(ahead):
                meter(run.epoch * plan.steps_per_epoch + step, total)
                torch.manual_seed(_torch_seed(plan.seed, run.epoch, step))  # dropout and noise
                optimiser.zero_grad(set_to_none=True)
                for part_drawn in drawn:
                    terms = task.training_terms(run.epoch, part_drawn, rng)
                    loss = torch.stack(list(terms.values())).sum() / settings.accumulate
                    loss.backward()
                    for name, term in terms.items():
                        part = term.detach() / batches
                        totals[name] = totals[name] + part if name in totals else part
                if settings.gradient_norm:
                    nn.utils.clip_grad_norm_(parameters, settings.gradient_norm)
                optimiser.step()
                schedule.after_step()
                if average is not None:
                    average.update(model, step=schedule.steps)
            sums = {name: total.item() for name, total in totals.items()}
            _check_losses("loss", sums, run.epoch)
            validation = _validate(task, average.module if average is not None else model)
            _check_losses("validation loss", validation, run.epoch)
            run.finish_epoch(sums, validation, log, time.monotonic() - started)
            meter(run.epoch * plan.steps_per_epoch, total, run.last_epoch())
    model.load_state_dict(run.best_weights)
    record_encoders(model, False)
    return dict(optimiser.state_dict())


def forget(folder: Path, made: str | None) -> None:
    """Delete the checkpoint of a training whose results are all written.

    Parameters
    ----------
    folder : Path
        Of its plan.
    made : str or None
        The `digest` of its identity, as the record of what it made says; the checkpoint of another
        training stays.
    """
    path = folder / CHECKPOINT
    with contextlib.suppress(TenetError):  # a damaged one is no one's
        if path.exists() and digest_of(str(load_tensors(path).get("identity"))) == made:
            path.unlink()


def _check_losses(name: str, losses: Mapping[str, float], epoch: int) -> None:
    if not all(math.isfinite(value) for value in losses.values()):
        raise TenetError(
            f"the {name} is not finite in epoch {epoch + 1} ({dict(losses)}): lower lr, "
            "or check the intensities of the data"
        )


def averaged(model: nn.Module, most: float) -> "ModelEmaV3":
    """Average weights over steps, with a decay that rises to `most`: 1 − n^(−2/3) at the nth."""
    from timm.utils import ModelEmaV3  # takes a second

    return ModelEmaV3(model, decay=most, use_warmup=True)


def _drawn_ahead(
    task: Task, plan: Plan, epoch: int, readers: int
) -> Iterator[tuple[np.random.Generator, list[Any]]]:
    """Yield what each step of an epoch needs; threads read the next steps meanwhile."""

    def read(step: int) -> tuple[np.random.Generator, list[Any]]:
        rng = generator_for(plan.seed, 0, epoch, step)
        return rng, [task.draw(rng) for _ in range(plan.settings.accumulate)]

    with ThreadPoolExecutor(readers, "crops") as pool:
        steps = iter(range(plan.steps_per_epoch))
        ahead = deque(pool.submit(read, step) for step in islice(steps, readers))
        while ahead:
            now = ahead.popleft().result()
            ahead.extend(pool.submit(read, step) for step in islice(steps, 1))
            yield now


class Count(Section):
    """How far a training has come, as its checkpoint says."""

    epoch: PositiveInt
    best: float
    best_epoch: PositiveInt
    history: str


class _Run:
    """The state of a training between two epochs, and its file."""

    def __init__(
        self,
        plan: Plan,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        schedule: Schedule,
        average: "ModelEmaV3 | None",
    ) -> None:
        self.plan, self.model, self.optimiser = plan, model, optimiser
        self.schedule, self.average = schedule, average
        self.epoch = 0
        self.history: list[dict[str, Any]] = []
        self.best = math.inf
        self.best_epoch = 0
        self.best_weights = on_cpu(self._evaluated().state_dict())

    def _evaluated(self) -> nn.Module:
        return self.model if self.average is None else self.average.module

    @property
    def stopped_early(self) -> bool:
        settings = self.plan.settings
        if settings.schedule == "wsd":
            return self.schedule.ended
        return settings.es_patience is not None and self.stale >= settings.es_patience

    @property
    def stale(self) -> int:
        """Epochs since the best one."""
        return self.epoch - self.best_epoch

    def last_epoch(self) -> str:
        """What came of the last epoch, in a few words."""
        row = self.history[-1]
        losses = ", ".join(f"{name} loss {row[name]:.4g}" for name in ("training", "validation"))
        return f"epoch {row['epoch']} of {self.plan.settings.n_epochs}, {losses}"

    def finish_epoch(
        self,
        training: Mapping[str, float],
        validation: Mapping[str, float],
        log: EventLog,
        seconds: float,
    ) -> None:
        """Record an epoch, keep the weights if they are the best, write everything."""
        for module in (self.model, self._evaluated()):
            if (name := not_finite(module.state_dict())) is not None:
                raise TenetError(
                    f"the weight {name} is not finite after epoch {self.epoch + 1}: lower lr, or "
                    "check the intensities of the data"
                )
        self.epoch += 1
        self._judge(sum(validation.values()))
        self.schedule.after_epoch(sum(validation.values()), self.stale)
        row: dict[str, Any] = {
            "epoch": self.epoch,
            "training": sum(training.values()),
            "validation": sum(validation.values()),
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "seconds": round(seconds, 2),
        }
        row |= {f"training_{name}": value for name, value in training.items()}
        row |= {f"validation_{name}": value for name, value in validation.items()}
        self.history.append(row)
        log.add(
            {
                name.replace("_", "/", 1): value
                for name, value in row.items()
                if name not in ("epoch", "seconds")
            },
            self.epoch,
        )
        save_table(self.plan.folder / HISTORY, self.history)
        save_tensors(
            self.plan.folder / CHECKPOINT,
            {
                "layout": LAYOUT,
                "identity": self.plan.identity,
                "epoch": self.epoch,
                "model": on_cpu(self.model.state_dict()),
                "average": None if self.average is None else on_cpu(self.average.state_dict()),
                "optimiser": self.optimiser.state_dict(),
                "schedule": self.schedule.state_dict(),
                "best": self.best,
                "best_epoch": self.best_epoch,
                "best_weights": self.best_weights,
                "history": json.dumps(self.history),
            },
        )

    def _judge(self, validation: float) -> None:
        """Keep the weights of this epoch if they are the best."""
        before = [row["validation"] for row in self.history]
        recent = [*before, validation][-self.plan.best_over :]
        score = sum(recent) / len(recent)
        if score < self.best or self.plan.keep_last:
            self.best, self.best_epoch = score, self.epoch
            self.best_weights = on_cpu(self._evaluated().state_dict())

    def resume(self) -> None:
        """Go on from the checkpoint of the same training, if there is one."""
        path = self.plan.folder / CHECKPOINT
        if not path.exists():
            return
        try:
            state = load_tensors(path)
        except TenetError as error:
            raise TenetError(f"{error}; delete it to train from the beginning") from None
        if (state.get("layout"), state.get("identity")) != (LAYOUT, self.plan.identity):
            print(f"{path} is of another version, other settings or data: training starts afresh")
            return
        try:
            self._adopt(state, where=str(path))
        except TenetError as error:
            raise TenetError(f"{error}; delete it to train from the beginning") from None
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise TenetError(
                f"{path} is damaged ({one_line(error)}); delete it to train from the beginning"
            ) from None
        save_table(self.plan.folder / HISTORY, self.history)
        print(f"going on after epoch {self.epoch} of {self.plan.settings.n_epochs}")

    def _adopt(self, state: Mapping[str, Any], *, where: str) -> None:
        count = validated(Count, {name: state.get(name) for name in Count.model_fields}, where)
        history = parse_json(count.history, where=where)
        if len([float(row["validation"]) for row in history]) != count.epoch:
            raise ValueError("its history is not that of its epochs")
        for module, name in ((self.model, "model"), (self.average, "average")):
            if module is not None:
                check_weights(module.state_dict(), state[name], where=where)
                module.load_state_dict(state[name])
        check_weights(self._evaluated().state_dict(), state["best_weights"], where=where)
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.epoch, self.history = count.epoch, history
        self.best, self.best_epoch = count.best, count.best_epoch
        self.best_weights = state["best_weights"]


def _torch_seed(*key: int) -> int:
    return int(np.random.SeedSequence(list(key)).generate_state(1)[0])


def _optimiser(task: Task, settings: Optimisation) -> torch.optim.Optimizer:
    kind: Callable[..., torch.optim.Optimizer]
    if settings.optimizer == "muon":
        from timm.optim import Muon  # PyTorch's own takes matrices alone, and no convolutions

        kind = partial(Muon, nesterov=True)
    else:
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    return kind(task.parameter_groups(), lr=settings.lr, weight_decay=settings.weight_decay)


#: What Adam and AdamW remember of a parameter.
_MOMENTS = {"exp_avg", "exp_avg_sq", "step"}
#: What of it can only grow.
_SUMS = ("exp_avg_sq", "step")


def _adopt(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Take over the moments of an earlier Adam or AdamW, but not its learning rates."""
    groups = optimiser.state_dict()["param_groups"]
    parameters = [p.detach() for group in optimiser.param_groups for p in group["params"]]
    earlier = state.get("state")
    if not isinstance(earlier, dict):
        raise TenetError("the optimiser's state of the pre-trained model is damaged: train again")
    moments = {
        k: _moments(v, parameters[k], where=f"the pre-trained model's optimiser, parameter {k}")
        for k, v in earlier.items()
        if k in range(len(parameters)) and isinstance(v, dict) and v.keys() >= _MOMENTS
    }
    optimiser.load_state_dict({"state": moments, "param_groups": groups})


def _moments(found: Mapping[str, Any], parameter: Tensor, *, where: str) -> dict[str, Tensor]:
    """Check what Adam or AdamW remembers of a parameter, and copy it."""
    own = {name: parameter.new_zeros(()) if name == "step" else parameter for name in _MOMENTS}
    moments = {name: found[name] for name in own}
    check_weights(own, moments, where=where)
    moments = {name: value.to(own[name].dtype, copy=True) for name, value in moments.items()}
    if any(bool((moments[name] < 0).any()) for name in _SUMS):
        raise TenetError(f"{where}: {' or '.join(_SUMS)} is below 0: pre-train again")
    return moments


def _validate(task: Task, model: nn.Module) -> dict[str, float]:
    """Mean of each term over the validation batches, the same every time."""
    was_training = model.training
    model.eval()
    sums: dict[str, float] = {}
    batches = 0
    with torch.no_grad():
        for terms in task.validation_terms(model):
            batches += 1
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term.item()
    model.train(was_training)
    return {name: value / batches for name, value in sums.items()}
