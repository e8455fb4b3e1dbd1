"""A signal ends the process at once, with one line, and without unfinished files.

Python handles a signal in its main thread between two of its own steps, but one call of PyTorch may
take many seconds. A separate thread therefore waits for signals, removes unfinished files, and ends
the process. Files with their final name are complete, and stay.
"""

import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable

import psutil

from tenet.io.atomic import bar_unfinished, discard

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOW_CURSOR = "\x1b[?25h"
#: Objects that have to live as long as the process.
_kept: list[socket.socket] = []
#: The signals that a thread held back before it forked.
_held = threading.local()
_ending = threading.Event()


def end_on_signals(advice: str) -> None:
    """End this process and its own with status 128 + n on SIGINT, SIGTERM and SIGHUP.

    The main thread calls this function. The last call counts.

    Parameters
    ----------
    advice : str
        Words that follow the name of the signal in the one line that is printed.
    """

    def end(number: int) -> None:
        _ending.set()
        own = psutil.Process().children(recursive=True)
        barred = bar_unfinished()
        _say(f"tenet: ended by {signal.Signals(number).name}; {advice}")
        # Child processes clean up by themselves. They come late, because the main thread would see
        # them end; and last come files that the main thread would make anew.
        for process in own:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        discard(barred)
        os._exit(128 + number)

    _watch(end)


def hold_if_ending() -> None:
    """Wait for the end, if a signal is ending this process.

    When its files are removed, the main thread meets errors that are not the user's.
    """
    if _ending.is_set():
        threading.Event().wait()


def end_with_parent() -> None:
    """End a worker process without a message on a signal, or when its parent is gone."""

    def end(number: int) -> None:
        discard(bar_unfinished())
        os._exit(128 + number)

    def follow(parent: int) -> None:
        multiprocessing.connection.wait([parent])
        end(signal.SIGTERM)

    _watch(end)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=follow, args=(parent.sentinel,), daemon=True).start()


def _watch(end: Callable[[int], None]) -> None:
    """Call `end` with the number of the first signal, in a separate thread."""
    told, tell = socket.socketpair()
    tell.setblocking(False)
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(tell.fileno())
    _kept.append(tell)
    _look_after_forks()

    def wait() -> None:
        while (number := told.recv(1)[0]) not in SIGNALS:
            pass
        end(number)

    threading.Thread(target=wait, name="signals", daemon=True).start()


@functools.cache
def _look_after_forks() -> None:
    """Watch forks, once: forks inherit the hooks, and a second hold would keep the first."""
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_forget)


def _hold() -> None:
    """Hold signals while a process forks, because a signal for the fork would end the parent."""
    _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _release() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _held.mask)


def _forget() -> None:
    """Give signals their default effect in a fork, which ends the fork and not the parent."""
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    _release()


def _say(line: str) -> None:
    """Print a line without buffering, below a progress bar, and show the cursor again."""
    with contextlib.suppress(OSError):
        if sys.stdout.isatty() or sys.stderr.isatty():
            line = f"{_SHOW_CURSOR}\n{line}"
        os.write(2, f"{line}\n".encode())
