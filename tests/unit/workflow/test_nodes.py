"""A plan on the nodes of a cluster, by hand."""

import pytest
from snakemake.exceptions import WorkflowError

from workflow.lib.nodes import Forecast, Task, simulated
from workflow.lib.planned import number_of, on_nodes

#: Two models of 10 s, each after the phantoms; three predictions of 4 s of the first, one of the
#: second; measures of all.
PLAN = [
    Task(2),
    Task(10, on_gpu=True, after=frozenset({0})),
    Task(10, on_gpu=True, after=frozenset({0})),
    *[Task(4, on_gpu=True, after=frozenset({1}))] * 3,
    Task(4, on_gpu=True, after=frozenset({2})),
    Task(3, after=frozenset({3, 4, 5, 6})),
]


@pytest.mark.parametrize(
    ("nodes", "seconds", "most"),
    [
        (1, 2 + 10 + 10 + 4 * 4 + 3, 1),
        (2, 2 + 10 + 4 + 4 + 3, 2),
        (3, 2 + 10 + 4 + 4 + 3, 3),
        (4, 2 + 10 + 4 + 3, 4),
        (100, 2 + 10 + 4 + 3, 4),
    ],
)
def test_a_plan_by_hand(nodes, seconds, most):
    use = (2 * 10 + 4 * 4) / (nodes * seconds)
    assert simulated(PLAN, nodes) == Forecast(seconds, 19, pytest.approx(use), most)


def test_jobs_without_a_gpu_have_places_of_their_own():
    plan = [Task(5, on_gpu=True), Task(3), Task(3)]
    assert simulated(plan, 1) == Forecast(6, 5, pytest.approx(5 / 6), 1)


def test_what_most_waits_for_starts_first():
    plan = [Task(1, on_gpu=True), Task(5, on_gpu=True, priority=2), Task(2, after=frozenset({1}))]
    assert simulated(plan, 1).seconds == 7
    first = [plan[0], Task(5, on_gpu=True), plan[2]]
    assert simulated(first, 1).seconds == 8


def test_nothing_to_do_takes_no_time():
    assert simulated([], 3) == Forecast(0, 0, 0, 0)


def test_a_circle_is_no_plan():
    with pytest.raises(ValueError, match="circle"):
        simulated([Task(1, after=frozenset({1})), Task(1, after=frozenset({0}))], 2)


def test_what_is_said_of_a_plan():
    hours = [Task(3600 * task.seconds, task.on_gpu, task.after, files=2) for task in PLAN]
    assert on_nodes(hours, 4, 600).splitlines() == [
        "On 4 nodes with one GPU each, where a job without a GPU takes 10 min: about 19.0 h.",
        "The longest chain of jobs takes 19.0 h. The GPUs work 47% of the time, 4 at once at most.",
        "8 jobs write 16 files and folders.",
    ]
    assert on_nodes(hours, 1, 600).startswith("On 1 node with one GPU each")


def test_nodes_are_a_number(monkeypatch):
    assert number_of("TENET_NODES", 0) == 0
    monkeypatch.setenv("TENET_NODES", "100")
    assert number_of("TENET_NODES", 0) == 100
    monkeypatch.setenv("TENET_NODES", "many")
    with pytest.raises(WorkflowError, match="TENET_NODES=many: give a whole number"):
        number_of("TENET_NODES", 0)
