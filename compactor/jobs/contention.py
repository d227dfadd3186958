"""Working on a table beside other compactions: look before work, go in small steps, keep apart.

Compactions that share no job store meet in the table alone: they plan the same groups, and whoever
commits a group first has done it for all. What the others had rewritten by then is lost work. So a
job looks at the table while it runs, and drops groups that others have done before it begins them.
Where groups were lost lately, it also leaves partitions to whoever has just compacted them, takes
the others in an order of its own, commits what is written soon, has its workers started before it
plans, and waits a while before it plans again.

None of this makes commits safe: that is the table's own commit protocol.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Collection, Mapping
from dataclasses import replace

import pyarrow.compute as pc

from catalog.errors import CatalogError
from catalog.model import Inventory
from catalog.table import MapFunction, Table
from compactor.jobs.options import JobOptions
from compactor.jobs.staleness import taken_groups
from compactor.planner.plan import Plan, Skipped
from compactor.units import format_duration
from runtime import Runtime

# Of the time of a job, this part may go into looking: large tables are looked at less often.
_LOOKING_SHARE_MAX = 0.2
# Whoever has compacted a partition within this time is expected to come back to it.
_OWNED_SECONDS = 60.0
_OUTPUT = r"/(?P<job>[0-9a-f]{19})-\d+-\d+-\d+\.parquet$"
_WAIT_SECONDS_MAX = 30.0


class Lookout:
    """Tells which groups of a plan others have done while the job was at work."""

    def __init__(self, table: Table, plan: Plan, map_function: MapFunction) -> None:
        """Take the plan's snapshot for the head; nothing is read yet."""
        self._table = table
        self._groups = {group.group_id: group for group in plan.groups}
        self._map = map_function
        self._seen = plan.snapshot
        self._next_at = time.monotonic()

    def taken(self, group_ids: Collection[str]) -> Mapping[str, str]:
        """Return why groups need not be begun, by their ids.

        Nothing is returned where it is too soon to look again, or where the table cannot be read:
        a commit judges by the table as it is then.
        """
        begun_at = time.monotonic()
        if not group_ids or begun_at < self._next_at:
            return {}
        try:
            return self._look(group_ids)
        except CatalogError:
            return {}
        finally:
            now = time.monotonic()
            self._next_at = now + (now - begun_at) * (1 / _LOOKING_SHARE_MAX - 1)

    def _look(self, group_ids: Collection[str]) -> Mapping[str, str]:
        head = self._table.snapshot()
        if head == self._seen:
            return {}
        inventory = self._table.inventory(head, map_function=self._map)
        self._seen = head
        return taken_groups([self._groups[group_id] for group_id in group_ids], inventory)


def in_small_steps(options: JobOptions, runtime: Runtime) -> JobOptions:
    """Return options by which no group waits in the runtime, and no more for a commit than run."""
    slots = max(1, int(runtime.stats().total.cpus))
    return replace(
        options,
        in_flight_max=min(options.in_flight_max, slots),
        commit_groups_max=min(options.commit_groups_max, slots),
    )


def scattered(plan: Plan, job_id: str) -> Plan:
    """Return a plan with its groups in an order that no other job has."""

    def place(group_id: str) -> bytes:
        return hashlib.blake2b(f"{job_id}/{group_id}".encode(), digest_size=8).digest()

    return replace(plan, groups=tuple(sorted(plan.groups, key=lambda one: place(one.group_id))))


def without_others(plan: Plan, inventory: Inventory, ours: Collection[str], now_ms: int) -> Plan:
    """Return a plan less the groups of partitions that another job has just compacted.

    Args:
        plan: the plan.
        inventory: what it was made from.
        ours: ids of jobs in the store of this one.
        now_ms: milliseconds since the epoch.
    """
    others = _owners(inventory, now_ms).items()
    owned = {partition for partition, job in others if job not in ours}
    left = [group for group in plan.groups if group.partition_key in owned]
    reason = f"compacted by another job less than {format_duration(_OWNED_SECONDS)} ago"
    sizes = [(group.files.file_count, group.files.size_bytes) for group in left]
    return replace(
        plan,
        groups=tuple(group for group in plan.groups if group.partition_key not in owned),
        kept_files=plan.kept_files + sum(files for files, _ in sizes),
        kept_bytes=plan.kept_bytes + sum(size_bytes for _, size_bytes in sizes),
        skipped=(
            *plan.skipped,
            *(
                Skipped(group.partition, files, size_bytes, reason)
                for group, (files, size_bytes) in zip(left, sizes, strict=True)
            ),
        ),
    )


def _owners(inventory: Inventory, now_ms: int) -> dict[str, str]:
    """Return by partition the job that has written the newest of the new files that jobs wrote."""
    is_new = pc.greater(inventory.files["written_at_ms"], now_ms - int(_OWNED_SECONDS * 1000))
    files = inventory.files.filter(is_new).sort_by("written_at_ms")
    found = pc.extract_regex(files["path"], pattern=_OUTPUT).to_pylist()
    pairs = zip(files["partition_key"].to_pylist(), found, strict=True)
    return {partition: one["job"] for partition, one in pairs if one is not None}


def start_workers(runtime: Runtime) -> None:
    """Have a worker ready, so that what is planned next is begun at once."""
    runtime.get(runtime.submit(_import_rewriting))


def wait_a_while(seconds: float, rounds: int) -> None:
    """Wait before planning again: by chance, and longer after each round that lost groups.

    Args:
        seconds: what the last round took.
        rounds: how many there were.
    """
    time.sleep(random.uniform(0, min(_WAIT_SECONDS_MAX, seconds * 2 ** (rounds - 1))))


def _import_rewriting() -> None:
    import compactor.rewrite.group  # noqa: F401 - that is all there is to do
