"""A plan as a file: versioned JSON that holds every file slice of its groups.

Where there are many file slices they are rows of a Parquet file, and the rest of the plan is the
same JSON in its metadata. The file is complete by itself, so a job can be resumed from it alone; a
plan that a person saved is also compared with the inventory of its snapshot before it is applied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.announcing import Announced
from catalog.duplicates import find_duplicate
from catalog.model import DATA_FILES, DELETE_FILES, Inventory, Selection, Snapshot
from compactor.errors import PlanFileError, PlanStaleError
from compactor.planner.columns import Ints, one_array
from compactor.planner.places import Places
from compactor.planner.plan import (
    ChangePlan,
    ClusterPlan,
    Considered,
    FileGroup,
    Plan,
    Price,
    Rung,
    Skipped,
)
from compactor.planner.planrows import MAGIC, decode_rows, encode_rows, read_header
from compactor.planner.slicing import constant_column, cut_groups
from compactor.splicing import SpliceLimits

KIND = "compact-plan"
VERSION = 1
# So many file slices are still read by people, and by programs that know JSON only.
JSON_FILES_MAX = 20_000
_REPLAN = "make a new plan: compact plan --out FILE"
# Known to change without the file changing: its snapshot expires.
_IGNORED_COLUMN = "written_at_ms"
# Columns that most tables have nothing in.
_SELDOM = ("first_row_id", "row_version", "is_clustered")


class _Header(msgspec.Struct):
    kind: str
    version: int


class _Files(msgspec.Struct):
    """Columns of `DATA_FILES` but the partition, which is the group's.

    Row ids, versions and what is clustered are left out when no file has any.
    """

    path: list[str]
    size_bytes: list[int]
    row_count: list[int]
    sequence_number: list[int]
    written_at_ms: list[int | None]
    deletes: list[list[int]]
    first_row_id: list[int | None] | None = None
    row_version: list[int | None] | None = None
    is_clustered: list[bool | None] | None = None


class _DeleteFiles(msgspec.Struct):
    """Columns of `DELETE_FILES`; the last one is left out when all of it is null."""

    path: list[str]
    size_bytes: list[int]
    row_count: list[int]
    sequence_number: list[int]
    target: list[str | None]
    equality_ids: list[list[int] | None] | None = None


class _Group(msgspec.Struct, omit_defaults=True):
    group_id: str
    partition_key: str
    partition: str
    rung: Rung
    output_files_estimate: int
    reason: str
    price: Price
    files: _Files
    delete_files: _DeleteFiles
    rows_added: int = 0
    marks: dict[str, list[int]] = {}
    delete_files_estimate: int = 0


class _PlanFile(msgspec.Struct):
    kind: str
    version: int
    table: str
    format: str
    snapshot: Snapshot
    target_file_size_bytes: int
    kept_files: int
    kept_bytes: int
    skipped: list[Skipped]
    groups: list[_Group]
    splice: SpliceLimits | None = None
    cluster: ClusterPlan | None = None
    change: ChangePlan | None = None
    announced: Announced | None = None
    considered: tuple[Considered, ...] = ()
    output_spec: int | None = None


def load_plan(text: str | bytes, inventory: Inventory) -> Plan:
    """Read a saved plan and take its file slices from the inventory of its snapshot.

    Raises:
        PlanFileError: the text is damaged, or of a form that this version does not know.
        PlanStaleError: the inventory does not hold the file slices as they were planned.
    """
    return fit_plan(decode_plan(text), inventory)


def fit_plan(plan: Plan, inventory: Inventory) -> Plan:
    """Take the file slices of a plan that was read from the inventory of its snapshot.

    Raises:
        PlanStaleError: the inventory does not hold the file slices as they were planned.
    """
    found = cut_groups(inventory, _places(plan.groups, inventory))
    groups = tuple(_matched(*pair) for pair in zip(plan.groups, found, strict=True))
    return replace(plan, groups=groups)


def encode_plan(plan: Plan) -> bytes:
    """Return the content of the plan's file."""
    if sum(group.files.file_count for group in plan.groups) <= JSON_FILES_MAX:
        return _encode(plan)
    bare = (replace(group, files=Inventory.empty()) for group in plan.groups)
    header = _encode(replace(plan, groups=tuple(bare)))
    return encode_rows(header, (group.files for group in plan.groups))


def decode_plan(data: str | bytes) -> Plan:
    """Read a plan from the content of its file alone.

    Raises:
        PlanFileError: it is damaged, or of a form that this version does not know.
    """
    try:
        if isinstance(data, bytes) and data.startswith(MAGIC):
            plan = _with_rows(_decode(read_header(data)), data)
        else:
            plan = _decode(data)
        _require_consistent(plan.groups, may_be_empty=plan.change is not None)
    except (msgspec.DecodeError, pa.ArrowException, ValueError, OverflowError, OSError) as error:
        raise PlanFileError(f"damaged plan file: {error}", hint=_REPLAN) from error
    return plan


def _with_rows(bare: Plan, data: bytes) -> Plan:
    partitions = [(group.partition_key, group.partition) for group in bare.groups]
    slices = decode_rows(data, partitions)
    groups = (replace(group, files=files) for group, files in zip(bare.groups, slices, strict=True))
    return replace(bare, groups=tuple(groups))


def _encode(plan: Plan) -> bytes:
    saved = _PlanFile(
        kind=KIND,
        version=VERSION,
        table=plan.table,
        format=plan.format,
        snapshot=plan.snapshot,
        target_file_size_bytes=plan.target_file_size_bytes,
        kept_files=plan.kept_files,
        kept_bytes=plan.kept_bytes,
        skipped=list(plan.skipped),
        groups=[_encode_group(group) for group in plan.groups],
        splice=plan.splice,
        cluster=plan.cluster,
        change=plan.change,
        announced=plan.announced,
        considered=plan.considered,
        output_spec=plan.output_spec,
    )
    return msgspec.json.encode(saved)


