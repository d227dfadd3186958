"""How healthy a table is: a score with reasons, from its inventory alone.

A healthy table has files of the wanted size and no deletes.  The score is 100 less the share of
files that could be spared, of rows that are stored but deleted, of delete files to be applied, and
of keys that readers compare rows with, each up to its weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from catalog.model import Inventory
from compactor.planner.columns import FileColumns, Flags, Ints, read_columns
from compactor.planner.policy import GIB, MIB, FileSizes

_SPARE_FILES_WEIGHT = 60
_DELETED_ROWS_WEIGHT = 25
_DELETE_FILES_WEIGHT = 15
_KEY_LOOKUPS_WEIGHT = 15
# Half of all rows deleted, or one delete file per data file, is as bad as it counts.
_DELETED_ROWS_WORST = 0.5
_DELETE_FILES_WORST = 1.0
# A key to compare with for every tenth row is as bad as it counts.
_KEY_LOOKUPS_WORST = 0.1
# A reason is given from this loss of points on.
_REASON_POINTS = 1
_MOST = 1 << 62
# Upper ends, exclusive.
_BUCKET_ENDS = (MIB, 8 * MIB, 32 * MIB, 128 * MIB, 512 * MIB, GIB)


@dataclass(frozen=True, slots=True)
class SizeBucket:
    """The data files of some range of sizes.

    Attributes:
        below_bytes: their sizes are smaller, and not smaller than the bucket before says; None
            for the last bucket.
        files: how many there are.
        size_bytes: their bytes together.
    """

    below_bytes: int | None
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a table's files.

    Attributes:
        score: 100 is as good as can be, 0 as bad as it counts.
        reasons: what takes points away, the worst first.
        files: data files.
        size_bytes: their bytes.
        rows: rows stored, before deletes.
        partitions: partitions that have files.
        files_per_partition_max: data files of the fullest partition.
        small_files: data files below the wanted size, but for those that the format holds in an
            order.
        spare_files: small files that would not be there if they were packed.
        large_files: data files above the wanted size.
        delete_files: delete files that apply to some data file.
        delete_bytes: their bytes.
        files_with_deletes: data files that some delete file applies to.
        deleted_rows_estimate: rows that they drop.
        sizes: histogram of the data files.
        equality_delete_files: those of `delete_files` that name rows by their values.
        equality_delete_rows: keys in them.
        key_lookups: keys that a reader of the whole table compares rows with: the keys of these
            files, for every data file that they apply to.
    """

    score: int
    reasons: tuple[str, ...]
    files: int
    size_bytes: int
    rows: int
    partitions: int
    files_per_partition_max: int
    small_files: int
    spare_files: int
    large_files: int
    delete_files: int
    delete_bytes: int
    files_with_deletes: int
    deleted_rows_estimate: int
    sizes: tuple[SizeBucket, ...]
    equality_delete_files: int = 0
    equality_delete_rows: int = 0
    key_lookups: int = 0

    @property
    def small_file_ratio(self) -> float:
        """Share of the data files that are small."""
        return self.small_files / max(self.files, 1)


