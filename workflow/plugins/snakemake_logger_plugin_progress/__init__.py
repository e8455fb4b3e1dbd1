"""A logger for Snakemake that shows how far a run has come: `snakemake --logger progress`.

On a terminal a few lines say how many jobs are done, how much time is left and what runs now. In a
file a line says the same from time to time. A job that fails is named with its log and the end of
the log. Everything else that Snakemake says is in ``.snakemake/log``, and what each job says is in
``results/…/logs``. Snakemake finds the logger with ``PYTHONPATH=workflow/plugins``.
"""

import atexit
import logging
import time
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from .forecast import Forecast, clock

#: Seconds between two lines of a log, at least.
EVERY = 10.0
#: Last lines of a failed job's log that are shown, and bytes of it that are read for them.
SHOWN_LINES, READ_BYTES = 20, 2**16
#: Plain messages of Snakemake that are shown.
SHOWN = ("Nothing to be done", "Complete log", "What this takes")


class LogHandler(LogHandlerBase):
    """Shows the course of a run on standard error."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Start with nothing known of the run."""
        self.console = Console(stderr=not self.common_settings.stdout, highlight=False)
        self.forecast = Forecast()
        self.live: Live | None = None
        self.last_line = 0.0
        atexit.register(self.close)

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of what happened, and show what a person should see."""
        try:
            self._take(record)
        except Exception:
            self.handleError(record)

    def _take(self, record: logging.LogRecord) -> None:
        fields, now = vars(record), record.created
        event = fields.get("event")
        if event == LogEvent.RUN_INFO:
            self._plan(record, fields["stats"])
        elif event == LogEvent.JOB_INFO:
            self.forecast.start(fields["jobid"], fields["rule_name"], fields["wildcards"], now)
            self._show(now)
        elif event == LogEvent.JOB_FINISHED:
            self.forecast.finish(fields["job_id"], now)
        elif event == LogEvent.PROGRESS:
            self.forecast.total, self.forecast.done = fields["total"], fields["done"]
            self._show(now, last=fields["total"] == fields["done"])
        elif event == LogEvent.JOB_ERROR:
            name = self.forecast.fail(fields["jobid"]) or fields["rule_name"]
            if self.live is not None:
                self.live.refresh()
            self._print(f"[bold red]{escape(name)} failed[/]")
            self._print_ends(map(Path, fields["log"] or []))
        elif event in (None, LogEvent.ERROR):
            self._say(record)

    def _plan(self, record: logging.LogRecord, stats: dict[str, int]) -> None:
        if self.common_settings.dryrun:
            self._print(escape(record.getMessage()))
        self.forecast.plan(stats)

    def _say(self, record: logging.LogRecord) -> None:
        """Print what is wrong, and the few plain messages that help; a failed command is told."""
        text = record.getMessage().strip()
        if vars(record).get("exception") == "WorkflowError":  # it says what is wrong by itself
            text = "\n".join(x for x in text.splitlines() if not x.startswith('  File "'))
        told = text.startswith("RuleException") and "CalledProcessError" in text
        if record.levelno >= logging.ERROR and not told:
            self._print(f"[red]{escape(text)}[/]")
        elif record.levelno >= logging.WARNING and not told:
            self._print(f"[yellow]{escape(text)}[/]")
        elif text.startswith(SHOWN) or self.common_settings.dryrun:
            self._print(escape(text))

    def _print_ends(self, logs: Any) -> None:
        for path in logs:
            if path.suffix == ".ipynb":
                self._print(f"  notebook: {escape(str(path))}")
                continue
            lines = end_of(path)
            self._print(f"  log: {escape(str(path))}{'' if lines else ' (empty)'}")
            for line in lines:
                self._print(f"  | {escape(line)}")

    def _print(self, markup: str) -> None:
        self.console.print(markup, soft_wrap=True)

    def _show(self, now: float, *, last: bool = False) -> None:
        """Begin to draw on a terminal, or add a line to a log if it is time for one."""
        if self.common_settings.dryrun:
            return
        if self.console.is_terminal:
            if self.live is None:
                self.live = Live(
                    console=self.console, refresh_per_second=2, get_renderable=self._lines
                )
                self.live.start()
        elif last or now - self.last_line >= EVERY:
            self.last_line = now
            running = ", ".join(name for name, _ in self.forecast.running(now))
            said = self.forecast.summary(now)
            self._print(escape(f"{said}; now {running}" if running else said))

    def _lines(self) -> Group:
        now = time.time()
        lines = [Text(self.forecast.summary(now), style="bold")]
        for name, seconds in self.forecast.running(now):
            lines.append(Text(f"  {name}  {clock(seconds)}", overflow="ellipsis", no_wrap=True))
        return Group(*lines)

    def close(self) -> None:
        """Give the terminal back."""
        live, self.live = self.live, None
        if live is not None:
            live.stop()
        super().close()


def end_of(path: Path) -> list[str]:
    """Read the last lines of a log; none if there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - READ_BYTES, 0))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    # What a bar wrote over itself is one line, of which the last state counts.
    lines = [line.rstrip().rpartition("\r")[2] for line in text.splitlines()]
    return [line for line in lines if line.strip()][-SHOWN_LINES:]
