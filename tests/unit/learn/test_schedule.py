"""The learning rate of every step."""

import math
from typing import Any

import pytest
import torch

from tenet.learn.schedule import Schedule
from tenet.settings.schema import Optimisation

LR, OTHER_LR = 0.002, 0.0123


def rates(steps_per_epoch: int, validation: list[float], **settings: Any) -> list[list[float]]:
    """Rates of two groups of parameters at each step of a training."""
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": parameters[:1]}, {"params": parameters[1:], "lr": OTHER_LR}]
    optimiser = torch.optim.AdamW(groups, lr=LR)
    schedule = Schedule(
        optimiser, Optimisation(n_epochs=len(validation), lr=LR, **settings), steps_per_epoch
    )
    seen, best, stale = [], math.inf, 0
    for loss in validation:
        for _ in range(steps_per_epoch):
            seen.append([group["lr"] for group in optimiser.param_groups])
            schedule.after_step()
        best = min(best, loss)
        stale = stale + 1 if loss > best else 0
        schedule.after_epoch(loss, stale)
        if schedule.ended:
            break
    return seen


def expected(factors: list[float]) -> list[Any]:
    return [pytest.approx([LR * factor, OTHER_LR * factor], rel=1e-12) for factor in factors]


@pytest.mark.parametrize("warmup", [0, 1, 5, 29, 30, 40])
def test_cosine_rises_over_the_first_steps_and_falls_to_0(
    warmup: int, capsys: pytest.CaptureFixture[str]
) -> None:
    total = 30
    factors = [(step + 1) / warmup for step in range(min(warmup, total))]
    left = total - warmup
    factors += [0.5 * (1 + math.cos(math.pi * step / left)) for step in range(left)]
    found = rates(3, [1.0] * 10, schedule="cosine", warmup_steps=warmup)
    assert found == expected(factors)
    assert capsys.readouterr().err == ""


def test_plateau_rises_over_epochs_and_falls_when_ten_bring_nothing() -> None:
    losses = [3.0, 2.0, *[1.0] * 13]
    found = rates(2, losses, schedule="plateau", warmup_epochs=2)
    # The third epoch is the best one, and the eleventh after it brings nothing either.
    factors = [0.5] + [1.0] * 13 + [0.1]
    assert found == expected([factor for factor in factors for _ in range(2)])


def test_constant_stays() -> None:
    assert rates(2, [1.0] * 3, schedule="constant") == expected([1.0] * 6)


def test_wsd_stays_until_nothing_gets_better_and_then_falls_to_0() -> None:
    losses = [3.0, 2.0, *[2.5] * 20]  # best in the second epoch, two more bring nothing
    found = rates(3, losses, schedule="wsd", warmup_steps=4, es_patience=2, decay_epochs=2)
    rising = [0.25, 0.5, 0.75, 1.0]
    falling = [1 - step / 6 for step in range(6)]
    assert found == expected(rising + [1.0] * 8 + falling)


@pytest.mark.parametrize("patience", [None, 3])
def test_wsd_falls_in_time_where_things_get_better_to_the_last(patience: int | None) -> None:
    losses = [1 / epoch for epoch in range(1, 8)]
    found = rates(2, losses, schedule="wsd", es_patience=patience, decay_epochs=3)
    assert found == expected([1.0] * 8 + [1 - step / 6 for step in range(6)])


def test_wsd_of_few_epochs_falls_all_the_time() -> None:
    found = rates(2, [1.0, 1.0], schedule="wsd", decay_epochs=10)
    assert found == expected([1.0, 0.75, 0.5, 0.25])


def test_a_rate_that_falls_goes_on_falling_after_an_interruption() -> None:
    settings = Optimisation(
        n_epochs=9, lr=LR, schedule="wsd", es_patience=1, decay_epochs=2, warmup_steps=0
    )

    def fresh() -> tuple[torch.optim.Optimizer, Schedule]:
        optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=LR)
        return optimiser, Schedule(optimiser, settings, 2)

    optimiser, schedule = fresh()
    for step in range(3):
        schedule.after_step()
        if step == 1:
            schedule.after_epoch(1.0, 1)  # nothing got better: from here on it falls
    resumed, again = fresh()
    again.load_state_dict(schedule.state_dict())
    resumed.load_state_dict(optimiser.state_dict())
    for each, one in ((schedule, optimiser), (again, resumed)):
        each.after_step()
        assert one.param_groups[0]["lr"] == pytest.approx(LR * 0.5)
        assert not each.ended
