"""What is to be merged: changes read from their sources, with one left for each key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from catalog.model import ChangeScope, TableSchema, Watermark
from catalog.table import Table
from compactor.errors import ChangesRefusedError
from compactor.merge.changes import ChangeSet, Source, change_set, changeable, joined
from compactor.merge.deletes import KeyedDeletes, buried, keyed_deletes
from compactor.merge.kinds import DELETE
from compactor.merge.latest import latest
from compactor.merge.rules import MergeRules, Mode
from compactor.merge.source_files import ChangeFile
from compactor.merge.sources import Arrivals, ChangeSource, Part, rules_for

# More than any source has of files.
_BEHIND = 1 << 30


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """What is asked of a merge.

    Attributes:
        rules: what the key is, and which change counts.
        changes: where the changes come from; None when there are deletes only.
        deletes: where separate deletes come from.
        delete_by: names of the columns that these are keyed on; empty for the key.
        evolves: whether columns that only the changes have are added to the table.
    """

    rules: MergeRules
    changes: ChangeSource | None = None
    deletes: ChangeSource | None = None
    delete_by: tuple[str, ...] = ()
    evolves: bool = False

    @property
    def sources(self) -> tuple[ChangeSource, ...]:
        """Everything that is read."""
        return tuple(one for one in (self.changes, self.deletes) if one is not None)


@dataclass(frozen=True, slots=True)
class Arrived:
    """What the sources of a merge have that is new.

    Attributes:
        changes: of the changes.
        deletes: of the separate deletes.
        since: how far each source was merged before; None for not at all.
        watermarks: what is recorded once all of it is merged.
    """

    changes: Arrivals | None
    deletes: Arrivals | None
    since: tuple[str | None, ...]
    watermarks: tuple[Watermark, ...]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to merge."""
        return all(one is None or one.is_empty for one in (self.changes, self.deletes))

    @property
    def size_bytes(self) -> int:
        """Bytes of all that is new."""
        return sum(one.size_bytes for one in (self.changes, self.deletes) if one is not None)

    def merged(self, request: MergeRequest) -> tuple[Watermark, ...]:
        """Return how far the sources were merged before."""
        names = (one.name for one in request.sources)
        known = zip(names, self.since, strict=True)
        return tuple(Watermark(name, value) for name, value in known if value is not None)


@dataclass(frozen=True, slots=True)
class Reading:
    """Changes that were read and hold against each other.

    Attributes:
        rules: by which they were read.
        changes: one per key, from the oldest to the newest; all of them in append mode.
        deletes: those that are keyed on other columns than the key.
        upserts: how many there were.
        deleting: how many deletes there were.
        superseded: those that others have made void.
    """

    rules: MergeRules
    changes: ChangeSet
    deletes: tuple[KeyedDeletes, ...] = ()
    upserts: int = 0
    deleting: int = 0
    superseded: int = 0

    @property
    def scope(self) -> ChangeScope:
        """What they will do, as far as a table may object to it."""
        lacking = frozenset[str]().union(*self.changes.shapes)
        return ChangeScope(bool(self.upserts), self._removes_rows, lacking)

    @property
    def _removes_rows(self) -> bool:
        return self.rules.mode is Mode.UPSERT or bool(self.deleting)


def find_arrivals(table: Table, request: MergeRequest) -> Arrived:
    """Ask the sources of a merge what is new since what the table has.

    Raises:
        ChangesRefusedError: it cannot be told what is new.
        CatalogError: a source, or how far it was merged, cannot be read.
    """
    since = {one.name: table.watermark(one.name) for one in request.sources}
    found = {one.name: one.arrivals(since[one.name]) for one in request.sources}
    if len(found) < len(request.sources):
        raise ChangesRefusedError("changes and deletes are the same files")
    watermarks = tuple(
        Watermark(name, one.watermark)
        for name, one in found.items()
        if one.watermark is not None and not one.is_empty
    )
    changes, deletes = request.changes, request.deletes
    return Arrived(
        None if changes is None else found[changes.name],
        None if deletes is None else found[deletes.name],
        tuple(since.values()),
        watermarks,
    )


