"""Progress: a bar on a terminal, now and then a line in a log."""

import itertools
import os
import pty
import re
import subprocess
import sys

import pytest

from tenet.progress import Lines, shown


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_a_line_tells_how_much_is_done_and_how_long_the_rest_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    meter = Lines("tiles", clock=clock)
    for done in range(1, 6):
        clock.now += 60
        meter(done, 5)
    assert said(capsys) == [
        "tiles: 1 of 5 (20 %), 0:04:00 left",
        "tiles: 2 of 5 (40 %), 0:03:00 left",
        "tiles: 3 of 5 (60 %), 0:02:00 left",
        "tiles: 4 of 5 (80 %), 0:01:00 left",
        "tiles: 5 of 5 (100 %), took 0:05:00",
    ]


def test_what_was_done_earlier_took_no_time(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    meter = Lines("training", 80, clock=clock)
    meter(80, 100, "epoch 8 of 10")
    clock.now += 20
    meter(90, 100)
    assert said(capsys) == [
        "training: epoch 8 of 10, 80 of 100 (80 %), 0:00:00 so far",
        "training: 90 of 100 (90 %), 0:00:20 left",
    ]


def test_short_work_takes_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    meter = Lines("phantoms", clock=clock)
    for done in range(1, 101):
        clock.now += 0.09
        meter(done, 100)
    assert said(capsys) == ["phantoms: 100 of 100 (100 %), took 0:00:09"]


def test_ten_hours_take_some_hundred_lines_and_no_long_silence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    meter = Lines("training", clock=clock)
    times, before = [0.0], 0
    for done in range(1, 36_001):
        clock.now += 1
        meter(done, 36_000)
        if lines := len(said(capsys)):
            before += lines
            times.append(clock.now)
    assert 50 < before < 200
    silences = [(b - a) / b for a, b in itertools.pairwise(times) if b > 200]
    assert max(silences) < 0.06
    assert times[1] == 10


def test_every_note_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    meter = Lines("training", clock=clock)
    for epoch in (1, 2):
        meter(epoch * 10, 40, f"epoch {epoch} of 4")
    assert [line.split(",")[0] for line in said(capsys)] == [
        "training: epoch 1 of 4",
        "training: epoch 2 of 4",
    ]


def test_a_name_with_a_line_break_stays_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    with shown("new\nline.tif") as meter:
        meter(1, 1)
    (line,) = said(capsys)
    assert line.startswith("new\\nline.tif: 1 of 1")


def test_a_terminal_gets_a_bar() -> None:
    text = on_a_terminal(
        "with shown('stack [red].tif') as meter:\n"
        "    for done in range(1, 4):\n"
        "        meter(done, 3, f'epoch {done}')\n"
    )
    assert "stack [red].tif: epoch 3" in text
    assert "3/3" in text


def test_a_long_note_leaves_room_for_the_bar_on_a_narrow_terminal() -> None:
    note = "epoch 2 of 100, training loss 0.1234, validation loss 0.2345"
    text = on_a_terminal(
        f"with shown('training') as meter:\n    meter(400, 20000, {note!r})\n", columns=80
    )
    assert f"training: {note}" in text
    assert "400/20000" in text


def test_a_long_name_leaves_room_for_the_bar_on_a_narrow_terminal() -> None:
    work = f"enhancing {'2026-11-28_mouse12_' * 4}.ome.tif"
    text = on_a_terminal(f"with shown({work!r}) as meter:\n    meter(40, 200)\n", columns=80)
    assert "enhancing 2026" in text
    assert "40/200" in text
    assert "left" in text


def on_a_terminal(code: str, columns: int = 120) -> str:
    """What a terminal of this width is shown on standard error."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", f"from tenet.progress import shown\n{code}"],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=environment,
    )
    os.close(theirs)
    seen = b""
    while chunk := _read(ours):
        seen += chunk
    os.close(ours)
    assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode())


def _read(file: int) -> bytes:
    try:
        return os.read(file, 4096)
    except OSError:  # the other end is closed
        return b""
