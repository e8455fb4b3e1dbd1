"""TENET: sharp, isotropic, segmented volumes from blurred two-photon stacks, without any truth.

Names are imported when they are first used, so that ``import tenet`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenet.io.open import open_stack
    from tenet.model.trained import TrainedModel
    from tenet.settings.load import load_experiment
    from tenet.tasks.arrays import enhance
    from tenet.tasks.finetune import fine_tune
    from tenet.tasks.pretrain import pretrain

    __version__: str

#: Public names, and the module that each is in. `enhance` is a package, which can be called.
_HOMES = {
    "TrainedModel": "tenet.model.trained",
    "fine_tune": "tenet.tasks.finetune",
    "load_experiment": "tenet.settings.load",
    "open_stack": "tenet.io.open",
    "pretrain": "tenet.tasks.pretrain",
}
__all__ = [
    "TrainedModel",
    "__version__",
    "enhance",
    "fine_tune",
    "load_experiment",
    "open_stack",
    "pretrain",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("tenet")
    if name == "enhance":
        return import_module("tenet.enhance")
    if name not in _HOMES:
        raise AttributeError(f"module 'tenet' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
