"""What is to be merged: changes read from their sources, with one left for each key."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from catalog.commits import ChangeScope, Watermark
from catalog.schema import TableSchema
from catalog.table import Table
from compactor.errors import ChangesRefusedError
from compactor.merge.arriving import Placed, placed_parts
from compactor.merge.changes import ChangeSet, Source, change_set, changeable, joined
from compactor.merge.deletes import KeyedDeletes, buried, keyed_deletes
from compactor.merge.kinds import DELETE
from compactor.merge.latest import latest
from compactor.merge.naming import Naming, in_files
from compactor.merge.rounds import RoundMark, limited, mark_name
from compactor.merge.rules import MergeRules, Mode
from compactor.merge.sources import Arrivals, ChangeSource, rules_for


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
class News:
    """What one source has that is new.

    Attributes:
        source: name of the source.
        since: how far it was merged before; None for not at all.
        arrivals: what is new.
        mark: how far a merge of it in rounds has come that is not finished; None without one.
        division: what that one is part of, as `division_text` writes it.
    """

    source: str
    since: str | None
    arrivals: Arrivals
    mark: RoundMark | None = None
    division: str | None = None


@dataclass(frozen=True, slots=True)
class Arrived:
    """What the sources of a merge have that is new.

    Attributes:
        changes: of the changes.
        deletes: of the separate deletes.
    """

    changes: News | None
    deletes: News | None

    @property
    def news(self) -> tuple[News, ...]:
        """What there is to merge."""
        return tuple(one for one in self._sources if not one.arrivals.is_empty)

    @property
    def merged(self) -> tuple[Watermark, ...]:
        """How far the sources were merged before."""
        known = ((one.source, one.since) for one in self._sources)
        return tuple(Watermark(source, since) for source, since in known if since is not None)

    @property
    def reached(self) -> tuple[Watermark, ...]:
        """How far they are merged once all that is new is."""
        known = ((one.source, one.arrivals.watermark) for one in self.news)
        return tuple(Watermark(source, value) for source, value in known if value is not None)

    @property
    def _sources(self) -> tuple[News, ...]:
        return tuple(one for one in (self.changes, self.deletes) if one is not None)


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
        key = self.rules.key if self.rules.mode is Mode.UPSERT else ()
        return ChangeScope(bool(self.upserts), self._removes_rows, lacking, tuple(key))

    @property
    def _removes_rows(self) -> bool:
        return self.rules.mode is Mode.UPSERT or bool(self.deleting)


def find_arrivals(table: Table, request: MergeRequest) -> Arrived:
    """Ask the sources of a merge what is new since what the table has.

    A merge in rounds that is not finished goes on with what it began with.

    Raises:
        ChangesRefusedError: it cannot be told what is new.
        CatalogError: a source, or how far it was merged, cannot be read.
    """
    if len({one.name for one in request.sources}) < len(request.sources):
        raise ChangesRefusedError("changes and deletes are the same files")
    arrived = Arrived(_news(table, request.changes), _news(table, request.deletes))
    if not any(one.mark for one in arrived.news):
        return arrived
    return Arrived(_begun(arrived.changes), _begun(arrived.deletes))


def _news(table: Table, source: ChangeSource | None) -> News | None:
    if source is None:
        return None
    since = table.watermark(source.name)
    arrivals = source.arrivals(since)
    recorded = table.watermark(mark_name(source.name))
    mark = None if recorded is None else RoundMark.parse(recorded)
    if mark is None or not mark.is_open:
        return News(source.name, since, arrivals)
    division = table.watermark(division_name(source.name))
    return News(source.name, since, limited(arrivals, mark.until), mark, division)


def division_name(source: str) -> str:
    """Return the name under which it is recorded what rounds of a source are part of."""
    return f"{mark_name(source)}.of"


def division_text(rules: MergeRules, news: Iterable[News]) -> str:
    """Return what rounds are part of: the key that divides them, and the sources merged together.

    Another order of the columns of a key divides otherwise. Sources that are finished apart from
    each other lose the order between their changes.
    """
    return json.dumps({"key": rules.key, "sources": [one.source for one in news]})


def _begun(news: News | None) -> News | None:
    """Leave what is no part of the merge that goes on to the next one."""
    if news is None or news.mark is not None:
        return news
    return replace(news, arrivals=replace(news.arrivals, parts=()))


def as_stored(
    request: MergeRequest, arrived: Arrived, schema: TableSchema
) -> tuple[MergeRequest, Arrived]:
    """Return what is merged by the names that columns have in the files of a table.

    Raises:
        ChangesRefusedError: a column of the key is not there, or two columns have one name.
    """
    naming = Naming.of(schema)
    if naming.is_plain:
        return request, arrived

    def renamed(news: News | None) -> News | None:
        return news and replace(news, arrivals=in_files(news.arrivals, naming))

    request = replace(
        request, rules=naming.rules(request.rules), delete_by=naming.names(request.delete_by)
    )
    return request, Arrived(renamed(arrived.changes), renamed(arrived.deletes))


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
    columns, rules = changeable(schema), rules_of(request, arrived)
    rules.check(columns)
    # Told before anything is read, whatever the rows are.
    deletes = read_deletes(request, arrived, columns, rules)
    found = [change_set(one, columns, rules) for one in _pieces(arrived.changes, arrived.deletes)]
    changes = joined(found) if found else _no_changes(columns, rules, deletes)
    is_delete = changes.kinds == DELETE
    count, deleting = len(changes), int(is_delete.sum())
    by_key = deletes if is_by_key(request, rules) else []
    last = latest(buried(changes, deletes, rules), rules, columns)
    return Reading(
        rules,
        last,
        () if by_key else tuple(deletes),
        upserts=count - deleting,
        deleting=deleting + sum(one.table.num_rows for one in deletes),
        superseded=count + sum(one.table.num_rows for one in by_key) - len(last),
    )


def rules_of(request: MergeRequest, arrived: Arrived) -> MergeRules:
    """Return the rules that changes are read by: a feed says itself what each change does."""
    news = arrived.changes
    is_new = news is not None and not news.arrivals.is_empty
    return rules_for(news.arrivals, request.rules) if news and is_new else request.rules


def is_by_key(request: MergeRequest, rules: MergeRules) -> bool:
    """Tell whether separate deletes are changes like others: keyed on the key of the table."""
    return rules.mode is Mode.UPSERT and set(request.delete_by or rules.key) == set(rules.key)


def read_deletes(
    request: MergeRequest, arrived: Arrived, columns: pa.Schema, rules: MergeRules
) -> list[KeyedDeletes]:
    """Read the separate deletes.

    Raises:
        ChangesRefusedError: a column that they are keyed on is missing, or has no meaning.
        CatalogError: they cannot be read.
    """
    news = arrived.deletes
    if news is None or news.arrivals.is_empty:
        return []
    names = request.delete_by or rules.key
    missing = [name for name in names if name not in news.arrivals.schema.names]
    if missing:
        raise ChangesRefusedError(
            f"the deletes have no column {', '.join(map(repr, missing))} to delete by",
            hint="Name the columns they are keyed on with --delete-key.",
        )
    plain = replace(rules, op_column=None)
    pieces = _pieces(news, arrived.changes, is_first=True)
    return [keyed_deletes(one, columns, names, plain) for one in pieces]


def _pieces(news: News | None, others: News | None, *, is_first: bool = False) -> Iterator[Source]:
    """Yield the pieces of a source, put in order with those of the other one."""
    for part in parts_of(news, others, is_first=is_first):
        yield from part.read()


def parts_of(news: News | None, others: News | None, *, is_first: bool = False) -> list[Placed]:
    """Return the parts of a source, put in order with those of the other one."""
    if news is None:
        return []
    beside = None if others is None else others.arrivals
    return placed_parts(news.arrivals, beside, is_first=is_first)


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
