"""What people may have the service do: each is recorded with who asked for it."""

from __future__ import annotations

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
_BY_HAND = "manual"


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


class NothingToCancelError(CompactorError):
    """The row has ended, or there is none."""

    code = "nothing-to-cancel"


class Operations:
    """What can be asked for, on one store and under one configuration."""

    def __init__(self, store: JobStore, config: ServiceConfig, registry: Registry) -> None:
        self._store = store
        self._config = config
        self._registry = registry

    def submit(self, target: str, *, cause: str, actor: str) -> int:
        """Have a job of a table done as soon as it may; return the number of its row.

        Raises:
            NotRegisteredError: the table is not registered.
        """
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
            JobFailedError: the process died.
        """
        policy = self._policy(target, overrides)
        answers = ask_child(
            "plan", PlanOrder(target, policy), Planned, seconds_max=PLAN_SECONDS_MAX
        )
        for planned in answers:
            if planned.code:
                raise NotPlannedError(planned.message, code=planned.code, hint=planned.hint)
            return planned
        raise JobFailedError(f"`{target}` was not planned: the process said nothing")

    def _policy(self, target: str, overrides: Mapping[str, str]) -> Policy:
        rules = self._registry.rules()
        if not overrides:
            return rules.policy(target)
        over = replace(policy_rule("*", overrides, origin="the request"), pattern=target)
        return combined_policy([*rules.policies, over], target)


def not_registered(target: str) -> NotRegisteredError:
    """Return the error for a table that the service does not know."""
    return NotRegisteredError(
        f"`{target}` is not registered",
        hint="add it to the configuration of the service: [[tables]] target",
    )
