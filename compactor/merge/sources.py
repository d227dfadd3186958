"""Where changes come from: what every source tells, and what is asked of it.

A source knows what is new after a *watermark*, a text that it gave out itself. What is new comes in
*parts*, each of which any process can read by itself and in any order: where its rows stand among
the changes is in the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa
from pyarrow import types

from compactor.errors import ChangesRefusedError
from compactor.merge.changes import Source
from compactor.merge.rules import MergeRules
from compactor.rewrite.nested import schema_without_views


class Part(Protocol):
    """A part of the changes; can be pickled, and holds no connection."""

    @property
    def row_count(self) -> int | None:
        """Number of changes at most; None when it is not known."""
        ...

    @property
    def size_bytes(self) -> int:
        """Bytes as stored, or in memory for rows that are there."""
        ...

    @property
    def watermark(self) -> str | None:
        """What may be recorded once this part and all before it are merged; None: nothing yet."""
        ...

    def read(self) -> Iterator[Source]:
        """Yield the changes piece by piece.

        Raises:
            CatalogError: they cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class ChangedPart:
    """A part whose columns are others than its source gave it; implements `Part`.

    Attributes:
        part: as it was.
        change: changes what is read; can be pickled.
    """

    part: Part
    change: Callable[[Source], Source]

    @property
    def row_count(self) -> int | None:
        """Number of changes at most."""
        return self.part.row_count

    @property
    def size_bytes(self) -> int:
        """Bytes of them."""
        return self.part.size_bytes

    @property
    def watermark(self) -> str | None:
        """What may be recorded once it is merged."""
        return self.part.watermark

    def read(self) -> Iterator[Source]:
        """Yield the changes."""
        return map(self.change, self.part.read())


def bare(part: Part) -> Part:
    """Return a part as its source gave it."""
    return bare(part.part) if isinstance(part, ChangedPart) else part


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What a source has beyond a watermark.

    Attributes:
        schema: the columns of all parts together.
        parts: in their order.
        watermark: what is recorded once all of them are merged; None where there is nothing to
            record.
        op_column: the column that says what each change does, where the source itself says it.
    """

    schema: pa.Schema
    parts: tuple[Part, ...]
    watermark: str | None
    op_column: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to merge."""
        return not self.parts

    @property
    def size_bytes(self) -> int:
        """Bytes of all parts together."""
        return sum(part.size_bytes for part in self.parts)

    @property
    def row_count(self) -> int | None:
        """Number of changes at most; None when it is not known."""
        counts = [part.row_count for part in self.parts]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None


class ChangeSource(Protocol):
    """Where changes come from."""

    @property
    def name(self) -> str:
        """What watermarks are recorded under: equal however the source was spelled."""
        ...

    def arrivals(self, watermark: str | None) -> Arrivals:
        """Return what is new after a watermark; everything without one.

        Raises:
            ChangesRefusedError, HistoryError: it cannot be told.
            CatalogError: the source cannot be read.
        """
        ...


def rules_for(arrivals: Arrivals, rules: MergeRules) -> MergeRules:
    """Return the rules that changes are read by: a feed says itself what each change does.

    Raises:
        ChangesRefusedError: the rules cannot be followed with a feed.
    """
    if arrivals.op_column is None:
        return rules
    if rules.op_column not in (None, arrivals.op_column):
        raise ChangesRefusedError(
            f"the changes are a feed, which says in {arrivals.op_column!r} what each does:"
            f" {rules.op_column!r} cannot say it, too"
        )
    if rules.is_event_time:
        raise ChangesRefusedError(
            "a change feed has the rows before updates as well: by event time these could win",
            hint="Order the feed by its stream, which is the order of the table's commits.",
        )
    return replace(rules, op_column=arrivals.op_column)


def united(schemas: Iterator[pa.Schema]) -> pa.Schema:
    """Return the columns of several sets of changes together.

    Raises:
        ChangesRefusedError: a column has types that are no kin.
    """
    some = [schema_without_views(pa.schema(map(_plain, schema))) for schema in schemas]
    try:
        return pa.unify_schemas(some, promote_options="permissive") if some else pa.schema([])
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ChangesRefusedError(
            f"a column of the changes has types that are no kin: {error}"
        ) from error


def _plain(field: pa.Field) -> pa.Field:
    """Return a column that may hold nulls, by its values: no dictionary, no name of a zone."""
    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    if types.is_timestamp(kind) and kind.tz is not None:
        kind = pa.timestamp(kind.unit, "UTC")
    return pa.field(field.name, kind)
