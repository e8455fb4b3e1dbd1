"""A trained model as one object, which nothing else loads and whose files nothing else reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from tenet.errors import TenetError
from tenet.io.intensities import IntensityRange
from tenet.io.stack import Stack
from tenet.model.certainty import Certainty
from tenet.model.intensity import model_range
from tenet.model.store import (
    THRESHOLD,
    Calibration,
    load_model,
    read_calibration,
    read_experiment,
    read_provenance,
)
from tenet.model.tenet import TENET
from tenet.settings.schema import Experiment, ModelParams


@dataclass(frozen=True)
class TrainedModel:
    """What a training wrote into a folder, ready to be used.

    The intensity scale of a stack is found by the network that enhances the stack: in the same
    precision, and with or without alignment as chosen. The folder is read once, by `load`.

    Attributes
    ----------
    folder : Path
        Where the model was read from, for messages and records.
    network : TENET
        In evaluation mode, in the precision of the model's `train_loop`; without its alignment
        network where alignment was refused.
    experiment : Experiment
        The settings that the model was trained with.
    calibration : Calibration or None
        What held-out phantoms told of the model; None if the model was never calibrated.
    calibration_note : str or None
        In one line what stands in for a calibration that is missing or does not name its weights.

    Examples
    --------
    >>> import tenet
    >>> model = tenet.TrainedModel.load("models/mine", device="cpu")
    >>> model.params.scale, model.threshold
    (3, 0.5)
    >>> low_and_high = model.intensity_range(tenet.open_stack("stack.tif"))
    """

    folder: Path
    network: TENET
    experiment: Experiment
    calibration: Calibration | None = None
    calibration_note: str | None = None

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: torch.device | str = "cpu",
        align: bool | None = None,
    ) -> Self:
        """Load the model of a folder.

        Parameters
        ----------
        folder : str or Path
            What `tenet pretrain`, `tenet align` or `tenet finetune` wrote.
        device : torch.device or str
            Where the network goes.
        align : bool, optional
            Whether the alignment network comes first; by default where the model has one.

        Returns
        -------
        TrainedModel

        Raises
        ------
        TenetError
            If a file is missing, damaged, or does not belong to the others, the model learned from
            another kind of input, or alignment is wanted and there is no network for it.
        """
        folder = Path(folder)
        network, experiment = load_model(folder, device=device)
        network.half_precision = experiment.train_loop.half_precision
        if align and network.aligner is None:
            raise TenetError(
                f"{folder} has no alignment network: it needs align_params in the experiment, and "
                "`python -m tenet align` before fine-tuning"
            )
        if align is False:
            network.aligner = None
        return cls(
            folder, network, experiment, read_calibration(folder), missing_calibration(folder)
        )

    @staticmethod
    def settings_of(folder: str | Path) -> Experiment:
        """Read the settings of a model without loading its network.

        Raises
        ------
        TenetError
            If the folder holds no model, or the settings are damaged or of another model.
        """
        return read_experiment(Path(folder))

    @property
    def params(self) -> ModelParams:
        """The `params` section of the settings: the microscope and the network."""
        return self.experiment.params

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.initial_psf.device

    @property
    def threshold(self) -> float:
        """A voxel belongs to the shape from this probability on.

        The threshold was chosen on held-out phantoms or, if none was, stands in the settings.
        """
        return self.params.threshold if self.calibration is None else self.calibration.threshold

    @property
    def certainty(self) -> Certainty:
        """What the probabilities of the shape meant on held-out phantoms.

        Raises
        ------
        TenetError
            If the model was not calibrated, or by a version that did not record this.
        """
        if self.calibration is None:
            raise TenetError(
                f"{self.folder} was never calibrated (it has no {THRESHOLD}): it cannot tell how "
                "sure it is; give --tuning phantoms when training"
            )
        if self.calibration.inside is None:
            raise TenetError(
                f"{self.folder / THRESHOLD} does not say what probabilities mean (it has no "
                "inside): give --tuning phantoms when training"
            )
        return Certainty(self.calibration.threshold, self.calibration.inside)

    @property
    def signal_level(self) -> float:
        """What the brightest voxels of the calibration's phantoms reach; 1 if that is not known."""
        level = None if self.calibration is None else self.calibration.signal_level
        return 1.0 if level is None else level

    def intensity_range(self, stack: Stack, normalisation: str | None = None) -> IntensityRange:
        """Find the raw intensities of a stack that become 0 and 1 for this model.

        Parameters
        ----------
        stack : Stack
            Raw stack.
        normalisation : {"none", "minmax", "percentile"}, optional
            How intensities are scaled; by default as the model's settings say. Where percentiles
            decide, a calibrated model then looks at the stack; see `tenet.model.intensity`.

        Returns
        -------
        IntensityRange

        Raises
        ------
        TenetError
            If intensities are not finite or all equal, or are taken as they are and leave 0 to 1.
        """
        method = normalisation or self.experiment.train_dataset.normalisation
        return model_range(stack, self.network, self.experiment, self.calibration, method)


def missing_calibration(folder: Path) -> str | None:
    """Say in one line what stands in for the calibration of a model, or None if it has one.

    Raises
    ------
    TenetError
        If the calibration is damaged, or of another model.
    """
    found = read_calibration(folder)
    if found is not None:
        if found.weights is not None or not read_provenance(folder).files:
            return None
        return (
            f"{folder / THRESHOLD} does not say which weights it is for: it was written by hand, "
            "or by an earlier version"
        )
    threshold = read_experiment(folder).params.threshold
    return (
        f"{folder} was never calibrated (it has no {THRESHOLD}): stacks are not brought to the "
        f"intensity scale of phantoms, and its threshold is taken as {threshold:g}, from its "
        "settings; give --tuning phantoms when training to choose both"
    )
