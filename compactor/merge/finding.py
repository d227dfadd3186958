"""Find the stored rows that changes act on: what a worker runs on some files.

Footers and Bloom filters rule out row groups; of the others only the key columns are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from catalog.model import FileSlice, Inventory
from catalog.schema import TableSchema
from catalog.table import TableFiles
from compactor.merge.bounds import ColumnBounds, column_bounds
from compactor.merge.choice import Touched
from compactor.merge.filtering import FilterProbe
from compactor.merge.key_filters import KEYS_MAX, KeyFilters
from compactor.merge.keys import Flags, Keys, Rows
from compactor.merge.matching import Matched, Matcher
from compactor.merge.outcome import Hits
from compactor.merge.paging import PagedFile, PagedRows
from compactor.merge.routing import Probe
from compactor.rewrite.fingerprint import Hashes
from compactor.rewrite.read import OpenSlice, SliceReader, is_stored

# With more keys than one in so many rows, nearly every page has one.
_ROWS_PER_KEY_MIN = 20


@dataclass(frozen=True, slots=True)
class Stage:
    """What was left after one stage of the search.

    Attributes:
        files: data files.
        row_groups: row groups of them.
        rows: rows stored in these.
    """

    files: int = 0
    row_groups: int = 0
    rows: int = 0

    def __add__(self, other: Stage) -> Stage:
        """Return both together."""
        return Stage(
            self.files + other.files, self.row_groups + other.row_groups, self.rows + other.rows
        )


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in some files.

    Attributes:
        hits: by path, of the files that have any.
        asked: what there was to look at; of files that were not opened, no row group counts.
        filtered: what key filters left over, the same.
        routed: what the bounds of the key columns left over.
        read: what Bloom filters left of that, and was read.
        spared: row groups of that of which pages were read, and the rows that were not.
        hit: what has hits, with the number of these.
    """

    hits: Mapping[str, Hits] = field(default_factory=dict)
    asked: Stage = Stage()
    filtered: Stage = Stage()
    routed: Stage = Stage()
    read: Stage = Stage()
    spared: Stage = Stage()
    hit: Stage = Stage()


def together(parts: Iterable[Found]) -> Found:
    """Return what was found in different files."""
    some = list(parts)
    return Found(
        {path: hits for one in some for path, hits in one.hits.items()},
        sum((one.asked for one in some), Stage()),
        sum((one.filtered for one in some), Stage()),
        sum((one.routed for one in some), Stage()),
        sum((one.read for one in some), Stage()),
        sum((one.spared for one in some), Stage()),
        sum((one.hit for one in some), Stage()),
    )


def find_hits(
    table: TableFiles, files: Inventory, matcher: Matcher, filters: KeyFilters | None = None
) -> Found:
    """Find the rows of some files that changes act on.

    Args:
        table: the workers' side of the snapshot.
        files: where to look.
        matcher: what is looked for.
        filters: of keys, kept beside the table.

    Raises:
        ObjectNotFoundError: a data or delete file does not exist.
        CorruptTableError: one cannot be read as what the metadata says it is.
        UnsupportedTableError: a key column cannot be read as the table's type.
    """
    if not matcher.columns:
        return Found()
    schema = _columns(table.schema, matcher.columns)
    # Little is read of a file: none is fetched as a whole.
    reader = replace(SliceReader.of(table, files, schema), reads_ahead=False)
    probes = [_Probe.of(table, *one, schema=schema.arrow) for one in matcher.probes]
    search = _Search(reader, matcher, probes, _Sieve.of(matcher, filters))
    return together(search.found(file) for file in files.slices())


