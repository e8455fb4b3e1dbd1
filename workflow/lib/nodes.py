"""What a run takes on the nodes of a cluster: the plan is simulated, job by job."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """A job of the plan.

    Attributes
    ----------
    seconds : float
        How long the job takes.
    on_gpu : bool
        Whether it takes a GPU.
    after : frozenset of int
        Places in the plan of the jobs that it waits for.
    priority : int
        Of several that wait for a place, those with the highest start first.
    files : int
        Files that it writes.
    """

    seconds: float
    on_gpu: bool = False
    after: frozenset[int] = frozenset()
    priority: int = 0
    files: int = 0


@dataclass(frozen=True)
class Forecast:
    """What a plan takes on a number of nodes.

    Attributes
    ----------
    seconds : float
        From the start of the first job to the end of the last one.
    chain_s : float
        Of the longest chain of jobs that wait for one another: no number of nodes is faster.
    gpu_use : float
        Share of the time that the GPUs of all nodes work.
    most_gpus : int
        GPUs that work at the same time at most.
    """

    seconds: float
    chain_s: float
    gpu_use: float
    most_gpus: int


def simulated(tasks: Sequence[Task], nodes: int) -> Forecast:
    """Simulate a plan on nodes that each run a job on their GPU and one without at a time.

    A job starts as soon as all that it waits for has ended and a node is free; nothing is known of
    the jobs of others, and nothing is lost between a job and the next.

    Parameters
    ----------
    tasks : sequence of Task
    nodes : int
        At least 1, each with one GPU.

    Raises
    ------
    ValueError
        If jobs wait for one another in a circle.
    """
    followers: list[list[int]] = [[] for _ in tasks]
    waits = [len(task.after) for task in tasks]
    for number, task in enumerate(tasks):
        for other in task.after:
            followers[other].append(number)
    free = {True: nodes, False: nodes}
    ready: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    running: list[tuple[float, int]] = []
    chain = [task.seconds for task in tasks]
    now, most, ended = 0.0, 0, 0

    def queue(number: int) -> None:
        heapq.heappush(ready[tasks[number].on_gpu], (-tasks[number].priority, number))

    for number, count in enumerate(waits):
        if not count:
            queue(number)
    while running or any(ready.values()):
        for on_gpu, waiting in ready.items():
            while waiting and free[on_gpu]:
                _, number = heapq.heappop(waiting)
                free[on_gpu] -= 1
                heapq.heappush(running, (now + tasks[number].seconds, number))
        most = max(most, nodes - free[True])
        now, number = heapq.heappop(running)
        free[tasks[number].on_gpu] += 1
        ended += 1
        for follower in followers[number]:
            chain[follower] = max(chain[follower], chain[number] + tasks[follower].seconds)
            waits[follower] -= 1
            if not waits[follower]:
                queue(follower)
    if ended < len(tasks):
        raise ValueError("jobs wait for one another in a circle")
    worked = sum(task.seconds for task in tasks if task.on_gpu)
    use = worked / (nodes * now) if now else 0.0
    return Forecast(now, max(chain, default=0.0), use, most)
