"""Which files of older file slices nobody needs any more, by the policies of Hudi's cleaner.  Pure.

What is kept of each file group: its last slice; by commits or by age also the last one before the
earliest commit that is to stay readable, and every later one; by versions the newest few. File
groups that were replaced go as a whole once that is older than the earliest commit. Groups that a
pending plan names, and files of savepoints, are left alone.
Behaviour: `CleanPlanner` and `CleanerUtils` of Hudi 1.2.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.hudi.slices import PLACES, FileGroup, Pending
from catalog.hudi.states import order_of
from catalog.hudi.timeline import REPLACING, WRITES, Action, Instant, Timeline

_COMMITS = (Action.COMMIT, Action.DELTACOMMIT, Action.REPLACECOMMIT)
_GROUP = ["partition_path", "file_id"]


class CleanPolicy(StrEnum):
    """What old file slices are kept by; the names are Hudi's."""

    COMMITS = "KEEP_LATEST_COMMITS"
    HOURS = "KEEP_LATEST_BY_HOURS"
    VERSIONS = "KEEP_LATEST_FILE_VERSIONS"


@dataclass(frozen=True, slots=True)
class Replaced:
    """A file group that is gone.

    Attributes:
        group: partition path and file id.
        instant: of the write that replaced it.
    """

    group: FileGroup
    instant: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What a cleaning leaves.

    Attributes:
        policy: by what.
        versions: how many slices of each group, by `CleanPolicy.VERSIONS`.
        earliest: the first commit that stays readable; None where none is given up. By
            `CleanPolicy.VERSIONS` the first one whose replaced files stay; None where all go.
        pending: plans that are not carried out.
        replaced: file groups that are gone.
        savepoint_files: names of the files of savepoints.
        read_since: the first write that a state which is read may not have; None where none is
            read. What such a state sees of a file group began before it.
    """

    policy: CleanPolicy
    versions: int
    earliest: Instant | None
    pending: Pending
    replaced: tuple[Replaced, ...]
    savepoint_files: frozenset[str] = frozenset()
    read_since: str | None = None

    @property
    def bounds(self) -> tuple[str, ...]:
        """Times of writes: each slice since them stays, and the last one before each."""
        is_by_time = self.policy is not CleanPolicy.VERSIONS and self.earliest is not None
        named = (self.earliest.time if is_by_time and self.earliest else None, self.read_since)
        return tuple(one for one in named if one is not None)


def earliest_by_commits(timeline: Timeline, commits: int) -> Instant | None:
    """Return the first of the newest commits, not later than what is pending.

    Args:
        timeline: of the table.
        commits: how many stay readable, 1 at least.

    Returns:
        None where there are no more than so many.
    """
    completed = timeline.completed(*_COMMITS)
    if len(completed) <= commits:
        return None
    return _not_after_pending(timeline, completed[len(completed) - commits])


def earliest_by_age(timeline: Timeline, oldest: str, young: Collection[str] = ()) -> Instant | None:
    """Return the first commit at a time or later, not later than what is pending.

    Names of instants tell their age only roughly: clocks of writers go in other time zones, or are
    set back an hour in autumn.

    Args:
        timeline: of the table.
        oldest: the time as an instant.
        young: commits that are later whatever they are named.
    """
    commits = timeline.completed(*_COMMITS)
    later = [one for one in commits if one.time >= oldest or one.time in young]
    return _not_after_pending(timeline, later[0]) if later else None


def _not_after_pending(timeline: Timeline, earliest: Instant) -> Instant | None:
    pending = [one.time for one in timeline.pending() if one.action in WRITES]
    if not pending or earliest.time <= min(pending):
        return earliest
    before = [one for one in timeline.completed(*_COMMITS) if one.time < min(pending)]
    return before[-1] if before else None


def not_after(
    timeline: Timeline, earliest: Instant | None, times: Collection[str]
) -> Instant | None:
    """Return the earliest commit, or an older one where somebody reads an older state.

    Args:
        timeline: of the table.
        earliest: by the policy.
        times: of the first writes that states which are read may not have.
    """
    if earliest is None or not times:
        return earliest
    older = [one for one in timeline.completed(*_COMMITS) if one.time <= min(times)]
    if not older:
        return None
    return min(earliest, older[-1], key=lambda one: one.time)


def first_replacing(timeline: Timeline, held: Collection[str]) -> Instant | None:
    """Return the first replacement whose files stay although versions are cleaned; None for none.

    Args:
        timeline: of the table.
        held: completed ones of which files stay. What is pending has its files still.
    """
    pending = [one.time for one in timeline.pending(*REPLACING)]
    first = min([*held, *pending], default=None)
    return None if first is None else timeline.find(first)


def read_since(timeline: Timeline, states: Collection[str]) -> str | None:
    """Return the first write that the oldest of some states may not have; None for no states.

    A state is named by when its last write was completed; others may have been requested before
    it, and completed later.

    Args:
        timeline: of the table.
        states: names of snapshots.
    """
    if not states:
        return None
    oldest = min(states)
    commits = timeline.completed(*_COMMITS)
    return min([oldest, *(one.time for one in commits if order_of(one) > oldest)])


def unneeded_files(places: pa.Table, kept: Kept) -> pa.Table:
    """Return the files that may be deleted, schema `PLACES`, in the order of their partitions.

    Args:
        places: all files of all visible slices, schema `PLACES`.
        kept: what is to stay.
    """
    if kept.policy is not CleanPolicy.VERSIONS and kept.earliest is None:
        return PLACES.empty_table()
    gone = {one.group for one in kept.replaced if _is_given_up(one, kept)}
    still_replaced = {one.group for one in kept.replaced} - gone
    left_alone = still_replaced | planned_groups(kept.pending)
    is_old = _is_old(places, kept) | _is_of(places, gone)
    is_old &= ~_is_of(places, left_alone)
    found = places.filter(pa.array(is_old))
    found = _without_savepoints(found, kept.savepoint_files)
    return found.sort_by([(name, "ascending") for name in (*_GROUP, "instant", "name")])


def _is_given_up(one: Replaced, kept: Kept) -> bool:
    return all(one.instant < bound for bound in kept.bounds)


def planned_groups(pending: Pending) -> set[FileGroup]:
    """Return the file groups that plans name which are not carried out."""
    plans: tuple[Mapping[FileGroup, str], ...]
    plans = (pending.compactions, pending.log_compactions, pending.clusterings)
    return {group for plan in plans for group in plan}


def _is_old(places: pa.Table, kept: Kept) -> npt.NDArray[np.bool_]:
    """Tell which files are of slices that the policy gives up."""
    slices = places.group_by([*_GROUP, "instant"], use_threads=False).aggregate([])
    slices = slices.sort_by([(name, "ascending") for name in (*_GROUP, "instant")])
    groups = _numbers(slices, _GROUP)
    is_last = np.ones(len(groups), np.bool_)
    is_last[:-1] = groups[1:] != groups[:-1]
    is_kept = is_last.copy()
    if kept.policy is CleanPolicy.VERSIONS:
        is_kept |= _newest_first(groups) < kept.versions
    for bound in kept.bounds:
        is_later = pc.greater_equal(slices["instant"], bound).to_numpy().astype(np.bool_)
        # The last one before the bound is what readers of that time see.
        is_kept |= is_later
        is_kept[:-1] |= is_later[1:]
    old = slices.filter(pa.array(~is_kept))
    return _is_in(places, old, [*_GROUP, "instant"])


def _newest_first(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Number the slices of each group from the last one on, given the group of each, ascending."""
    ends = np.searchsorted(groups, groups, side="right")
    numbers: npt.NDArray[np.int64] = ends - 1 - np.arange(len(groups))
    return numbers


