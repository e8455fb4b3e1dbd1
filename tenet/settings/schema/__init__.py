"""The schema of an experiment's settings: a class per section, typed, validated and frozen.

The default of a key is what the published code did, so that published files keep their meaning.
``default.json`` among the packaged files holds the recommended settings on top of these. Any key
with a ``$`` is a comment. A section holds no key without effect; `published` reads such keys in
published files. `tenet.settings.load` reads the files.
"""

from tenet.settings.schema.data import (
    Dataset,
    FreeMicroscopes,
    Microscopes,
    PhantomDataset,
    PhantomSet,
    PhantomValidation,
    Range,
    RawDataset,
    RawValidation,
    TestDataset,
    Vibration,
    Visualization,
)
from tenet.settings.schema.experiment import DATASETS, Experiment, parse_experiment, parse_params
from tenet.settings.schema.params import ModelParams
from tenet.settings.schema.training import (
    AlignParams,
    MRFWeights,
    Optimisation,
    PretrainLoop,
    TrainLoop,
)
from tenet.settings.sections import Section, validated

__all__ = [
    "DATASETS",
    "AlignParams",
    "Dataset",
    "Experiment",
    "FreeMicroscopes",
    "MRFWeights",
    "Microscopes",
    "ModelParams",
    "Optimisation",
    "PhantomDataset",
    "PhantomSet",
    "PhantomValidation",
    "PretrainLoop",
    "Range",
    "RawDataset",
    "RawValidation",
    "Section",
    "TestDataset",
    "TrainLoop",
    "Vibration",
    "Visualization",
    "parse_experiment",
    "parse_params",
    "validated",
]
