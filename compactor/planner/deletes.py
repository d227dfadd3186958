"""Plan how deletes are to be recorded anew: as few delete files of positions, beside data files.

Two reasons. Equality deletes cost every reader a join of their keys with the rows of all older
files; as positions they cost a bitmap. And many delete files of one data file are many to open.

The next plan finds nothing: a data file that was recorded has one delete file, of positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc

from compactor.planner.columns import FileColumns, Flags, Ints, read_columns
from compactor.planner.expect import Expected
from compactor.planner.measure import GroupFigures, measure_groups
from compactor.planner.pack import Packing, in_order
from compactor.planner.plan import FileGroup, Plan, Rung
from compactor.planner.planning import TableState, skipped_files, within_budget
from compactor.planner.policy import Policy
from compactor.planner.price import GroupSize, price_recording
from compactor.planner.select import Candidates, Stay, find_barred
from compactor.planner.slicing import cut_groups
from compactor.sort_keys import Strategy

# What a position takes in a delete file, compressed, its path beside it.
_POSITION_BYTES = 3
# Files of a group: each may get a delete file of its own, and is opened for its keys.
_GROUP_FILES_MAX = 4096


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which deletes are to be recorded anew.

    Attributes:
        is_wanted: per data file, whether its are.
        read_bytes: per data file, what is read of it for that.
    """

    is_wanted: Flags
    read_bytes: Ints


def plan_deletes(table: TableState, policy: Policy, *, now_ms: int) -> Plan:
    """Plan the recording of deletes by the strategy of a policy.

    Args:
        table: the snapshot to be planned against, and its files.
        policy: what its owner wants.
        now_ms: milliseconds since the epoch, for the age of files.
    """
    columns = read_columns(table.inventory)
    wanted = _wanted(table, columns, policy)
    barred = find_barred(columns, policy, now_ms)
    candidates = _candidates(columns, wanted.is_wanted & (barred == 0))
    packing = _pack(columns, candidates, wanted, policy)
    figures = _measured(table, columns, candidates, packing)
    figures = replace(figures, input_bytes=_sums(wanted.read_bytes[packing.rows], packing))
    taken, refused = within_budget(figures, policy, ())
    stays = np.where(wanted.is_wanted, barred, 0)
    for group in refused:
        stays[packing.group_rows(group)] = Stay.OVER_BUDGET
    groups = tuple(_groups(table, columns, packing, figures=figures, taken=taken))
    return Plan(
        table=table.name,
        format=table.format,
        snapshot=table.snapshot,
        target_file_size_bytes=policy.file_sizes(table.layout.target_file_size_bytes).target_bytes,
        groups=groups,
        kept_files=len(columns.size_bytes) - sum(one.files.file_count for one in groups),
        kept_bytes=int(columns.size_bytes.sum()) - sum(one.files.size_bytes for one in groups),
        skipped=tuple(skipped_files(columns, stays, policy)),
    )


def _wanted(table: TableState, columns: FileColumns, policy: Policy) -> _Wanted:
    links = columns.links
    by_key = table.inventory.delete_files["equality_ids"].is_valid().to_numpy()[links.delete]
    keys = np.bincount(links.file[by_key], minlength=links.file_count)
    positions = np.bincount(links.file[~by_key], minlength=links.file_count)
    ids = pc.unique(pc.list_flatten(table.inventory.delete_files["equality_ids"]))
    share = min(1.0, len(ids) / max(1, table.leaf_columns))
    read_bytes = np.ceil(columns.size_bytes * share).astype(np.int64)
    if policy.strategy is Strategy.POSITION_DELETES:
        # Where a file has keys deleted as well, these are recorded along with the positions.
        return _Wanted(positions > 1, np.where(keys > 0, read_bytes, 0))
    return _Wanted(keys >= policy.convert_delete_files_min, read_bytes)


def _candidates(columns: FileColumns, is_selected: Flags) -> Candidates:
    none = np.zeros(len(columns.size_bytes), np.uint8)
    dropped = np.minimum(columns.links.rows_dropped(is_selected), columns.row_count)
    return Candidates(none, is_selected, none, dropped, np.zeros_like(dropped))


def _pack(columns: FileColumns, candidates: Candidates, wanted: _Wanted, policy: Policy) -> Packing:
    """Cut the files of each partition where what is read of them reaches the limit of a group."""
    rows = in_order(columns, np.flatnonzero(candidates.is_selected), None)
    if not len(rows):
        return Packing(rows, rows, rows)
    partition = columns.partition[rows]
    firsts = np.flatnonzero(np.diff(partition, prepend=-1))
    lengths = np.diff(firsts, append=len(rows))
    before = np.cumsum(wanted.read_bytes[rows]) - wanted.read_bytes[rows]
    within = before - np.repeat(before[firsts], lengths)
    number = np.arange(len(rows)) - np.repeat(firsts, lengths)
    piece = np.maximum(within // int(policy.max_group_bytes), number // _GROUP_FILES_MAX)
    is_start = (np.diff(partition, prepend=-1) != 0) | (np.diff(piece, prepend=-1) != 0)
    starts = np.flatnonzero(is_start)
    return Packing(rows, starts, np.append(starts[1:], len(rows)))


def _measured(
    table: TableState, columns: FileColumns, candidates: Candidates, packing: Packing
) -> GroupFigures:
    nothing = np.zeros(len(columns.size_bytes))
    return measure_groups(
        table.inventory,
        columns,
        candidates=candidates,
        packing=packing,
        expected=Expected(nothing, nothing),
    )


def _sums(values: Ints, packing: Packing) -> Ints:
    return np.add.reduceat(values, packing.starts) if packing.group_count else packing.starts


def _groups(
    table: TableState,
    columns: FileColumns,
    packing: Packing,
    *,
    figures: GroupFigures,
    taken: list[int],
) -> Iterator[FileGroup]:
    inventories = cut_groups(table.inventory, [packing.group_rows(group) for group in taken])
    keys, labels = columns.partition_keys, columns.partition_labels
    for number, (group, files) in enumerate(zip(taken, inventories, strict=True), start=1):
        partition = int(columns.partition[packing.group_rows(group)[0]])
        size = _size(figures, group)
        yield FileGroup(
            group_id=f"{number:04d}",
            partition_key=keys[partition].as_py(),
            partition=labels[partition].as_py(),
            rung=Rung.DELETES,
            files=files,
            output_files_estimate=files.file_count,
            reason=_reason(figures, group),
            price=price_recording(size),
            delete_files_estimate=size.output_files,
        )


def _size(figures: GroupFigures, group: int) -> GroupSize:
    rows = int(figures.delete_rows[group] + figures.key_rows[group])
    files = int(figures.files[group])
    return GroupSize(
        files=files,
        input_bytes=int(figures.input_bytes[group]),
        delete_files=int(figures.delete_files[group]),
        delete_bytes=int(figures.delete_bytes[group]),
        delete_rows=int(figures.delete_rows[group]),
        key_rows=int(figures.key_rows[group]),
        output_bytes=_POSITION_BYTES * rows,
        # Each file that loses rows gets one; that is not known before.
        output_files=min(files, rows),
    )


def _reason(figures: GroupFigures, group: int) -> str:
    deletes, keys = int(figures.delete_files[group]), int(figures.key_rows[group])
    what = f"{keys:,} keys to be looked up by every reader" if keys else "many for each data file"
    return f"{deletes:,} delete files, {what}"
