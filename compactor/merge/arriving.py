"""How parts of changes get into buckets, and what is made of a bucket: what workers run.

A part is read piece by piece and thinned on the way, so that a key with most of the changes takes
no more room than any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from compactor.merge.buckets import packed, thinned, unpacked
from compactor.merge.changes import ChangeSet, Source, change_set, joined
from compactor.merge.deletes import KeyedDeletes, as_changes, buried, keyed_deletes
from compactor.merge.latest import latest
from compactor.merge.rules import MergeRules
from compactor.merge.source_files import ChangeFile
from compactor.merge.sources import Arrivals, Part, bare

# Pieces are thinned together once so many rows have come.
_ROWS_MAX = 1 << 20
# More than any source has of files.
_BEHIND = 1 << 30


@dataclass(frozen=True, slots=True)
class Placed:
    """A part of one source put in order with those of another.

    Attributes:
        part: the part.
        file: its place among all files; None where the part numbers its pieces itself.
        behind: what is added to these numbers.
        shares: among how many tasks the part is divided.
    """

    part: Part
    file: int | None = None
    behind: int = 0
    shares: int = 1

    def read(self) -> Iterator[Source]:
        """Yield the pieces of the part; raises what reading it does."""
        for piece in self.part.read():
            number = piece.file + self.behind if self.file is None else self.file
            yield replace(piece, file=number)


def placed_parts(
    arrivals: Arrivals, others: Arrivals | None, *, is_first: bool = False
) -> list[Placed]:
    """Return the parts of a source, put in order with those of the other one.

    Files are in the order of their names, whichever source has them.

    Args:
        arrivals: what is read.
        others: what else there is.
        is_first: whether files come before those of the same name of the other source, and pieces
            of anything else before all of them.
    """
    if others is None or others.is_empty:
        return [Placed(part) for part in arrivals.parts]
    ours, theirs = arrivals.parts, others.parts
    if not all(isinstance(bare(part), ChangeFile) for part in (*ours, *theirs)):
        return [Placed(part, behind=0 if is_first else _BEHIND) for part in ours]
    names = sorted({part.watermark or "" for part in (*ours, *theirs)})
    ranks = {name: at for at, name in enumerate(names)}
    return [Placed(part, 2 * ranks[part.watermark or ""] + (not is_first)) for part in ours]


@dataclass(frozen=True, slots=True)
class Incoming:
    """What one task reads.

    Attributes:
        part: of the changes or the deletes.
        is_deletes: whether its rows are deletes by the key of the table.
    """

    part: Placed
    is_deletes: bool = False

    @property
    def stored_bytes(self) -> int:
        """Bytes as stored of what is read."""
        return self.part.part.size_bytes // self.part.shares

    def divided(self, stored_bytes_max: int) -> list[Incoming]:
        """Return the same in pieces of about a size, where the part can be read in pieces.

        Raises:
            CatalogError: it cannot be looked at.
        """
        part = self.part.part
        count = -(-part.size_bytes // max(1, stored_bytes_max))
        if count < 2 or not isinstance(part, ChangeFile):
            return [self]
        pieces = part.divided(count)
        return [
            replace(self, part=replace(self.part, part=one, shares=len(pieces))) for one in pieces
        ]


@dataclass(frozen=True, slots=True)
class Bucketing:
    """How changes get into buckets, and what is made of a bucket.

    Attributes:
        rules: of the merge.
        columns: the table's columns, with field ids.
        given: the columns of all that comes together.
        deletes: deletes on other columns than the key; every bucket needs all of them.
    """

    rules: MergeRules
    columns: pa.Schema
    given: pa.Schema
    deletes: tuple[KeyedDeletes, ...] = ()

    def read(self, incoming: Incoming) -> pa.Table:
        """Return what may matter of a part, packed.

        Raises:
            ChangesRefusedError: its changes cannot be merged into the table.
            CatalogError: it cannot be read.
        """
        held = [self._nothing()]
        for piece in incoming.part.read():
            held.append(self._changes(piece, incoming))
            if sum(map(len, held)) > _ROWS_MAX:
                held = [self._thinned(held)]
        return packed(self._thinned(held))

    def settle(self, table: pa.Table) -> ChangeSet:
        """Return the changes of one bucket, one per key, less what deletes have made void."""
        changes = buried(unpacked(table), self.deletes, self.rules)
        return latest(changes, self.rules, self.columns)

    def _thinned(self, held: Sequence[ChangeSet]) -> ChangeSet:
        return thinned(joined(held), self.rules, self.columns)

    def _changes(self, piece: Source, incoming: Incoming) -> ChangeSet:
        piece = self._alike(piece)
        if not incoming.is_deletes:
            return change_set(piece, self.columns, self.rules)
        plain = replace(self.rules, op_column=None)
        found = keyed_deletes(piece, self.columns, self.rules.key, plain)
        return as_changes(found, self._nothing())

    def _nothing(self) -> ChangeSet:
        """Return no changes, with all columns that changes have."""
        rows, order_by = self.columns.empty_table(), self.rules.order_by
        beside = [name for name in order_by if name not in self.columns.names]
        if not set(beside) <= set(self.given.names):
            order_by = ()
        for name in beside if order_by else ():
            rows = rows.append_column(name, pa.chunked_array([], self.given.field(name).type))
        plain = replace(self.rules, op_column=None, order_by=order_by)
        return change_set(Source(rows, "no changes"), self.columns, plain)

    def _alike(self, piece: Source) -> Source:
        """Return a piece whose order columns have the types that they have in all parts."""
        rows = piece.rows
        for name in self.rules.order_by:
            if name in rows.schema.names and name not in self.columns.names:
                place = rows.schema.get_field_index(name)
                column = rows.column(place).cast(self.given.field(name).type)
                rows = rows.set_column(place, name, column)
        return replace(piece, rows=rows)
