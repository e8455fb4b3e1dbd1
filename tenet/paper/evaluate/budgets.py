"""Words on the training or tuning of each method of a table."""

from collections.abc import Mapping
from typing import Any

from tenet.settings.schema import Dataset, Experiment, Optimisation

#: Settings of an experiment, settings of its pre-trained model, and whether its fine-tuning makes
#: images from phantoms.
Trained = tuple[Experiment, Experiment, bool]


def budgets(
    trained: Mapping[str, Trained],
    rltv: Mapping[str, Any],
    baselines: Mapping[str, Mapping[str, Any]],
) -> dict[str, str]:
    """Describe the training or tuning of each method of a table.

    Parameters
    ----------
    trained : mapping
        An experiment of the table for ``tenet``, which stands for all of them, and perhaps one for
        ``tenet_published``.
    rltv : mapping
        The ``iterations`` and ``tv_weights`` that RLTV was tuned over.
    baselines : mapping
        For ``care`` and ``neuroclear``: ``n_epochs``, ``steps_per_epoch`` and perhaps
        ``batch_size``.

    Returns
    -------
    dict of str
        A phrase by method.
    """
    pretrained, fine_tuned = _training(*trained["tenet"])
    iterations, weights = rltv["iterations"], rltv["tv_weights"]
    said = {
        "tenet": f"{pretrained}; {fine_tuned}",
        "pretrained": pretrained,
        "box": "came trained, for every microscope; PSF and noise found in raw stacks",
        "rltv": f"{iterations} iterations and weights {weights} tried on held-out phantoms",
        "rltv_paper": "settings of the paper; threshold on held-out phantoms",
    }
    if "tenet_published" in trained:
        said["tenet_published"] = "; ".join(
            [*_training(*trained["tenet_published"]), _as_published(trained["tenet_published"][0])]
        )
    for method, spec in baselines.items():
        steps = spec["n_epochs"] * spec["steps_per_epoch"]
        batch = f" of {spec['batch_size']}" if "batch_size" in spec else ""
        again = ", again if results do not show what the image shows" * (method == "neuroclear")
        said[method] = f"trained for {steps} steps{batch}{again}"
    return said


def _training(tuned: Experiment, before: Experiment, on_phantoms: bool) -> tuple[str, str]:
    """Say how long the model of an experiment is pre-trained and fine-tuned."""
    crops = _crops(before.pretrain_loop, before.pretrain_dataset)
    own = _crops(tuned.train_loop, tuned.train_dataset)
    of_what = "images of phantoms" if on_phantoms else "raw stacks"
    return f"pre-trained on {crops} crops of phantoms", f"fine-tuned on {own} crops of {of_what}"


def _crops(loop: Optimisation, dataset: Dataset) -> str:
    """Say how many crops a training sees; one that may stop early sees no more than these."""
    most = "" if loop.es_patience is None else "up to "
    return f"{most}{loop.n_epochs * dataset.I}"


def _as_published(tuned: Experiment) -> str:
    """Say what differs between the published settings and what all other methods have."""
    normalisation = {"minmax": "from the least to the greatest", "none": "as they are"}
    intensities = normalisation.get(tuned.train_dataset.normalisation, "by percentiles")
    return f"threshold fixed at {tuned.params.threshold:g}; intensities scaled {intensities}"
