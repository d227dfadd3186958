"""Files of ordered rows: each says in its footer which order it is in and where it begins and ends.

Rows that come in another order than was promised are refused here: a file whose footer lies about
its order would be kept by every plan that follows.
"""

from __future__ import annotations

import pyarrow as pa

from catalog.storage import OutputFile as StorageOutput
from compactor.clustering import STAMP_KEY, Stamp
from compactor.errors import VerificationError
from compactor.rewrite.cluster.row_order import RowOrder
from compactor.rewrite.cluster.stamp import encode_stamp
from compactor.rewrite.encoding import Encoding
from compactor.rewrite.own_name import named
from compactor.rewrite.write import Destination, EncodedFile, OpenFile, RollingWriter, WrittenFile


class ClusteredWriter(RollingWriter):
    """Writes the outputs of one attempt, rows in order."""

    def __init__(
        self, destination: Destination, encoding: Encoding, order: RowOrder,
        *, target_bytes: int, stored_bytes: float,
    ) -> None:  # fmt: skip
        """Prepare to write; arguments as for `RollingWriter`, and the order of the rows."""
        super().__init__(
            destination, encoding, target_bytes=target_bytes, stored_bytes=stored_bytes
        )
        self._order = order

    def _change_encoding(self, encoding: Encoding) -> None:
        """End the file: what its pieces say of their rows would not hold for it."""
        self._end_file()
        self.encoding = encoding

    def _begin_file(self, rows: list[pa.RecordBatch]) -> OpenFile:
        """Begin an output that notes where its rows are."""
        location = self._destination.begun(len(self.files))
        sink = self._destination.storage.open_output(location)
        row_count = sum(batch.num_rows for batch in rows)
        return _StampedFile(sink, self.encoding.fitting(rows), row_count, order=self._order)


class _StampedFile(EncodedFile):
    """An output whose footer is stamped."""

    def __init__(
        self, sink: StorageOutput, encoding: Encoding, row_group_rows: int, *, order: RowOrder
    ) -> None:
        super().__init__(sink, encoding, row_group_rows)
        self._order = order
        self._own_name = encoding.layout.own_name_column
        self._file_name = sink.location.name
        make_notes = encoding.layout.footer_notes
        self._notes = None if make_notes is None else make_notes()
        self._first: bytes | None = None
        self._last = b""

    def write(self, batches: list[pa.RecordBatch]) -> int:
        """Append one row group and return the bytes it took."""
        for batch in batches:
            first = self._order.place(batch, 0)
            if first < self._last:
                raise VerificationError("rows to be written are not in the order they should be in")
            self._first = first if self._first is None else self._first
            self._last = self._order.place(batch, batch.num_rows - 1)
            if self._notes is not None:
                self._notes.added(batch)
        if self._own_name:
            batches = named(batches, self._own_name, self._file_name)
        return super().write(batches)

    def complete(self) -> WrittenFile:
        """Write the footer and make the file durable."""
        clustering = self._order.clustering
        stamp = Stamp(clustering.order_id, clustering.frame, self._first or b"", self._last)
        notes = () if self._notes is None else self._notes.pairs()
        self.describe({STAMP_KEY: encode_stamp(stamp), **dict(notes)})
        return super().complete()
