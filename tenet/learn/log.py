"""The log that TensorBoard shows. Each entry is written at once, so that a full disk is noticed."""

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tenet.io.atomic import writing

FOLDER = "tensorboard"


class EventLog:
    """Scalars by epoch, in a file of events; made by `event_log`."""

    def __init__(self, folder: Path, file: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._folder, self._file, self._records = folder, file, RecordWriter(file)

    def begin(self, epoch: int) -> None:
        """Say that entries of other files do not count from this epoch on."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        self._add(file_version="brain.Event:2")
        self._add(step=epoch, session_log=SessionLog(status=SessionLog.START))

    def add(self, scalars: Mapping[str, float], epoch: int) -> None:
        """Write the scalars of an epoch."""
        from torch.utils.tensorboard.summary import scalar

        with writing(self._folder):
            for name, value in scalars.items():
                self._add(step=epoch, summary=scalar(name, value))
            self._file.flush()

    def _add(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **content).SerializeToString())


@contextmanager
def event_log(folder: Path, epoch: int) -> Iterator[EventLog]:
    """Open a new file of events in the folder of a training, which goes on after an epoch.

    Raises
    ------
    TenetError
        If it cannot be written.
    """
    folder = folder / FOLDER
    name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / name).open("wb", buffering=0)
    with file:
        log = EventLog(folder, file)
        with writing(folder):
            log.begin(epoch)
        yield log
