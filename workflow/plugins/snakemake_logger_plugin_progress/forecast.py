"""How many jobs of a run are done, which run now, and how much time is left."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

#: What a job costs before one of its rule has ended, in jobs that do little but start Python: a
#: rough guess for the demo on two cores.
COST = {"pretrain": 20.0, "align": 20.0, "baseline_train": 4.0, "finetune": 3.0, "all": 0.0}
#: Rules that only collect files.
COLLECTS = ("all",)


@dataclass(frozen=True)
class Job:
    """A job that runs: its rule, what it is called, and since when in seconds."""

    rule: str
    name: str
    since: float


class Forecast:
    """The course of a run; all times in seconds since the epoch.

    Attributes
    ----------
    done, total : int
        Jobs that have ended, and all.
    """

    def __init__(self) -> None:
        self.done = self.total = 0
        self._waiting: Counter[str] = Counter()
        self._running: dict[int, Job] = {}
        self._spent: dict[str, list[float]] = {}
        self._began: float | None = None

    def plan(self, stats: Mapping[str, int]) -> None:
        """Take the number of jobs of each rule."""
        self._waiting = Counter({rule: n for rule, n in stats.items() if rule != "total"})
        self.total = self._waiting.total()

    def start(self, job: int, rule: str, wildcards: Mapping[str, str], now: float) -> None:
        """Take note of a job that starts, perhaps once more."""
        if self._began is None:
            self._began = now
        values = (str(value).strip("/") for value in wildcards.values())
        self._waiting[rule] = max(self._waiting[rule] - 1, 0)
        self._running[job] = Job(rule, " ".join(filter(None, [rule, *values])), now)

    def finish(self, job: int, now: float) -> None:
        """Take note of a job that has ended well."""
        ended = self._running.pop(job, None)
        if ended is not None and ended.rule not in COLLECTS:
            self._spent.setdefault(ended.rule, []).append(max(now - ended.since, 0.0))

    def fail(self, job: int) -> str | None:
        """Take note of a job that has failed, and tell its name."""
        failed = self._running.pop(job, None)
        if failed is None:
            return None
        self._waiting[failed.rule] += 1  # it may be tried again
        return failed.name

    def running(self, now: float) -> Iterator[tuple[str, float]]:
        """Give the name of each job that runs, and for how long it has."""
        for job in self._running.values():
            if job.rule not in COLLECTS:
                yield job.name, max(now - job.since, 0.0)

    def left(self, now: float) -> float | None:
        """Estimate the seconds until all is done; None before any job has ended.

        A job is expected to take as long as those of its rule that have ended, or else as its
        rule's `COST` says, measured by all that have ended. As many jobs run side by side as did
        so far.
        """
        if self._began is None or not self._spent:
            return None
        work = sum(n * self._expected(rule) for rule, n in self._waiting.items())
        beside = 0.0
        for job in self._running.values():
            work += max(self._expected(job.rule) - (now - job.since), 0.0)
            beside += now - job.since
        spent = sum(map(sum, self._spent.values())) + beside
        return work / max(spent / max(now - self._began, 1e-3), 1.0)

    def _expected(self, rule: str) -> float:
        spent = self._spent.get(rule)
        if spent:
            return sum(spent) / len(spent)
        costs = sum(COST.get(name, 1.0) * len(ended) for name, ended in self._spent.items())
        return COST.get(rule, 1.0) * sum(map(sum, self._spent.values())) / costs

    def summary(self, now: float) -> str:
        """Say in a line how many jobs are done and how much time has passed and is left."""
        said = f"{self.done} of {self.total} jobs done"
        if self._began is None:
            return said
        left = self.left(now)
        said += f", {clock(now - self._began)} so far"
        if self.done == self.total or left is None:
            return said
        return f"{said}, about {clock(left)} left"


def clock(seconds: float) -> str:
    """Write a time as minutes and seconds, or hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
