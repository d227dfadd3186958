"""Planning a table: its state, what the policy has to know of its files, and the plan.

Apart from what runs plans: to look at a table is to load neither workers nor the job store.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from catalog.errors import LocationError
from catalog.model import Inventory, Snapshot
from catalog.table import MapFunction, Table, TableFiles
from compactor.jobs.announcing import standing_of, without_work
from compactor.planner.plan import Plan
from compactor.planner.planning import TableState, make_plan
from compactor.planner.policy import Policy
from compactor.planner.width import row_width
from compactor.sort_keys import Strategy


def plan_table(
    table: Table, policy: Policy, *, now_ms: int, map_function: MapFunction = map
) -> Plan:
    """Plan the compaction of the current snapshot; nothing is written anywhere.

    Args:
        table: the table.
        policy: what its owner wants.
        now_ms: milliseconds since the epoch, for the age of files.
        map_function: runs the reading of manifests.
    """
    snapshot = table.snapshot()
    inventory = table.inventory(snapshot, map_function=map_function)
    return plan_snapshot(
        table_state(table, snapshot, inventory),
        table.files(snapshot),
        policy,
        now_ms=now_ms,
        map_function=map_function,
    )


def plan_snapshot(
    state: TableState,
    files: TableFiles,
    policy: Policy,
    *,
    now_ms: int,
    map_function: MapFunction = map,
) -> Plan:
    """Plan the compaction of a snapshot, with what the policy has to know of its files.

    Args:
        state: the snapshot and its inventory.
        files: the workers' side of it.
        policy: what its owner wants.
        now_ms: milliseconds since the epoch, for the age of files.
        map_function: runs the reading of footers.

    Raises:
        SettingsError, UnsupportedTableError: rows cannot be ordered as the policy asks for.
    """
    if policy.strategy is Strategy.AUTO:
        from compactor.jobs.automatic import plan_due  # lazy: seldom

        return plan_due(state, files, policy, partial(_plan, now_ms=now_ms, read=map_function))
    return _plan(state, files, policy, now_ms=now_ms, read=map_function)


def _plan(
    state: TableState, files: TableFiles, policy: Policy, *, now_ms: int, read: MapFunction
) -> Plan:
    if policy.output_spec is not None:
        from compactor.jobs.partitions import plan_partitions  # lazy: seldom

        return plan_partitions(state, files, policy, now_ms=now_ms)
    if policy.strategy.is_of_deletes:
        from compactor.planner.deletes import plan_deletes  # lazy: seldom
        from compactor.rewrite.deletes import recorder_of

        recorder_of(files)
        return plan_deletes(state, policy, now_ms=now_ms)
    standing = state.standing
    if standing is not None and standing.groups:
        from compactor.jobs.carrying import plan_work  # lazy: seldom

        if (plan := plan_work(state, files, policy, now_ms=now_ms, read=read)) is not None:
            return plan
        state = replace(state, standing=without_work(standing))
    if policy.strategy.is_order:
        from compactor.jobs.clustering import read_facts  # lazy: seldom

        facts = read_facts(files, state.inventory, policy, now_ms=now_ms, read=read)
        state = replace(state, clusters=facts)
    return make_plan(state, policy, now_ms=now_ms)


def table_state(table: Table, snapshot: Snapshot, inventory: Inventory) -> TableState:
    """Return what is planned against."""
    files = table.files(snapshot)
    return TableState(
        name=table.name,
        format=table.format,
        snapshot=snapshot,
        inventory=inventory,
        layout=files.layout,
        leaf_columns=files.schema.leaf_columns,
        row_width=row_width(files.schema.arrow),
        composed_bytes_min=_composed_bytes_min(files, inventory),
        standing=standing_of(table, snapshot),
    )


def _composed_bytes_min(files: TableFiles, inventory: Inventory) -> int | None:
    """Ask the storage about the first file: those of a table are in one store."""
    if not inventory.file_count:
        return None
    try:
        somewhere = files.locate(inventory.files["path"][0].as_py())
    except LocationError:
        # Told by name once the file is to be read.
        return None
    return files.storage.composed_bytes_min(somewhere)
