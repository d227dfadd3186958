"""What people may have the service do: each is recorded with who asked for it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import select

from compactor.errors import CompactorError, JobFailedError
from compactor.jobs.store import JobStore
from compactor.planner.policy import Policy
from compactor.service.audit_log import record
from compactor.service.children import ask_child
from compactor.service.config import ServiceConfig
from compactor.service.orders import Planned, PlanOrder
from compactor.service.queue import Wanted, cancel, enqueue
from compactor.service.registry import Registry
from compactor.service.schema import TABLES
from compactor.settings import combined_policy, policy_rule

PLAN_SECONDS_MAX = 300.0
PLANS_MAX = 4
"""At once: each is a process, and whoever may read can ask for one."""

_BY_HAND = "manual"
_SAID_CHARACTERS_MAX = 500


class NotRegisteredError(CompactorError):
    """The service does not know the table."""

    code = "table-not-found"


class NotPlannedError(CompactorError):
    """A table cannot be planned.

    Attributes:
        code: that of the error, as it was where the table was opened.
    """

    def __init__(self, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class BusyError(CompactorError):
    """As much is being done as may be at once."""

    code = "busy"
    retryable = True


class NothingToCancelError(CompactorError):
    """The row has ended, or there is none."""

    code = "nothing-to-cancel"


class Operations:
    """What can be asked for, on one store and under one configuration."""

    def __init__(self, store: JobStore, config: ServiceConfig, registry: Registry) -> None:
        self._store = store
        self._config = config
        self._registry = registry
        self._plans = threading.BoundedSemaphore(PLANS_MAX)

    def submit(self, target: str, *, cause: str, actor: str) -> int:
        """Have a job of a table done as soon as it may; return the number of its row.

        Raises:
            NotRegisteredError: the table is not registered.
        """
        cause = _kept(cause)
        with self._store.transaction() as connection:
            table = select(TABLES.c.table_id).where(TABLES.c.target == target)
            table_id = connection.execute(table).scalar()
            if table_id is None:
                raise not_registered(target)
            wanted = Wanted(table_id, _BY_HAND, cause or f"asked for by {actor}", is_due=True)
            rows = enqueue(connection, [wanted], self._config.service)
            record(connection, actor, "job-submitted", target, detail=cause)
            return rows[table_id]

    def cancel(self, trigger_id: int, *, reason: str, actor: str) -> None:
        """End a row that waits, or ask for the end of one that runs.

        Raises:
            NothingToCancelError: it is over.
        """
        reason = _kept(reason)
        why = f"cancelled by {actor}{': ' if reason else ''}{reason}"
        with self._store.transaction() as connection:
            if cancel(connection, trigger_id, why) is None:
                raise NothingToCancelError(
                    f"trigger {trigger_id} waits for nothing and runs no more"
                )
            record(connection, actor, "job-cancelled", str(trigger_id), detail=reason)

    def pause(self, target: str, *, is_paused: bool, actor: str) -> None:
        """Keep jobs of a table from being begun, or let them again.

        Raises:
            NotRegisteredError: the table is not registered.
        """
        if not self._registry.pause(target, is_paused=is_paused, actor=actor):
            raise not_registered(target)

    def plan(self, target: str, overrides: Mapping[str, str]) -> Planned:
        """Plan a table in a process of its own; nothing is touched.

        Args:
            target: the table.
            overrides: settings of `[policy]` in place of those in force, as text.

        Raises:
            SettingsError: a setting is unknown, or not what it must be.
            NotPlannedError: the table cannot be read, or not be planned like that.
            BusyError: others are being planned.
            JobFailedError: the process died.
        """
        policy = self._policy(target, overrides)
        order = PlanOrder(target, policy, self._config.settings.kept)
        if not self._plans.acquire(blocking=False):
            raise BusyError(f"{PLANS_MAX} tables are being planned already", hint="ask again later")
        try:
            answers = list(ask_child("plan", order, Planned, seconds_max=PLAN_SECONDS_MAX))
        finally:
            self._plans.release()
        if not answers:
            raise JobFailedError(f"`{target}` was not planned: the process said nothing")
        planned = answers[0]
        if planned.code:
            raise NotPlannedError(planned.message, code=planned.code, hint=planned.hint)
        return planned

    def _policy(self, target: str, overrides: Mapping[str, str]) -> Policy:
        rules = self._registry.rules()
        if not overrides:
            return rules.policy(target)
        over = replace(policy_rule("*", overrides, origin="the request"), pattern=target)
        return combined_policy([*rules.policies, over], target)


def _kept(text: str) -> str:
    """Return what somebody says as it is kept: one line of bounded length, for every database."""
    return " ".join(text.replace("\0", " ").split())[:_SAID_CHARACTERS_MAX]


def not_registered(target: str) -> NotRegisteredError:
    """Return the error for a table that the service does not know."""
    return NotRegisteredError(
        f"`{target}` is not registered",
        hint="add it to the configuration of the service: [[tables]] target",
    )
