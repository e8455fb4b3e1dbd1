"""Files and folders that appear whole under their name, or not at all.

An unfinished file has a hidden name beside its final name. The writer locks the file for as long as
the writer lives. Two processes that write the same file therefore do not disturb each other. A file
without a lock was left by a process that was killed. The next process that writes into the folder
removes such a file.
"""

import contextlib
import csv
import errno
import fcntl
import json
import os
import shutil
import socket
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tenet.errors import TenetError, one_line

#: What the hidden names end in, and the file that says who works in a folder.
UNFINISHED, OLDER, LOCK = ".tenet-part", ".tenet-old", ".tenet-lock"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_unfinished: set[Path] = set()
#: Held while something takes its final name, and for ever by who ends this process.
_naming = threading.RLock()


@contextlib.contextmanager
def replacing(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` only if all went well.

    Parameters
    ----------
    path : Path
        Its own folder is made if need be.
    folder : bool
        The temporary path is an empty folder, not an empty file.

    Raises
    ------
    TenetError
        If the disk is full or not writable, another process is writing the same thing, or
        something has the name that a result cannot replace.
    """
    check_replaceable(path, folder=folder)
    temporary = path.with_name(f".{path.name}{UNFINISHED}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        if folder:
            _recover(path)
        with _naming:  # a signal waits until what is made is known as unfinished
            lock = _lock(temporary, folder=folder)
            if lock is not None:
                _unfinished.add(temporary)
        if lock is None:
            raise TenetError(f"{path}: another process is writing it; wait, or choose another name")
        try:
            yield temporary
            with _naming:
                (_replace_folder if folder else os.replace)(temporary, path)
                _unfinished.discard(temporary)
        finally:
            if temporary in _unfinished:
                _remove(temporary)
                _unfinished.discard(temporary)
            os.close(lock)


def check_replaceable(path: Path, *, folder: bool = False) -> None:
    """Refuse a name that belongs to a device, a pipe or a socket, because no result replaces these.

    Parameters
    ----------
    path : Path
        Where a result is going to be.
    folder : bool
        Whether the result is a folder. A folder does not replace a file, and a file no folder.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return  # the name is free, or writing reports the error
    if not (stat.S_ISDIR if folder else stat.S_ISREG)(mode):
        names = {stat.S_IFDIR: "a folder", stat.S_IFREG: "a file"}
        what = names.get(stat.S_IFMT(mode), "a device, pipe or socket")
        raise TenetError(f"{path}: {what} has this name; choose another name")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the error of a full or write-protected disk into one clear line about `path`."""
    try:
        yield
    except OSError as error:
        # NumPy reports a write that was cut short without its cause.
        if error.errno in (None, *NO_ROOM):
            what = f"no room on the disk ({one_line(error)}); free some or choose another folder"
        else:
            what = f"cannot be written ({error.strerror or one_line(error)}); check the folder"
        raise TenetError(f"{path}: {what}") from error


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone. A folder that is missing is made.

    The lock ends with the process, however the process ends, and with the machine.

    Raises
    ------
    TenetError
        If another process holds the folder, or the folder cannot be written. The message names the
        process and its machine.
    """
    path = folder / LOCK
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _naming:  # as in `replacing`
            lock = _lock(path)
            if lock is not None:
                _unfinished.add(path)
        if lock is None:
            holder = path.read_text(encoding="utf-8", errors="replace")[:200].strip()
            raise TenetError(
                f"{folder}: {holder or 'another process'} is working there; wait until it is done, "
                "or choose another folder"
            )
        try:
            os.truncate(lock, 0)
            os.write(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except OSError:
            _unfinished.discard(path)
            os.close(lock)
            raise
    try:
        yield
    finally:
        _unfinished.discard(path)
        path.unlink(missing_ok=True)
        os.close(lock)


def bar_unfinished() -> list[Path]:
    """Put an empty file in the place of each unfinished file of this process, and name the places.

    From here on no file takes its final name. A thread that still writes may make its folder anew
    once the empty file is gone. So `discard` comes last, right before the process ends.
    """
    _naming.acquire()
    return [path for path in list(_unfinished) if _bar(path)]


def discard(barred: Sequence[Path]) -> None:
    """Remove the files of `bar_unfinished`."""
    for path in barred:
        _remove(path)


def _bar(path: Path) -> bool:
    """Put an empty file in the place of a path, because threads may still add to the folder."""
    for _ in range(100):
        _remove(path)
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            return True
    return False


def _lock(path: Path, *, folder: bool = False, sweeping: bool = False) -> int | None:
    """Make and lock a file or a folder; None if another process holds the lock.

    A process that sweeps locks what is there, for an instant, and then removes it. So the lock is
    tried a few times, and a folder is made each time. On a file system without locks no file is
    locked, and no folder is swept.
    """
    tries = 1 if sweeping else 20
    while True:
        if folder:
            path.mkdir(exist_ok=True)
        if folder or (sweeping and path.is_dir()):
            kind = os.O_RDONLY | os.O_DIRECTORY
        else:
            kind = os.O_RDWR if sweeping else os.O_RDWR | os.O_CREAT
        try:
            descriptor = os.open(path, kind | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            if folder:  # it was swept before it was opened
                continue
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            tries -= 1
            if tries <= 0:
                return None
            time.sleep(0.01)
            continue
        except OSError:
            if sweeping:
                os.close(descriptor)
                return None
        # The holder may have renamed or removed the file in between.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False)):
                return descriptor
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Remove the unfinished files of processes that were killed."""
    for path in folder.glob(f".*{UNFINISHED}"):
        with contextlib.suppress(OSError):
            lock = None if path in _unfinished else _lock(path, sweeping=True)
            if lock is not None:
                _remove(path)
                os.close(lock)


def _recover(path: Path) -> None:
    """Give an older folder its name back, if its writer was killed while replacing it."""
    older = path.with_name(f".{path.name}{OLDER}")
    if older.exists() and not path.exists():
        older.rename(path)
    _remove(older)


def _replace_folder(temporary: Path, path: Path) -> None:
    older = path.with_name(f".{path.name}{OLDER}")
    if path.exists():
        path.rename(older)
    temporary.rename(path)
    _remove(older)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


# Small files --------------------------------------------------------------------------------------


def save_json(path: Path, content: Any) -> None:
    """Write JSON.

    Raises
    ------
    TenetError
        If a number is not finite, which no reader would take, or `path` cannot be written.
    """
    try:
        text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
    except ValueError as error:
        raise TenetError(f"{path}: a value is not a finite number ({one_line(error)})") from None
    with replacing(path) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")


def save_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV; the columns are those of the first row and any new ones."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def copy_file(source: Path, path: Path) -> None:
    """Copy a file."""
    with replacing(path) as temporary:
        shutil.copyfile(source, temporary)
