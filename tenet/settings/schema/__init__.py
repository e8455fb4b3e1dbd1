"""The schema of an experiment's settings: a class per section, typed, validated and frozen.

A key that a file omits means what the published code did, so that users' own files mean the same;
``default.json`` among the packaged files holds the recommended settings on top of that. Any key
with a ``$`` is a comment. A key that does nothing in a section is not in it: `published` reads
those that published files hold. `tenet.settings.load` reads the files.
"""

from tenet.settings.schema.data import (
    Dataset,
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
