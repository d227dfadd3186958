"""A running job told on stderr: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from compactor.cli.console import messages
from compactor.jobs.events import (
    AttemptFailed,
    BatchCommitted,
    ChangesRead,
    Event,
    GroupDropped,
    GroupFailed,
    GroupFinished,
    JobPlanned,
    JobStarted,
    JobStopping,
)
from compactor.planner.plan import ChangePlan, Plan
from compactor.units import format_count, format_duration, format_size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_EVERY_SHARE = 0.1
_LINE_EVERY_SECONDS = 30.0


@contextmanager
def told_progress(*, shows_progress: bool, is_quiet: bool = False) -> Iterator[Watcher]:
    """Give a callback for the events of a job; it tells them on stderr.

    Args:
        shows_progress: whether to tell how far the work is; warnings are told in any case.
        is_quiet: whether to tell nothing at all.
    """
    console = messages()
    if is_quiet:
        yield Watcher()
    elif not shows_progress:
        yield _Teller(console)
    elif console.is_terminal:
        with _bar(console) as bar:
            yield _LiveTeller(console, bar)
    else:
        with _LineTeller(console) as lines:
            yield lines


class Watcher:
    """Takes in the events of a job, and keeps quiet about them.

    Attributes:
        plan: what was planned first; None for a job that was taken up.
    """

    def __init__(self) -> None:
        self.plan: Plan | None = None

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, JobPlanned) and self.plan is None:
            self.plan = event.plan

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to somebody else."""
        yield


class _Teller(Watcher):
    """Counts what happens and says what is worth a line of its own."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self.groups = self.groups_done = 0
        self.input_bytes = self.done_bytes = 0
        self.is_stopping = False
        self.started_at = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        super().__call__(event)
        match event:
            case JobStarted():
                self.groups, self.input_bytes = event.groups, event.input_bytes
                self.groups_done, self.done_bytes = event.groups_done, 0
                self.started_at = time.monotonic()
            case GroupFinished() | GroupFailed():
                self.groups_done += 1
                self.done_bytes += getattr(event, "input_bytes", 0)
        line = _worth_a_line(event)
        # Attempts that are cancelled by a stop are no news.
        if line and not (self.is_stopping and isinstance(event, AttemptFailed)):
            self._console.print(line, soft_wrap=True)
        self.is_stopping = self.is_stopping or isinstance(event, JobStopping)
        self.advance()

    def advance(self) -> None:
        """Say how far the work is."""

    @property
    def figures(self) -> str:
        """How far the work is, in words: groups, bytes, speed."""
        seconds = max(time.monotonic() - self.started_at, 0.001)
        return (
            f"{self.groups_done:,}/{self.groups:,} groups  "
            f"{format_size(self.done_bytes)} of {format_size(self.input_bytes)}  "
            f"{format_size(self.done_bytes / seconds)}/s"
        )


class _LineTeller(_Teller):
    """Says how far the work is once per tenth of it, or after half a minute of silence."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._told_share = 0.0
        self._told_at = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True, name="compact-progress")

    def __enter__(self) -> _LineTeller:
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._clock.join()

    def advance(self) -> None:
        """Print a line when a tenth has been done since the last one."""
        share = self.groups_done / self.groups if self.groups else 0.0
        with self._lock:
            if share - self._told_share >= _LINE_EVERY_SHARE - 1e-9:
                self._print(share)

    def _tick(self) -> None:
        while not self._ended.wait(1.0):
            with self._lock:
                if self.groups and time.monotonic() - self._told_at >= _LINE_EVERY_SECONDS:
                    self._print(self.groups_done / self.groups)

    def _print(self, share: float) -> None:
        self._told_share, self._told_at = share, time.monotonic()
        elapsed = format_duration(self._told_at - self.started_at)
        self._console.print(f"{share:.0%}  {self.figures}  {elapsed}", soft_wrap=True)


class _LiveTeller(_Teller):
    """Moves the bar."""

    def __init__(self, console: Console, bar: Progress) -> None:
        super().__init__(console)
        self._bar = bar
        self._task: TaskID = bar.add_task("Planning", total=None, figures="")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the bar away, and show it again afterwards."""
        self._bar.stop()
        yield
        self._bar.start()

    def advance(self) -> None:
        """Set the bar to what has been done."""
        if not self.groups:
            return
        self._bar.update(
            self._task,
            description="Rewriting",
            total=self.groups,
            completed=self.groups_done,
            figures=self.figures,
        )


def _bar(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _matched(plan: Plan, change: ChangePlan) -> str:
    """Say what changes do; nothing where there are none."""
    if not plan.groups:
        return ""
    touched = sum(group.files.file_count for group in plan.groups)
    files = format_count(touched + plan.kept_files - change.files_marked, "data file")
    new_rows = sum(group.rows_added for group in plan.groups)
    gone = change.counts.updated + change.counts.deleted
    return (
        f"Matched: {format_count(new_rows, 'row')} to come, {gone:,} to go; {touched:,} of {files}"
    )


def _worth_a_line(event: Event) -> str:
    match event:
        case ChangesRead():
            return (
                f"Read {format_count(event.upserts, 'upsert')} and "
                f"{format_count(event.deletes, 'delete')}, {event.superseded:,} superseded: "
                "looking for stored rows"
            )
        case JobPlanned(plan=plan) if plan.change is not None:
            return _matched(plan, plan.change)
        case JobPlanned(plan=plan) if plan.groups:
            totals = plan.totals()
            files = format_count(totals.files, "data file")
            return (
                f"Planned {format_count(totals.groups, 'group')}: {files} → "
                f"{totals.output_files_estimate:,}, {format_size(totals.price.input_bytes)}"
            )
        case JobStarted(is_resumed=True):
            done = format_count(event.groups_done, "group")
            return f"Going on with job {event.job}: {done} of {event.groups:,} already done"
        case BatchCommitted():
            groups = format_count(len(event.group_ids), "group")
            return f"Committed {groups} in snapshot {event.snapshot_id}"
        case AttemptFailed(is_retried=True):
            return (
                f"warning: attempt {event.attempt} at group {event.group_id} failed and is "
                f"tried again: {event.error}"
            )
        case GroupDropped():
            where = f" in `{event.partition}`" if event.partition else ""
            return f"warning: group {event.group_id}{where} was lost: {event.reason}"
        case GroupFailed():
            where = f" in `{event.partition}`" if event.partition else ""
            return f"warning: group {event.group_id}{where} failed: {event.error}"
        case JobStopping():
            return f"warning: stopping: {event.reason}; what is written is still committed"
    return ""
