"""`tenet import-weights`: weights of the published code become the folder of a model."""

from pathlib import Path

from tenet.errors import TenetError
from tenet.io.atomic import exclusive
from tenet.learn import calibrate as calibration
from tenet.model.store import MODEL, digest, save_model, say_replaced
from tenet.model.tenet import TENET
from tenet.settings.schema import Experiment


def import_weights(weights: str | Path, experiment: Experiment, out: str | Path) -> None:
    """Make a model of a file of weights of the published code and of its configuration.

    The folder has all files of a trained model but two. Without ``optimiser.pt`` a fine-tuning
    starts with a new optimiser. Without ``fisher.pt`` a fine-tuning finds the Fisher information of
    its elastic weights on phantoms.

    Parameters
    ----------
    weights : path
        State dictionary with the names of the published code, as `TENET.from_published` reads it.
    experiment : Experiment
        Settings that go with the weights, as of `load_experiment`. The threshold of the model is
        that of the settings.
    out : path
        Folder for the model.

    Raises
    ------
    TenetError
        If the file is not a plain state dictionary of this architecture, if the settings are not
        those of a published network, or if `out` cannot be used.
    """
    weights, out = Path(weights), Path(out)
    _check_published(experiment)
    model = TENET.from_published(experiment.params.model_dump(), weights)
    if out.exists() and weights.resolve() == (out / MODEL).resolve():
        raise TenetError(
            f"{weights} would be replaced by the model: choose another folder for --out"
        )
    source = {"kind": "import", "weights": str(weights), "sha256": digest(weights)}
    with exclusive(out):
        if (out / MODEL).exists():
            say_replaced(out)
        # Published models have no alignment network.
        save_model(out, model, experiment.model_copy(update={"align_params": None}), source)
        calibration.take_threshold(model, out)
        calibration.write_psf_table(model, out)


def _check_published(experiment: Experiment) -> None:
    """Refuse settings of a network that the published code does not have."""
    params = experiment.params
    wanted = {"network": "jnet", "psf_sampling": "lookup", "deconvolution_steps": 0}
    for key, value in wanted.items():
        if (found := getattr(params, key)) != value:
            raise TenetError(
                f"{experiment.name}: params.{key} is {found}, and weights of the published code go "
                f"with {value}: give the configuration that they were trained with, or add "
                "--overlay as_published"
            )
