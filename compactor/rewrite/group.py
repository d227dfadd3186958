"""Rewrite one file group: what a worker runs."""

from __future__ import annotations

from compactor.rewrite.fingerprint import digest_batch
from compactor.rewrite.read import SliceReader
from compactor.rewrite.task import EMPTY_DIGEST, Proof, RewriteResult, RewriteTask, RowDigest
from compactor.rewrite.verify import check_digests, check_rows, read_back
from compactor.rewrite.write import Destination, RollingWriter


def rewrite_group(task: RewriteTask) -> RewriteResult:
    """Write the surviving rows of a file group, in their order, into files of the target size.

    On failure every output of the attempt has been removed; nothing else is ever touched.

    Raises:
        ObjectNotFoundError: a data or delete file does not exist.
        CorruptTableError: one cannot be read as what the metadata says it is.
        UnsupportedTableError: a column cannot be read as the table's type.
        StorageFullError, AccessDeniedError, StorageError: the storage refuses or fails.
        VerificationError: the outputs do not hold the rows of the inputs.
    """
    before = task.table.storage.tally()
    reader = SliceReader.of(task.table, task.files)
    destination = Destination(task.table, task.partition_key, task.attempt_id)
    rows_read = task.files.row_count
    rows_kept = sum(map(reader.kept_rows, task.files.slices()))
    with RollingWriter(
        destination,
        target_bytes=task.target_file_size_bytes,
        stored_bytes=_surviving_bytes(reader, task),
    ) as writer:
        inputs = _transcode(reader, task, writer)
        digest = _prove(task, writer, inputs)
        rows_written = sum(file.row_count for file in writer.files)
        check_rows(read=rows_read, dropped=rows_read - rows_kept, written=rows_written)
    used = task.table.storage.tally()
    return RewriteResult(
        outputs=tuple(file.described() for file in writer.files),
        rows_read=rows_read,
        rows_dropped=rows_read - rows_kept,
        rows_written=rows_written,
        bytes_read=used.bytes_read - before.bytes_read,
        bytes_written=used.bytes_written - before.bytes_written,
        requests=used.requests - before.requests,
        digest=digest,
    )


def _surviving_bytes(reader: SliceReader, task: RewriteTask) -> float:
    """Return the stored size of the rows that will be written, deleted ones taken out by share."""
    return sum(
        file.size_bytes * reader.kept_rows(file) / file.row_count
        for file in task.files.slices()
        if file.row_count
    )


def _transcode(reader: SliceReader, task: RewriteTask, writer: RollingWriter) -> RowDigest:
    """Stream all slices into the writer; the digest of their rows is empty without full proof."""
    digest = EMPTY_DIGEST
    for file in task.files.slices():
        row_bytes = file.size_bytes / max(1, file.row_count)
        for batch in reader.batches(file):
            if task.proof is Proof.FULL:
                digest += digest_batch(batch)
            writer.add(batch, stored_bytes=batch.num_rows * row_bytes)
    writer.finish()
    return digest


def _prove(task: RewriteTask, writer: RollingWriter, inputs: RowDigest) -> RowDigest | None:
    """Read the outputs back and return the digest that inputs and outputs share."""
    schema_expected = writer.encoding.parquet_schema()
    outputs = EMPTY_DIGEST
    for file in writer.files:
        outputs += read_back(task.table, file, schema_expected, task.proof) or EMPTY_DIGEST
    if task.proof is not Proof.FULL:
        return None
    check_digests(inputs=inputs, outputs=outputs)
    return outputs
