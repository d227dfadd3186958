"""Find the stored rows that changes act on: what a worker runs on some files.

Footers rule out row groups; of the others only the key columns are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from catalog.model import FileSlice, Inventory, TableSchema
from catalog.table import TableFiles
from compactor.merge.bounds import ColumnBounds, column_bounds
from compactor.merge.keys import Flags, Keys, Rows
from compactor.merge.matching import Matched, Matcher
from compactor.merge.outcome import Hits
from compactor.merge.routing import Probe
from compactor.rewrite.read import OpenSlice, SliceReader


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
        asked: what there was to look at.
        routed: what the bounds of the key columns left over, and was read.
        hit: what has hits, with the number of these.
    """

    hits: Mapping[str, Hits] = field(default_factory=dict)
    asked: Stage = Stage()
    routed: Stage = Stage()
    hit: Stage = Stage()


def together(parts: Iterable[Found]) -> Found:
    """Return what was found in different files."""
    some = list(parts)
    return Found(
        {path: hits for one in some for path, hits in one.hits.items()},
        sum((one.asked for one in some), Stage()),
        sum((one.routed for one in some), Stage()),
        sum((one.hit for one in some), Stage()),
    )


def find_hits(table: TableFiles, files: Inventory, matcher: Matcher) -> Found:
    """Find the rows of some files that changes act on.

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
    probes = [_Probe.of(*one, schema.arrow) for one in matcher.probes]
    return together(_found(reader, files, matcher, probes))


def _found(
    reader: SliceReader, files: Inventory, matcher: Matcher, probes: Sequence[_Probe]
) -> Iterator[Found]:
    for file in files.slices():
        with reader.opened(file) as source:
            yield _found_in(file, source, matcher=matcher, probes=probes)


def _columns(schema: TableSchema, names: Sequence[str]) -> TableSchema:
    """Return some columns; those that follow from the partition are among what can be read."""
    return replace(schema, arrow=pa.schema([schema.arrow.field(name) for name in names]))


@dataclass(frozen=True, slots=True)
class _Probe:
    """Keys to be looked for, and the places of their columns among those that are read."""

    places: tuple[int, ...]
    probe: Probe

    @classmethod
    def of(cls, columns: Sequence[str], keys: Keys, schema: pa.Schema) -> _Probe:
        kinds = [schema.field(name).type for name in columns]
        return cls(tuple(map(schema.get_field_index, columns)), Probe(keys, kinds))

    def may_hold(self, bounds: Sequence[ColumnBounds]) -> Flags:
        return self.probe.may_hold([bounds[place] for place in self.places])


def _found_in(
    file: FileSlice, source: OpenSlice, *, matcher: Matcher, probes: Sequence[_Probe]
) -> Found:
    bounds = column_bounds(source)
    sizes = np.diff(source.starts)
    may_hold = np.zeros(len(sizes), np.bool_)
    for probe in probes:
        may_hold |= probe.may_hold(bounds)
    asked = Stage(1, len(sizes), int(sizes.sum()))
    if not may_hold.any():
        return Found(asked=asked)
    routed = Stage(1, int(may_hold.sum()), int(sizes[may_hold].sum()))
    hits = _joined(_matches(source, np.flatnonzero(may_hold).tolist(), matcher))
    if hits is None:
        return Found(asked=asked, routed=routed)
    touched = np.unique(np.searchsorted(source.starts, hits.positions, side="right"))
    hit = Stage(1, len(touched), len(hits.positions))
    return Found({file.path: hits}, asked, routed, hit)


def _matches(source: OpenSlice, row_groups: Iterable[int], matcher: Matcher) -> Iterator[Hits]:
    for place, batch in source.placed(row_groups):
        matched = matcher.match(batch)
        rows: Rows = np.flatnonzero(matched.is_hit)
        if len(rows):
            yield Hits(place.positions()[rows], matched.take(rows))


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
