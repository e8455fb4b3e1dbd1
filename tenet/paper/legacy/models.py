"""Models by their names in the published notebooks."""

import re
from pathlib import Path

from tenet.errors import TenetError
from tenet.model.store import EXPERIMENT
from tenet.model.trained import TrainedModel

MODELS = Path("results/models")


# Models on disk -----------------------------------------------------------------------------------


def find_model(name: str | Path, models: Path = MODELS, *, pretrained: bool = False) -> Path:
    """Find the folder of a model.

    Parameters
    ----------
    name : str or Path
        A folder, or a name under `models`. A folder of folds with a model `all` stands for that
        model.
    models : Path
        Folder of all models.
    pretrained : bool
        Whether to find the model that this model was fine-tuned from: ``pretrained`` beside the
        model, or the `pretrained_model` of its settings. A model without either is a pre-trained
        model itself.

    Returns
    -------
    Path

    Raises
    ------
    TenetError
        If there is no such model, or there are several folds to choose from.

    Examples
    --------
    >>> find_model("mine", Path("models"))
    PosixPath('models/mine')
    """
    folder = Path(name) if Path(name).is_dir() else Path(models) / name
    if not (folder / EXPERIMENT).exists():
        folds = sorted(f.parent.name for f in folder.glob(f"*/{EXPERIMENT}"))
        if "all" in folds:
            folder = folder / "all"
        elif folds:
            raise TenetError(
                f"{folder} has the models {', '.join(folds)}: choose one, as in '{name}/{folds[0]}'"
            )
        else:
            known = sorted(
                f.parent.relative_to(models).as_posix()
                for f in Path(models).glob(f"**/{EXPERIMENT}")
            )
            raise TenetError(
                f"no model '{name}' in {models}; there is {', '.join(known[:12]) or 'none at all'}"
            )
    if not pretrained:
        return folder
    beside = folder.parent / "pretrained"
    if (beside / EXPERIMENT).exists():
        return beside
    origin = TrainedModel.settings_of(folder).pretrained_model
    return find_model(origin, models) if origin else folder


def model_label(folder: Path) -> str:
    """Name of a model in file names and titles: of ``fig3_beads/fold0`` it is fig3_beads_fold0.

    Examples
    --------
    >>> model_label(Path("results/models/fig3_beads/fold0"))
    'fig3_beads_fold0'
    """
    folder = folder.resolve()
    if re.fullmatch(r"all|pretrained|fold\d+", folder.name):
        return f"{folder.parent.name}_{folder.name}"
    return folder.name