@dataclass(frozen=True, slots=True)
class _Search:
    """What looking into files takes."""

    reader: SliceReader
    matcher: Matcher
    probes: Sequence[_Probe]
    sieve: _Sieve

    def found(self, file: FileSlice) -> Found:
        """Find the rows of one file, and those that come behind them."""
        if not self.sieve.lets_pass(file.path):
            return Found(asked=Stage(1, 0, file.row_count))
        behind = list(self._behind(file))
        if is_stored(file):
            with self.reader.opened(file) as source:
                return self._found_in(file, source, behind)
        every, hits = Stage(1), _joined(behind)
        found = Found(asked=every, filtered=every, routed=every, read=every)
        if hits is None:
            return found
        return replace(found, hits={file.path: hits}, hit=Stage(1, 0, len(hits.positions)))

    def _behind(self, file: FileSlice) -> Iterator[Hits]:
        """Yield the rows that no data file stores and that changes act on."""
        start = file.row_count
        for batch in self.reader.tail(file):
            hits = self.matched(np.arange(start, start + batch.num_rows), batch)
            start += batch.num_rows
            if hits is not None:
                yield hits

    def matched(self, positions: Rows, rows: pa.RecordBatch) -> Hits | None:
        """Match rows; None where no change acts on one."""
        matched = self.matcher.match(rows)
        hit: Rows = np.flatnonzero(matched.is_hit)
        return Hits(positions[hit], matched.take(hit)) if len(hit) else None

    def _found_in(self, file: FileSlice, source: OpenSlice, behind: Sequence[Hits]) -> Found:
        bounds = column_bounds(source)
        sizes = np.diff(source.starts)
        by_bounds = [probe.may_hold(bounds) for probe in self.probes]
        routed = np.logical_or.reduce(by_bounds)
        read = np.zeros(len(sizes), np.bool_)
        for probe, may_hold in zip(self.probes, by_bounds, strict=True):
            for group in np.flatnonzero(may_hold & ~read).tolist():
                read[group] = probe.passes(source, bounds, group)
        every = Stage(1, len(sizes), int(sizes.sum()))
        looking = _Looking(self, source, bounds)
        hits = _joined([*looking.hits(np.flatnonzero(read).tolist()), *behind])
        found = Found(
            asked=every,
            filtered=every,
            routed=_stage(sizes, routed),
            read=_stage(sizes, read),
            spared=looking.spared,
        )
        if hits is None:
            return found
        touched = _touched(file, source, hits.positions)
        hit = Stage(1, touched.row_groups, len(hits.positions))
        return replace(found, hits={file.path: replace(hits, touched=touched)}, hit=hit)


class _Looking:
    """Looks at the rows of one file; `spared` counts what did not have to be read."""

    def __init__(self, search: _Search, source: OpenSlice, bounds: Sequence[ColumnBounds]) -> None:
        self._search, self._probes = search, search.probes
        self._source, self._bounds = source, bounds
        self._pages = PagedFile(search.reader.table, source)
        self.spared = Stage()

    def hits(self, row_groups: Iterable[int]) -> Iterator[Hits]:
        """Yield the rows that changes act on, in order."""
        for group in row_groups:
            paged = self._paged(group)
            if paged is not None:
                self.spared += Stage(1, 1, paged.rows_spared)
                yield from self._matched(paged.positions, paged.rows)
                continue
            for place, batch in self._source.placed([group]):
                yield from self._matched(place.positions(), batch)

    def _paged(self, group: int) -> PagedRows | None:
        """Read a row group by pages, if that may pay."""
        if not self._pages.pays(group):
            return None
        rows = int(np.diff(self._source.starts)[group])
        fitting = sum(probe.count(self._bounds, group) for probe in self._probes)
        if fitting * _ROWS_PER_KEY_MIN > rows:
            return None
        return self._pages.read(group, [(one.places, one.probe) for one in self._probes])

    def _matched(self, positions: Rows, rows: pa.RecordBatch) -> Iterator[Hits]:
        hits = self._search.matched(positions, rows)
        if hits is not None:
            yield hits


