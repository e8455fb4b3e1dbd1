"""How the learning rate changes while a network is trained."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from tenet.settings.schema import Optimisation

if TYPE_CHECKING:
    from timm.scheduler.scheduler import Scheduler


class Schedule:
    """Learning rate over steps and epochs.

    ``"cosine"`` rises linearly over `warmup_steps` and falls to 0 by the end; ``"plateau"`` rises
    over `warmup_epochs` and divides by ten whenever ten epochs bring nothing; ``"constant"`` stays.
    """

    def __init__(self, optimiser: Optimizer, settings: Optimisation, steps_per_epoch: int) -> None:
        self.settings, self.steps, self.steps_per_epoch = settings, 0, steps_per_epoch
        self.optimiser = optimiser
        self.bases = [group["lr"] for group in optimiser.param_groups]
        # timm's own plateau is deprecated, and its checkpoints forget how long nothing has come.
        self.plateau = ReduceLROnPlateau(optimiser, patience=10)
        self.cosine: Scheduler | None = None
        if settings.schedule == "cosine":
            from timm.scheduler import CosineLRScheduler  # takes a second

            self.cosine = CosineLRScheduler(
                optimiser,
                # Of a single step timm warns.
                t_initial=max(settings.n_epochs * steps_per_epoch - settings.warmup_steps, 2),
                warmup_t=settings.warmup_steps,
                warmup_prefix=True,
                t_in_epochs=False,
            )
            self._follow_cosine(self.cosine)
        elif settings.schedule == "plateau":
            self._warm_up()

    def _follow_cosine(self, cosine: "Scheduler") -> None:
        # Steps of warming up count from 1, because the first one would else have a rate of 0.
        cosine.step_update(self.steps + (self.steps < self.settings.warmup_steps))

    def _warm_up(self) -> None:
        epoch = self.steps // self.steps_per_epoch + 1
        factor = min(1.0, epoch / max(self.settings.warmup_epochs, 1))
        for group, base in zip(self.optimiser.param_groups, self.bases, strict=True):
            group["lr"] = base * factor

    def after_step(self) -> None:
        """Set the rates of the next step."""
        self.steps += 1
        if self.cosine is not None:
            self._follow_cosine(self.cosine)

    def after_epoch(self, validation: float) -> None:
        """Set the rates of the next epoch; `validation` is the loss after this one."""
        if self.settings.schedule != "plateau":
            return
        if self.steps // self.steps_per_epoch < self.settings.warmup_epochs:
            self._warm_up()
        else:
            self.plateau.step(validation)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to hold of it."""
        return {"steps": self.steps, "plateau": self.plateau.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.steps = state["steps"]
        self.plateau.load_state_dict(state["plateau"])
