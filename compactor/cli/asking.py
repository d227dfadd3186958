"""The question before a job: a plan is shown on stderr, and somebody at the terminal decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from compactor.cli.progress import Watcher
    from compactor.jobs.events import Event, OnEvent
    from compactor.planner.plan import Plan


class DeclinedError(Exception):
    """The plan was shown and not wanted: an answer, not a mistake."""


def asking(watcher: Watcher, then: OnEvent, render: Callable[[Console, Plan], None]) -> OnEvent:
    """Return a callback that shows the first plan on stderr and asks; without work it does not.

    Args:
        watcher: shows progress meanwhile.
        then: what takes in the events.
        render: prints a plan.
    """
    from compactor.jobs.events import JobPlanned

    def watch(event: Event) -> None:
        if isinstance(event, JobPlanned) and event.plan.groups and watcher.plan is None:
            with watcher.paused():
                _ask(event.plan, render)
        then(event)

    return watch


def _ask(plan: Plan, render: Callable[[Console, Plan], None]) -> None:
    from compactor.cli.console import messages

    render(messages(), plan)
    if not click.confirm("\nRun this plan?", err=True):
        raise DeclinedError
