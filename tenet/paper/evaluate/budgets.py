"""Words on the training or tuning of each method of a table."""

from collections.abc import Mapping
from typing import Any

from tenet.settings.schema import Experiment

#: Settings of an experiment, settings of its pre-trained model, and whether its fine-tuning makes
#: images from phantoms.
Trained = tuple[Experiment, Experiment, bool]


def budgets(
    shown: Mapping[str, Trained],
    rltv: Mapping[str, Any],
    baselines: Mapping[str, Mapping[str, Any]],
) -> dict[str, str]:
    """Describe the training or tuning of each method of a table.

    Parameters
    ----------
    shown : mapping
        The experiments of the table by name. The first stands for all experiments whose names do
        not end with ``_as_published``.
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
    pretrained, fine_tuned = _training(*next(iter(shown.values())))
    iterations, weights = rltv["iterations"], rltv["tv_weights"]
    said = {
        "tenet": f"{pretrained}; {fine_tuned}",
        "pretrained": pretrained,
        "rltv": f"{iterations} iterations and weights {weights} tried on held-out phantoms",
        "rltv_paper": "settings of the paper; threshold on held-out phantoms",
    }
    for name, trained in shown.items():
        if name.endswith("_as_published"):
            said["pretrained_published"], fine_tuned = _training(*trained)
            said["tenet_published"] = f"{said['pretrained_published']}; {fine_tuned}"
    for method, spec in baselines.items():
        steps = spec["n_epochs"] * spec["steps_per_epoch"]
        batch = f" of {spec['batch_size']}" if "batch_size" in spec else ""
        again = ", again if results do not show what the image shows" * (method == "neuroclear")
        said[method] = f"trained for {steps} steps{batch}{again}"
    return said


def _training(tuned: Experiment, before: Experiment, on_phantoms: bool) -> tuple[str, str]:
    """Say how long the model of an experiment is pre-trained and fine-tuned."""
    crops = before.pretrain_loop.n_epochs * before.pretrain_dataset.I
    own = tuned.train_loop.n_epochs * tuned.train_dataset.I
    of_what = "images of phantoms" if on_phantoms else "raw stacks"
    return f"pre-trained on {crops} crops of phantoms", f"fine-tuned on {own} crops of {of_what}"
