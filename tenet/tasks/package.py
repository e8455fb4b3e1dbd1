"""A model of every microscope as the folder that comes with the package, with a card."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenet.enhance.enhance import enhance_array
from tenet.errors import TenetError
from tenet.io.array import stack_in_memory
from tenet.io.atomic import replacing, save_json
from tenet.io.intensities import normalise
from tenet.io.optics import Optics
from tenet.io.records import read_json_object
from tenet.learn.serve import serve
from tenet.model.shipped import ONE_PHOTON
from tenet.model.store import (
    EXPERIMENT,
    FISHER,
    HISTORY,
    MODEL,
    OPTIMISER,
    PROVENANCE,
    THRESHOLD,
    TUNING,
    Calibration,
    check_belongs,
    digest,
)
from tenet.model.trained import TrainedModel
from tenet.settings.schema import Experiment
from tenet.tasks.training import check_apart

#: What enhancing reads, and the curve of the training.
KEPT = (MODEL, EXPERIMENT, THRESHOLD, HISTORY)
CARD, CHECKSUMS = "README.md", "SHA256SUMS"
#: A small stack, and what the model makes of it: any machine must make the same.
CHECK = "check.npz"
CHECKED_UM, CHECKED_OPTICS = (0.6, 0.2, 0.2), Optics(0.8, None, 1.33)
#: Most bytes of all files: what a package may carry.
MOST_BYTES = 12_000_000

Volume = NDArray[np.float32]


def package_model(model: Path, out: Path, *, code: str, one_photon: Path | None = None) -> None:
    """Copy a model of every microscope into a folder that is ready to come with the package.

    The state of the optimiser is left out, here and in the provenance: a fine-tuning begins with a
    new one. Of the part for one photon, which must be small, the Fisher information is left out
    as well: a fine-tuning finds it on phantoms. The folder appears whole or not at all.

    Parameters
    ----------
    model : Path
        Folder that `tenet pretrain` wrote, with ``--tuning``.
    out : Path
        The folder; its name is that of the model.
    code : str
        Hash of the code that trained the model, for the provenance.
    one_photon : Path, optional
        Folder of another such model, which serves stacks of one photon in its place.

    Raises
    ------
    TenetError
        If a file is missing or belongs to another model, a model serves one microscope alone, or
        all files together are larger than a package may carry.
    """
    check_apart(out, model)
    with replacing(out, folder=True) as folder:
        _copy(model, folder, out.name, code, left_out=(OPTIMISER,))
        if one_photon is not None:
            (folder / ONE_PHOTON).mkdir()
            name = f"{out.name}/{ONE_PHOTON}"
            _copy(one_photon, folder / ONE_PHOTON, name, code, left_out=(OPTIMISER, FISHER))
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        lines = [f"{digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in paths]
        (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")
        size = sum(path.stat().st_size for path in (*paths, folder / CHECKSUMS))
        if size > MOST_BYTES:
            raise TenetError(
                f"{model}: {size / 1e6:.1f} MB are more than the {MOST_BYTES / 1e6:g} MB that a "
                "package may carry: train a smaller network, or tune on fewer phantoms"
            )
        TrainedModel.load(folder)


def _copy(model: Path, folder: Path, name: str, code: str, *, left_out: tuple[str, ...]) -> None:
    """Copy a model without some files, with a card, and with a check of its results."""
    loaded = TrainedModel.load(model)
    if not loaded.serves_all:
        raise TenetError(f"{model} was trained for one microscope: package one of every microscope")
    kept = KEPT if FISHER in left_out else (*KEPT, FISHER)
    phantoms = sorted((model / TUNING).glob("[!.]*.zarr.zip"))
    lacking = [file for file in (*kept, PROVENANCE) if not (model / file).is_file()]
    if not phantoms:
        lacking.append(f"{TUNING}/*.zarr.zip")
    calibration = loaded.calibration
    if calibration is not None and calibration.iou is None:
        lacking.append(f"iou in {THRESHOLD}")
    if lacking or calibration is None:
        raise TenetError(f"{model} has no {' and no '.join(lacking)}: pre-train with --tuning")
    if FISHER in kept:
        check_belongs(model, FISHER)
    provenance = read_json_object(model / PROVENANCE)
    for file in left_out:
        provenance["files"].pop(file, None)
    provenance |= {"code": code, "left_out": list(left_out)}
    for file in kept:
        shutil.copy2(model / file, folder / file)
    (folder / TUNING).mkdir()
    for path in phantoms:
        shutil.copy2(path, folder / TUNING)
    save_json(folder / PROVENANCE, provenance)
    stack = check_stack()
    shape, brightness = check_result(loaded, stack)
    np.savez_compressed(folder / CHECK, stack=stack, shape=shape, brightness=brightness)
    card = model_card(name, loaded.experiment, calibration, provenance)
    (folder / CARD).write_text(card, encoding="utf-8")


def check_stack() -> NDArray[np.uint16]:
    """A small stack of two bent lines, shape (8, 28, 28), for `check_result`."""
    z, y, x = np.mgrid[:8, :28, :28]
    light = np.zeros(z.shape)
    for depth, row in ((3, 9), (5, 19)):
        bent = row + 3 * np.sin(x / 6)
        light += 400 * np.exp(-((z - depth) ** 2) / 4 - (y - bent) ** 2 / 3)
    return np.random.default_rng(0).poisson(20 + light).astype(np.uint16)


def check_result(model: TrainedModel, stack: NDArray[np.uint16]) -> tuple[Volume, Volume]:
    """What a model of every microscope makes of a stack: shape and brightness, (24, 28, 28).

    The PSF is as told. Voxels are of `CHECKED_UM`; optics are `CHECKED_OPTICS`, with wavelength and
    photons of the model. Networks run in float32, because not every processor multiplies bfloat16.
    """
    params = model.params
    optics = replace(CHECKED_OPTICS, wavelength_um=params.wavelength, photons=params.photons)
    served, range_, _ = serve(model, stack_in_memory(stack), CHECKED_UM, optics, find_psf=False)
    served.network.half_precision = False
    return enhance_array(served.network, normalise(stack, range_))


def model_card(
    name: str, experiment: Experiment, calibration: Calibration, provenance: Mapping[str, Any]
) -> str:
    """Say in Markdown what a model is, what it learned on, and how it is used.

    Parameters
    ----------
    name : str
    experiment : Experiment
        Settings of the model, which has `microscopes.free`.
    calibration : Calibration
    provenance : mapping
        As in ``provenance.json``, with the hash of the code.
    """
    free = experiment.microscopes.free
    assert free is not None
    kind = "one-photon microscope" if free.one_photon == 1 else "microscope"
    phantoms, crops = experiment.simulation_data_generation, experiment.pretrain_dataset
    loop, params = experiment.pretrain_loop, experiment.params
    packages = ", ".join(f"{key} {value}" for key, value in provenance["packages"].items())
    begun = provenance.get("start")
    begins = f"the encoder of the weights `{begun[:16]}`" if begun else "weights that are drawn"
    left_out = ", ".join(f"`{file}`" for file in provenance["left_out"])
    return f"""\
