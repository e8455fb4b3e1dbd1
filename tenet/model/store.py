"""The files of a trained model: weights, settings, history and provenance.

Every file says which weights it belongs to, so that files of two models in one folder are noticed.
`PROVENANCE` holds the SHA-256 of the weights and of the files beside them. `THRESHOLD` holds the
SHA-256 of the weights that it was found for. New weights are written last. Files that describe the
old weights are removed first.
"""

import hashlib
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any
from zipfile import BadZipFile, ZipFile

import torch
from pydantic import Field
from torch import Tensor

from tenet.errors import TenetError, one_line
from tenet.io.atomic import replacing, save_json, writing
from tenet.io.intensities import IntensityRange
from tenet.io.records import read_json_object, regular_file
from tenet.io.stack import Stack
from tenet.model.shipped import ONE_PHOTON
from tenet.model.tenet import TENET
from tenet.model.weights import read_weights
from tenet.settings.ranges import Positive
from tenet.settings.schema import Experiment, ModelParams, parse_experiment
from tenet.settings.sections import Section, read_record

MODEL, OPTIMISER, FISHER = "model.pt", "optimiser.pt", "fisher.pt"
EXPERIMENT, PROVENANCE, HISTORY = "experiment.json", "provenance.json", "history.csv"
THRESHOLD, PSF_TABLE, LOSSES = "threshold.json", "psf.csv", "losses.json"
PSF_SEARCH = "psf_search.json"
#: Phantoms on which a model of every microscope is calibrated, for each one anew.
TUNING = "tuning"
#: Files that describe the weights of a folder.
DESCRIPTIONS = (THRESHOLD, PSF_TABLE, LOSSES, PROVENANCE, EXPERIMENT, OPTIMISER, FISHER)
#: Kind of input beside the image. With another kind of input a network would give wrong results
#: without an error. 1: the deconvolved stack after `network.hill`; 2: the deconvolved stack in
#: linear intensities.
INPUT = 2
#: Bins of the probability. A calibration holds the share of voxels in structures for each bin.
BINS = 50
#: Largest intensity scale or gain. Those of real phantoms are near 1.
MOST_LEVEL = 1000.0
_PACKAGES = ("torch", "timm", "numpy", "scipy", "scikit-image", "tifffile", "zarr")

Share = Annotated[float, Field(ge=0, le=1)]
Level = Annotated[float, Field(gt=0, le=MOST_LEVEL)]


class Calibration(Section):
    """``threshold.json``: a model's calibration on held-out phantoms; see `calibration.calibrate`.

    None stands for an unknown value. `weights` is the SHA-256 of the weights that were calibrated.
    `identity` is the SHA-256 of all inputs of the calibration.
    """

    threshold: Share
    iou: Share | None = None
    n: Annotated[int, Field(ge=0)] | None = None
    signal_level: Level | None = None
    deconvolved_level: Level | None = None
    gain: Level | None = None
    inside: tuple[Share, ...] | None = None
    weights: str | None = None
    identity: str | None = None


class Told(Section):
    """The microscope as it was told, where fine-tuning found another one."""

    NA: Positive
    fill: Positive | None = None
    spherical: float = 0.0


class Provenance(Section):
    """``provenance.json``. Entries that are not named here are for people.

    `identity` is the digest of all inputs of the training, `files` holds the SHA-256 of each file,
    and `told` is what the settings said before fine-tuning found another microscope.
    """

    input: int | None = None
    identity: str | None = None
    files: dict[str, str] = Field(default_factory=dict)
    told: Told | None = None


# Files that belong together -----------------------------------------------------------------------


def digest(path: Path) -> str:
    """SHA-256 of a file, which is read again only if the file has changed."""
    size, found = regular_file(path), path.stat()
    return _digest(path, size, found.st_mtime_ns, found.st_ino)


@cache
def _digest(path: Path, *_: int) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TenetError(f"{path}: cannot be read ({one_line(error)})") from None


def digests_of_enhancing(folder: Path) -> list[str]:
    """SHA-256 of each file that decides what a model makes of a stack, but for its phantoms."""
    folders = (folder, folder / ONE_PHOTON)
    files = (of / name for of in folders for name in (MODEL, THRESHOLD))
    return [digest(file) for file in files if file.exists()]


