"""A trained model as one object. No other module loads a model or reads the files of a model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from tenet.errors import TenetError
from tenet.io.intensities import IntensityRange
from tenet.io.stack import Stack
from tenet.model.certainty import Certainty
from tenet.model.intensity import model_range
from tenet.model.shipped import ONE_PHOTON
from tenet.model.store import (
    THRESHOLD,
    Calibration,
    load_model,
    read_calibration,
    read_experiment,
    read_provenance,
    read_told,
)
from tenet.model.tenet import TENET
from tenet.settings.schema import Experiment, ModelParams


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, ready to be used.

    The network that enhances a stack also finds the intensity scale of the stack, in the same
    precision, and with or without alignment as chosen. `load` reads the folder once.

    Attributes
    ----------
    folder : Path
        Folder that the model was read from, for messages and records.
    network : TENET
        The network in evaluation mode, in the precision of the model's `train_loop`, and without
        its alignment network if alignment was refused.
    experiment : Experiment
        The settings that the model was trained with.
    calibration : Calibration or None
        The calibration on held-out phantoms; None if the model was never calibrated.
    calibration_note : str or None
        One line on the values that replace a missing calibration, or on a calibration that does not
        name its weights.
    as_told : ModelParams or None
        The microscope as it was told, of a model that serves every microscope and has found this
        one.
    one_photon : TrainedModel or None
        The model that serves stacks of one photon in its place; see `for_photons`.

    Examples
    --------
    >>> import tenet
    >>> model = tenet.TrainedModel.load("models/mine")
    >>> model.params.scale, model.params.NA, model.threshold
    (3, 0.3, 0.5)
    """

    folder: Path
    network: TENET
    experiment: Experiment
    calibration: Calibration | None = None
    calibration_note: str | None = None
    as_told: ModelParams | None = None
    one_photon: Self | None = None

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
            Folder that `tenet pretrain`, `tenet align` or `tenet finetune` wrote.
        device : torch.device or str
            Device of the network.
        align : bool, optional
            Whether the alignment network runs first; by default if the model has one.

        Returns
        -------
        TrainedModel

        Raises
        ------
        TenetError
            If a file is missing, damaged, or does not belong to the others; if the model learned
            from another kind of input; if alignment is wanted and the model has no alignment
            network.

        Examples
        --------
        >>> import tenet
        >>> model = tenet.TrainedModel.load("models/mine", device="cpu")
        >>> model.params.scale
        3
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
        inner = folder / ONE_PHOTON
        return cls(
            folder,
            network,
            experiment,
            read_calibration(folder),
            missing_calibration(folder),
            one_photon=cls.load(inner, device=device, align=align) if inner.is_dir() else None,
        )

    def for_photons(self, photons: int) -> "TrainedModel":
        """The model for stacks of so many photons: a model may have one of its own for one photon.

        Examples
        --------
        >>> import tenet
        >>> model = tenet.TrainedModel.load("models/mine")
        >>> model.for_photons(1) is model  # of one microscope
        True
        """
        return self.one_photon if photons == 1 and self.one_photon is not None else self

    @staticmethod
    def settings_of(folder: str | Path) -> Experiment:
        """Read the settings of a model without loading its network.

        Raises
        ------
        TenetError
            If the folder holds no model, or the settings are damaged or belong to another model.

        Examples
        --------
        >>> import tenet
        >>> tenet.TrainedModel.settings_of("models/mine").params.scale
        3
        """
        return read_experiment(Path(folder))

    @property
    def params(self) -> ModelParams:
        """The `params` section of the settings: the microscope and the network.

        Examples
        --------
        >>> import tenet
        >>> tenet.TrainedModel.load("models/mine").params.coarse_voxel_size_um
        (1.0, 0.31, 0.31)
        """
        return self.experiment.params

    @property
    def told(self) -> ModelParams:
        """The settings of the microscope as it was told, whatever fine-tuning found.

        Examples
        --------
        >>> import tenet
        >>> model = tenet.TrainedModel.load("models/mine")
        >>> model.told.NA == model.params.NA
        True
        """
        return self.as_told or read_told(self.folder, self.params)

    @property
    def serves_all(self) -> bool:
        """Whether the model learned with microscopes of every kind, and so serves every stack.

        Examples
        --------
        >>> import tenet
        >>> tenet.TrainedModel.load("models/mine").serves_all
        False
        """
        return self.experiment.microscopes.free is not None

    @property
    def device(self) -> torch.device:
        """Device of the network.

        Examples
        --------
        >>> import tenet
        >>> tenet.TrainedModel.load("models/mine").device
        device(type='cpu')
        """
        return self.network.initial_psf.device

    @property
    def threshold(self) -> float:
        """Probability from which on a voxel belongs to the shape.

        The threshold was chosen on held-out phantoms. The threshold of a model without calibration
        is that of its settings.

        Examples
        --------
        >>> import tenet
        >>> model = tenet.TrainedModel.load("models/mine")
        >>> shape, brightness = tenet.enhance("stack.tif", model)
        >>> segmented = shape >= model.threshold
        """
        return self.params.threshold if self.calibration is None else self.calibration.threshold

    @property
    def certainty(self) -> Certainty:
        """The meaning of the shape's probabilities, found on held-out phantoms.

        Raises
        ------
        TenetError
            If the model was not calibrated, or was calibrated by a version that did not record this
            meaning.

        Examples
        --------
        >>> import numpy as np
        >>> import tenet
        >>> model = tenet.TrainedModel.load("models/calibrated")
        >>> shape = np.array([0.1, 0.5, 0.9], np.float32)
        >>> model.certainty.wrong(shape).round(1)  # the probability of an error
        array([0.1, 0.5, 0.1], dtype=float32)
        """
        if self.calibration is None:
            raise TenetError(
                f"{self.folder} was never calibrated (it has no {THRESHOLD}): "
                "uncertainty is not known; give --tuning phantoms when training"
            )
        if self.calibration.inside is None:
            raise TenetError(
                f"{self.folder / THRESHOLD} does not say what probabilities mean (it has no "
                "inside): give --tuning phantoms when training"
            )
        return Certainty(self.calibration.threshold, self.calibration.inside)

    @property
    def signal_level(self) -> float:
        """Brightness of the brightest voxels of the calibration's phantoms; 1 if it is unknown."""
        level = None if self.calibration is None else self.calibration.signal_level
        return 1.0 if level is None else level

    def intensity_range(self, stack: Stack, normalisation: str | None = None) -> IntensityRange:
        """Find the raw intensities of a stack that become 0 and 1 for this model.

        Parameters
        ----------
        stack : Stack
            Raw stack.
        normalisation : {"none", "minmax", "percentile"}, optional
            How intensities are scaled; by default as the model's settings say. With "percentile", a
            calibrated model also finds the intensity scale of the stack; see
            `tenet.model.intensity`.

        Returns
        -------
        IntensityRange

        Raises
        ------
        TenetError
            If intensities are not finite or all are equal, or, with "none", are not from 0 to 1.

        Examples
        --------
        >>> import tenet
        >>> model = tenet.TrainedModel.load("models/mine")
        >>> range_ = model.intensity_range(tenet.open_stack("stack.tif"))
        >>> print(range_.describe())
        intensities 110 to 3092 become 0 to 1 (percentile 25 to 99.99)
        """
        method = normalisation or self.experiment.train_dataset.normalisation
        return model_range(stack, self.network, self.experiment, self.calibration, method)


def missing_calibration(folder: Path) -> str | None:
    """Say in one line which values replace a missing calibration; None if the model has one.

    Raises
    ------
    TenetError
        If the calibration is damaged, or belongs to another model.
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
