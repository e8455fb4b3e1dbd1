"""Run a command on a GPU of its own, or on the CPU: `on_device.py GPUS COMMAND…`.

GPUS is what the scheduler granted: 0 adds `--device cpu` to the command. Otherwise the command
gets `--device cuda` and sees one GPU only, of which it holds a place by a lock file until it ends;
so several jobs on one machine spread over its GPUs. Each has `TENET_JOBS_PER_GPU` places, by
default one. A machine that shows no GPU computes on the CPU.
"""

import fcntl
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path


def visible_gpus() -> list[str]:
    """List the GPUs that a job may use, as `CUDA_VISIBLE_DEVICES` names them.

    The driver is asked, not PyTorch, whose import takes seconds. A PyTorch built for the CPU alone
    sees no GPU.
    """
    try:
        if version("torch").endswith("+cpu"):
            return []
    except PackageNotFoundError:
        pass  # the jobs run in an environment of their own
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    installed = re.findall(r"^GPU (\d+):", listed, flags=re.MULTILINE)
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return installed
    # As CUDA reads it: what follows a name that is not there is not seen either.
    gpus = []
    for name in (part.strip() for part in allowed.split(",")):
        if not (name in installed or (name.startswith(("GPU-", "MIG-")) and name in listed)):
            break
        gpus.append(name)
    return gpus


def lock_one(gpus: list[str], places: int, folder: Path) -> str:
    """Wait for a place on a GPU, first places first, and hold it until this process ends."""
    waiting = False
    while True:
        for place, gpu in product(range(places), gpus):
            path = folder / f"tenet-gpu-{os.getuid()}-{gpu}-{place}.lock"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            os.set_inheritable(descriptor, True)  # the command keeps the lock
            return gpu
        if not waiting:
            print("waiting for a free GPU", file=sys.stderr, flush=True)
            waiting = True
        time.sleep(1)


def main() -> None:
    """Replace this process by the command."""
    granted, *command = sys.argv[1:]
    gpus = visible_gpus() if int(granted) > 0 else []
    if gpus:
        places = int(os.environ.get("TENET_JOBS_PER_GPU", "1"))
        os.environ["CUDA_VISIBLE_DEVICES"] = lock_one(gpus, places, Path(tempfile.gettempdir()))
    elif int(granted) > 0:
        print("no GPU to be seen: computing on the CPU", file=sys.stderr, flush=True)
    command += ["--device", "cuda" if gpus else "cpu"]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