def read_changes(request: MergeRequest, arrived: Arrived, schema: TableSchema) -> Reading:
    """Read what is new and leave one change for each key.

    Args:
        request: what is merged.
        arrived: what is new.
        schema: the table's columns.

    Raises:
        ChangesRefusedError: the changes cannot be merged into a table of these columns.
        CatalogError: they cannot be read.
    """
    columns = changeable(schema)
    rules = request.rules
    if arrived.changes is not None and not arrived.changes.is_empty:
        rules = rules_for(arrived.changes, rules)
    rules.check(columns)
    # Told before anything is read, whatever the rows are.
    deletes = _read_deletes(request, arrived, columns, rules)
    found = [change_set(one, columns, rules) for one in _sources(arrived.changes, arrived.deletes)]
    changes = joined(found) if found else _no_changes(columns, rules, deletes)
    is_delete = changes.kinds == DELETE
    count, deleting = len(changes), int(is_delete.sum())
    by_key = [one for one in deletes if _is_by_key(one, rules)]
    last = latest(buried(changes, deletes, rules), rules, columns)
    return Reading(
        rules,
        last,
        tuple(one for one in deletes if not _is_by_key(one, rules)),
        upserts=count - deleting,
        deleting=deleting + sum(one.table.num_rows for one in deletes),
        superseded=count + sum(one.table.num_rows for one in by_key) - len(last),
    )


def _is_by_key(deletes: KeyedDeletes, rules: MergeRules) -> bool:
    return rules.mode is Mode.UPSERT and set(deletes.columns) == set(rules.key)


def _read_deletes(
    request: MergeRequest, arrived: Arrived, columns: pa.Schema, rules: MergeRules
) -> list[KeyedDeletes]:
    if arrived.deletes is None:
        return []
    names = request.delete_by or rules.key
    missing = [name for name in names if name not in arrived.deletes.schema.names]
    if missing and not arrived.deletes.is_empty:
        raise ChangesRefusedError(
            f"the deletes have no column {', '.join(map(repr, missing))} to delete by",
            hint="Name the columns they are keyed on with --delete-key.",
        )
    plain = replace(rules, op_column=None)
    pieces = _sources(arrived.deletes, arrived.changes, is_first=True)
    return [keyed_deletes(one, columns, names, plain) for one in pieces]


def _sources(
    arrivals: Arrivals | None, others: Arrivals | None, *, is_first: bool = False
) -> Iterator[Source]:
    """Yield the pieces of a source, put in order with those of the other one.

    Files are in the order of their names, whichever source has them.

    Args:
        arrivals: what is read.
        others: what else there is.
        is_first: whether files come before those of the same name of the other source, and pieces
            of anything else before all of them.
    """
    if arrivals is None:
        return
    if others is None or others.is_empty:
        for part in arrivals.parts:
            yield from part.read()
        return
    ours, theirs = arrivals.parts, others.parts
    if not all(isinstance(part, ChangeFile) for part in (*ours, *theirs)):
        for part in ours:
            for piece in part.read():
                yield replace(piece, file=piece.file + (0 if is_first else _BEHIND))
        return
    ranks = {name: at for at, name in enumerate(sorted({*map(_name, ours), *map(_name, theirs)}))}
    for part in ours:
        number = 2 * ranks[_name(part)] + (not is_first)
        yield from (replace(piece, file=number) for piece in part.read())


def _name(part: Part) -> str:
    return part.watermark or ""


def _no_changes(
    columns: pa.Schema, rules: MergeRules, deletes: Sequence[KeyedDeletes]
) -> ChangeSet:
    """Return an empty set of changes that deletes can be put beside."""
    plain = replace(rules, op_column=None, order_by=())
    empty = change_set(Source(columns.empty_table(), "no changes"), columns, plain)
    for one in deletes:
        beside = [field for field in one.table.schema if field.name.startswith("_compact_order_")]
        for field in beside:
            if field.name not in empty.table.schema.names:
                table = empty.table.append_column(field, pa.chunked_array([], field.type))
                empty = replace(empty, table=table)
    return empty
