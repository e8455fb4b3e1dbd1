"""The work behind the widget *Enhance*, without any window: it can be watched and stopped."""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from tenet.enhance.enhance import enhance_array, psf_before_and_after
from tenet.enhance.restore import mask_block
from tenet.errors import TenetError
from tenet.io.array import stack_in_memory
from tenet.io.intensities import normalise, warnings_of
from tenet.io.open import open_stack
from tenet.io.optics import KnownOptics, Optics
from tenet.io.results import CHANNELS, UNCERTAINTY
from tenet.io.stack import Stack
from tenet.learn.serve import known_optics, serve
from tenet.model.shipped import shipped_model
from tenet.model.tenet import TENET
from tenet.model.trained import TrainedModel
from tenet.napari.layers import KEY
from tenet.types import Progress, Stage, VoxelSize

ENHANCING = "enhancing"
#: Bytes of all layers of a result for each fine voxel, the arrays they are made of included.
BYTES_PER_VOXEL = 20
#: Options of the command line in messages, and what the widget calls them.
WORDS = {
    "--voxel-size": "the voxel size",
    "--na": "the NA",
    "--wavelength": "the wavelength",
    "--immersion": "the immersion index",
    "--photons": "the photons",
    "--thickness": "the thickness",
    "--uncertainty": "the uncertainty",
}


@dataclass(frozen=True)
class Task:
    """What is enhanced, and how.

    Attributes
    ----------
    name : str
        Name of the stack, for messages.
    data : array, shape (Z, Y, X) or (T, Z, Y, X)
        Raw intensities, in memory or not.
    voxel_size_um : tuple of float
        Along z, y and x.
    optics : Optics
        What the user tells.
    file_optics : Optics
        What the file of the stack says.
    structure_um : float, optional
        Mean thickness of the structures in µm, where it is known.
    find_psf : bool
        Whether the PSF is looked for in the stack.
    uncertainty : bool
        Whether the uncertainty is wanted as well.
    """

    name: str
    data: Any
    voxel_size_um: VoxelSize
    optics: Optics
    file_optics: Optics
    structure_um: float | None = None
    find_psf: bool = True
    uncertainty: bool = False


@dataclass(frozen=True, eq=False)
class Result:
    """An enhanced stack, and what was found on the way.

    Attributes
    ----------
    channels : dict
        Arrays of float32 by "shape", "brightness" and perhaps "uncertainty", with the axes of the
        task.
    scale : int
        s, fine planes per plane.
    threshold : float
        Probability from which on a voxel is segmented.
    found : dict
        As `tenet.learn.serve.Served.found`.
    psf_before, psf_after : ndarray
        PSF as told and as found (planes, rows, columns), with sum 1.
    psf_voxel_size_um : tuple of float
        Of both PSFs along z, y and x.
    warnings : list of str
        What makes the result doubtful.
    """

    channels: dict[str, NDArray[np.float32]]
    scale: int
    threshold: float
    found: dict[str, Any]
    psf_before: NDArray[np.float32]
    psf_after: NDArray[np.float32]
    psf_voxel_size_um: VoxelSize
    warnings: list[str]


