"""Rewrite one file group with its rows in order: what a worker runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa

from compactor.clustering import Clustering
from compactor.rewrite.calendars import layout_of
from compactor.rewrite.cluster.external import ExternalSort
from compactor.rewrite.cluster.output import ClusteredWriter
from compactor.rewrite.cluster.row_order import RowOrder
from compactor.rewrite.cluster.sample import sample_keys
from compactor.rewrite.encoding import Encoding
from compactor.rewrite.fingerprint import digest_batch
from compactor.rewrite.footers import Footers
from compactor.rewrite.group import carry_out, surviving_bytes
from compactor.rewrite.integers import as_decimals, as_integers
from compactor.rewrite.read import SliceReader
from compactor.rewrite.task import (
    EMPTY_DIGEST,
    NOT_SPLICED,
    Proof,
    RewriteResult,
    RewriteTask,
    RowDigest,
    Spliced,
)
from compactor.rewrite.write import Destination, RollingWriter, WrittenFile


def cluster_group(task: RewriteTask, clustering: Clustering, memory_bytes: int) -> RewriteResult:
    """Write the surviving rows of a file group in order into files of the target size.

    Rows that are equal in all keys keep the order of `task.files`.

    Args:
        task: the group; nothing of it is copied as it is.
        clustering: the order.
        memory_bytes: what sorting may take; rows beyond it go to local disk.

    Raises:
        StorageFullError: there is no room on local disk for rows that memory does not hold.
        UnsupportedTableError: the rows cannot be ordered so.
        CatalogError, VerificationError: as `rewrite_group` raises them.
    """
    return carry_out(task, partial(_Work, clustering=clustering, memory_bytes=memory_bytes))


class _Work:
    """One file group on its way through the sort."""

    def __init__(self, task: RewriteTask, *, clustering: Clustering, memory_bytes: int) -> None:
        self._task = task
        self._order = RowOrder(clustering, task.table.schema.stored.arrow)
        self._memory_bytes = memory_bytes
        footers = Footers(task.table, held_bytes_max=0)
        layout = layout_of(task.table, task.files.slices(), footers)
        encoding = Encoding.of(task.table.schema, layout).with_integers()
        # Frames and stamps know keys as what they are.
        keys = {field.path[0] for field in clustering.fields}
        self._encoding = replace(encoding, from_integers=encoding.from_integers - keys)
        self._schema = self._encoding.rows_schema
        reader = SliceReader.of(task.table, task.files)
        self.reader = replace(reader, integers=self._encoding.from_integers)
        self._stored_bytes = surviving_bytes(self.reader, task.files) + task.added_bytes

    def writer(self) -> ClusteredWriter:
        """Return the writer of the outputs."""
        task = self._task
        return ClusteredWriter(
            Destination(task.table, task.partition_key, task.attempt_id),
            self._encoding,
            self._order,
            target_bytes=task.target_file_size_bytes,
            stored_bytes=self._stored_bytes,
        )

    def run(self, writer: RollingWriter) -> RowDigest:
        """Write everything; the digest of the surviving rows is empty without full proof."""
        task, digest = self._task, EMPTY_DIGEST
        rows = task.rows_added + sum(
            self.reader.kept_rows(file) + self.reader.tail_rows(file)
            for file in task.files.slices()
        )
        sort = ExternalSort(
            self._order,
            self._schema,
            sample=lambda: sample_keys(task.table, task.files, self._order.clustering.fields),
            memory_bytes=self._memory_bytes,
            rows=rows,
        )
        for batch in self._batches():
            if task.proof is Proof.FULL:
                digest += digest_batch(as_decimals(batch, task.table.schema.stored.arrow))
            sort.add(batch)
        row_bytes = self._stored_bytes / max(1, rows)
        for batch in sort.batches():
            writer.add(batch, stored_bytes=batch.num_rows * row_bytes)
        writer.finish()
        return digest

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for file in self._task.files.slices():
            yield from self.reader.batches(file)
        for batch in self._task.added_batches():
            yield as_integers(batch, self._schema)

    def spliced(self, files: Sequence[WrittenFile]) -> Spliced:
        """Tell that nothing was copied."""
        del files
        return NOT_SPLICED
