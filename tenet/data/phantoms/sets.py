"""Sets of phantoms, made by several processes."""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tenet.data.phantoms.mixture import WorldsPhantomSettings
from tenet.data.phantoms.objects import PhantomSettings
from tenet.data.phantoms.store import SUFFIX, Phantom, open_phantom, phantom_files, save_phantom
from tenet.errors import TenetError
from tenet.interruption import end_with_parent
from tenet.io.atomic import save_json, writing
from tenet.types import Progress

SET_FILE = "phantoms.json"


# ---------------------------------------------------------------------------------------------
# Sets
# ---------------------------------------------------------------------------------------------


def generate_set(
    settings: PhantomSettings | WorldsPhantomSettings,
    out_folder: Path | str,
    *,
    count: int,
    seed: int,
    draws: Sequence[int] | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Phantom]:
    """Draw and store phantoms ``00``, ``01``, …, and note the settings in ``phantoms.json``.

    Volume i is drawn from the seed (`seed`, `draws`[i]), so that it depends neither on `workers`
    nor on `count`. ``phantoms.json`` is written last: where it is, the set is complete.

    Parameters
    ----------
    settings
        What is drawn.
    out_folder
        Where to. Volumes of the same names are replaced.
    count
        Number of volumes, at least 1.
    seed
        At least 0.
    draws
        A number for each volume, at least 0; by default 0, 1, …
    workers
        Number of processes, each of which holds one volume in memory (about 6 bytes a voxel).
    progress
        Called with the numbers of volumes done and of all, in the calling process.

    Returns
    -------
    list of Phantom
        The set, in order.

    Raises
    ------
    TenetError
        If a number is out of its range, the folder holds phantoms that are not of this set, or a
        volume cannot be drawn.

    Examples
    --------
    >>> from tenet.data.phantoms.kinds import AnglePhantomSettings
    >>> settings = AnglePhantomSettings(zyx_shape=(40, 40, 40), n_lines=2, angle_deg=45.0)
    >>> generate_set(settings, "lines", count=2, seed=0)  # doctest: +NORMALIZE_WHITESPACE
    [Phantom('lines/00.zarr.zip', zyx_shape=(40, 40, 40)),
     Phantom('lines/01.zarr.zip', zyx_shape=(40, 40, 40))]
    """
    draws = range(count) if draws is None else draws
    if len(draws) != count:
        raise TenetError(f"{len(draws)} draws for a set of {count} phantoms: give one for each")
    lowest = min(draws, default=0)
    for name, number, least in (
        ("count", count, 1),
        ("seed", seed, 0),
        ("draw", lowest, 0),
        ("workers", workers, 1),
    ):
        if number < least:
            raise TenetError(f"{name} of a set of phantoms is {number}: must be at least {least}")
    out_folder = Path(out_folder)
    digits = max(2, len(str(count - 1)))
    paths = [out_folder / f"{index:0{digits}d}{SUFFIX}" for index in range(count)]
    strangers = set(phantom_files(out_folder)) - set(paths)
    if strangers:
        raise TenetError(
            f"{out_folder} holds {min(strangers).name}, which is not of this set of {count}: "
            "remove it or choose another folder"
        )
    set_file = out_folder / SET_FILE
    with writing(set_file):
        out_folder.mkdir(parents=True, exist_ok=True)
        set_file.unlink(missing_ok=True)

    def report(done: int) -> None:
        if progress is not None:
            progress(done, count)

    if workers == 1:
        for done, (path, draw) in enumerate(zip(paths, draws, strict=True), start=1):
            _generate(settings, path, seed, draw)
            report(done)
    else:
        # Fresh processes: forking one that has threads can deadlock.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            min(workers, count), mp_context=context, initializer=end_with_parent
        ) as pool:
            jobs = [
                pool.submit(_generate, settings, path, seed, draw)
                for path, draw in zip(paths, draws, strict=True)
            ]
            try:
                for done, job in enumerate(as_completed(jobs), start=1):
                    job.result()
                    report(done)
            except BrokenProcessPool:
                raise TenetError(
                    f"{out_folder}: a process that drew phantoms was killed; is memory short? "
                    "take fewer workers"
                ) from None
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    phantoms = [open_phantom(path) for path in paths]
    record = {
        "kind": type(settings).__name__,
        "settings": asdict(settings),
        "volumes": [{"file": p.path.name, **p.attributes} for p in phantoms],
    }
    save_json(set_file, record)
    return phantoms


def _generate(
    settings: PhantomSettings | WorldsPhantomSettings, path: Path, seed: int, number: int
) -> None:
    rng = np.random.default_rng([seed, number])
    if isinstance(settings, WorldsPhantomSettings):
        drawn = settings.draw(rng, number)
    else:
        drawn = settings.draw(rng)
    save_phantom(
        path,
        drawn.shape,
        drawn.brightness,
        voxel_size_um=getattr(settings, "voxel_size_um", None),
        brightest=getattr(settings, "brightest", 1.0),
        attributes={"seed": [seed, number], **drawn.attributes},
    )