@cache
def model_of_every_microscope() -> TrainedModel:
    """The model in the package, on a GPU if there is one; loaded once."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return TrainedModel.load(shipped_model(), device=device)


def file_of(layer: Any) -> Stack | None:
    """The stack in the file that a layer was read from; None if TENET does not read the file."""
    try:
        return open_stack(Path(layer.source.path), channel=0, time=0) if layer.source.path else None
    except TenetError:
        return None


def optics_of(layer: Any, file: Stack | None) -> Optics:
    """Optics of a layer: those of its metadata, else those of its file if its channels agree."""
    own = layer.metadata.get(KEY)
    optics = own.get("optics") if isinstance(own, Mapping) else None
    if isinstance(optics, Optics):
        return optics
    return file.optics if file and len(set(file.channel_optics)) == 1 else Optics()


def microscope_of(task: Task) -> KnownOptics:
    """The optics with which a stack will be enhanced, and where each is from; no voxel is read.

    Raises
    ------
    TenetError
        If the model cannot serve such a stack.
    """
    stack = _stack(task, np.broadcast_to(np.float32(0), task.data.shape[-3:]))
    with _in_words():
        model = model_of_every_microscope()
        return known_optics(model, stack, task.voxel_size_um, task.optics, task.structure_um)


def check_memory(task: Task) -> None:
    """Refuse a stack whose result is too large for the memory.

    Raises
    ------
    TenetError
        If the layers of the result would take more than half of the free memory.
    """
    step_um, _, pixel_um = task.voxel_size_um
    fine = math.prod(task.data.shape) * max(round(step_um / pixel_um), 1)
    taken = BYTES_PER_VOXEL * fine
    if taken > psutil.virtual_memory().available / 2:
        raise TenetError(
            f"{task.name}: its result would take {taken / 2**30:.0f} GiB of memory: save it as a "
            "file, use `tenet enhance` on the file, and open the result"
        )


def enhanced(task: Task, stage: Stage) -> Result:
    """Enhance a stack, or the time points of one, with the PSF and intensities of the first.

    Parameters
    ----------
    task : Task
    stage : callable
        Called as ``stage(work, done, total)`` every few seconds or sooner. An exception that it
        raises ends the work.

    Raises
    ------
    TenetError
        If the stack cannot be enhanced.
    """
    model = model_of_every_microscope()
    series = task.data if task.data.ndim == 4 else [task.data]
    times = []
    with _in_words():
        stage("reading the stack", 0, 1)
        first = _stack(task, np.asarray(series[0]))
        served = serve(
            model, first, task.voxel_size_um, task.optics,
            structure_um=task.structure_um, find_psf=task.find_psf, stage=stage,
        )  # fmt: skip
        trained, found = served.model, served.found
        network = trained.network
        watched = _Watched(network, stage, len(series))
        for number, data in enumerate(series):
            stack = _stack(task, np.asarray(data)) if number else first
            image = normalise(stack.read(), served.range_)
            both = np.stack(enhance_array(network, image, progress=watched.of(number)))
            mask_block(both, stack, (0, 0, 0), trained.params.scale)
            times.append(both)
    shape, brightness = np.stack(times, axis=1) if task.data.ndim == 4 else times[0]
    channels = dict(zip(CHANNELS, (shape, brightness), strict=True))
    if task.uncertainty:
        channels[UNCERTAINTY] = trained.certainty.wrong(shape)
    segmented = float((shape >= trained.threshold).mean())
    before, after, voxel_size_um = psf_before_and_after(network, trained.told)
    doubts = [*_warnings(found), *warnings_of(served.range_, segmented)]
    return Result(
        channels,
        trained.params.scale,
        trained.threshold,
        found,
        before,
        after,
        voxel_size_um,
        [in_words(doubt) for doubt in doubts],
    )


def _stack(task: Task, array: NDArray[Any]) -> Stack:
    """An array as a stack, under the name and with the optics of its layer."""
    try:
        stack = stack_in_memory(array)
    except TenetError as error:
        raise TenetError(f"{task.name}: {error}") from None
    return replace(stack, path=Path(task.name), channel_optics=(task.file_optics,))


class _Watched:
    """Progress of the tiles, which the network tells before each layer too: a tile takes long."""

    def __init__(self, network: TENET, stage: Stage, stacks: int) -> None:
        self.stage, self.stacks = stage, stacks
        self.latest = (0, 1)
        for module in network.encoder.modules():
            module.register_forward_pre_hook(self.tell)

    def tell(self, *_: Any) -> None:
        self.stage(ENHANCING, *self.latest)

    def of(self, number: int) -> Progress:
        """Progress of one of the stacks, all of which have as many tiles."""

        def progress(done: int, total: int) -> None:
            self.latest = number * total + done, self.stacks * total
            self.tell()

        self.tell()
        return progress


def _warnings(found: Mapping[str, Any]) -> list[str]:
    """Warnings in the record of a result: of its likeness, of its PSF, and of a guessed NA."""
    psf = found["psf"] or {}
    said = [m.removeprefix("warning: ") for m in psf.get("messages", []) if m[:7] == "warning"]
    if found["sources"]["na"] == "guess":
        said.append(f"the NA {found['told']['NA']:.2f} is guessed from the pixels: give yours")
    return [*found["likeness"]["warnings"], *said]


def in_words(message: str) -> str:
    """A message with the words of the widget, where the command line has options.

    Examples
    --------
    >>> in_words("cells: give --wavelength, in µm")
    'cells: give the wavelength, in µm'
    """
    return re.sub(r"--[a-z-]+", lambda option: WORDS.get(option[0], option[0]), message)


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except TenetError as error:
        raise TenetError(in_words(str(error))) from None
