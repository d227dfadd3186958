"""Rewrite one file group: what a worker runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, partial
from itertools import groupby
from typing import Protocol

import pyarrow as pa

from catalog.model import FileSlice, Inventory
from compactor.errors import VerificationError
from compactor.rewrite.calendars import layout_of
from compactor.rewrite.encoding import Encoding
from compactor.rewrite.fingerprint import digest_batch
from compactor.rewrite.fitting import Form, Patch
from compactor.rewrite.footers import HELD_BYTES_MAX, Footers
from compactor.rewrite.integers import as_decimals, as_integers
from compactor.rewrite.ladder import Decisions, Ladder, Run
from compactor.rewrite.mixed import MixedWriter
from compactor.rewrite.parts import Patched
from compactor.rewrite.read import OpenSlice, SliceReader, is_stored
from compactor.rewrite.repetition import decoded_bytes
from compactor.rewrite.task import (
    EMPTY_DIGEST,
    NOT_SPLICED,
    Proof,
    RewriteResult,
    RewriteTask,
    RowDigest,
    Spliced,
)
from compactor.rewrite.verify import check_digests, check_inputs, check_rows, read_back
from compactor.rewrite.write import ROW_GROUP_BYTES_MAX, Destination, RollingWriter, WrittenFile
from compactor.splicing import SpliceLimits


def rewrite_group(task: RewriteTask) -> RewriteResult:
    """Write the surviving rows of a file group, in their order, into files of the target size.

    Rows that come in follow them.

    On failure every output of the attempt has been removed; nothing else is ever touched.

    Raises:
        ObjectNotFoundError: a data or delete file does not exist.
        CorruptTableError: one cannot be read as what the metadata says it is.
        UnsupportedTableError: a column cannot be read as the table's type.
        StorageFullError, AccessDeniedError, StorageError: the storage refuses or fails.
        VerificationError: the outputs do not hold the rows of the inputs.
    """
    return carry_out(task, _Work)


class Work(Protocol):
    """How the rows of one file group get into its outputs."""

    @property
    def reader(self) -> SliceReader:
        """What reads the slices of the group."""

    def writer(self) -> RollingWriter:
        """Return the writer of the outputs."""

    def run(self, writer: RollingWriter) -> RowDigest:
        """Write everything; the digest of the surviving rows is empty without full proof."""

    def spliced(self, files: Sequence[WrittenFile]) -> Spliced:
        """Tell what was copied, and how it came into the outputs."""


def carry_out(task: RewriteTask, prepare: Callable[[RewriteTask], Work]) -> RewriteResult:
    """Write the surviving rows of a file group, prove them, and tell what it took.

    On failure every output of the attempt has been removed. Raises what `rewrite_group` does.
    """
    before = task.table.storage.tally()
    work = prepare(task)
    rows_read = task.files.row_count
    rows_kept = sum(map(work.reader.kept_rows, task.files.slices()))
    rows_tail = sum(map(work.reader.tail_rows, task.files.slices()))
    with work.writer() as writer:
        inputs = work.run(writer)
        digest = _prove(task, writer, inputs)
        rows_written = sum(file.row_count for file in writer.files)
        check_rows(
            read=rows_read + rows_tail + task.rows_added,
            dropped=rows_read - rows_kept,
            written=rows_written,
        )
    used = task.table.storage.tally()
    return RewriteResult(
        outputs=tuple(file.described() for file in writer.files),
        rows_read=rows_read,
        rows_dropped=rows_read - rows_kept,
        rows_written=rows_written,
        bytes_read=used.bytes_read - before.bytes_read,
        bytes_written=used.bytes_out - before.bytes_out,
        requests=used.requests - before.requests,
        digest=digest,
        splice=work.spliced(writer.files),
        rows_added=task.rows_added,
        rows_tail=rows_tail,
    )


class _Work:
    """One file group on its way: what is copied was decided before anything is written."""

    def __init__(self, task: RewriteTask) -> None:
        self._task = task
        self._footers = Footers(task.table, held_bytes_max=HELD_BYTES_MAX)
        layout = layout_of(task.table, task.files.slices(), self._footers)
        self._encoding = Encoding.of(task.table.schema, layout)
        self.reader = SliceReader.of(task.table, task.files)
        self._decisions = None if task.splice is None else self._decide(task.splice)
        if self._decisions is None or not self._decisions.copies:
            self._encoding = self._encoding.with_integers()
            self.reader = replace(self.reader, integers=self._encoding.from_integers)

    def _decide(self, limits: SpliceLimits) -> Decisions:
        ladder = Ladder(
            table=self._task.table,
            footers=self._footers,
            limits=limits,
            encodings=self._encoding.ways(),
            target_bytes=self._task.target_file_size_bytes,
            total_bytes=self._total_bytes(),
            added_bytes=self._task.added_bytes,
            tail_bytes=sum(
                self.reader.tail_rows(file) * tail_row_bytes(file, self.reader)
                for file in self._task.files.slices()
            ),
        )
        return ladder.decide(
            [
                (file, self.reader.selection(file))
                for file in filter(is_stored, self._task.files.slices())
            ]
        )

    def _total_bytes(self) -> float:
        """Return the stored size of all rows to be written."""
        return surviving_bytes(self.reader, self._task.files) + self._task.added_bytes

    def writer(self) -> RollingWriter:
        """Return the writer of the outputs: row groups are encoded right into them if all are."""
        destination = Destination(self._task.table, self._task.partition_key, self._task.attempt_id)
        limits, decisions = self._task.splice, self._decisions
        target_bytes = self._task.target_file_size_bytes
        copies = decisions is not None and decisions.copies
        if self._task.table.layout.own_name_column and not copies:
            # Pieces of a file would have to know its name before it has one.
            decisions = Decisions([], Form.of(self._encoding, keeps_layout=True))
            decisions.added_bytes = self._total_bytes()
        elif limits is None or decisions is None or not copies:
            return RollingWriter(
                destination,
                self._encoding,
                target_bytes=target_bytes,
                stored_bytes=self._total_bytes(),
            )
        return MixedWriter(
            destination,
            decisions,
            target_bytes=target_bytes,
            row_groups_max=0 if limits is None else limits.row_groups_max,
            is_one_file=self._task.is_one_file,
        )

    def run(self, writer: RollingWriter) -> RowDigest:
        """Write everything; the digest of the surviving rows is empty without full proof."""
        digest = EMPTY_DIGEST
        runs_of = {file.path: runs for file, runs in self._runs()}
        for file in self._task.files.slices():
            if runs := runs_of.get(file.path):
                digest += self._write(file, runs, writer)
            self._footers.release(file)
            digest += self._write_tail(file, writer)
        digest += self._add(writer)
        writer.finish()
        return digest

    def _write(self, file: FileSlice, runs: Sequence[Run], writer: RollingWriter) -> RowDigest:
        """Write what survives of the stored rows of a slice."""
        digest = EMPTY_DIGEST
        with ExitStack() as stack:
            opened = cache(partial(self._open, file, stack))
            for run in runs:
                if run.is_copied and isinstance(writer, MixedWriter):
                    self._copy(run, opened, writer)
                    if self._task.proof is not Proof.FULL:
                        continue
                digest += self._encode(run, opened(), writer)
        return digest

    def _write_tail(self, file: FileSlice, writer: RollingWriter) -> RowDigest:
        """Write the rows of a slice that its data file does not store."""
        digest = EMPTY_DIGEST
        for batch in self.reader.tail(file):
            if self._task.proof is Proof.FULL:
                digest += digest_batch(as_decimals(batch, self._task.table.schema.stored.arrow))
            writer.add(batch, stored_bytes=batch.num_rows * tail_row_bytes(file, self.reader))
        return digest

    def _add(self, writer: RollingWriter) -> RowDigest:
        """Write the rows that come in, after all others."""
        digest = EMPTY_DIGEST
        row_bytes = self._task.added_bytes / max(1, self._task.rows_added)
        for batch in self._task.added_batches():
            if self._task.proof is Proof.FULL:
                digest += digest_batch(batch)
            rows = as_integers(batch, self._encoding.rows_schema)
            writer.add(rows, stored_bytes=batch.num_rows * row_bytes)
        return digest

    def _open(self, file: FileSlice, stack: ExitStack) -> OpenSlice:
        return stack.enter_context(self.reader.opened(file))

    def _runs(self) -> Iterator[tuple[FileSlice, list[Run]]]:
        if self._decisions is not None:
            for _, some in groupby(self._decisions.runs, lambda run: run.file.path):
                runs = list(some)
                yield runs[0].file, runs
            return
        for file in filter(is_stored, self._task.files.slices()):
            yield file, [Run(file, None, file.size_bytes, is_copied=False)]

    def _copy(self, run: Run, opened: Callable[[], OpenSlice], writer: MixedWriter) -> None:
        if run.patch is not None:
            self._patch(run, run.patch, opened=opened, writer=writer)
            return
        footer = self._footers.get(run.file)
        for row_group in run.row_groups or ():
            writer.copy(footer, row_group, source=run.file)

    def _patch(
        self, run: Run, patch: Patch, *, opened: Callable[[], OpenSlice], writer: MixedWriter
    ) -> None:
        """Copy some columns of row groups and encode the others, if that takes little memory."""
        footer, row_groups = self._footers.get(run.file), run.row_groups or ()
        stored_bytes = run.patched_bytes / max(1, len(row_groups))
        with ExitStack() as stack:
            reader = self.reader.only(patch.encoded)
            source = stack.enter_context(reader.opened(run.file)) if patch.encoded else None
            for row_group in row_groups:
                patched = Patched(footer, row_group, patch, run.file)
                batches = [] if source is None else _collected(source.batches((row_group,)))
                if batches is not None:
                    writer.patch(patched, batches, stored_bytes=stored_bytes)
                    continue
                if self._decisions is not None:
                    self._decisions.take_back(footer, row_group, patch)
                for batch in opened().batches((row_group,)):
                    stored_bytes = self._stored_bytes(run.file, batch)
                    writer.add(batch, stored_bytes=stored_bytes, source=run.file)

    def _stored_bytes(self, file: FileSlice, batch: pa.RecordBatch) -> float:
        return float(batch.num_rows * file.size_bytes / max(1, file.row_count))

    def _encode(self, run: Run, source: OpenSlice, writer: RollingWriter) -> RowDigest:
        """Stream row groups into the writer; those that were copied are only read for the proof."""
        digest = EMPTY_DIGEST
        for batch in source.batches(run.row_groups):
            if self._task.proof is Proof.FULL:
                digest += digest_batch(as_decimals(batch, self._task.table.schema.stored.arrow))
            if not run.is_copied:
                stored_bytes = self._stored_bytes(run.file, batch)
                writer.add(batch, stored_bytes=stored_bytes, source=run.file)
        return digest

    def spliced(self, files: Sequence[WrittenFile]) -> Spliced:
        """Tell what was copied, and how it came into the outputs."""
        found = self._decisions
        if found is None:
            return NOT_SPLICED
        return Spliced(
            copied_bytes=found.bytes_spliced,
            unchecked_bytes=found.bytes_unchecked,
            row_groups=found.row_groups_spliced,
            row_groups_patched=found.row_groups_patched,
            reasons=tuple(found.reasons.most_common()),
            composed_bytes=sum(file.composed_bytes for file in files),
            streamed=tuple(
                Counter(file.why_streamed for file in files if file.why_streamed).most_common()
            ),
        )


def _collected(batches: Iterable[pa.RecordBatch]) -> list[pa.RecordBatch] | None:
    """Return the columns of a row group; None when they are too large to be held decoded."""
    found: list[pa.RecordBatch] = []
    held_bytes = 0
    for batch in batches:
        held_bytes += decoded_bytes(batch)
        if held_bytes > ROW_GROUP_BYTES_MAX:
            return None
        found.append(batch)
    return found


def surviving_bytes(reader: SliceReader, files: Inventory) -> float:
    """Return the stored size of the rows to be written, deleted ones taken out by share."""
    return sum(
        file.size_bytes * reader.kept_rows(file) / max(1, file.row_count)
        + reader.tail_rows(file) * tail_row_bytes(file, reader)
        for file in files.slices()
    )


def tail_row_bytes(file: FileSlice, reader: SliceReader) -> float:
    """Return about what a row of a tail takes: as much as one of the data file, if there is one."""
    if file.row_count:
        return file.size_bytes / file.row_count
    return sum(one.size_bytes for one in file.deletes) / max(1, reader.tail_rows(file))


def _prove(task: RewriteTask, writer: RollingWriter, inputs: RowDigest) -> RowDigest | None:
    """Read the outputs back and return the digest that inputs and outputs share."""
    schema_expected = writer.parquet_schema()
    outputs = EMPTY_DIGEST
    for file in writer.files:
        try:
            outputs += read_back(task.table, file, schema_expected, task.proof) or EMPTY_DIGEST
        except VerificationError:
            check_inputs(task.table, task.files)
            raise
    if task.proof is not Proof.FULL:
        return None
    check_digests(inputs=inputs, outputs=outputs)
    return outputs
