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
    ``"wsd"`` (warm up, stay, decay) rises over `warmup_steps`, stays until `es_patience` epochs
    bring nothing, and then falls linearly to 0 over `decay_epochs`, at the latest by the end. So a
    training that need not go on still has the small steps at its end that make it good.

    References
    ----------
    Hu et al., "MiniCPM", arXiv:2404.06395 (2024), for warming up, staying and decaying.
    """

    def __init__(self, optimiser: Optimizer, settings: Optimisation, steps_per_epoch: int) -> None:
        self.settings, self.steps, self.steps_per_epoch = settings, 0, steps_per_epoch
        self.optimiser = optimiser
        self.bases = [group["lr"] for group in optimiser.param_groups]
        # timm's own plateau is deprecated, and its checkpoints forget how long nothing has come.
        self.plateau = ReduceLROnPlateau(optimiser, patience=10)
        self.decays_from = max(settings.n_epochs - settings.decay_epochs, 0) * steps_per_epoch
        self.decay_steps = min(settings.decay_epochs, settings.n_epochs) * steps_per_epoch
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
        elif settings.schedule == "wsd":
            self._follow_wsd()
        elif settings.schedule == "plateau":
            self._warm_up()

    @property
    def ended(self) -> bool:
        """Whether a rate that falls when nothing gets better has fallen to 0."""
        wsd = self.settings.schedule == "wsd"
        return wsd and self.steps >= self.decays_from + self.decay_steps

    def _follow_cosine(self, cosine: "Scheduler") -> None:
        # Steps of warming up count from 1, because the first one would else have a rate of 0.
        cosine.step_update(self.steps + (self.steps < self.settings.warmup_steps))

    def _warm_up(self) -> None:
        epoch = self.steps // self.steps_per_epoch + 1
        self._scale(min(1.0, epoch / max(self.settings.warmup_epochs, 1)))

    def _follow_wsd(self) -> None:
        rising = (self.steps + 1) / max(self.settings.warmup_steps, 1)
        falling = 1 - (self.steps - self.decays_from) / self.decay_steps
        self._scale(max(min(rising, falling, 1.0), 0.0))

    def _scale(self, factor: float) -> None:
        for group, base in zip(self.optimiser.param_groups, self.bases, strict=True):
            group["lr"] = base * factor

    def after_step(self) -> None:
        """Set the rates of the next step."""
        self.steps += 1
        if self.cosine is not None:
            self._follow_cosine(self.cosine)
        elif self.settings.schedule == "wsd":
            self._follow_wsd()

    def after_epoch(self, validation: float, stale: int) -> None:
        """Set the rates of the next epoch.

        Parameters
        ----------
        validation : float
            Loss after this epoch.
        stale : int
            Epochs since the best one.
        """
        patience = self.settings.es_patience
        if self.settings.schedule == "wsd" and patience is not None and stale >= patience:
            self.decays_from = min(self.decays_from, self.steps)
        if self.settings.schedule != "plateau":
            return
        if self.steps // self.steps_per_epoch < self.settings.warmup_epochs:
            self._warm_up()
        else:
            self.plateau.step(validation)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to hold of it."""
        return {
            "steps": self.steps,
            "plateau": self.plateau.state_dict(),
            "decays_from": self.decays_from,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.steps = state["steps"]
        self.plateau.load_state_dict(state["plateau"])
        self.decays_from = state["decays_from"]
