"""Says what a run will take, below Snakemake's own list of jobs: in a dry run, and before a run.

Snakemake logs the event RUN_INFO when it has planned the jobs and before it starts any. A handler
of Python's `logging` on Snakemake's logger answers the event.
"""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

from workflow.lib.catalogue import Catalogue
from workflow.lib.cost import START_S, Job, added, cost_of, lines_of
from workflow.lib.nodes import Task, simulated
from workflow.lib.rates import SHARED, Rates

#: How the text begins, by which it is known.
BEGINS = "What this takes at most"
#: Variables that name the nodes of a cluster to plan for, and minutes of a job without a GPU.
NODES, MINUTES = "TENET_NODES", "TENET_CPU_MINUTES"
#: Minutes of a job without a GPU where nothing else is said: an assumption, not measured.
CPU_MIN = 10
#: Lines of less than so many hours and GB are said together.
LITTLE = 0.05


class Announcer(logging.Handler):
    """Logs the cost of the jobs that a workflow has planned.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
    text : callable
        Gives the text for planned jobs.
    """

    def __init__(self, workflow: Any, text: Callable[[list[Job]], str]) -> None:
        super().__init__()
        self.workflow, self.text = workflow, text

    def emit(self, record: logging.LogRecord) -> None:
        """Answer the plan of a run with what it costs."""
        if vars(record).get("event") != LogEvent.RUN_INFO:
            return
        try:
            text = self.text(planned_jobs(self.workflow))
        except Exception as error:  # a forecast stops no run
            text = f"What this takes cannot be said: {type(error).__name__}: {error}"
        if text:
            logger.info(text)


def planned_jobs(workflow: Any) -> list[Job]:
    """List the jobs that a workflow will run, as of now."""
    return [_planned(job) for job in workflow.dag.needrun_jobs()]


def _planned(job: Any) -> Job:
    return Job(job.rule.name, dict(job.wildcards_dict), int(job.resources.get("mem_mb", 0) or 0))


def tasks_of(workflow: Any, catalogue: Catalogue, rates: Rates, cpu_s: float) -> list[Task]:
    """Give the jobs that a workflow will run as tasks for nodes; see `workflow.lib.nodes`.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
    catalogue : Catalogue
    rates : Rates
    cpu_s : float
        Seconds of a job without a GPU, whose work is not forecast.
    """
    jobs = [job for job in workflow.dag.needrun_jobs() if job.rule.output]
    places = {job: place for place, job in enumerate(jobs)}
    tasks = []
    for job in jobs:
        on_gpu = "gpu" in job.rule.resources
        seconds = max(cost_of(catalogue, rates, _planned(job)).seconds, START_S)
        after = frozenset(
            places[other] for other in workflow.dag.dependencies[job] if other in places
        )
        files = len(job.output) + len(job.log) + bool(job.benchmark)
        tasks.append(Task(seconds if on_gpu else cpu_s, on_gpu, after, job.priority, files))
    return tasks


def on_nodes(tasks: Sequence[Task], nodes: int, cpu_s: float) -> str:
    """Say what jobs take on the nodes of a cluster.

    Parameters
    ----------
    tasks : sequence of Task
    nodes : int
        With one GPU each.
    cpu_s : float
        Seconds that were assumed of a job without a GPU.
    """
    found = simulated(tasks, nodes)
    files = sum(task.files for task in tasks)
    return (
        f"On {nodes} node{'s' * (nodes > 1)} with one GPU each, where a job without a GPU takes "
        f"{cpu_s / 60:g} min: about {found.seconds / 3600:.1f} h.\n"
        f"The longest chain of jobs takes {found.chain_s / 3600:.1f} h. The GPUs work "
        f"{found.gpu_use:.0%} of the time, {found.most_gpus} at once at most.\n"
        f"{len(tasks)} jobs write {files} files and folders."
    )


def described(catalogue: Catalogue, rates: Rates, jobs: Iterable[Job], jobs_per_gpu: int) -> str:
    """Say what jobs take at most, a line a kind; nothing if no job needs a device.

    Parameters
    ----------
    catalogue : Catalogue
    rates : Rates
    jobs : iterable of Job
    jobs_per_gpu : int
        How many share a GPU.
    """
    lines = lines_of(catalogue, rates, jobs)
    total = added("all", lines)
    if not total.seconds:
        return ""
    small = [line for line in lines if max(line.seconds / 3600, line.disk_bytes / 1e9) < LITTLE]
    shown = [line for line in lines if line not in small]
    shown += [added("others", small)] if small else []
    width = max(len(line.kind) for line in shown)
    device = "GPU h" if rates.on_gpu else "CPU h"
    said = [
        f"{BEGINS}, by {rates.origin} (docs/measurements/cost.md):",
        f"{'':{width}}  {'jobs':>5}  {device:>7}  {'disk GB':>7}  {'memory GB':>9}",
    ]
    for line in [*shown, total]:
        said.append(
            f"{line.kind:{width}}  {line.jobs:5}  {line.seconds / 3600:7.1f}  "
            f"{line.disk_bytes / 1e9:7.1f}  {line.memory_mb / 1000:9.0f}"
        )
    if rates.on_gpu and jobs_per_gpu > 1:
        hours = SHARED * total.seconds / 3600
        said.append(f"With {jobs_per_gpu} jobs on one GPU at once: about {hours:.1f} h.")
    return "\n".join(said)


def length(seconds: float) -> str:
    """Say a time in days, or in hours if it is shorter than two days."""
    hours = seconds / 3600
    return f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.1f} h"


def number_of(variable: str, otherwise: int) -> int:
    """Read a whole number from a variable of the environment.

    Raises
    ------
    WorkflowError
        If it is none, or less than 0.
    """
    text = os.environ.get(variable, "").strip()
    if not text:
        return otherwise
    if not text.isdecimal():
        raise WorkflowError(f"{variable}={text}: give a whole number")
    return int(text)


def announce(workflow: Any, catalogue: Catalogue, *, cpu_only: bool) -> None:
    """Have the cost of the jobs said when Snakemake has planned them.

    The rates are those of the table that ``TENET_RATES`` names, or the configuration. With
    ``TENET_NODES`` the plan is simulated on so many nodes of a cluster as well. Nothing is
    said of runs with overlays, such as the demo: no table has rates of their small networks.

    Raises
    ------
    WorkflowError
        If the table of rates cannot be read, or a variable is no number.
    """
    config = catalogue.config
    if catalogue.overlays:
        return
    path = os.environ.get("TENET_RATES") or config["rates"]["gpu"]
    rates = Rates.read(catalogue.root, path)
    without = Rates.read(catalogue.root, config["rates"]["cpu"]) if cpu_only else None

    nodes, cpu_s = number_of(NODES, 0), 60 * number_of(MINUTES, CPU_MIN)

    def text(jobs: list[Job]) -> str:
        said = described(catalogue, rates, jobs, config["jobs_per_gpu"])
        if said and nodes:
            tasks = tasks_of(workflow, catalogue, rates, cpu_s)
            return f"{said}\n{on_nodes(tasks, nodes, cpu_s)}"
        if said and without is not None and rates.on_gpu:
            seconds = added("all", lines_of(catalogue, without, jobs)).seconds
            said += f"\nNo GPU is used here: about {length(seconds)} by {without.origin}."
        return said

    logger.addHandler(Announcer(workflow, text))
