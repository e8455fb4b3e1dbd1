"""Run a command on a GPU of its own, or on the CPU: `on_device.py GPUS COMMAND…`.

GPUS is what the scheduler granted: 0 adds `--device cpu` to the command. Otherwise the command
gets `--device cuda` and sees one GPU only, of which it holds a place by a lock file until it ends;
so several jobs on one machine spread over its GPUs. Each has `TENET_JOBS_PER_GPU` places, by
default one. With 0 places a cluster has granted the GPU, and the command starts at once: clusters
name the GPU of every job 0, so that a lock would stop all jobs of a machine but one. A machine
that shows no GPU computes on the CPU.
"""

import fcntl
import os
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from workflow.lib.gpus import GRANTED, visible_gpus


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
    places = int(os.environ.get("TENET_JOBS_PER_GPU", "1"))
    if gpus and places != GRANTED:
        os.environ["CUDA_VISIBLE_DEVICES"] = lock_one(gpus, places, Path(tempfile.gettempdir()))
    elif int(granted) > 0 and not gpus:
        print("no GPU to be seen: computing on the CPU", file=sys.stderr, flush=True)
    command += ["--device", "cuda" if gpus else "cpu"]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
