"""The plan of a merge: what changes do to the files of one snapshot, at what price."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from catalog.announcing import Announced, WorkKind
from catalog.commits import Watermark
from catalog.model import Inventory, Snapshot
from catalog.table import AnnouncingTable, Table, TableFiles
from compactor.jobs.merge_changes import Reading
from compactor.jobs.merge_filters import Filtering, filters_for
from compactor.jobs.merge_rounds import Round
from compactor.jobs.merge_search import search
from compactor.jobs.spread import spread
from compactor.jobs.totals import TableTotals
from compactor.merge.changes import changeable
from compactor.merge.choice import WriteMode
from compactor.merge.completing import completed
from compactor.merge.finding import Found
from compactor.merge.group import MergeTask
from compactor.merge.kinds import DELETE
from compactor.merge.matching import Matcher
from compactor.merge.outcome import Outcome, settle
from compactor.merge.routing_files import Routed, Snapshotted, looked_for, route
from compactor.merge.rules import Mode
from compactor.merge.tasks import MergeOptions, merge_tasks
from compactor.planner.plan import ChangeCounts, ChangePlan, FileGroup, Plan, Rung, SearchStage
from compactor.planner.policy import Policy
from compactor.planner.price import GroupSize, price_group
from compactor.planner.width import row_width
from compactor.proof import Proof
from compactor.rewrite.task import RewriteTask
from compactor.splicing import Effort
from runtime import Runtime

# Beside an order of its own, what a worker holds of rows that come in: as they came, as they go.
_ADDED_COPIES = 2
_STAGE_NAMES = {"table": "stored", "partitions": "partitions", "bounds": "files"}


@dataclass(frozen=True, slots=True)
class MergeGround:
    """What changes are merged into.

    Attributes:
        table: the table.
        snapshot: the snapshot that is looked at.
        inventory: its files.
        files: the workers' side of it.
    """

    table: Table
    snapshot: Snapshot
    inventory: Inventory
    files: TableFiles


@dataclass(frozen=True, slots=True)
class Writing:
    """How a merge writes.

    Attributes:
        policy: the table owner's: sizes of files, and what is copied as it is.
        proof: what is checked of each group.
        mode: whether rows that go are left out of a copy or recorded as deleted.
        keeps_filters: whether filters of keys are looked into, and kept beside the table.
    """

    policy: Policy
    proof: Proof
    mode: WriteMode = WriteMode.AUTO
    keeps_filters: bool = False


@dataclass(frozen=True, slots=True)
class PlannedMerge:
    """A plan, and what only this process has of it.

    Attributes:
        plan: it.
        before: totals of the snapshot that it was made from.
        merges: by group, what its task is.
        reading: the changes; None where there are none.
        is_last: whether nothing that is new is left to be merged after it.
        filtering: what it knows of filters of keys; None where these are not asked for.
    """

    plan: Plan
    before: TableTotals
    merges: Mapping[str, MergeTask] = field(default_factory=dict)
    reading: Reading | None = None
    is_last: bool = True
    filtering: Filtering | None = None


def plan_changes(
    ground: MergeGround, merged: Round, *, writing: Writing, runtime: Runtime
) -> PlannedMerge:
    """Look for the rows that changes act on, and plan what becomes of them.

    Args:
        ground: what they are merged into.
        merged: the changes.
        writing: how files are written.
        runtime: runs the search.

    Raises:
        ChangesRefusedError: the changes do not fit what is stored.
        UnsupportedTableError: the table cannot take them as is asked for.
        CatalogError: files cannot be read.
    """
    reading, changes = merged.reading, merged.reading.changes
    routed = _routed(ground, reading, runtime)
    matcher = Matcher(changes, reading.deletes, reading.rules)
    name = ground.table.name
    filters = None
    if writing.keeps_filters:
        filters = filters_for(ground.table, reading.rules, ground.files.schema.arrow)
    side = ground.files, name
    found = search(runtime, side, routed.files, matcher=matcher, filters=filters)
    outcome = settle(changes, found.hits)
    rows = completed(ground.files, changes, outcome, ground.inventory)
    sizes = writing.policy.file_sizes(ground.files.layout.target_file_size_bytes)
    options = MergeOptions(
        attempt_id="planned",
        target_file_size_bytes=sizes.target_bytes,
        proof=writing.proof,
        splice=_copying(writing.policy).splice_limits(sizes),
        write_mode=writing.mode,
        can_mark=ground.table.can_mark,
    )
    tasks = list(merge_tasks(ground.files, ground.inventory, outcome, rows, options=options))
    groups = tuple(_groups(ground, tasks, outcome))
    rewritten = [one for one in groups if not one.marks]
    touched = [outcome.touched[path] for one in tasks for path in one.replaced]
    plan = Plan(
        table=name,
        format=ground.table.format,
        snapshot=ground.snapshot,
        target_file_size_bytes=sizes.target_bytes,
        groups=groups or (_nothing_to_write(ground),),
        kept_files=ground.inventory.file_count - sum(one.files.file_count for one in rewritten),
        kept_bytes=ground.inventory.size_bytes - sum(one.files.size_bytes for one in rewritten),
        skipped=(),
        splice=options.splice,
        announced=(
            Announced(WorkKind.CHANGE) if isinstance(ground.table, AnnouncingTable) else None
        ),
        change=ChangePlan(
            watermarks=merged.watermarks,
            since=merged.since,
            counts=_counts(reading, found, outcome),
            stages=tuple(_stages(routed, found)),
            row_groups_hit=sum(one.row_groups for one in touched),
            row_groups_free=sum(one.row_groups_all - one.row_groups for one in touched),
            files_marked=sum(len(one.marks) for one in tasks),
            partitions=None if routed.reach is None else tuple(sorted(routed.reach)),
        ),
    )
    merges = dict(zip((one.group_id for one in groups), tasks, strict=True))
    merges = merges or {plan.groups[0].group_id: _idle(ground, writing.proof)}
    before = TableTotals.of(ground.inventory)
    filtering = None if filters is None else Filtering(filters, ground.inventory, routed.files)
    return PlannedMerge(plan, before, merges, reading, is_last=merged.is_last, filtering=filtering)


def plan_nothing(
    ground: MergeGround, watermarks: tuple[Watermark, ...], *, writing: Writing
) -> PlannedMerge:
    """Return the plan of a merge without anything new since its watermarks."""
    sizes = writing.policy.file_sizes(ground.files.layout.target_file_size_bytes)
    plan = Plan(
        table=ground.table.name,
        format=ground.table.format,
        snapshot=ground.snapshot,
        target_file_size_bytes=sizes.target_bytes,
        groups=(),
        kept_files=ground.inventory.file_count,
        kept_bytes=ground.inventory.size_bytes,
        skipped=(),
        change=ChangePlan(watermarks, ChangeCounts(), ()),
    )
    return PlannedMerge(plan, TableTotals.of(ground.inventory))


def _copying(policy: Policy) -> Policy:
    """Return the policy under which every row group is copied that can be: sizes are for later."""
    return policy if policy.effort is Effort.DEEP else replace(policy, effort=Effort.BYTES)


def _groups(
    ground: MergeGround, tasks: Sequence[MergeTask], outcome: Outcome
) -> Iterator[FileGroup]:
    labels = _labels(ground.inventory)
    for number, task in enumerate(tasks, start=1):
        rewrite = task.rewrite
        size = _size(task, outcome)
        price = price_group(size, rewrite.table.layout, row_width(rewrite.table.schema.arrow))
        added_bytes = 0 if rewrite.added is None else _ADDED_COPIES * rewrite.added.nbytes
        yield FileGroup(
            group_id=f"{number:04d}",
            partition_key=rewrite.partition_key,
            partition=labels.get(rewrite.partition_key, rewrite.partition_key),
            rung=Rung.MERGE,
            files=rewrite.files,
            output_files_estimate=size.output_files,
            reason=_reason(task, outcome),
            price=replace(
                price, memory_bytes_estimate=price.memory_bytes_estimate + int(added_bytes)
            ),
            rows_added=rewrite.rows_added,
            marks=task.marks,
        )


def _labels(inventory: Inventory) -> dict[str, str]:
    """Return the partitions as people read them, by their keys."""
    columns = inventory.files.select(["partition_key", "partition"]).group_by(
        ["partition_key", "partition"]
    )
    found = columns.aggregate([]).to_pydict()
    return dict(zip(found["partition_key"], found["partition"], strict=True))


def _size(task: MergeTask, outcome: Outcome) -> GroupSize:
    """Return what there is to do for a task; nothing is read of files that are marked."""
    rewrite = task.rewrite
    files = rewrite.files.take(np.empty(0, np.int64)) if task.marks else rewrite.files
    touched = [outcome.touched[path] for path in files.files["path"].to_pylist()]
    hit_bytes = sum(one.stored_bytes for one in touched)
    free_bytes = sum(one.stored_bytes_all - one.stored_bytes for one in touched)
    dropped = sum(len(one.dropped) for one in task.replaced.values())
    stored = files.row_count
    output_bytes = int(files.size_bytes * (1 - dropped / max(1, stored)) + rewrite.added_bytes)
    return GroupSize(
        files=files.file_count,
        input_bytes=files.size_bytes,
        delete_files=files.delete_files.num_rows,
        delete_bytes=int(np.sum(files.delete_files["size_bytes"].to_numpy())),
        delete_rows=int(np.sum(files.delete_files["row_count"].to_numpy())) + dropped,
        output_bytes=output_bytes,
        output_files=int(output_bytes > 0) and -(-output_bytes // rewrite.target_file_size_bytes),
        spliced_bytes=0
        if rewrite.splice is None
        else files.size_bytes * free_bytes // max(1, hit_bytes + free_bytes),
        kept_rows=max(0, stored - dropped) + rewrite.rows_added,
    )


def _reason(task: MergeTask, outcome: Outcome) -> str:
    going = task.marks or task.replaced
    words = []
    if going:
        rows = sum(len(one.dropped) for one in going.values())
        words.append(f"{rows:,} rows {'marked as deleted' if task.marks else 'go'}")
    if task.rewrite.rows_added:
        words.append(f"{task.rewrite.rows_added:,} come")
    return ", ".join(words)


def _routed(ground: MergeGround, reading: Reading, runtime: Runtime) -> Routed:
    """Rule out files by the metadata of the table."""
    columns = changeable(ground.files.schema)
    base = Snapshotted(ground.table, ground.snapshot, ground.inventory, columns)
    wanted = looked_for(reading.changes, reading.deletes, reading.rules)
    return route(base, wanted, map_function=spread(runtime))


def _stages(routed: Routed, found: Found) -> Iterator[SearchStage]:
    """Yield what was left after each stage of the search; row groups are known of opened files."""
    *before, last = routed.stages
    for one in before:
        yield SearchStage(_STAGE_NAMES.get(one.stage, one.stage), one.files, None, one.row_count)
    name = _STAGE_NAMES.get(last.stage, last.stage)
    yield SearchStage(name, last.files, found.asked.row_groups, last.row_count)
    if found.filtered.files < found.asked.files:
        some = found.filtered
        yield SearchStage("key filters", some.files, some.row_groups, some.rows)
    for name, stage in (("row groups", found.routed), ("filters", found.read), ("keys", found.hit)):
        yield SearchStage(name, stage.files, stage.row_groups, stage.rows)


def _counts(reading: Reading, found: Found, outcome: Outcome) -> ChangeCounts:
    updated = int((outcome.stored[0] >= 0).sum())
    effective = len(outcome.upserts) + _deletes_with_effect(reading, found)
    is_append = reading.rules.mode is Mode.APPEND
    return ChangeCounts(
        upserts=reading.upserts,
        deletes=reading.deleting,
        superseded=reading.superseded,
        inserted=len(outcome.upserts) - updated,
        updated=updated,
        deleted=outcome.rows_dropped - updated,
        unchanged=0 if is_append else len(reading.changes) - effective,
    )


def _deletes_with_effect(reading: Reading, found: Found) -> int:
    """Count the deletes by key that remove a stored row."""
    is_hit, is_stale = np.zeros((2, len(reading.changes) + 1), np.bool_)
    for hits in found.hits.values():
        matched = hits.matched
        is_hit[matched.change] = True
        is_stale[matched.change[matched.is_newer]] = True
    is_delete = reading.changes.kinds == DELETE
    return int((is_delete & is_hit[:-1] & ~is_stale[:-1]).sum())


def _nothing_to_write(ground: MergeGround) -> FileGroup:
    """Return the one group of a merge that only records how far its sources were read."""
    size = GroupSize(0, 0, 0, 0, 0, 0, 0)
    return FileGroup(
        group_id="0001",
        partition_key=_any_partition(ground),
        partition="",
        rung=Rung.MERGE,
        files=Inventory.empty(),
        output_files_estimate=0,
        reason="nothing changes",
        price=price_group(size, ground.files.layout),
    )


def _idle(ground: MergeGround, proof: Proof) -> MergeTask:
    rewrite = RewriteTask(
        table=ground.files,
        partition_key=_any_partition(ground),
        files=Inventory.empty(),
        attempt_id="planned",
        target_file_size_bytes=1,
        proof=proof,
    )
    return MergeTask(rewrite, {})


def _any_partition(ground: MergeGround) -> str:
    """Return the key of some partition: nothing is written there, but places have names."""
    if ground.inventory.file_count:
        return str(ground.inventory.files["partition_key"][0].as_py())
    columns = ground.files.schema.arrow
    nulls = [pa.nulls(1, field.type) for field in columns]
    return str(ground.files.partition_keys(pa.table(nulls, names=columns.names))[0].as_py())
