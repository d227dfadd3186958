"""Whether the rows that go from a file are left out of a copy of it, or recorded as deleted.

*Copy-on-write* writes a file anew without them: row groups that lose no row are copied as they
are, the others are decoded and encoded. *Merge-on-read* leaves the file and records the deletes
beside it, for readers to apply, until a compaction takes the file. Where changes hit rows all over
a table the one writes everything to change little; where they hit a few row groups, or most rows
of a file, the other burdens readers to save next to nothing. So each file is priced both ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from catalog.errors import UnsupportedTableError

_GIB = 1 << 30
# CPU-seconds of one core, measured on TPC-H's lineitem: together what the planner takes for
# encoding a file anew, and what it takes for copying one.
_DECODE_SECONDS_PER_BYTE = 10 / _GIB
_ENCODE_SECONDS_PER_BYTE = 30 / _GIB
_COPY_SECONDS_PER_BYTE = 1.3 / _GIB
_SORT_SECONDS_PER_BYTE = 12 / _GIB
# Open, footer, schema mapping of a data file; a delete file or vector is opened as well.
_FILE_SECONDS = 0.005
# A deleted position: sorted, encoded, written.
_MARK_SECONDS = 2e-7
# How often a file is read before a compaction takes it. A reader that looks at the file once per
# merge, with ten merges between two compactions, is no exception.
_READS = 10


class WriteMode(StrEnum):
    """How the rows that go are taken out of the table."""

    AUTO = "auto"
    COPY_ON_WRITE = "copy-on-write"
    MERGE_ON_READ = "merge-on-read"


@dataclass(frozen=True, slots=True)
class Touched:
    """What a search saw of a file with hits.

    Attributes:
        row_groups: row groups with hits.
        row_groups_all: row groups of the file.
        rows: rows stored in those with hits.
        stored_bytes: stored bytes of those with hits.
        stored_bytes_all: stored bytes of the file.
        rows_all: rows stored in the file.
        rows_dead: rows of the file that deletes had dropped before.
    """

    row_groups: int = 0
    row_groups_all: int = 0
    rows: int = 0
    stored_bytes: int = 0
    stored_bytes_all: int = 0
    rows_all: int = 0
    rows_dead: int = 0


UNTOUCHED = Touched()


@dataclass(frozen=True, slots=True)
class Prices:
    """CPU-seconds that one file costs either way.

    Attributes:
        copy_on_write: writing it anew without the rows that go.
        merge_on_read: recording the deletes, and what readers pay for them until the file is
            compacted.
    """

    copy_on_write: float
    merge_on_read: float


def prices(touched: Touched, *, rows: int, is_sorted: bool = False) -> Prices:
    """Price both ways for one file.

    Args:
        touched: what is hit.
        rows: rows that go.
        is_sorted: whether files that are written anew have all their rows sorted.
    """
    kept = 1 - rows / max(rows, touched.rows)
    encoded, copied = touched.stored_bytes, touched.stored_bytes_all - touched.stored_bytes
    if is_sorted:
        kept = 1 - rows / max(rows, touched.rows_all)
        encoded, copied = touched.stored_bytes_all, 0
    rewriting = _FILE_SECONDS + copied * _COPY_SECONDS_PER_BYTE
    # Nothing is read of a row group of which no row is left.
    rewriting += encoded * _DECODE_SECONDS_PER_BYTE * (kept > 0)
    rewriting += encoded * _ENCODE_SECONDS_PER_BYTE * kept
    rewriting += encoded * _SORT_SECONDS_PER_BYTE * is_sorted
    dead = (rows + touched.rows_dead) / max(1, touched.rows_all)
    read_in_vain = touched.stored_bytes_all * dead * _DECODE_SECONDS_PER_BYTE
    marking = _FILE_SECONDS + rows * _MARK_SECONDS + _READS * (_FILE_SECONDS + read_in_vain)
    return Prices(rewriting, marking)


def marked(
    hits: Mapping[str, tuple[Touched, int]],
    mode: WriteMode,
    *,
    can_mark: bool,
    is_sorted: bool = False,
) -> frozenset[str]:
    """Return the files that stay and have deletes recorded for them.

    Args:
        hits: by path, of the files that lose rows: what is hit, and how many rows go.
        mode: what is asked for.
        can_mark: whether the table takes such deletes.
        is_sorted: whether files that are written anew have all their rows sorted.

    Raises:
        UnsupportedTableError: merge-on-read is asked for, and the table cannot have it.
    """
    if mode is WriteMode.MERGE_ON_READ and not can_mark:
        raise UnsupportedTableError(
            "the table cannot record deletes beside its data files",
            hint="Use --write-mode auto or copy-on-write.",
        )
    if mode is WriteMode.COPY_ON_WRITE or not can_mark:
        return frozenset()
    found = set()
    for path, (touched, rows) in hits.items():
        price = prices(touched, rows=rows, is_sorted=is_sorted)
        is_emptied = rows + touched.rows_dead >= touched.rows_all > 0
        # A file of which nothing is left goes, whatever is asked for.
        if not is_emptied and (
            mode is WriteMode.MERGE_ON_READ or price.merge_on_read < price.copy_on_write
        ):
            found.add(path)
    return frozenset(found)
