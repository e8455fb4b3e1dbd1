"""`tenet simulate`: raw stacks of phantoms."""

from pathlib import Path

from tenet.data.simulate import simulate_acquisitions
from tenet.progress import shown
from tenet.settings.schema import Experiment


def simulate(
    experiment: Experiment,
    phantoms: Path,
    out: Path,
    *,
    motion_px: float,
    no_noise_part: bool,
    folds: int | None,
    seed: int,
) -> list[Path]:
    """Simulate a stack of every phantom, and return the files; see `simulate_acquisitions`."""
    with shown("taking stacks") as meter:
        return simulate_acquisitions(
            experiment,
            phantoms,
            out,
            motion_px=motion_px,
            no_noise_part=no_noise_part,
            folds=folds,
            seed=seed,
            progress=meter,
        )
