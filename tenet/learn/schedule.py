"""How the learning rate changes while a network is trained."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from tenet.settings.schema import Optimisation


class Schedule:
    """Learning rate over steps and epochs.

    ``"cosine"`` rises linearly over `warmup_steps` and falls to 0 by the end; ``"plateau"`` rises
    over `warmup_epochs` and divides by ten whenever ten epochs bring nothing; ``"constant"`` stays.
    """

    def __init__(
        self, optimiser: torch.optim.Optimizer, settings: Optimisation, steps_per_epoch: int
    ) -> None:
        self.settings, self.steps = settings, 0
        self.total = settings.n_epochs * steps_per_epoch
        self.steps_per_epoch = steps_per_epoch
        self.optimiser = optimiser
        self.bases = [group["lr"] for group in optimiser.param_groups]
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, patience=10)
        self._set(self._factor())

    def _factor(self) -> float:
        settings = self.settings
        if settings.schedule == "constant":
            return 1.0
        if settings.schedule == "plateau":
            return min(
                1.0, (self.steps // self.steps_per_epoch + 1) / max(settings.warmup_epochs, 1)
            )
        if self.steps < settings.warmup_steps:
            return (self.steps + 1) / settings.warmup_steps
        done = (self.steps - settings.warmup_steps) / max(self.total - settings.warmup_steps, 1)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def _set(self, factor: float) -> None:
        for group, base in zip(self.optimiser.param_groups, self.bases, strict=True):
            group["lr"] = base * factor

    def after_step(self) -> None:
        """Set the rates of the next step."""
        self.steps += 1
        if self.settings.schedule == "cosine":
            self._set(self._factor())

    def after_epoch(self, validation: float) -> None:
        """Set the rates of the next epoch; `validation` is the loss after this one."""
        if self.settings.schedule != "plateau":
            return
        if self.steps // self.steps_per_epoch < self.settings.warmup_epochs:
            self._set(self._factor())
        else:
            self.plateau.step(validation)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to hold of it."""
        return {"steps": self.steps, "plateau": self.plateau.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.steps = state["steps"]
        self.plateau.load_state_dict(state["plateau"])
