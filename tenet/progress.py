"""Progress of long work: a bar on a terminal, and from time to time a line in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from tenet.errors import printable

#: A log gets a line when so many seconds, and such a share of all the time so far, have passed
#: since the last line. A night's work therefore takes some hundred lines.
EVERY_SECONDS, EVERY_PART = 10.0, 0.05


class Meter(Protocol):
    """Shows how much of some work is done."""

    def __call__(self, done: int, total: int, note: str | None = None) -> None:
        """Show that `done` of `total` is done. A `note`, as on an epoch, is always shown."""
        ...


@contextmanager
def shown(work: str, *, done: int = 0) -> Iterator[Meter]:
    """Show the progress of some work on standard error, for as long as the context lasts.

    Parameters
    ----------
    work : str
        The work, in a few words.
    done : int
        Amount of work that was done earlier, as by a training that goes on from its checkpoint.

    Yields
    ------
    Meter
        To be called as ``meter(done, total)``, as any `tenet.types.Progress`.

    Examples
    --------
    >>> with shown("stacks") as meter:
    ...     for number in range(1, 4):
    ...         meter(number, 3)
    """
    work = printable(work)
    if not sys.stderr.isatty():
        yield Lines(work, done)
        return
    columns = (
        # Of a long name the beginning, so that there is room for the rest.
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", max_width=30),
        ),
        BarColumn(bar_width=None, table_column=Column(min_width=8, ratio=1)),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # Results that are printed go to standard output, also while a bar is drawn.
    bars = Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty())
    with bars as bar:
        task = bar.add_task(work, total=None, completed=done)

        def show(done: int, total: int, note: str | None = None) -> None:
            if note is not None:  # above the bar, which would else have no room beside it
                bar.console.print(f"{work}: {note}", markup=False, highlight=False, soft_wrap=True)
            bar.update(task, completed=done, total=total)

        yield show


class Lines:
    """Lines for a log: one for every note, one at the end, and others as `EVERY_SECONDS` says."""

    def __init__(
        self, work: str, done: int = 0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.work, self.before, self.clock = work, done, clock
        self.start = self.last = clock()

    def __call__(self, done: int, total: int, note: str | None = None) -> None:
        """Print a line if it is time for one."""
        now = self.clock()
        elapsed = now - self.start
        due = now - self.last >= max(EVERY_SECONDS, EVERY_PART * elapsed)
        if not (due or note is not None or done == total):
            return
        self.last = now
        share = f"{done} of {total} ({100 * done // total} %)"
        words = [note, share, self._time(elapsed, done, total)]
        print(f"{self.work}: {', '.join(filter(None, words))}", file=sys.stderr, flush=True)

    def _time(self, elapsed: float, done: int, total: int) -> str:
        if done == total:
            return f"took {_clock(elapsed)}"
        if done == self.before:
            return f"{_clock(elapsed)} so far"
        return f"{_clock(elapsed * (total - done) / (done - self.before))} left"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
