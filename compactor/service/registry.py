"""The registered tables: which there are, what is wanted of each, and who says so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from compactor.errors import SettingsError
from compactor.jobs.store import JobStore, now_ms
from compactor.planner.policy import Policy
from compactor.service.audit_log import record
from compactor.service.config import Care, ServiceConfig, TableRule, care_of, care_values
from compactor.service.due import Schedule
from compactor.service.places import full_target, namespace_of, place_of, place_of_target
from compactor.service.schema import POLICIES, TABLES
from compactor.settings import PolicyRule, combined_policy, policy_rule

_WILDCARDS = frozenset("*?[")
_BATCH = 1000
DEFAULT_ORIGIN = "default"


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """One value in force, and where it comes from.

    Attributes:
        name: field of `Policy` or of `Care`.
        value: as people write it.
        origin: the source; `default` when nobody says anything.
    """

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class SetPolicy:
    """What was set through the job API for the targets that fit a pattern.

    Attributes:
        pattern: the targets.
        policy: by the names of the settings in `[policy]`.
        care: by the names of the settings in `[[tables]]`.
        set_by: who did.
        set_at_ms: when.
    """

    pattern: str
    policy: Mapping[str, Any]
    care: Mapping[str, Any]
    set_by: str
    set_at_ms: int


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything that is said about tables at a moment, weakest first.

    Attributes:
        policies: of their compaction.
        cares: of the rest.
        unread: patterns of which something was set that this program cannot read.
    """

    policies: tuple[PolicyRule, ...]
    cares: tuple[TableRule, ...]
    unread: tuple[tuple[str, SettingsError], ...] = ()

    def policy(self, target: str) -> Policy:
        """Return the policy in force for a target.

        Raises:
            SettingsError: together the rules make no sense, or one of them cannot be read.
        """
        for pattern, error in self.unread:
            if fnmatchcase(target, pattern):
                raise error
        return combined_policy(self.policies, target)

    def care(self, target: str) -> Care:
        """Return how a target is looked after."""
        return care_of(self._fitting(target))[0]

    def explain(self, target: str) -> tuple[PolicyValue, ...]:
        """Return every value in force for a target with its origin.

        Raises:
            SettingsError: together the rules make no sense.
        """
        origins: dict[str, str] = {}
        for rule in self.policies:
            if fnmatchcase(target, rule.pattern):
                origins.update(dict.fromkeys(rule.values, rule.origin))
        care, origins_of_care = care_of(self._fitting(target))
        return (*_values(self.policy(target), origins), *_values(care, origins_of_care))

    def _fitting(self, target: str) -> Iterator[TableRule]:
        return (rule for rule in self.cares if fnmatchcase(target, rule.pattern))