def digest_of(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def phantoms_digest(folder: Path) -> str:
    """Digest of the phantoms in a folder, from the checksums in the archives; copies are equal."""
    whole = hashlib.sha256()
    for path in sorted(folder.glob("*.npz")) or sorted(folder.glob("[!.]*.zarr.zip")):
        whole.update(path.name.encode())
        try:
            with ZipFile(path) as archive:
                parts = [f"{part.filename} {part.CRC}" for part in archive.infolist()]
            whole.update("\n".join(parts).encode())
        except (OSError, BadZipFile):  # the reader of the phantoms reports the error
            continue
    return whole.hexdigest()


def stacks_digest(data: Iterable[tuple[Stack, IntensityRange]]) -> str:
    """Digest of raw stacks, from their intensities and from the range that becomes 0 to 1."""
    return digest_of(" ".join(f"{s.path.name} {s.digest} {range_}" for s, range_ in data))


def read_provenance(folder: Path) -> Provenance:
    """Read the provenance of a model; empty where the folder has none."""
    path = folder / PROVENANCE
    return read_record(Provenance, path) if os.path.lexists(path) else Provenance()


def read_told(folder: Path, params: ModelParams) -> ModelParams:
    """Settings of the microscope as it was told, whatever fine-tuning found."""
    told = read_provenance(folder).told
    return params if told is None else params.model_copy(update=told.model_dump())


def read_calibration(folder: Path) -> Calibration | None:
    """Read ``threshold.json`` and check every value; None if the model was never calibrated.

    Raises
    ------
    TenetError
        If the file is damaged, or belongs to other weights than those beside it.
    """
    path = folder / THRESHOLD
    if not os.path.lexists(path):
        return None
    found = read_record(Calibration, path)
    if found.inside is not None and len(found.inside) != BINS:
        raise TenetError(f"{path}: inside must be {BINS} shares from 0 to 1")
    weights = folder / MODEL
    if found.weights is not None and weights.exists() and found.weights != digest(weights):
        raise TenetError(
            f"{path} does not belong to the weights in {MODEL}: run the training's command with "
            "--tuning again, or copy the whole folder of a model"
        )
    return found


def has_file(folder: Path, name: str) -> bool:
    """Whether a model has a file of this name, or had the file when the model was written."""
    return os.path.lexists(folder / name) or name in read_provenance(folder).files


def check_belongs(folder: Path, *names: str) -> None:
    """Refuse files in a model's folder that differ from those in its provenance.

    The provenance of models of earlier versions names no files. A note on standard error says so.
    """
    files = read_provenance(folder).files
    if not files and (folder / PROVENANCE).exists():
        _note_earlier(folder)
    for name in names:
        if files and files.get(name) != digest(folder / name):
            raise TenetError(
                f"{folder / name} does not belong to this model ({PROVENANCE} names another "
                "file): train again, or copy the whole folder of a model"
            )


@cache
def _note_earlier(folder: Path) -> None:
    print(
        f"note: {folder} was written by an earlier version: whether its files belong together "
        "is not known",
        file=sys.stderr,
    )


def is_trained(folder: Path, identity: str) -> bool:
    """Whether a folder holds the result of the training of this identity; a note says so."""
    try:
        found = read_provenance(folder)
        if not found.files or found.identity != digest_of(identity):
            if (folder / MODEL).exists():
                say_replaced(folder)
            return False
        check_belongs(folder, *found.files)
    except TenetError as error:
        print(f"{error}: the model is trained anew, or from its checkpoint")
        return False
    say_finished(folder)
    return True


def say_finished(folder: Path) -> None:
    """Say that there is nothing to train, and how to train nevertheless."""
    print(f"{folder} is finished: nothing to train; choose another folder, or delete this one")


def say_replaced(folder: Path) -> None:
    """Say that a finished model is trained over, while there is time to end the training."""
    print(f"{folder} holds a model of another version, other settings or data: it is replaced")


# Writing and reading ------------------------------------------------------------------------------


def save_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write a dictionary of tensors and plain data, atomically."""
    with replacing(path) as temporary:
        _write_tensors(temporary, content)


def _write_tensors(path: Path, content: Mapping[str, Any]) -> None:
    try:
        with path.open("wb") as file:
            torch.save(dict(content), file)
    except RuntimeError as error:  # PyTorch hides the error of the disk
        cause = error.__context__
        raise (cause if isinstance(cause, OSError) else OSError(one_line(error))) from None


def not_finite(state: Mapping[str, Tensor]) -> str | None:
    """Name of the first of some tensors that is not finite, or None."""
    finite = {name: tensor.isfinite().all() for name, tensor in state.items()}
    if not finite or bool(torch.stack(list(finite.values())).all()):  # one wait for a GPU
        return None
    return next(name for name, whole in finite.items() if not whole)


def save_model(
    folder: Path,
    model: TENET,
    experiment: Experiment,
    provenance: Mapping[str, Any],
    *,
    identity: str | None = None,
    beside: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write a model and its settings, with the weights last.

    Parameters
    ----------
    folder : Path
        Folder of the model. Files that describe older weights are removed first.
    model : TENET
    experiment : Experiment
    provenance : mapping
        Words about the making of the model, for people.
    identity : str, optional
        Digest of all inputs of the training, as in `loop.Plan`.
    beside : mapping, optional
        Further tensors, by the name of their file.

    Raises
    ------
    TenetError
        If a weight is not finite, or the disk is full or not writable.
    """
    state = model.state_dict()
    if (name := not_finite(state)) is not None:
        raise TenetError(f"{folder}: the weight {name} is not finite: train with a lower lr")
    with writing(folder):
        for name in (MODEL, *DESCRIPTIONS):
            (folder / name).unlink(missing_ok=True)
    for name, tensors in (beside or {}).items():
        save_tensors(folder / name, tensors)
    with replacing(folder / MODEL) as weights:
        _write_tensors(weights, state)
        save_json(folder / EXPERIMENT, experiment.model_dump(mode="json"))
        files = {name: digest(folder / name) for name in (EXPERIMENT, *(beside or {}))}
        record = {"identity": identity and digest_of(identity), "input": INPUT, **provenance}
        record["files"] = {MODEL: digest(weights), **files}
        save_json(folder / PROVENANCE, {**software(), **record})


def load_model(
    folder: str | Path, *, device: str | torch.device = "cpu"
) -> tuple[TENET, Experiment]:
    """Load a model that `save_model` wrote.

    Returns
    -------
    (TENET, Experiment)
        The model in evaluation mode on `device`, and the settings it was trained with.

    Raises
    ------
    TenetError
        If a file is missing, damaged, or does not belong to the others, or if the model learned
        from another kind of input.
    """
    folder = Path(folder)
    experiment = read_experiment(folder)
    shown = INPUT if not (folder / PROVENANCE).exists() else read_provenance(folder).input
    if experiment.params.deconvolution_steps and shown != INPUT:
        raise TenetError(
            f"{folder} was trained by an earlier version, whose network may have been shown "
            f"something else (its {PROVENANCE} has no input {INPUT}): train it again"
        )
    state = load_beside(folder, MODEL)
    model = TENET(experiment.params, experiment.align_params)
    model.load_weights(state, where=str(folder / MODEL))
    return model.eval().to(device), experiment


def load_beside(folder: Path, name: str) -> dict[str, Any]:
    """Tensors of a model's folder that belong to its weights."""
    tensors = load_tensors(folder / name)
    check_belongs(folder, name)
    return tensors


def read_experiment(folder: Path) -> Experiment:
    """Read the settings of a model."""
    path = folder / EXPERIMENT
    if not path.exists():
        inside = sorted(found.parent.name for found in folder.glob(f"*/{MODEL}"))
        hint = f"; models in it: {', '.join(inside)}" if inside else ""
        if folder.is_file():
            raise TenetError(_no_folder(folder))
        if not folder.is_dir():
            hint = "; a model is a folder" if folder.exists() else "; there is no such folder"
        hint = hint or "; give the folder that a training wrote"
        raise TenetError(f"{folder} is not a model: it has no {EXPERIMENT}{hint}")
    experiment = parse_experiment(read_json_object(path), where=str(path))
    check_belongs(folder, EXPERIMENT)
    return experiment


def _no_folder(path: Path) -> str:
    """What to do about a file that is given where a model is meant."""
    if (path.parent / EXPERIMENT).exists():
        return f"{path} is a file of a model, and a model is a folder: give {path.parent}"
    return (
        f"{path} is a file, and a model is a folder: of weights of the published code, "
        "`tenet import-weights FILE.pt CONFIG.json --out MODEL` makes one"
    )


def load_tensors(path: Path) -> dict[str, Any]:
    """Read tensors and plain data that `save_tensors` wrote. No code in the file is run."""
    return read_weights(path)


def software() -> dict[str, Any]:
    """Versions of the packages, and the machine, that computed a result."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in _PACKAGES},
        "tenet": version("tenet"),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A detached copy of a state dictionary in main memory."""
    return {name: value.detach().to("cpu", copy=True) for name, value in state.items()}
