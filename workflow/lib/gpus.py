"""Which GPUs this machine offers to jobs."""

import os
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version

#: Jobs that share a GPU, where a cluster has granted each job its own: nobody else is waited for.
GRANTED = 0


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
