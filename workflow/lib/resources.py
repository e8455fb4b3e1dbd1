"""What of this machine jobs may use: cores for each kind of job, and GPUs."""

from dataclasses import dataclass

#: Threads of a job whose work is done by a GPU.
BESIDE_GPU = 4
#: Cores that the largest job of a cluster asks for, whatever the machine has that submits it.
CLUSTER_CORES = 8


@dataclass(frozen=True)
class Machine:
    """The cores and GPUs that jobs share.

    Parameters
    ----------
    cores : int
        Cores that run jobs at the same time.
    cpu_only : bool
        Whether no job is granted a GPU.
    """

    cores: int
    cpu_only: bool

    @property
    def training_threads(self) -> int:
        """Threads of a training: on the CPU two run at once.

        What is between the convolutions uses one core alone.
        """
        return max(self.cores // 2, 1) if self.cpu_only else BESIDE_GPU

    def threads_of(self, model: str) -> int:
        """Threads of the training of a model.

        Those of the user's own stacks take all cores, one after another: one is often alone, and
        with a number of threads that depends on no other job, neither do its results.

        Parameters
        ----------
        model : str
            ``samples/NAME``, ``shared/NAME``, or a model of the configuration.
        """
        own = self.cpu_only and model.startswith(("samples/", "shared/"))
        return self.cores if own else self.training_threads

    @property
    def inference_threads(self) -> int:
        """Threads of an inference: its many short jobs run side by side."""
        return max(self.cores // 4, 1) if self.cpu_only else BESIDE_GPU


def gpu_limit(asked: object, gpus: int, jobs_per_gpu: int) -> int:
    """Count the GPU jobs that run at once: as many as the GPUs that are asked for and here take.

    Parameters
    ----------
    asked : object
        Number of GPUs, of the command line or the profile; None for all.
    gpus : int
        GPUs that are here; 0 means the CPU.
    jobs_per_gpu : int
        Jobs that share each.
    """
    used = gpus if asked is None else min(int(str(asked)), gpus)
    return used * jobs_per_gpu
