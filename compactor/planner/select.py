"""Select the files worth rewriting, and say of each other candidate why it stays.

Two kinds of candidates.  *Needy* files are worth a rewrite by themselves: too large, or with
deletes.  *Small* files are worth it together: when a partition has enough of them, or when needy
files of it are rewritten anyway, so that no small file stays behind to be found by the next plan.

Rewriting some of the files that share a delete file leaves its rows to the rest, which may make
these needy in turn; selection goes on until nothing changes, so that the next plan finds nothing.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from compactor.clustering import Strategy
from compactor.planner.columns import FileColumns, Flags, Floats
from compactor.planner.policy import FileSizes, Policy

# Each round adds files, three rounds are already rare; what a longer chain leaves is next plan's.
ROUNDS_MAX = 100

Needs = npt.NDArray[np.uint8]


class Need(IntFlag):
    """Why a file is a candidate."""

    SMALL = 1
    TOO_LARGE = 2
    DELETED_ROWS = 4
    DELETE_FILES = 8
    UNCLUSTERED = 16
    OVERLAPPING = 32
    ASKED_FOR = 64
    LOGS = 128


NEEDY = (
    Need.TOO_LARGE
    | Need.DELETED_ROWS
    | Need.DELETE_FILES
    | Need.UNCLUSTERED
    | Need.OVERLAPPING
    | Need.ASKED_FOR
)


class Stay(IntEnum):
    """Why a candidate is not rewritten."""

    PARTITION_NOT_SELECTED = 1
    FILE_NOT_SELECTED = 2
    TOO_RECENT = 3
    TOO_FEW = 4
    NOTHING_TO_GAIN = 5
    OVER_BUDGET = 6
    CLUSTERED = 7
    PLANNED = 8
    BOUND = 9
    LATER = 10


@dataclass(frozen=True, slots=True)
class Candidates:
    """What selection decided, per file in the order of the inventory.

    Attributes:
        needs: flags of `Need`; 0 for a file that is as wanted.
        is_selected: whether the file is to be rewritten.
        stays: for candidates that are not, a value of `Stay`; 0 for all others.
        rows_dropped: estimate of the rows that deletes have removed.
        kept_bytes: estimate of the bytes that its surviving rows take.
    """

    needs: Needs
    is_selected: Flags
    stays: Needs
    rows_dropped: Floats
    kept_bytes: Floats


def select_candidates(
    columns: FileColumns,
    policy: Policy,
    *,
    sizes: FileSizes,
    now_ms: int,
    order_needs: Needs | None = None,
    held: Needs | None = None,
) -> Candidates:
    """Decide for every file.

    Args:
        columns: the files.
        policy: what their owner wants.
        sizes: the sizes that they are judged by.
        now_ms: milliseconds since the epoch.
        order_needs: what each file needs for the sake of the order of rows; None for nothing.
        held: why the table does not let go of a file; 0 where it does, None for all of them.
    """
    barred = find_barred(columns, policy, now_ms)
    barred = barred if held is None else np.where(held > 0, held, barred)
    is_free = barred == 0
    selected = np.zeros(len(barred), dtype=np.bool_)
    dropped = _rows_dropped(columns, ~selected)
    for _ in range(ROUNDS_MAX):
        needs = _needs(columns, policy, sizes=sizes, dropped=dropped)
        needs = needs if order_needs is None else needs | order_needs
        kept_bytes = _kept_bytes(columns, dropped)
        selected = selected | _worthwhile(
            columns, np.where(is_free, needs, 0), kept_bytes / sizes.target_bytes, policy=policy
        )
        before = dropped
        dropped = np.where(selected, before, _rows_dropped(columns, ~selected))
        if np.array_equal(before, dropped):
            break
    is_left = (needs > 0) & ~selected
    stays = np.where(is_free, _alone_or_few(columns, is_free & (needs == Need.SMALL)), barred)
    return Candidates(needs, selected, np.where(is_left, stays, 0), dropped, kept_bytes)


def _worthwhile(
    columns: FileColumns, needs: Needs, files_filled: Floats, *, policy: Policy
) -> Flags:
    """Return the needy files, and the small ones of each partition that has enough to do."""
    is_needy = needs & NEEDY > 0
    is_small = needs == Need.SMALL
    small = columns.per_partition(is_small)
    has_enough = (
        (small >= policy.min_input_files)
        | (columns.per_partition(is_small, files_filled) >= 1)
        | (columns.per_partition(is_needy) > 0)
    )
    chosen: Flags = is_needy | (is_small & has_enough[columns.partition])
    return chosen


def _needs(columns: FileColumns, policy: Policy, *, sizes: FileSizes, dropped: Floats) -> Needs:
    delete_files = columns.links.delete_files()
    has_lost_rows = (dropped > 0) & (dropped >= policy.delete_ratio * columns.row_count)
    needs = (
        (columns.size_bytes < sizes.small_below_bytes) * np.uint8(Need.SMALL)
        | (columns.size_bytes > sizes.large_above_bytes) * np.uint8(Need.TOO_LARGE)
        | has_lost_rows * np.uint8(Need.DELETED_ROWS)
        | (delete_files >= policy.delete_files_min) * np.uint8(Need.DELETE_FILES)
        | np.uint8(Need.ASKED_FOR if policy.rewrites_all else 0)
    )
    return needs.astype(np.uint8, copy=False)


def _rows_dropped(columns: FileColumns, is_present: Flags) -> Floats:
    return np.minimum(columns.links.rows_dropped(is_present), columns.row_count)


def _kept_bytes(columns: FileColumns, dropped: Floats) -> Floats:
    """Estimate what the surviving rows take: a file's bytes are spread evenly over its rows."""
    return columns.size_bytes * (1 - dropped / np.maximum(columns.row_count, 1))


def _alone_or_few(columns: FileColumns, is_small: Flags) -> Needs:
    """Return why small files stay: nothing to be packed with, or not enough yet."""
    has_company = columns.per_partition(is_small) > 1
    reasons = np.where(has_company, Stay.TOO_FEW, Stay.NOTHING_TO_GAIN)
    return reasons.astype(np.uint8)[columns.partition]


def find_barred(columns: FileColumns, policy: Policy, now_ms: int) -> Needs:
    """Return why a file may not be touched, whatever it needs; 0 where it may."""
    barred = np.zeros(len(columns.size_bytes), dtype=np.uint8)
    if policy.min_age_seconds > 0:
        newest_ms = now_ms - policy.min_age_seconds * 1000
        barred[columns.written_at_ms > newest_ms] = Stay.TOO_RECENT
    if policy.strategy is Strategy.BINPACK:
        # Packed with others it would be in no order any more.
        barred[columns.is_clustered] = Stay.CLUSTERED
    if policy.files:
        barred[~_matches(columns.paths, policy.files)] = Stay.FILE_NOT_SELECTED
    if policy.partitions:
        is_selected = _matches(columns.partition_labels, policy.partitions)
        barred[~is_selected[columns.partition]] = Stay.PARTITION_NOT_SELECTED
    return barred


def _matches(texts: pa.Array, patterns: tuple[str, ...]) -> Flags:
    """Tell which texts fit at least one shell pattern; case matters.

    Not by Arrow: its regular expressions refuse what the standard library's patterns become.
    """
    expression = re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))
    found = (expression.match(text.as_py()) is not None for text in texts)
    return np.fromiter(found, dtype=np.bool_, count=len(texts))
