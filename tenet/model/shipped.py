"""Where the models that need no training are: those of the package, or those of a folder."""

import os
from pathlib import Path

from tenet.errors import TenetError

#: Environment variable with a folder of models, which takes the place of the package's own.
TENET_MODELS = "TENET_MODELS"
#: The model of every microscope.
BOX = "box"
#: Folder in that of such a model, of the model that serves stacks of one photon in its place.
ONE_PHOTON = "one_photon"
_OWN = Path(__file__).parents[1] / "models"
#: As `store.EXPERIMENT`. The pipeline looks for models without PyTorch, which `store` imports.
_EXPERIMENT = "experiment.json"


def shipped_model(name: str = BOX) -> Path:
    """Find the folder of a model that comes with the package, or lies in ``$TENET_MODELS``.

    Raises
    ------
    TenetError
        If there is none of this name.

    Examples
    --------
    >>> shipped_model().name
    'box'
    """
    chosen = os.environ.get(TENET_MODELS)
    folder = (Path(chosen) if chosen else _OWN) / name
    if not (folder / _EXPERIMENT).is_file():
        where = f"{TENET_MODELS} is {chosen}, and there is" if chosen else "the package has"
        raise TenetError(f"{where} no model {folder}: give --model with the folder of a model")
    return folder
