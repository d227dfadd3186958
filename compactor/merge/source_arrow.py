"""Changes that are given as Arrow tables or datasets, by whoever calls the merge as a function."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from compactor.merge.changes import Source
from compactor.merge.sources import Arrivals

if TYPE_CHECKING:
    import pyarrow.dataset as ds


@dataclass(frozen=True, slots=True)
class TablePart:
    """Rows that are in memory; implements `compactor.merge.sources.Part`."""

    rows: pa.Table
    name: str
    watermark: str | None

    @property
    def row_count(self) -> int:
        """Number of changes."""
        return int(self.rows.num_rows)

    @property
    def size_bytes(self) -> int:
        """Bytes in memory."""
        return int(self.rows.nbytes)

    def read(self) -> Iterator[Source]:
        """Yield the changes."""
        yield Source(self.rows, self.name)


@dataclass(frozen=True, slots=True)
class FragmentPart:
    """A fragment of a dataset; implements `compactor.merge.sources.Part`.

    Attributes:
        fragment: it.
        schema: the columns of the dataset.
        name: of the source, for messages.
        number: its place in the dataset.
        watermark: see `Part`.
    """

    fragment: ds.Fragment
    schema: pa.Schema
    name: str
    number: int
    watermark: str | None

    @property
    def row_count(self) -> int:
        """Number of changes."""
        return int(self.fragment.count_rows(schema=self.schema))

    @property
    def size_bytes(self) -> int:
        """Bytes of its row groups before compression; 0 where they are not known."""
        groups = getattr(self.fragment, "row_groups", ())
        return sum(int(one.total_byte_size) for one in groups)

    def read(self) -> Iterator[Source]:
        """Yield the changes."""
        first_row = 0
        for batch in self.fragment.to_batches(schema=self.schema, use_threads=False):
            rows = pa.Table.from_batches([batch])
            yield Source(rows, self.name, file=self.number, first_row=first_row)
            first_row += batch.num_rows


@dataclass(frozen=True, slots=True)
class ArrowSource:
    """An Arrow table or dataset; implements `compactor.merge.sources.ChangeSource`.

    Attributes:
        name: what the watermark is recorded under.
        rows: the changes, in their order.
        watermark: what these are called; they are new while the table has another or none. None:
            they are merged whenever they are given.
    """

    name: str
    rows: pa.Table | ds.Dataset
    watermark: str | None = None

    def arrivals(self, watermark: str | None) -> Arrivals:
        """Return the changes, unless they are merged already."""
        schema = self.rows.schema
        if self.watermark is not None and watermark == self.watermark:
            return Arrivals(schema, (), self.watermark)
        if isinstance(self.rows, pa.Table):
            part = TablePart(self.rows, self.name, self.watermark)
            return Arrivals(schema, (part,), self.watermark)
        fragments = list(self.rows.get_fragments())
        last = len(fragments) - 1
        parts = tuple(
            FragmentPart(one, schema, self.name, at, self.watermark if at == last else None)
            for at, one in enumerate(fragments)
        )
        return Arrivals(schema, parts, self.watermark)
