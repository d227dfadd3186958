"""Runs claimed rows, a child process each: starts them, sees them end, drains.

A child renews its claim and records its end by itself. What is left to do here is to notice one
that died without doing so, and one that is still there long after it should have stopped.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from sqlalchemy import select, update

from compactor.errors import JobFailedError, SettingsError
from compactor.jobs.owner import Owner
from compactor.jobs.store import JobStore
from compactor.service.children import start_job
from compactor.service.config import Care, ServiceConfig
from compactor.service.orders import JobOrder
from compactor.service.queue import Claim, ErrorClass, Outcome, claim, finish
from compactor.service.registry import Registry, Rules
from compactor.service.schema import INSTANCES, TRIGGERS
from compactor.settings import RuntimeSettings

# A child that was asked to stop has this long to end its attempts and to record that.
GRACE_SECONDS = 120.0
# What all jobs together may take of the memory that the machine has.
_MEMORY_SHARE = 0.8
_POLL_SECONDS = 0.1
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Child:
    order: JobOrder
    process: subprocess.Popen[bytes]
    started_at: float

    @property
    def is_overdue(self) -> bool:
        """Whether it should have stopped by itself long ago."""
        limit_seconds = self.order.seconds_max + GRACE_SECONDS
        return time.monotonic() - self.started_at > limit_seconds


class Executor:
    """The jobs of one instance."""

    def __init__(
        self, store: JobStore, config: ServiceConfig, registry: Registry, *, instance: str
    ) -> None:
        self._store = store
        self._config = config
        self._registry = registry
        self._instance = instance
        self._children: dict[int, _Child] = {}
        self._is_draining = False
        self._logs = config.service.logs or config.settings.state / "job-logs"

    @property
    def running(self) -> int:
        """Child processes that run."""
        return len(self._children)

    def log_of(self, trigger_id: int) -> Path:
        """Return the file that the processes of a row write what they say to."""
        return self._logs / f"{trigger_id}.log"

    def forget_logs(self, history_seconds: float) -> int:
        """Delete the logs of jobs that ended so long ago; return how many."""
        if not history_seconds or not self._logs.is_dir():
            return 0
        before = time.time() - history_seconds
        old = [path for path in self._logs.glob("*.log") if path.stat().st_mtime < before]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def adopt(self) -> int:
        """Take over the rows of instances of this machine that are gone; return how many.

        Their children work on: what is adopted counts against the jobs of this instance.

        Raises:
            JobFailedError: the store cannot be read or written.
        """
        host = Owner.current().host
        with self._store.transaction() as connection:
            alive = [
                row.instance
                for row in connection.execute(select(INSTANCES).where(INSTANCES.c.host == host))
                if psutil.pid_exists(row.pid) and row.instance != self._instance
            ]
            orphans = update(TRIGGERS).where(
                TRIGGERS.c.state == "running",
                TRIGGERS.c.host == host,
                TRIGGERS.c.instance.not_in([*alive, self._instance]),
            )
            return connection.execute(orphans.values(instance=self._instance)).rowcount

    def fill(self) -> int:
        """Start jobs for as long as rows may start; return how many.

        Raises:
            JobFailedError: the store cannot be read or written.
        """
        started = 0
        options, budget = self._config.service, self._config.budget
        while True:
            with self._store.transaction() as connection:
                claimed = claim(connection, self._instance, options, budget)
            if claimed is None:
                return started
            self._start(claimed)
            started += 1

    def watch(self) -> None:
        """See which children have ended, and end those that will not.

        Raises:
            JobFailedError: the store cannot be written; what has ended is seen again later.
        """
        for trigger_id, child in list(self._children.items()):
            if child.is_overdue:
                _signal(child, signal.SIGKILL)
            code = child.process.poll()
            if code is None:
                continue
            self._see_off(child, code)
            del self._children[trigger_id]
            _LOG.info("its process ended with %d", code, extra=_about(child.order.claim))

    def drain(self, *, wait_seconds: float) -> None:
        """Wait for the children, ask those that are left to stop, and at last end them."""
        self._wait_until_ended(wait_seconds)
        self._is_draining = True
        for child in self._children.values():
            _signal(child, signal.SIGTERM)
        self._wait_until_ended(GRACE_SECONDS)
        for child in self._children.values():
            _signal(child, signal.SIGKILL)
        self._wait_until_ended(GRACE_SECONDS)

    def _wait_until_ended(self, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        while self._children and time.monotonic() < ends_at:
            try:
                self.watch()
            except JobFailedError as error:
                _LOG.warning("the end of jobs cannot be recorded: %s", error)
            time.sleep(_POLL_SECONDS)

    def _start(self, claimed: Claim) -> None:
        try:
            order = self._order(claimed, self._registry.rules())
            process = start_job(order, self.log_of(claimed.trigger_id))
        except SettingsError as error:
            self._refuse(claimed, Outcome("failed", ErrorClass.FATAL, f"{error.code}: {error}"))
            return
        except OSError as error:
            reason = f"its process cannot be started: {error}"
            self._refuse(claimed, Outcome("failed", ErrorClass.RETRYABLE, reason))
            return
        self._children[claimed.trigger_id] = _Child(order, process, time.monotonic())
        _LOG.info("attempt %d began", claimed.attempt, extra=_about(claimed))

    def _refuse(self, claimed: Claim, outcome: Outcome) -> None:
        _LOG.warning("no job began: %s", outcome.reason, extra=_about(claimed))
        with self._store.transaction() as connection:
            finish(connection, claimed, outcome, self._config.service)

    def _order(self, claimed: Claim, rules: Rules) -> JobOrder:
        care = rules.care(claimed.target)
        options = self._config.service
        return JobOrder(
            claim=claimed,
            policy=rules.policy(claimed.target),
            run=self._config.settings.run,
            runtime=self._runtime(care),
            store=self._config.settings.store,
            options=options,
            seconds_max=care.job_seconds_max or options.job_seconds_max,
            kept=self._config.settings.kept,
        )

    def _runtime(self, care: Care) -> RuntimeSettings:
        """Return where a job runs; the machine is shared among the jobs that may run at once."""
        options, settings = self._config.service, self._config.settings.runtime
        url = care.runtime or settings.url
        workers, memory = settings.workers, care.job_memory_bytes or options.job_memory_bytes
        if url == "local":
            workers = workers or max(1, (os.cpu_count() or 1) // options.jobs_max)
            shared = int(psutil.virtual_memory().total * _MEMORY_SHARE / options.jobs_max)
            memory = memory or settings.memory_bytes or shared
        return replace(settings, url=url, workers=workers, memory_bytes=memory)

    def _see_off(self, child: _Child, code: int) -> None:
        """Record the end of a child that did not do so itself."""
        claimed = child.order.claim
        reason = f"the process of the job ended with {code} (attempt {claimed.attempt})"
        if self._is_draining and code == -signal.SIGTERM:
            # Asked to end before it had begun to listen.
            self._refuse(claimed, Outcome("cancelled", reason=reason, is_interrupted=True))
            return
        is_last = claimed.attempt >= self._config.service.attempts_max
        kind = ErrorClass.POISON if is_last else ErrorClass.RETRYABLE
        with self._store.transaction() as connection:
            if finish(connection, claimed, Outcome("failed", kind, reason), self._config.service):
                _LOG.warning("%s", reason, extra=_about(claimed))


def _about(claimed: Claim) -> dict[str, object]:
    return {"table": claimed.target, "trigger": claimed.trigger_id, "attempt": claimed.attempt}


def _signal(child: _Child, number: signal.Signals) -> None:
    """Signal a child, or kill it with its workers."""
    if child.process.poll() is not None:
        return
    if number == signal.SIGKILL:
        os.killpg(child.process.pid, number)
    else:
        child.process.send_signal(number)
