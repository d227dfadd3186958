"""The order given to a worker for one file group, and its answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from catalog.commits import OutputFile
from catalog.model import Inventory
from catalog.table import TableFiles
from compactor.proof import Proof as Proof
from compactor.splicing import SpliceLimits

_BATCH_ROWS_MAX = 64 << 10


@dataclass(frozen=True, slots=True)
class RewriteTask:
    """Everything a worker needs for one attempt at one file group.

    Attributes:
        table: the workers' side of the snapshot.
        partition_key: partition of the inputs and of the outputs.
        files: the slices to be rewritten, in the order their rows keep.
        attempt_id: outputs are named `<attempt_id>-<5 digits>.parquet`, counted from 0, so that
            the leftovers of an attempt that died can be found again.
        target_file_size_bytes: size of the outputs.
        proof: what is checked before the answer is given.
        splice: which row groups may be copied as they are; None for none.
        added: rows that come in beside the surviving ones, with the columns that outputs store;
            None for none.
        is_one_file: whether there is one output whatever its size, also when no row survives.
    """

    table: TableFiles
    partition_key: str
    files: Inventory
    attempt_id: str
    target_file_size_bytes: int
    proof: Proof
    splice: SpliceLimits | None = None
    added: pa.Table | None = None
    is_one_file: bool = False

    @property
    def rows_added(self) -> int:
        """Number of rows that come in."""
        return 0 if self.added is None else int(self.added.num_rows)

    @property
    def added_bytes(self) -> float:
        """What they will take about: as much as other rows, where there are any."""
        if self.added is None:
            return 0.0
        if not self.files.row_count:
            return float(self.added.nbytes)
        return self.rows_added * self.files.size_bytes / self.files.row_count

    def added_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows that come in."""
        if self.added is not None:
            yield from self.added.to_batches(max_chunksize=_BATCH_ROWS_MAX)


@dataclass(frozen=True, slots=True)
class RowDigest:
    """An order-independent fingerprint of a multiset of rows; two digests add up by `+`.

    Attributes:
        row_count: number of rows.
        hash_sum: sum of the rows' hashes modulo 2**128.
    """

    row_count: int
    hash_sum: int

    def __add__(self, other: RowDigest) -> RowDigest:
        """Return the digest of both multisets together."""
        return RowDigest(
            self.row_count + other.row_count, (self.hash_sum + other.hash_sum) % (1 << 128)
        )


EMPTY_DIGEST = RowDigest(0, 0)


@dataclass(frozen=True, slots=True)
class Spliced:
    """What of a rewrite was copied as it is, and why the rest was not.

    Attributes:
        copied_bytes: bytes of the row groups that were copied.
        unchecked_bytes: the part of them whose pages carry no checksums.
        row_groups: how many they are.
        row_groups_patched: row groups of which some columns were copied, and others encoded.
        reasons: row groups that were encoded anew by the reason, the most frequent first; one
            entry stands for a whole file whose footer was not understood.
        composed_bytes: bytes that the store copied into outputs by itself.
        streamed: outputs whose copied bytes passed through a worker to the store, by the reason.
    """

    copied_bytes: int = 0
    unchecked_bytes: int = 0
    row_groups: int = 0
    row_groups_patched: int = 0
    reasons: tuple[tuple[str, int], ...] = ()
    composed_bytes: int = 0
    streamed: tuple[tuple[str, int], ...] = ()


NOT_SPLICED = Spliced()


def merged_splices(parts: Iterable[Spliced]) -> Spliced:
    """Add up what several rewrites copied."""
    some = list(parts)
    return Spliced(
        copied_bytes=sum(one.copied_bytes for one in some),
        unchecked_bytes=sum(one.unchecked_bytes for one in some),
        row_groups=sum(one.row_groups for one in some),
        row_groups_patched=sum(one.row_groups_patched for one in some),
        reasons=_added(one.reasons for one in some),
        composed_bytes=sum(one.composed_bytes for one in some),
        streamed=_added(one.streamed for one in some),
    )


def _added(counts: Iterable[Iterable[tuple[str, int]]]) -> tuple[tuple[str, int], ...]:
    """Add up counts by reason, the most frequent first."""
    total: Counter[str] = Counter()
    for some in counts:
        for reason, count in some:
            total[reason] += count
    return tuple(total.most_common())


@dataclass(frozen=True, slots=True)
class RewriteResult:
    """What one attempt did.

    Attributes:
        outputs: the files written, in row order; empty when no row survived.
        rows_read: rows stored in the inputs.
        rows_dropped: rows that the deletes dropped.
        rows_written: rows in the outputs, counted from their footers.
        bytes_read: bytes fetched from storage, delete files and read-back included.
        bytes_written: bytes of the outputs.
        requests: calls to the storage.
        digest: fingerprint of the surviving rows, equal for inputs and outputs; None without
            `Proof.FULL`.
        splice: what was copied as it is.
        rows_added: rows that came in.
        rows_marked: positions in the outputs, where these are delete files.
    """

    outputs: tuple[OutputFile, ...]
    rows_read: int
    rows_dropped: int
    rows_written: int
    bytes_read: int
    bytes_written: int
    requests: int
    digest: RowDigest | None
    splice: Spliced = NOT_SPLICED
    rows_added: int = 0
    rows_tail: int = 0
    rows_marked: int = 0
