"""What a table's owner wants: which files are worth rewriting, to what size, how much at once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MIB = 1024 * 1024
GIB = 1024 * MIB


class Order(StrEnum):
    """Which groups come first, and so which ones fit under a limit."""

    BYTES_ASCENDING = "bytes-asc"
    BYTES_DESCENDING = "bytes-desc"
    FILES_DESCENDING = "files-desc"
    OLDEST_FIRST = "oldest-first"


@dataclass(frozen=True, slots=True)
class Policy:
    """When and how a table is compacted.

    Attributes:
        target_file_size_bytes: size wanted for data files; None takes the table's own property.
        small_file_ratio: a file below this share of the target is small, and a candidate.
        large_file_ratio: a file above this multiple of the target is too large, and a candidate.
        min_input_files: small files are rewritten once a partition has this many together, or
            fewer when they fill a whole file.
        delete_ratio: a file that has lost at least this share of its rows is a candidate.
        delete_files_min: a file with at least this many delete files is a candidate.
        partitions: shell patterns on the partition as shown (`day=2026-11-*`); empty means all.
        files: shell patterns on the file path; empty means all.
        max_group_bytes: input of one file group at most (one oversized file may exceed it).
        max_job_bytes: input of one plan at most; None for no limit.
        min_age_seconds: files written more recently are left alone.
        order: order of work.
    """

    target_file_size_bytes: int | None = None
    small_file_ratio: float = 0.75
    large_file_ratio: float = 1.8
    min_input_files: int = 5
    delete_ratio: float = 0.1
    delete_files_min: int = 5
    partitions: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    max_group_bytes: int = 2 * GIB
    max_job_bytes: int | None = None
    min_age_seconds: float = 0.0
    order: Order = Order.FILES_DESCENDING
