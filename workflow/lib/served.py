"""Samples that a model of every microscope enhances: nothing is trained for them."""

from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

from tenet.errors import TenetError
from tenet.model.shipped import shipped_model
from workflow.lib.catalogue import Catalogue
from workflow.lib.sample_fit import settings_of_model
from workflow.lib.sample_table import OPTICS, Sample
from workflow.lib.words import repeated

#: Options of `tenet enhance`, by the column that holds their value.
OPTIONS = dict(zip(OPTICS, ("--na", "--wavelength", "--immersion", "--photons"), strict=True))


@cache
def serving_model(catalogue: Catalogue, name: str) -> Path | None:
    """Find the model of every microscope that enhances a sample; None if one is trained for it.

    It is the one that the row names, or that of the configuration if the row gives optics and does
    not say what fine-tuning changes.

    Parameters
    ----------
    catalogue : Catalogue
    name : str
        A row of the sample table.

    Raises
    ------
    WorkflowError
        If there is no such model, or a training is asked of it, in one line that begins with that
        of the table.
    """
    row = catalogue.samples[name]
    trained = row.get("train", "none") != "none"
    chosen = catalogue.config["sample"].get("pretrained")
    if "experiment" in row or ("model" not in row and (trained or not chosen)):
        return None
    try:
        folder = Path(row["model"]) if "model" in row else shipped_model(chosen)
    except TenetError as error:
        raise WorkflowError(
            f"{row['where']}: {error}, or train a model for this microscope with "
            '`sample: {pretrained: ""}`'
        ) from None
    try:
        serves = settings_of_model(folder, row["where"]).microscopes.free is not None
    except ValueError as error:
        raise WorkflowError(str(error)) from None
    if serves and trained:
        raise WorkflowError(
            f"{row['where']}: train: {folder} is a model of every microscope, which is used as it "
            "is: leave train out, or leave model out to train a model for this microscope"
        )
    if not serves and "model" not in row:
        raise WorkflowError(
            f"{row['where']}: {folder}, which sample: pretrained names, was trained for one "
            "microscope: name a model of every microscope"
        )
    return folder.absolute() if serves else None


def optics_options(catalogue: Catalogue, row: Sample) -> list[str]:
    """Give what is told of a sample's microscope and structures to a model of every microscope."""
    if serving_model(catalogue, row["name"]) is None:
        return []
    return [
        word
        for column, option in (*OPTIONS.items(), ("thickness_um", "--thickness"))
        for word in repeated(option, [row[column]] if column in row else [])
    ]
