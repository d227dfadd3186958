"""The changes of a merge as they are worked on: all at once, or by keys where memory is too small.

What was read once is kept as long as it is asked for: a merge that another writer got in the way of
matches the same changes again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from catalog.commits import Watermark
from catalog.schema import TableSchema
from compactor.errors import ChangesRefusedError
from compactor.jobs.merge_changes import (
    Arrived,
    MergeRequest,
    News,
    Reading,
    division_name,
    division_text,
    is_by_key,
    parts_of,
    read_changes,
    read_deletes,
    rules_of,
)
from compactor.jobs.merge_spill import SpilledChanges, spilled
from compactor.merge.arriving import Bucketing, Incoming
from compactor.merge.changes import changeable
from compactor.merge.deletes import KeyedDeletes
from compactor.merge.kinds import DELETE
from compactor.merge.rounds import RoundMark, rounds_needed, watermarks
from compactor.merge.rules import Mode
from compactor.merge.sources import united
from runtime import Runtime


@dataclass(frozen=True, slots=True)
class Round:
    """Changes that are merged with one commit.

    Attributes:
        reading: the changes.
        watermarks: what is recorded with them.
        since: how far the sources were merged before.
        is_last: whether nothing of what is new is left after them.
    """

    reading: Reading
    watermarks: tuple[Watermark, ...]
    since: tuple[Watermark, ...]
    is_last: bool


@dataclass(frozen=True, slots=True)
class _Known:
    """What a round was read from."""

    request: MergeRequest
    arrived: Arrived
    schema: pa.Schema

    def is_same(self, other: _Known) -> bool:
        """Whether reading it again would give the same changes."""
        ends = [(one.arrived.merged, one.arrived.reached) for one in (self, other)]
        return ends[0] == ends[1] and self.schema.equals(other.schema, check_metadata=True)


@dataclass(frozen=True, slots=True)
class _Spilled:
    """Changes on their way through several rounds.

    Attributes:
        known: what they were read from.
        buckets: the changes that have not been asked for.
        deletes: those that are keyed on other columns than the key.
    """

    known: _Known
    buckets: SpilledChanges
    deletes: tuple[KeyedDeletes, ...]


class ChangeRounds:
    """Reads the changes of a merge, round by round."""

    def __init__(self, runtime: Runtime, table: str) -> None:
        """Prepare to read; `table` is the name that grants are predicted by."""
        self._runtime = runtime
        self._table = table
        self._read: tuple[_Known, tuple[RoundMark, ...], Round] | None = None
        self._spilled: _Spilled | None = None

    def read(self, request: MergeRequest, arrived: Arrived, schema: TableSchema) -> Round:
        """Return the changes that are to be merged next.

        Args:
            request: what is merged, by the names in the table's files, as `as_stored` returns it.
            arrived: what is new, likewise.
            schema: the table's columns.

        Raises:
            ChangesRefusedError: the changes cannot be merged into a table of these columns.
            CatalogError: they cannot be read.
            RuntimeFailure: a task that read them failed otherwise.
        """
        known, marks = _Known(request, arrived, schema.arrow), self._marks(request, arrived)
        if self._read is not None:
            before, done, found = self._read
            if done == marks and before.is_same(known):
                return found
        if marks:
            found = self._round(known, marks, schema)
        else:
            reading = read_changes(request, arrived, schema)
            found = Round(reading, arrived.reached, arrived.merged, is_last=True)
        self._read = known, marks, found
        return found

    def _marks(self, request: MergeRequest, arrived: Arrived) -> tuple[RoundMark, ...]:
        """Return how far the rounds are, for each source that has something new; none for one."""
        going_on = [one for one in arrived.news if one.mark is not None]
        begun = tuple(one.mark for one in going_on if one.mark is not None)
        division = division_text(request.rules, going_on)
        if any(one.division != division for one in going_on):
            raise ChangesRefusedError(
                "a merge of these changes in rounds is not finished, and was begun with another"
                f" key or other sources: {going_on[0].division}",
                hint="Finish it with the key and the sources that it was begun with.",
            )
        if begun:
            return begun
        ends = [one.arrivals.watermark for one in arrived.news]
        known = [end for end in ends if end is not None]
        if request.rules.mode is Mode.APPEND or len(known) < len(ends):
            return ()
        stored_bytes = sum(one.arrivals.size_bytes for one in arrived.news)
        rounds = rounds_needed(stored_bytes, self._runtime.stats().total.memory_bytes)
        return tuple(RoundMark(end, 0, rounds) for end in known) if rounds > 1 else ()

    def _round(self, known: _Known, marks: Sequence[RoundMark], schema: TableSchema) -> Round:
        mark = marks[0]
        if self._spilled is None or not known.is_same(self._spilled.known):
            self._spilled = self._spill(known, schema, rounds=mark.count)
        changes = self._spilled.buckets.take(mark.done)
        deleting = int((changes.kinds == DELETE).sum())
        reading = Reading(
            rules_of(known.request, known.arrived),
            changes,
            # What later changes bring back stays.
            self._spilled.deletes if mark.done == 0 else (),
            upserts=len(changes) - deleting,
            deleting=deleting,
        )
        division = division_text(known.request.rules, known.arrived.news)
        news = zip(known.arrived.news, marks, strict=True)
        recorded = tuple(
            one
            for source, at in news
            for one in (
                *watermarks(source.source, at.next),
                Watermark(division_name(source.source), division),
            )
        )
        since = known.arrived.merged
        return Round(reading, recorded, since, is_last=not mark.next.is_open)

    def _spill(self, known: _Known, schema: TableSchema, *, rounds: int) -> _Spilled:
        """Read all changes into buckets."""
        request, arrived, columns = known.request, known.arrived, changeable(schema)
        rules = rules_of(request, arrived)
        rules.check(columns)
        by_key = is_by_key(request, rules)
        deletes = () if by_key else read_deletes(request, arrived, columns, rules)
        bucketing = Bucketing(
            rules, columns, united(one.arrivals.schema for one in arrived.news), tuple(deletes)
        )
        incoming = list(_incoming(arrived.changes, arrived.deletes))
        if by_key:
            incoming += _incoming(arrived.deletes, arrived.changes, is_deletes=True)
        buckets = spilled(self._runtime, incoming, bucketing, rounds=rounds, table=self._table)
        return _Spilled(known, buckets, tuple(deletes))


def _incoming(
    news: News | None, others: News | None, *, is_deletes: bool = False
) -> Iterator[Incoming]:
    for part in parts_of(news, others, is_first=is_deletes):
        yield Incoming(part, is_deletes)