class Registry:
    """The registered tables of a store, under a configuration."""

    def __init__(self, store: JobStore, config: ServiceConfig) -> None:
        self._store = store
        self._config = config

    @property
    def patterns(self) -> tuple[str, ...]:
        """The globs of the configuration whose tables are to be looked up in their catalogs."""
        patterns = (rule.pattern for rule in self._config.table_rules)
        return tuple(dict.fromkeys(one for one in patterns if _is_glob(one)))

    def rules(self) -> Rules:
        """Return what files and the job API say now; the latter overrides the former."""
        policies, cares = list(self._config.policy_rules), list(self._config.table_rules)
        unread: list[tuple[str, SettingsError]] = []
        for one in self.set_policies():
            origin = f"policy set by {one.set_by}"
            try:
                policy = policy_rule(one.pattern, one.policy, origin=origin)
                care = TableRule(one.pattern, origin, care_values(one.care, origin=origin))
            except SettingsError as error:
                # Set by another version of this program: it holds up its own tables alone.
                unread.append((one.pattern, error))
                continue
            policies.append(policy)
            cares.append(care)
        return Rules(tuple(policies), tuple(cares), tuple(unread))

    def apply_configuration(self) -> None:
        """Register the tables that are named, and bring all rows in line with the rules.

        Raises:
            LocationError: a path cannot be that of a table.
            JobFailedError: the store cannot be read or written.
        """
        named = [r.pattern for r in self._config.table_rules if not _is_glob(r.pattern)]
        self.register(named)
        self.refresh()

    def register(self, targets: Iterable[str]) -> int:
        """Register tables, those known already apart; return how many are new."""
        rules = self.rules()
        wanted = iter(dict.fromkeys(full_target(target) for target in targets))
        added = 0
        while batch := list(islice(wanted, _BATCH)):
            with self._store.transaction() as connection:
                now = now_ms(connection)
                rows = [self._new_row(one, rules.care(one), now) for one in batch]
                dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
                statement = dialect.insert(TABLES).on_conflict_do_nothing()
                answer = connection.execute(statement.returning(TABLES.c.table_id), rows)
                added += len(answer.all())
        return added

    def refresh(self) -> int:
        """Bring the care of all registered tables in line with the rules; return the changed."""
        rules = self.rules()
        changed, last_id = 0, 0
        while True:
            with self._store.transaction() as connection:
                query = select(TABLES).where(TABLES.c.table_id > last_id)
                rows = connection.execute(query.order_by(TABLES.c.table_id).limit(_BATCH)).all()
                for row in rows:
                    changed += self._refresh_row(connection, row, rules)
            if not rows:
                return changed
            last_id = rows[-1].table_id

    def set_policies(self) -> tuple[SetPolicy, ...]:
        """Return what was set through the job API, the broadest pattern first."""
        with self._store.reading() as connection:
            found = [
                SetPolicy(
                    row.pattern,
                    msgspec.json.decode(row.policy),
                    msgspec.json.decode(row.care),
                    row.set_by,
                    row.set_at_ms,
                )
                for row in connection.execute(select(POLICIES))
            ]
        return tuple(sorted(found, key=lambda one: PolicyRule(one.pattern, {}).narrowness))

    def set_policy(
        self,
        pattern: str,
        *,
        policy: Mapping[str, Any],
        care: Mapping[str, Any],
        actor: str,
    ) -> None:
        """Set what holds for the targets that fit a pattern, in place of what was set before.

        Raises:
            SettingsError: a setting is unknown, or its value makes no sense; nothing was set.
        """
        origin = f"policy for `{pattern}`"
        combined_policy([policy_rule(pattern, policy, origin=origin)], pattern)
        care_values(care, origin=origin)
        values = {
            "policy": msgspec.json.encode(policy).decode(),
            "care": msgspec.json.encode(care).decode(),
            "set_by": actor,
        }
        with self._store.transaction() as connection:
            at = {"set_at_ms": now_ms(connection)}
            connection.execute(delete(POLICIES).where(POLICIES.c.pattern == pattern))
            connection.execute(insert(POLICIES).values(pattern=pattern, **values, **at))
            detail = f"policy {values['policy']} care {values['care']}"
            record(connection, actor, "policy-set", pattern, detail=detail)
        self.refresh()

    def unset_policy(self, pattern: str, *, actor: str) -> bool:
        """Forget what was set for a pattern; False when nothing was."""
        with self._store.transaction() as connection:
            gone = connection.execute(delete(POLICIES).where(POLICIES.c.pattern == pattern))
            if not gone.rowcount:
                return False
            record(connection, actor, "policy-unset", pattern)
        self.refresh()
        return True

    def pause(self, target: str, *, is_paused: bool, actor: str) -> bool:
        """Keep jobs of a table from being begun, or let them again; False for no such table."""
        with self._store.transaction() as connection:
            table = update(TABLES).where(TABLES.c.target == target).values(is_paused=is_paused)
            if not connection.execute(table).rowcount:
                return False
            record(connection, actor, "table-paused" if is_paused else "table-resumed", target)
        return True

    def _new_row(self, target: str, care: Care, now: int) -> dict[str, Any]:
        return {
            "target": target,
            "namespace": namespace_of(target),
            "location": place_of(care.location or "") or place_of_target(target),
            "registered_at_ms": now,
            "due_at_ms": Schedule.parse(care.schedule).after(now) if care.schedule else None,
            **self._care_columns(care),
        }

    def _care_columns(self, care: Care) -> dict[str, Any]:
        options = self._config.service
        quiet, longest = care.debounce_seconds, care.debounce_max_seconds
        quiet = options.debounce_seconds if quiet is None else quiet
        longest = options.debounce_max_seconds if longest is None else longest
        return {
            "is_enabled": care.is_enabled,
            "priority": care.priority,
            "debounce_ms": int(quiet * 1000),
            "debounce_max_ms": int(max(quiet, longest) * 1000),
            "schedule": care.schedule or "",
            "window": care.window or "",
            "health_below": care.health_below,
        }

    def _refresh_row(self, connection: Connection, row: Any, rules: Rules) -> bool:
        care = rules.care(row.target)
        wanted = self._care_columns(care)
        if care.location:
            wanted["location"] = place_of(care.location)
        changed = {name: value for name, value in wanted.items() if getattr(row, name) != value}
        if "schedule" in changed:
            now = now_ms(connection)
            due = Schedule.parse(care.schedule).after(now) if care.schedule else None
            changed["due_at_ms"] = due
        if changed:
            table = update(TABLES).where(TABLES.c.table_id == row.table_id)
            connection.execute(table.values(changed))
        return bool(changed)


def check_rules(registry: Registry, config: ServiceConfig) -> None:
    """Refuse policies of the configuration that make no sense for the tables it names.

    Raises:
        SettingsError: one does.
    """
    rules = registry.rules()
    for rule in config.table_rules:
        try:
            rules.policy(rule.pattern)
        except SettingsError as error:
            raise SettingsError(f"{error} ({rule.origin})", hint=error.hint) from error


def _values(value: Policy | Care, origins: Mapping[str, str]) -> Iterator[PolicyValue]:
    for field in fields(value):
        shown = getattr(value, field.name)
        text = ", ".join(map(str, shown)) if isinstance(shown, tuple) else str(shown)
        yield PolicyValue(field.name, text, origins.get(field.name, DEFAULT_ORIGIN))


def _is_glob(pattern: str) -> bool:
    return not _WILDCARDS.isdisjoint(pattern)
