"""Which files make up each file slice that readers see: the file system view, on columns.  Pure.

A file group is the base files and logs with one file id in one partition. Each base file, and each
pending compaction, begins a slice at its instant; a log belongs to

- layout 1: the slice that its name says;
- layout 2: the last slice that began before the log's instant was completed. Logs before all slices
  begin one of their own, at the instant of the first of them. Base files of writes that are not
  completed begin none: such a write may fail, and what was logged meanwhile stays.

Readers see the last slice whose instant is on the timeline or older than it; one that a pending
compaction began goes on with the slice before. File groups that were replaced are gone.

No Python object is made for a file: 100,000 slices take a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.hudi.timeline import Timeline

LISTING = pa.schema(
    [
        pa.field("partition_path", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
    ]
)
SLICES = pa.schema(
    [
        pa.field("partition_path", pa.string(), nullable=False),
        pa.field("file_id", pa.string(), nullable=False),
        # The instant at which the slice begins.
        pa.field("instant", pa.string(), nullable=False),
        # Null for a slice of logs alone.
        pa.field("base_name", pa.string()),
        pa.field("base_size_bytes", pa.int64()),
        # Rows of the table of logs, in the order in which they are merged.
        pa.field("logs", pa.list_(pa.field("item", pa.int64(), nullable=False)), nullable=False),
        # The pending instants that the group is part of; null for none.
        pa.field("pending_compaction", pa.string()),
        pa.field("pending_log_compaction", pa.string()),
        pa.field("pending_clustering", pa.string()),
    ]
)
LOGS = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        # The instant in the name: of the log in layout 2, of its slice in layout 1.
        pa.field("instant", pa.string(), nullable=False),
    ]
)
PLACES = pa.schema(
    [
        pa.field("partition_path", pa.string(), nullable=False),
        pa.field("file_id", pa.string(), nullable=False),
        # The instant at which the slice of the file begins.
        pa.field("instant", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
    ]
)
_BASE_NAME = r"^(?P<file_id>[^_]+)_(?P<token>[^_]+)_(?P<instant>[0-9]+)\.[a-z]+$"
_LOG_NAME = (
    r"^\.(?P<file_id>[^._]+)_(?P<instant>[^.]*)\.log\.(?P<version>[0-9]+)"
    r"(?:_(?P<token>[0-9]+-[0-9]+-[0-9]+))?$"
)
_EXTERNAL_SUFFIX = "_hudiext"

_GROUP = pa.schema([("partition_path", pa.string()), ("file_id", pa.string())])

FileGroup = tuple[str, str]
_Numbers = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Pending:
    """File groups, as (partition path, file id), of plans that are not carried out.

    Attributes:
        compactions: the instant of the compaction that each group is to go through.
        log_compactions: the instant of the log compaction.
        clusterings: the instant of the clustering.
    """

    compactions: Mapping[FileGroup, str] = field(default_factory=dict)
    log_compactions: Mapping[FileGroup, str] = field(default_factory=dict)
    clusterings: Mapping[FileGroup, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    """What the files of a table are seen against.

    Attributes:
        timeline: its active instants, up to the one that is read.
        pending: plans of these.
        replaced: file groups that a completed instant has replaced.
        archived: completion times of older instants, as far as logs of them are listed.
        extension: of base files, without a dot.
    """

    timeline: Timeline
    pending: Pending = field(default_factory=Pending)
    replaced: frozenset[FileGroup] = frozenset()
    archived: Mapping[str, str] = field(default_factory=dict)
    extension: str = "parquet"


@dataclass(frozen=True, slots=True)
class Slices:
    """The latest file slice of each file group.

    Attributes:
        slices: schema `SLICES`, ordered by partition path and file id.
        logs: schema `LOGS`.
    """

    slices: pa.Table
    logs: pa.Table


def log_instants(listing: pa.Table) -> frozenset[str]:
    """Return the instants that names of log files say."""
    return frozenset(_logs(listing)["instant"].unique().to_pylist())


def rival_bases(listing: pa.Table, extension: str = "parquet") -> pa.Table:
    """Return base files that share file group and instant with others, and their instants."""
    bases = _bases(listing, extension)
    keys = ["partition_path", "file_id", "instant"]
    counts = bases.group_by(keys, use_threads=False).aggregate([([], "count_all")])
    several = counts.filter(pc.greater(counts["count_all"], 1)).select(keys)
    return bases.join(several, keys, join_type="inner", use_threads=False)


def file_slices(listing: pa.Table, view: View) -> Slices:
    """Return the slices that readers see.

    Args:
        listing: files of all partitions, schema `LISTING`; other files than data are passed over.
        view: what they are seen against.

    Raises:
        CorruptTableError: a slice has several base files.
        UnsupportedTableError: files were registered that others had written.
    """
    files, instants = _placed(listing, view)
    plan_keys = instants.keys(files.groups.of_plans, files.groups.plans)
    chain = _shown(files.keys(plan_keys), plan_keys, instants)
    chain = chain.without(files.groups.replaced)
    return _result(files, chain, instants, view)


def file_places(listing: pa.Table, view: View) -> pa.Table:
    """Return all files of all visible slices, older ones and those of replaced groups too.

    Args:
        listing: files of all partitions, schema `LISTING`; other files than data are passed over.
        view: what they are seen against.

    Returns:
        Schema `PLACES`, in no order.

    Raises:
        UnsupportedTableError: files were registered that others had written.
    """
    files, instants = _placed(listing, view)
    keys = np.concatenate([files.base_keys, files.log_keys])
    both = pa.concat_tables([one.select(LISTING.names) for one in (files.bases, files.logs)])
    is_seen = instants.is_visible[keys % instants.count] if len(keys) else keys.astype(bool)
    both, keys = both.filter(pa.array(is_seen)), keys[is_seen]
    names = files.groups.names.take(pa.array(keys // instants.count))
    begins = instants.names.take(pa.array(keys % instants.count))
    columns = [*names.columns, begins, both["name"], both["size_bytes"]]
    return pa.table(columns, names=PLACES.names).cast(PLACES)


def _placed(listing: pa.Table, view: View) -> tuple[_Placed, _Instants]:
    """Tell for each file which slice it belongs to."""
    _refuse_external(listing)
    bases, logs = _bases(listing, view.extension), _logs(listing)
    groups = _Groups.of(bases, logs, view)
    instants = _Instants.of(bases, logs, view)
    base_keys = instants.keys(groups.of_bases, bases["instant"])
    plan_keys = instants.keys(groups.of_plans, groups.plans)
    seen = (
        base_keys[instants.is_visible[base_keys % instants.count]] if len(base_keys) else base_keys
    )
    begun = np.unique(np.concatenate([seen, plan_keys]))
    log_keys = _log_keys(groups.of_logs, logs["instant"], begun=begun, instants=instants)
    return _Placed(groups, bases, base_keys, logs, log_keys), instants


def _refuse_external(listing: pa.Table) -> None:
    found = pc.any(pc.ends_with(listing["name"], _EXTERNAL_SUFFIX)).as_py()
    if found:
        raise UnsupportedTableError("the table has files that others wrote and it only registered")


def _bases(listing: pa.Table, extension: str) -> pa.Table:
    names = listing["name"]
    is_base = pc.and_(
        pc.ends_with(names, f".{extension}"), pc.invert(pc.starts_with(names, pattern="."))
    )
    return _parsed(listing.filter(is_base), _BASE_NAME)


def _logs(listing: pa.Table) -> pa.Table:
    """Return the log files in the order in which they are merged within a file group."""
    logs = _parsed(listing.filter(pc.starts_with(listing["name"], pattern=".")), _LOG_NAME)
    # Tokens are compared as texts, as writers do; one without a token comes first.
    keys = [("instant", "ascending"), ("version", "ascending"), ("token", "ascending")]
    versions = pc.cast(logs["version"], pa.int64())
    return logs.set_column(logs.schema.get_field_index("version"), "version", versions).sort_by(
        keys
    )


def _parsed(listing: pa.Table, pattern: str) -> pa.Table:
    """Return the files whose name has this form, with its parts as columns."""
    parts = pc.extract_regex(listing["name"], pattern)
    is_named = parts.is_valid()
    listing, parts = listing.filter(is_named), parts.filter(is_named)
    for name in parts.type.names:
        listing = listing.append_column(name, pc.struct_field(parts, name))
    return listing


@dataclass(frozen=True, slots=True)
class _Groups:
    """File groups by number, in the order of partition path and file id.

    Attributes:
        names: partition path and file id of each.
        of_bases: the group of each base file.
        of_logs: the group of each log.
        of_plans: the group of each pending compaction.
        plans: the instant of each pending compaction.
        replaced: groups that are gone.
    """

    names: pa.Table
    of_bases: _Numbers
    of_logs: _Numbers
    of_plans: _Numbers
    plans: pa.ChunkedArray
    replaced: _Numbers

    @staticmethod
    def of(bases: pa.Table, logs: pa.Table, view: View) -> _Groups:
        parts = [bases, logs, _pairs(view.pending.compactions), _pairs(view.replaced)]
        keys = [part.select(_GROUP.names).cast(_GROUP) for part in parts]
        numbers, names = _numbered(pa.concat_tables(keys))
        in_bases, in_logs, in_plans, replaced = np.split(
            numbers, np.cumsum([part.num_rows for part in parts[:-1]])
        )
        plans = pa.chunked_array([pa.array(view.pending.compactions.values(), pa.string())])
        return _Groups(names, in_bases, in_logs, in_plans, plans, replaced)


def _pairs(groups: Iterable[FileGroup]) -> pa.Table:
    pairs = list(groups)
    return pa.table([[path for path, _ in pairs], [one for _, one in pairs]], schema=_GROUP)


def _numbered(pairs: pa.Table) -> tuple[_Numbers, pa.Table]:
    """Number distinct pairs in their order; return the number of each row, and the pairs."""
    (paths, path_names), (ids, id_names) = (_ranked(column) for column in pairs.columns)
    width = max(1, len(id_names))
    distinct, numbers = np.unique(paths * width + ids, return_inverse=True)
    names = [path_names.take(distinct // width), id_names.take(distinct % width)]
    return numbers.astype(np.int64), pa.table(names, names=pairs.column_names)


def _ranked(column: pa.ChunkedArray) -> tuple[_Numbers, pa.Array]:
    """Return the place of each text among the distinct ones in their order, and these."""
    if not len(column):
        return np.empty(0, np.int64), pa.array([], pa.string())
    encoded = pa.concat_arrays(pc.dictionary_encode(column).unify_dictionaries().chunks)
    order = pc.array_sort_indices(encoded.dictionary)
    ranks = np.empty(len(order), np.int64)
    ranks[order.to_numpy()] = np.arange(len(order))
    return ranks[encoded.indices.to_numpy()], encoded.dictionary.take(order)


@dataclass(frozen=True, slots=True)
class _Instants:
    """Instants by rank, and what the timeline says of each.

    A slice is known by the number of its group times the number of instants, plus the rank of the
    instant at which it begins: its key.

    Attributes:
        names: the instants in their order.
        completed: when each was completed, as a rank; -1 where that is not known.
        is_visible: whether a slice that begins then is seen.
        is_log_visible: whether a log of that instant is seen.
        is_by_name: whether the instant of a log is that of its slice.
    """

    names: pa.Array
    completed: _Numbers
    is_visible: _Mask
    is_log_visible: _Mask
    is_by_name: bool

    @staticmethod
    def of(bases: pa.Table, logs: pa.Table, view: View) -> _Instants:
        timeline, known = view.timeline, {**view.archived, **view.timeline.completion_times}
        listed = {*bases["instant"].unique().to_pylist(), *logs["instant"].unique().to_pylist()}
        listed |= set(view.pending.compactions.values())
        ends = {one: known[one] for one in listed if one in known}
        names = sorted({*listed, *ends.values()})
        ranks = {name: rank for rank, name in enumerate(names)}
        last, is_by_name = max(timeline.visible, default=""), timeline.layout == 1
        return _Instants(
            names=pa.array(names, pa.string()),
            completed=np.array([ranks[ends[one]] if one in ends else -1 for one in names], int),
            is_visible=np.array(
                [one <= last and timeline.is_slice_visible(one) for one in names], bool
            ),
            is_log_visible=np.array(
                [
                    is_by_name or one in view.archived or timeline.is_log_visible(one)
                    for one in names
                ],
                bool,
            ),
            is_by_name=is_by_name,
        )

    @property
    def count(self) -> int:
        """How many there are, 1 at least."""
        return max(1, len(self.names))

    def keys(self, groups: _Numbers, instants: pa.ChunkedArray) -> _Numbers:
        """Return the keys of slices that begin at these instants."""
        return groups * self.count + self.ranks(instants)

    def ranks(self, instants: pa.ChunkedArray) -> _Numbers:
        """Return the ranks of instants."""
        found = pc.index_in(instants, value_set=self.names)
        return np.asarray(found.to_numpy(), dtype=np.int64)


def _log_keys(
    groups: _Numbers, times: pa.ChunkedArray, *, begun: _Numbers, instants: _Instants
) -> _Numbers:
    """Return the key of the slice that each log belongs to."""
    if instants.is_by_name or not len(groups):
        return instants.keys(groups, times)
    count, ranks = instants.count, instants.ranks(times)
    completed = instants.completed[ranks]
    # What is not completed belongs to the last slice of its group.
    until = np.where(completed < 0, count - 1, completed)
    at = np.searchsorted(begun, groups * count + until, side="right") - 1
    keys = begun[at] if len(begun) else np.zeros(len(groups), np.int64)
    is_own = (at < 0) | (keys // count != groups)
    keys[is_own] = _first_of_group(groups[is_own], ranks[is_own], count)
    return keys


def _first_of_group(groups: _Numbers, ranks: _Numbers, count: int) -> _Numbers:
    """Return for each log the key of the first log of the same group."""
    keys = groups * count + ranks
    distinct, numbers = np.unique(groups, return_inverse=True)
    firsts = np.full(len(distinct), np.iinfo(np.int64).max)
    np.minimum.at(firsts, numbers, keys)
    return firsts[numbers]


@dataclass(frozen=True, slots=True)
class _Chain:
    """What is shown of each file group: its last slice, and the one that this goes on with.

    Attributes:
        groups: numbers of the groups, ascending.
        latest: key of the last slice of each.
        previous: key of the slice that it continues; -1 for none.
        is_planned: whether a pending compaction began the last slice.
    """

    groups: _Numbers
    latest: _Numbers
    previous: _Numbers
    is_planned: _Mask

    def without(self, groups: _Numbers) -> _Chain:
        """Leave groups out."""
        kept = ~np.isin(self.groups, groups)
        return _Chain(
            self.groups[kept], self.latest[kept], self.previous[kept], self.is_planned[kept]
        )


def _shown(keys: _Numbers, plan_keys: _Numbers, instants: _Instants) -> _Chain:
    """Choose the last slice of each group, of ascending keys."""
    seen = keys[instants.is_visible[keys % instants.count]] if len(keys) else keys
    groups = seen // instants.count
    is_last = np.append(groups[1:] != groups[:-1], [True] * bool(len(groups)))
    at = np.flatnonzero(is_last)
    latest, is_planned = seen[at], np.isin(seen[at], plan_keys)
    has_previous = is_planned & (at > 0) & (groups[at - 1] == groups[at]) if len(at) else is_planned
    previous = np.where(has_previous, seen[at - 1] if len(at) else latest, -1)
    return _Chain(groups[at], latest, previous, is_planned)


@dataclass(frozen=True, slots=True)
class _Placed:
    """Files with the keys of their slices."""

    groups: _Groups
    bases: pa.Table
    base_keys: _Numbers
    logs: pa.Table
    log_keys: _Numbers

    def keys(self, plan_keys: _Numbers) -> _Numbers:
        """Return the keys of all slices, those that plans begin among them, ascending."""
        return np.unique(np.concatenate([self.base_keys, plan_keys, self.log_keys]))


def _result(files: _Placed, chain: _Chain, instants: _Instants, view: View) -> Slices:
    begins = np.where(chain.is_planned, chain.previous, chain.latest)
    base_rows = _base_rows(files, begins)
    logs, counts = _logs_of(files, chain, instants)
    is_kept = (base_rows >= 0) | (counts > 0)
    rows = pa.array(base_rows[is_kept], mask=base_rows[is_kept] < 0)
    names = files.groups.names.take(pa.array(chain.groups[is_kept]))
    # Where nothing precedes a planned slice, its logs begin with it.
    shown = np.where(begins < 0, chain.latest, begins)[is_kept] % instants.count
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts[is_kept])])
    columns = [
        names["partition_path"],
        names["file_id"],
        instants.names.take(pa.array(shown)),
        files.bases["name"].take(rows),
        files.bases["size_bytes"].take(rows),
        pa.ListArray.from_arrays(
            pa.array(offsets, pa.int32()),
            pa.array(np.arange(offsets[-1]), pa.int64()),
            type=SLICES.field("logs").type,
        ),
        _instants_of(names, view.pending.compactions),
        _instants_of(names, view.pending.log_compactions),
        _instants_of(names, view.pending.clusterings),
    ]
    slices = pa.Table.from_arrays(columns, schema=SLICES).combine_chunks()
    return Slices(slices, logs.select(LOGS.names).cast(LOGS).combine_chunks())


def _base_rows(files: _Placed, begins: _Numbers) -> _Numbers:
    """Return the row of the base file of each slice; -1 for none."""
    order = np.argsort(files.base_keys, kind="stable")
    keys = files.base_keys[order]
    first = np.searchsorted(keys, begins)
    count = np.searchsorted(keys, begins, side="right") - first
    if (count > 1).any():
        names = files.bases["name"].take(pa.array(order[first[count > 1][0] :][:2])).to_pylist()
        raise CorruptTableError(f"a file slice has several base files: {', '.join(names)}")
    found = np.full(len(begins), -1, np.int64)
    found[count == 1] = order[first[count == 1]]
    return found


def _logs_of(files: _Placed, chain: _Chain, instants: _Instants) -> tuple[pa.Table, _Numbers]:
    """Return the logs that are shown, group by group, and how many each group has."""
    if not len(chain.groups):
        return files.logs.slice(0, 0), np.empty(0, np.int64)
    at = np.searchsorted(chain.groups, files.groups.of_logs)
    at[at == len(chain.groups)] = 0
    is_shown = chain.groups[at] == files.groups.of_logs
    is_shown &= (chain.latest[at] == files.log_keys) | (chain.previous[at] == files.log_keys)
    is_shown &= instants.is_log_visible[instants.ranks(files.logs["instant"])]
    rows = np.flatnonzero(is_shown)
    rows = rows[np.argsort(at[rows], kind="stable")]
    return files.logs.take(pa.array(rows)), np.bincount(at[rows], minlength=len(chain.groups))


def _instants_of(names: pa.Table, planned: Mapping[FileGroup, str]) -> pa.Array:
    """Return the instant of the plan that each group is part of; null for none."""
    if not planned:
        return pa.nulls(names.num_rows, pa.string())
    pairs = zip(names["partition_path"].to_pylist(), names["file_id"].to_pylist(), strict=True)
    return pa.array([planned.get(pair) for pair in pairs], pa.string())
