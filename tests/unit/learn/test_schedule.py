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
    seen = []
    for loss in validation:
        for _ in range(steps_per_epoch):
            seen.append([group["lr"] for group in optimiser.param_groups])
            schedule.after_step()
        schedule.after_epoch(loss)
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