# {name}: a model of every microscope

A network that deblurs, super-resolves and segments image stacks of any {kind} in the
ranges below. It is fitted to each stack when it is used, and nothing is trained.

```bash
tenet enhance STACK --na 0.8 --wavelength {params.wavelength:g} --immersion 1.33 \
--photons {params.photons}
tenet enhance STACK --model path/to/{name}
```

Licence: MIT.

## What it learned on

| | |
|---|---|
| Settings | `{EXPERIMENT}` ("{experiment.name}") |
| Network | `{params.network}`, channels {_list(params.hidden_channels_list)} |
| Phantoms | {phantoms.train_num} of {_size(phantoms.image_size)} voxels, and {phantoms.valid_num} \
for the validation; nothing but simulated structures |
| Crops | {crops.I} of {_size(crops.cropsize)} voxels in each of {loop.n_epochs} epochs |
| Microscopes | {experiment.microscopes.count} PSFs, drawn from the ranges below |
| Begins with | {begins} |
| Seed | {provenance["seed"]} |

Worlds of phantoms, which take turns:

{_table("World", "Settings", [(str(n), _world(w)) for n, w in enumerate(phantoms.worlds or ({},))])}

Microscopes:

{_table("Range", "Values", [(_meaning(free, key), _list(v)) for key, v in free])}

## Calibration

On {calibration.n} phantoms that it had not seen (`{TUNING}/`) the threshold is \
{calibration.threshold:g}, with a mean IoU of {calibration.iou:g}.
The threshold is chosen on them for each stack anew.

## Provenance

| | |
|---|---|
| Code that trained it | {provenance["code"]} |
| TENET | {provenance["tenet"]} |
| Packages | Python {provenance["python"]}, {packages} |
| Device | {provenance["cuda"] or "CPU"} |

`{CHECKSUMS}` holds the checksums of all files: `sha256sum -c {CHECKSUMS}`. `{PROVENANCE}` holds
those of the weights, which are checked whenever they are loaded. Left out: {left_out}.
`{CHECK}` holds a small stack, and what the model makes of it.
"""


def _list(values: Any) -> str:
    many = isinstance(values, tuple | list)
    return ", ".join(f"{value:g}" for value in values) if many else f"{values:g}"


def _size(zyx_shape: Any) -> str:
    return " × ".join(map(str, zyx_shape))


def _world(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}` {value}" for key, value in settings.items()) or "as the settings"


def _meaning(section: Any, key: str) -> str:
    return f"`{key}`: {type(section).model_fields[key].description}"


def _table(left: str, right: str, rows: list[tuple[str, str]]) -> str:
    return "\n".join([f"| {left} | {right} |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)])
