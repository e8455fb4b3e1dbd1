"""Which channels and time points of a file are read: ``all``, a number, or several."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tenet.errors import TenetError
from tenet.io.folders import stack_files
from tenet.io.gaps import without_gaps
from tenet.io.open import open_stack
from tenet.io.scan_offset import ScanOffset, without_scan_offset
from tenet.io.stack import Stack

#: Digits of a number, a range, and what joins them.
_SPAN = re.compile(r"(\d{1,9})(:(\d{1,9})?)?", re.ASCII)


@dataclass(frozen=True)
class Picks:
    """Channels, or time points, as a user names them.

    Attributes
    ----------
    spans : tuple of (int, int or None)
        First number, and the number after the last one (None: to the end of the file).
    single : bool
        Whether one number was named, so that each file gives one stack.

    Examples
    --------
    >>> Picks.parse("all").numbers(3), Picks.parse("1:").numbers(3), Picks.parse("0+2").numbers(3)
    ([0, 1, 2], [1, 2], [0, 2])
    """

    spans: tuple[tuple[int, int | None], ...]
    single: bool

    @classmethod
    def parse(cls, text: str) -> "Picks":
        """Read ``all``, ``3``, ``0+2``, ``0:10`` (0 to 9), ``5:`` (to the end), or ``0:10+20``.

        Raises
        ------
        TenetError
            If the text is none of these.
        """
        if text.strip().lower() == "all":
            return cls(((0, None),), single=False)
        spans = [_span(part.strip()) for part in text.split("+")]
        if None in spans:
            raise TenetError(
                f"{text[:40]!r} is none of: all, a number from 0 as 2, several as 0+2, a range as "
                "0:10, which is 0 to 9"
            )
        return cls(tuple(span for span in spans if span), single=_is_number(text))

    def numbers(self, count: int) -> list[int]:
        """List the numbers of a file that holds `count`, each once and in order.

        Raises
        ------
        TenetError
            If the file does not hold one of them.
        """
        found: set[int] = set()
        for first, stop in self.spans:
            span = range(first, count if stop is None else stop)
            if not span or span[-1] >= count:
                asked = first if stop == first + 1 else f"{first}:{'' if stop is None else stop}"
                raise TenetError(f"there is no {asked}; it has 0 to {count - 1}")
            found.update(span)
        return sorted(found)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*\d+\s*", text, re.ASCII) is not None


def _span(text: str) -> tuple[int, int | None] | None:
    found = _SPAN.fullmatch(text)
    if found is None:
        return None
    first = int(found[1])
    if found[2] is None:
        return first, first + 1
    return first, None if found[3] is None else int(found[3])


@dataclass(frozen=True)
class Parts:
    """How the stacks of a file are read: which channels and time points, and what planes are.

    Attributes
    ----------
    channel, time : Picks or int, optional
        None stands for the only one; a file with several is refused.
    planes_are : {"C", "T"}, optional
        As in `open_stack`.
    scan_offset : float or "find", optional
        As in `without_scan_offset`; found for each stack anew.
    """

    channel: Picks | int | None = None
    time: Picks | int | None = None
    planes_are: Literal["C", "T"] | None = None
    scan_offset: ScanOffset | None = None

    @property
    def single(self) -> bool:
        """Whether each file gives one stack."""
        return all(picks is None or picks.single for picks in self._picks)

    @property
    def _picks(self) -> tuple[Picks | None, Picks | None]:
        channel, time = (
            Picks(((chosen, chosen + 1),), single=True) if isinstance(chosen, int) else chosen
            for chosen in (self.channel, self.time)
        )
        return channel, time

    def open(self, path: Path) -> list[Stack]:
        """Open the stacks of a file, channel by channel, and time point by time point.

        Each says by `Stack.part` what several were picked of: ``_c0``, ``_t003``, ``_c0_t003``.

        Raises
        ------
        TenetError
            If the file cannot be read, or lacks a channel or a time point.
        """
        of_channels, of_times = self._picks
        channel, time = (None if p is None else p.spans[0][0] for p in (of_channels, of_times))
        first = open_stack(path, channel=channel, time=time, planes_are=self.planes_are)
        if self.single:
            return [self._mended(first)]
        channels = _numbers(path, of_channels, first.channels, "channels")
        times = _numbers(path, of_times, first.times, "time points")
        digits = max(3, len(str(first.times - 1)))
        name_c = "" if of_channels is None or of_channels.single else "_c{0}"
        name_t = "" if of_times is None or of_times.single else f"_t{{1:0{digits}}}"
        stacks = [first.at(c, t, (name_c + name_t).format(c, t)) for c in channels for t in times]
        return [self._mended(stack) for stack in stacks]

    def _mended(self, stack: Stack) -> Stack:
        return without_scan_offset(without_gaps(stack), self.scan_offset)


def _numbers(path: Path, picks: Picks | None, count: int, what: str) -> Sequence[int]:
    try:
        return [0] if picks is None else picks.numbers(count)
    except TenetError as error:
        raise TenetError(f"{path}: {what}: {error}") from None


def every_part(paths: Sequence[Path], parts: Parts) -> list[Stack]:
    """Open all stacks of files and of folders of files."""
    return [stack for path in paths for file in stack_files(path) for stack in parts.open(file)]