def assess_health(inventory: Inventory, sizes: FileSizes) -> Health:
    """Judge an inventory by the wanted file sizes.

    What compaction would gain is a question to a plan: `Plan.totals`.
    """
    columns = read_columns(inventory)
    is_small = columns.size_bytes < sizes.small_below_bytes
    # Packing leaves alone what is in an order: such files are as small as their clusters are.
    is_small &= ~columns.is_clustered
    is_any = np.ones(len(is_small), dtype=np.bool_)
    links = columns.links
    dropped = np.minimum(links.rows_dropped(is_any), columns.row_count)
    applied = np.unique(links.delete)
    spare = _spare_files(columns, is_small, sizes)
    deleted_rows, rows = float(dropped.sum()), int(columns.row_count.sum())
    by_key = inventory.delete_files["equality_ids"].is_valid().to_numpy()
    keys = inventory.delete_files["row_count"].to_numpy()
    keys = np.where(by_key, keys, 0)
    lookups = _total(keys[links.delete])
    # Of all deletes only logs name both a data file and keys.
    targets = inventory.delete_files["target"].is_valid().to_numpy()
    words = _LOG_WORDS if (by_key & targets).any() else _DELETE_WORDS
    score, reasons = _judge(
        words,
        spare=spare / max(len(is_small), 1),
        deleted_rows=deleted_rows / max(rows, 1),
        delete_files=len(applied) / max(len(is_small), 1),
        # Records of logs are merged, not looked up.
        key_lookups=lookups / max(rows, 1) if words is _DELETE_WORDS else 0.0,
    )
    if lookups:
        reasons = (*reasons, f"{lookups:,} {words.lookups} to read it all")
    return Health(
        score=score,
        reasons=reasons,
        files=len(is_small),
        size_bytes=int(columns.size_bytes.sum()),
        rows=rows,
        partitions=columns.partition_count,
        files_per_partition_max=int(columns.per_partition(is_any).max(initial=0)),
        small_files=int(is_small.sum()),
        spare_files=spare,
        large_files=int((columns.size_bytes > sizes.large_above_bytes).sum()),
        delete_files=len(applied),
        delete_bytes=int(inventory.delete_files["size_bytes"].to_numpy()[applied].sum()),
        files_with_deletes=len(np.unique(links.file)),
        deleted_rows_estimate=round(deleted_rows),
        sizes=_histogram(columns),
        equality_delete_files=int(np.count_nonzero(by_key[applied])),
        equality_delete_rows=_total(keys[applied]),
        key_lookups=lookups,
    )


def _spare_files(columns: FileColumns, is_small: Flags, sizes: FileSizes) -> int:
    """Count the small files beyond those that the bytes of all in a partition would fill."""
    small = columns.per_partition(is_small)
    small_bytes = columns.per_partition(is_small, columns.size_bytes.astype(np.float64))
    filled = np.ceil(small_bytes / sizes.target_bytes)
    return int(np.maximum(small - np.maximum(filled, 1), 0).sum())


@dataclass(frozen=True, slots=True)
class _Words:
    """How people call what changes rows of data files."""

    rows: str
    files: str
    lookups: str


_DELETE_WORDS = _Words("are deleted", "delete files", "keys to look up")
_LOG_WORDS = _Words("are changed by logs", "logs", "records of logs to merge")


def _judge(
    words: _Words, *, spare: float, deleted_rows: float, delete_files: float, key_lookups: float
) -> tuple[int, tuple[str, ...]]:
    losses = {
        f"{spare:.0%} of the files are small and could be spared": _SPARE_FILES_WEIGHT * spare,
        f"{deleted_rows:.0%} of the rows {words.rows}": (
            _DELETED_ROWS_WEIGHT * min(1.0, deleted_rows / _DELETED_ROWS_WORST)
        ),
        f"{delete_files:.2g} {words.files} per data file": (
            _DELETE_FILES_WEIGHT * min(1.0, delete_files / _DELETE_FILES_WORST)
        ),
    }
    worst_first = sorted(losses.items(), key=lambda item: -item[1])
    reasons = tuple(text for text, points in worst_first if points >= _REASON_POINTS)
    lost = sum(losses.values()) + _KEY_LOOKUPS_WEIGHT * min(1.0, key_lookups / _KEY_LOOKUPS_WORST)
    return min(max(0, round(100 - lost)), 100), reasons


def _total(counts: Ints) -> int:
    """Add up what metadata say, which may be any numbers: the sum does not begin anew below 0."""
    return int(np.clip(counts.sum(dtype=np.float64), 0, _MOST))


def _histogram(columns: FileColumns) -> tuple[SizeBucket, ...]:
    bucket = np.searchsorted(_BUCKET_ENDS, columns.size_bytes, side="right")
    count = len(_BUCKET_ENDS) + 1
    files = np.bincount(bucket, minlength=count)
    size_bytes = np.zeros(count, dtype=np.int64)
    np.add.at(size_bytes, bucket, columns.size_bytes)
    ends = (*_BUCKET_ENDS, None)
    return tuple(map(SizeBucket, ends, files.tolist(), size_bytes.tolist()))
