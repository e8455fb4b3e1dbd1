"""The folder of a training, which one process holds.

One process holds the folder, and the training reads no model from it. The training continues from
its checkpoint. Then the model is written, then its calibration, and the checkpoint is deleted last.
The same command therefore continues wherever it was stopped, and does nothing when all is done.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenet.errors import TenetError
from tenet.io.atomic import exclusive
from tenet.learn.loop import ALIGNMENT, forget
from tenet.model.store import read_provenance


@contextmanager
def training(out: Path, *sources: Path) -> Iterator[None]:
    """Hold the folder of a training, and delete the checkpoint last.

    Raises
    ------
    TenetError
        If `out` is the folder of a source, or another process holds it.
    """
    for source in sources:
        check_apart(out, source)
    with exclusive(out):
        yield
        made = read_provenance(out).identity
        for folder in (out, out / ALIGNMENT):
            forget(folder, made)


def check_apart(out: Path, source: Path) -> None:
    """Refuse to train into the folder of the model that the training reads."""
    for folder in (out, out / ALIGNMENT):
        if folder.exists() and source.exists() and folder.samefile(source):
            raise TenetError(
                f"{out}: the training would replace {source}, which the training starts from: "
                "choose another folder for --out"
            )
