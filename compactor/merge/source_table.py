"""Changes out of another table: rows appended since a snapshot, or its feed of changes.

The first time all rows of the table are upserts. Afterwards its history tells: rows that came are
upserts, rows that went are deletes. Within one snapshot what went comes before what came, for a row
that was moved or updated does both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.history import CHANGE_TYPE, Happening, HistoricTable, History, Step
from catalog.model import Inventory, Selection
from catalog.schema import TableSchema
from catalog.table import TableFiles
from compactor.errors import ChangesRefusedError
from compactor.merge.changes import Source
from compactor.merge.naming import Naming, in_files
from compactor.merge.sources import Arrivals
from compactor.rewrite.read import SliceReader

# Slices that are read by one part together.
_PART_BYTES = 128 << 20
_BEFORE = pa.array(["delete", "update_preimage"])
_WORDS = {Happening.CAME: "insert", Happening.WENT: "delete"}


@dataclass(frozen=True, slots=True)
class SlicesPart:
    """Some file slices of one step; implements `compactor.merge.sources.Part`.

    Attributes:
        table: the workers' side of the snapshot.
        schema: the columns that are read.
        step: the slices, and what they tell.
        name: of the table, for messages.
        number: place of its first slice among all.
        watermark: see `Part`.
        is_feed: whether rows say what each does.
    """

    table: TableFiles
    schema: TableSchema
    step: Step
    name: str
    number: int
    watermark: str | None
    is_feed: bool

    @property
    def row_count(self) -> int:
        """Number of changes at most."""
        return self.step.files.row_count

    @property
    def size_bytes(self) -> int:
        """Bytes of the files."""
        return self.step.files.size_bytes

    def read(self) -> Iterator[Source]:
        """Yield the changes.

        Raises:
            ObjectNotFoundError: a file was removed since.
            CatalogError: as reading slices raises it.
        """
        reader = SliceReader.of(self.table, self.step.files, self.schema)
        reader = replace(reader, selections={**reader.selections, **self._excluded(reader)})
        for number, file in enumerate(self.step.files.slices(), self.number):
            with reader.opened(file) as source:
                for place, batch in source.placed():
                    rows = _plain(batch)
                    yield from self._changes(Source(rows, self.name, 0, number, place.start))

    def _excluded(self, reader: SliceReader) -> Mapping[str, Selection]:
        """Return what files lose when rows that are in other slices of them do not count."""
        against = self.table.selections(self.step.against)
        files = self.step.files.files
        sizes = dict(zip(files["path"].to_pylist(), files["row_count"].to_pylist(), strict=True))
        found = {}
        for path in self.step.against.files["path"].to_pylist():
            is_dropped = np.ones(sizes[path], np.bool_)
            if path in against:
                is_dropped[against[path].dropped] = False
            if path in reader.selections:
                is_dropped[reader.selections[path].dropped] = True
            found[path] = Selection(np.flatnonzero(is_dropped))
        return found

    def _changes(self, source: Source) -> Iterator[Source]:
        """Yield rows with what each does, deletes at an earlier position of the stream."""
        position = 2 * self.step.position
        happening = self.step.happening
        if happening is not Happening.TOLD:
            is_came = happening is Happening.CAME
            rows = _telling(source.rows, _WORDS[happening]) if self.is_feed else source.rows
            yield replace(source, rows=rows, stream=position + is_came)
            return
        went = pc.is_in(source.rows[CHANGE_TYPE], _BEFORE)
        yield replace(source, rows=source.rows.filter(went), stream=position)
        yield replace(source, rows=source.rows.filter(pc.invert(went)), stream=position + 1)


@dataclass(frozen=True, slots=True)
class TableSource:
    """A table of changes; implements `compactor.merge.sources.ChangeSource`."""

    table: HistoricTable

    @property
    def name(self) -> str:
        """The table's."""
        return self.table.name

    def arrivals(self, watermark: str | None) -> Arrivals:
        """Return what happened to the table after a watermark.

        Raises:
            HistoryError: rows went, and nothing tells which.
            CatalogError: the table cannot be read.
        """
        history = self.table.history(watermark)
        is_feed = any(one.happening is not Happening.CAME for one in history.steps)
        naming = Naming.of(history.table.schema)
        if is_feed and CHANGE_TYPE in naming.stored.names:
            raise ChangesRefusedError(f"{self.name} has a column {CHANGE_TYPE!r}, as its feed has")
        parts = tuple(self._parts(history, naming.stored, is_feed=is_feed))
        columns = pa.schema([one.remove_metadata() for one in naming.stored])
        if is_feed:
            columns = columns.append(pa.field(CHANGE_TYPE, pa.string()))
        op_column = CHANGE_TYPE if is_feed else None
        found = Arrivals(columns, parts, history.watermark, op_column=op_column)
        return in_files(found, naming.reversed)

    def _parts(
        self, history: History, columns: pa.Schema, *, is_feed: bool
    ) -> Iterator[SlicesPart]:
        number = 0
        pieces = [piece for step in history.steps for piece in _pieces(step)]
        for at, step in enumerate(pieces, 1):
            is_told = step.happening is Happening.TOLD
            told = [history.schema.arrow.field(CHANGE_TYPE)] if is_told else []
            schema = replace(history.schema, arrow=pa.schema([*columns, *told]))
            reached = history.watermark if at == len(pieces) else None
            yield SlicesPart(
                history.table, schema, step, self.name, number, reached, is_feed=is_feed
            )
            number += step.files.file_count


def _pieces(step: Step) -> Iterator[Step]:
    """Divide a step into pieces of whole slices that are not too large."""
    before = np.cumsum([0, *step.files.files["size_bytes"].to_pylist()[:-1]])
    cuts = np.flatnonzero(np.diff(before // _PART_BYTES)) + 1
    for rows in np.split(np.arange(step.files.file_count), cuts):
        files = step.files.take(rows)
        yield replace(step, files=files, against=_same(step.against, files))


def _same(some: Inventory, files: Inventory) -> Inventory:
    is_same = pc.is_in(some.files["path"], files.files["path"].combine_chunks())
    return some.take(np.flatnonzero(is_same.to_numpy()).astype(np.int64))


def _plain(batch: pa.RecordBatch) -> pa.Table:
    """Return rows without the ids of the table that they come from."""
    schema = pa.schema([one.remove_metadata() for one in batch.schema])
    return pa.Table.from_arrays(batch.columns, schema=schema)


def _telling(rows: pa.Table, word: str) -> pa.Table:
    words = pa.array([word] * rows.num_rows, pa.string())
    return rows.append_column(CHANGE_TYPE, words)