def _decode(data: str | bytes) -> Plan:
    _require_known(msgspec.json.decode(data, type=_Header))
    saved = msgspec.json.decode(data, type=_PlanFile)
    groups = tuple(_decode_group(group) for group in saved.groups)
    return Plan(
        table=saved.table,
        format=saved.format,
        snapshot=saved.snapshot,
        target_file_size_bytes=saved.target_file_size_bytes,
        groups=groups,
        kept_files=saved.kept_files,
        kept_bytes=saved.kept_bytes,
        skipped=tuple(saved.skipped),
        splice=saved.splice,
        cluster=saved.cluster,
        change=saved.change,
        announced=saved.announced,
        considered=saved.considered,
        output_spec=saved.output_spec,
    )


def _encode_group(group: FileGroup) -> _Group:
    files = group.files.files
    unsaid = [name for name in _SELDOM if files[name].null_count == files.num_rows]
    files = files.drop_columns(["partition_key", "partition", *unsaid])
    return _Group(
        group_id=group.group_id,
        partition_key=group.partition_key,
        partition=group.partition,
        rung=group.rung,
        output_files_estimate=group.output_files_estimate,
        reason=group.reason,
        price=group.price,
        files=_Files(**files.to_pydict()),
        delete_files=_encode_deletes(group.files),
        rows_added=group.rows_added,
        marks={path: one.dropped.tolist() for path, one in group.marks.items()},
        delete_files_estimate=group.delete_files_estimate,
    )


def _encode_deletes(files: Inventory) -> _DeleteFiles:
    table = files.delete_files
    if not files.has_equality_deletes:
        table = table.drop_columns(["equality_ids"])
    return _DeleteFiles(**table.to_pydict())


def _decode_group(saved: _Group) -> FileGroup:
    count = len(saved.files.path)
    columns = msgspec.structs.asdict(saved.files)
    columns |= {name: columns[name] or [None] * count for name in _SELDOM}
    columns |= {
        "partition_key": constant_column(saved.partition_key, count),
        "partition": constant_column(saved.partition, count),
    }
    delete_columns = msgspec.structs.asdict(saved.delete_files)
    if saved.delete_files.equality_ids is None:
        delete_columns["equality_ids"] = [None] * len(saved.delete_files.path)
    return FileGroup(
        group_id=saved.group_id,
        partition_key=saved.partition_key,
        partition=saved.partition,
        rung=saved.rung,
        files=Inventory(_table(columns, DATA_FILES), _table(delete_columns, DELETE_FILES)),
        output_files_estimate=saved.output_files_estimate,
        reason=saved.reason,
        price=saved.price,
        rows_added=saved.rows_added,
        marks={path: Selection.of(np.array(rows)) for path, rows in saved.marks.items()},
        delete_files_estimate=saved.delete_files_estimate,
    )


def _table(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _require_known(header: _Header) -> None:
    if header.kind != KIND:
        raise PlanFileError(f"not a plan file: its kind is `{header.kind}`", hint=_REPLAN)
    if header.version != VERSION:
        raise PlanFileError(
            f"plan file of version {header.version}, this program reads version {VERSION}",
            hint=_REPLAN,
        )


def _require_consistent(groups: Sequence[FileGroup], *, may_be_empty: bool) -> None:
    """Refuse what no plan can hold: a file in two groups, a delete file that is not there."""
    ids = {group.group_id for group in groups}
    if find_duplicate(lambda: _complete_paths(groups, may_be_empty=may_be_empty)) or (
        len(ids) < len(groups)
    ):
        raise PlanFileError("damaged plan file: a group or file occurs twice", hint=_REPLAN)


def _complete_paths(groups: Sequence[FileGroup], *, may_be_empty: bool) -> Iterator[pa.Array]:
    """Yield the paths of the data files of every group that is complete."""
    for group in groups:
        files, delete_files = group.files.files, group.files.delete_files
        entries = pc.list_flatten(one_array(files["deletes"])).to_numpy()
        is_empty = not (files.num_rows or may_be_empty)
        if is_empty or not _within(entries, delete_files.num_rows):
            raise PlanFileError(
                f"damaged plan file: group {group.group_id} is incomplete", hint=_REPLAN
            )
        yield from files["path"].chunks


def _within(entries: Any, count: int) -> bool:
    return bool(np.all((entries >= 0) & (entries < count)))


def _places(groups: Sequence[FileGroup], inventory: Inventory) -> list[Ints]:
    """Return the rows of the inventory that hold the files of each group."""
    places = Places.of(inventory.files["path"])
    split = list(places.find_groups(group.files for group in groups))
    for group, rows in zip(groups, split, strict=True):
        missing = int((rows < 0).sum())
        if missing:
            raise _stale(group, f"{missing:,} of its data files are not in the snapshot")
    return split


def _matched(group: FileGroup, found: Inventory) -> FileGroup:
    planned = group.files
    same_files = found.files.drop_columns([_IGNORED_COLUMN]).equals(
        planned.files.drop_columns([_IGNORED_COLUMN])
    )
    if not same_files or not found.delete_files.equals(planned.delete_files):
        raise _stale(group, "its data files or their deletes are not as planned")
    return replace(group, files=found)


def _stale(group: FileGroup, reason: str) -> PlanStaleError:
    return PlanStaleError(f"group {group.group_id} of the plan is stale: {reason}", hint=_REPLAN)