def _numbers(table: pa.Table, columns: list[str]) -> npt.NDArray[np.int64]:
    """Number the distinct rows of a sorted table, ascending."""
    is_new = np.zeros(table.num_rows, np.bool_)
    for name in columns:
        column = table[name].combine_chunks()
        is_new[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return np.cumsum(is_new).astype(np.int64)


def _is_of(places: pa.Table, groups: Collection[FileGroup]) -> npt.NDArray[np.bool_]:
    """Tell which files are of some file groups."""
    paths, ids = [path for path, _ in groups], [one for _, one in groups]
    wanted = pa.table([pa.array(paths, pa.string()), pa.array(ids, pa.string())], names=_GROUP)
    return _is_in(places, wanted, _GROUP)


def _is_in(places: pa.Table, wanted: pa.Table, columns: list[str]) -> npt.NDArray[np.bool_]:
    """Tell which files have a combination of values that is among the wanted ones."""
    found = np.zeros(places.num_rows, np.bool_)
    numbered = places.select(columns).append_column("row", pa.array(np.arange(places.num_rows)))
    # Columns that may be null and columns that may not are different ones to a join.
    wanted = wanted.select(columns).cast(places.select(columns).schema)
    hits = numbered.join(wanted, columns, join_type="left semi", use_threads=False)
    found[hits["row"].to_numpy()] = True
    return found


def _without_savepoints(found: pa.Table, names: frozenset[str]) -> pa.Table:
    """Leave out slices that have a file of a savepoint."""
    if not names:
        return found
    is_saved = pc.is_in(found["name"], value_set=pa.array(sorted(names), pa.string()))
    saved = found.filter(is_saved)
    keys = [*_GROUP, "instant"]
    return found.filter(pa.array(~_is_in(found, saved, keys)))