@dataclass(frozen=True, slots=True)
class _Sieve:
    """Key filters, and the hashes that are looked for in them; without hashes all files pass."""

    filters: KeyFilters | None
    hashes: Hashes | None

    @classmethod
    def of(cls, matcher: Matcher, filters: KeyFilters | None) -> _Sieve:
        """Prepare to look; filters say nothing of keys of other columns."""
        if filters is None or len(matcher.probes) != 1:
            return cls(None, None)
        ((names, keys),) = matcher.probes
        is_same = sorted(names) == sorted(filters.columns.names)
        if not is_same or len(keys) > KEYS_MAX:
            return cls(None, None)
        return cls(filters, filters.columns.hashes(names, keys))

    def lets_pass(self, path: str) -> bool:
        """Tell whether a file may hold a key."""
        if self.filters is None or self.hashes is None:
            return True
        return self.filters.may_hold(path, self.hashes)


def _columns(schema: TableSchema, names: Sequence[str]) -> TableSchema:
    """Return some columns; those that follow from the partition are among what can be read."""
    return replace(schema, arrow=pa.schema([schema.arrow.field(name) for name in names]))


@dataclass(frozen=True, slots=True)
class _Probe:
    """Keys to be looked for, and the places of their columns among those that are read."""

    places: tuple[int, ...]
    probe: Probe
    filters: FilterProbe

    @classmethod
    def of(
        cls, table: TableFiles, columns: Sequence[str], keys: Keys, *, schema: pa.Schema
    ) -> _Probe:
        kinds = [schema.field(name).type for name in columns]
        places = tuple(map(schema.get_field_index, columns))
        return cls(places, Probe(keys, kinds), FilterProbe(table, keys, kinds))

    def may_hold(self, bounds: Sequence[ColumnBounds]) -> Flags:
        """Tell which row groups may hold a key by the bounds of their columns."""
        return self.probe.may_hold([bounds[place] for place in self.places])

    def count(self, bounds: Sequence[ColumnBounds], group: int) -> int:
        """Return how many keys fit the bounds of a row group at most."""
        return self.probe.count([bounds[place] for place in self.places], group)

    def passes(self, source: OpenSlice, bounds: Sequence[ColumnBounds], group: int) -> bool:
        """Tell whether a row group that may hold a key by its bounds may do so by its filters."""
        rows = self.probe.fitting([bounds[place] for place in self.places], group)
        return rows is None or self.filters.may_hold(source, self.places, group, rows)


def _touched(file: FileSlice, source: OpenSlice, positions: Rows) -> Touched:
    """Tell how much of a file hits are in; its bytes are divided as the decoded ones are."""
    metadata = source.source.metadata
    positions = positions[positions < source.starts[-1]]
    groups = np.unique(np.searchsorted(source.starts, positions, side="right") - 1)
    count = metadata.num_row_groups
    shares = np.array([metadata.row_group(at).total_byte_size for at in range(count)], np.float64)
    return Touched(
        row_groups=len(groups),
        row_groups_all=count,
        rows=int(np.diff(source.starts)[groups].sum()),
        stored_bytes=int(file.size_bytes * shares[groups].sum() / max(1.0, shares.sum())),
        stored_bytes_all=file.size_bytes,
        rows_all=file.row_count,
        rows_dead=len(source.selection.dropped),
    )


def _stage(sizes: Rows, some: Flags) -> Stage:
    """Count the file and some of its row groups."""
    return Stage(int(some.any()), int(some.sum()), int(sizes[some].sum()))


def _joined(some: Iterable[Hits]) -> Hits | None:
    """Return the hits of one file together; None when there are none."""
    parts = list(some)
    if not parts:
        return None
    matched = Matched(
        np.concatenate([one.matched.change for one in parts]),
        np.concatenate([one.matched.is_deleted for one in parts]),
        np.concatenate([one.matched.is_newer for one in parts]),
    )
    return Hits(np.concatenate([one.positions for one in parts]), matched)
