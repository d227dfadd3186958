"""What commands that run tasks work with: a runtime, the job store, and where events go."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING

from compactor.cli.session import Session

if TYPE_CHECKING:
    from catalog.table import MapFunction
    from compactor.cli.progress import Watcher
    from compactor.jobs.events import Event, OnEvent
    from compactor.jobs.runner import JobEnvironment
    from compactor.jobs.store import JobStore
    from compactor.settings import RuntimeSettings, Settings, StoreSettings
    from runtime import Runtime

_LOG = logging.getLogger(__name__)


@contextmanager
def workplace(session: Session, settings: Settings) -> Iterator[tuple[JobEnvironment, Watcher]]:
    """Open everything that a job needs and close it in the end; the watcher sees its events."""
    from compactor.cli.progress import told_progress
    from compactor.jobs.runner import JobEnvironment
    from compactor.jobs.store import open_store

    with (
        open_store(settings.store.url) as store,
        connected(settings.runtime) as runtime,
        told_progress(shows_progress=session.shows_progress, is_quiet=session.is_quiet) as watcher,
    ):
        yield JobEnvironment(runtime, store, _noting(session, watcher)), watcher
        _forget_old_jobs(store, settings.store)


def _noting(session: Session, watcher: Watcher) -> OnEvent:
    """Return a callback for the watcher that also tells what a job taken up cannot heed."""
    from compactor.jobs.events import JobStarted

    def watch(event: Event) -> None:
        watcher(event)
        unheeded = [flag for key, (flag, _) in session.flags.items() if _is_planned(key)]
        if isinstance(event, JobStarted) and event.is_resumed and unheeded:
            flags = ", ".join(f"`{flag}`" for flag in unheeded)
            with watcher.paused():
                session.tell(
                    f"warning: job {event.job} goes on as it was planned:"
                    f" {flags} will count from the next command on"
                )

    return watch


def _is_planned(key: str) -> bool:
    """Tell a setting that is fixed when a job is planned from one of the process that runs it."""
    return key.startswith("policy.") or key == "run.verify"


def _forget_old_jobs(store: JobStore, settings: StoreSettings) -> None:
    """Keep the history within its bounds; a job that has ended well does not fail by that."""
    from compactor.errors import JobFailedError
    from compactor.jobs.retention import forget_old_jobs

    try:
        forget_old_jobs(store, settings.history_seconds)
    except JobFailedError as error:
        _LOG.warning("the history was not pruned: %s", error)


def connected(settings: RuntimeSettings) -> Runtime:
    """Open the runtime that the settings name.

    Raises:
        SettingsError: there is no such runtime.
    """
    from compactor.connecting import connected as connected_runtime

    return connected_runtime(settings)


@contextmanager
def spread_reading(settings: RuntimeSettings) -> Iterator[MapFunction]:
    """Give a map that reads many manifests in workers, and few of them right here.

    The runtime is opened when there is anything to be read in workers.

    Raises:
        SettingsError: there is no such runtime.
    """
    from compactor.connecting import refuse_unknown
    from compactor.jobs.spread import spread_on

    refuse_unknown(settings)
    with ExitStack() as stack:
        yield spread_on(cache(lambda: stack.enter_context(connected(settings))))


def now_ms() -> int:
    """Return the time that ages of files are judged by."""
    return int(time.time() * 1000)
