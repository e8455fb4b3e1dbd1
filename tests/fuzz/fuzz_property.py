"""What must hold of any input: a right value or one line, soon, in little memory, and no file."""

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from tenet.errors import TenetError

#: Seconds of the processor for one case, and bytes of memory more than before, at most.
MOST_SECONDS, MOST_BYTES = 30, 500 * 10**6
#: More address space is refused, so that a find does not stop the machine.
MOST_ADDRESSES = 8 * 2**30
#: A file to which each case adds a line.
COUNTS = os.environ.get("TENET_FUZZ_COUNTS")


class Hang(BaseException):
    """Not an `Exception`, so that no reader takes it for damage."""


def _hang(_: int, frame: FrameType | None) -> None:
    raise Hang(f"more than {MOST_SECONDS} s, in {frame and frame.f_code.co_qualname}")


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    return 0


@contextmanager
def bounded() -> Iterator[None]:
    """Fail where what runs inside takes too long or too much memory."""
    before = signal.signal(signal.SIGPROF, _hang)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    addresses = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (addresses + MOST_ADDRESSES, limits[1]))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    held, start = _peak(), time.monotonic()
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    except Hang as hang:
        raise AssertionError(f"it hangs: {hang}") from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert _peak() - held <= MOST_BYTES, f"it took {(_peak() - held) / 1e6:.0f} MB"
    assert time.monotonic() - start <= 4 * MOST_SECONDS, "it hangs, and does nothing"


def holds(
    target: str,
    read: Callable[[], Any],
    *,
    refusals: tuple[type[Exception], ...] = (TenetError,),
    within: Path | None = None,
) -> Any:
    """Check the property of one input, and count the case.

    Parameters
    ----------
    target : str
        What is tried.
    read : callable
        Reads the input, and checks what it has read.
    refusals : tuple of type
        The errors that stand for a refusal in one line.
    within : Path, optional
        Folder in which no file may appear.

    Returns
    -------
    object
        What `read` returns; None where it refused.
    """
    files = _files(within)
    found, outcome = None, "accepted"
    try:
        with bounded():
            found = read()
    except refusals as error:
        outcome = "refused"
        said = str(error)
        assert said.strip(), "a refusal says nothing"
        assert "\n" not in said, f"a refusal has several lines: {said!r}"
        assert "\r" not in said, f"a refusal has several lines: {said!r}"
    assert _files(within) == files, "a file is left"
    if COUNTS:
        with open(COUNTS, "a", encoding="utf-8") as counts:
            counts.write(f"{target}\t{outcome}\n")
    return found


def _files(folder: Path | None) -> set[str]:
    return set() if folder is None else {str(path) for path in folder.rglob("*")}
