"""What `make demo` says while it runs: jobs done of all, time left, what runs now."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "workflow/plugins"))

from snakemake_logger_plugin_progress import SHOWN_LINES, end_of
from snakemake_logger_plugin_progress.forecast import COST, Forecast, clock


@pytest.fixture
def forecast():
    """Four predictions and a training."""
    plan = Forecast()
    plan.plan({"predict": 4, "finetune": 1, "all": 1, "total": 6})
    return plan


def ended(forecast, job, rule, since, until):
    forecast.start(job, rule, {"fold": f"/fold{job}"}, since)
    forecast.finish(job, until)
    forecast.done += 1


def test_before_a_job_has_ended_nothing_is_said_of_the_time_left(forecast):
    assert forecast.total == 6
    assert forecast.left(0) is None
    forecast.start(1, "predict", {}, 100)
    assert forecast.left(103) is None
    assert forecast.summary(103) == "0 of 6 jobs done, 0:03 so far"


def test_what_runs_is_named_by_its_rule_and_wildcards(forecast):
    wildcards = {"experiment": "fig3_beads", "method": "tenet", "fold": "/fold0"}
    forecast.start(7, "predict", wildcards, 10)
    forecast.start(8, "all", {}, 10)
    assert list(forecast.running(15)) == [("predict fig3_beads tenet fold0", 5)]
    forecast.start(9, "predict", {"experiment": "fig4", "fold": ""}, 12)
    assert [name for name, _ in forecast.running(15)][1] == "predict fig4"


def test_the_time_left_is_that_of_the_jobs_that_are_left(forecast):
    ended(forecast, 1, "predict", 0, 10)
    training = 10 * COST["finetune"]
    assert forecast.left(10) == pytest.approx(3 * 10 + training)
    forecast.start(5, "finetune", {}, 10)
    assert forecast.left(14) == pytest.approx(3 * 10 + training - 4)
    forecast.finish(5, 110)  # it took longer than was thought
    assert forecast.left(110) == pytest.approx(3 * 10)
    assert forecast.summary(110) == "1 of 6 jobs done, 1:50 so far, about 0:30 left"


def test_jobs_side_by_side_take_half_the_time(forecast):
    forecast.start(1, "predict", {}, 0)
    forecast.start(2, "predict", {}, 0)
    for job in (1, 2):
        forecast.finish(job, 10)
    assert forecast.left(10) == pytest.approx((2 * 10 + 10 * COST["finetune"]) / 2)


def test_a_job_that_fails_is_named_and_may_be_tried_again(forecast):
    forecast.start(3, "predict", {"experiment": "x"}, 0)
    assert forecast.fail(3) == "predict x"
    assert forecast.fail(3) is None
    assert list(forecast.running(1)) == []
    ended(forecast, 3, "predict", 1, 2)
    ended(forecast, 4, "predict", 2, 3)
    assert forecast.left(3) == pytest.approx(2 + COST["finetune"], rel=0.5)


def test_all_done_has_no_time_left(forecast):
    ended(forecast, 1, "predict", 0, 3700)
    forecast.done = forecast.total
    assert forecast.summary(3700) == "6 of 6 jobs done, 1:01:40 so far"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00")]
)
def test_times_are_written_as_on_a_clock(seconds, said):
    assert clock(seconds) == said


def test_the_end_of_a_log_is_short_and_leaves_out_what_a_bar_wrote_over(tmp_path):
    path = tmp_path / "x.log"
    path.write_bytes(
        b"".join(b"line %d\n" % n for n in range(100_000)) + b"10 %\r99 %\n\n\xff end\n"
    )
    lines = end_of(path)
    assert len(lines) == SHOWN_LINES
    assert lines[-2:] == ["99 %", "\ufffd end"]
    assert end_of(tmp_path / "none.log") == []
