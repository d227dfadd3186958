"""What a table's owner wants: which files are worth rewriting, to what size, how much at once.

The ratios are bounded by how outputs are rolled (between `ROLLED_RATIO_MIN` and `ROLLED_RATIO_MAX`
of the target): a freshly written file must be neither small nor too large, or planning never ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from compactor.errors import SettingsError
from compactor.sort_keys import CURVE_COLUMNS_MAX, SORT_COLUMNS_MAX, SortKey, Strategy
from compactor.splicing import Effort, SpliceLimits

# A group that fills at least one file is rolled into files of this share of the target size.
ROLLED_RATIO_MIN = 0.9
ROLLED_RATIO_MAX = 1.8
# Written bytes may exceed the estimate by a tenth: files below 0.9 / 1.1 of the target still
# become fewer whenever two of them meet.
SMALL_FILE_RATIO_MAX = 0.8

MIB = 1024 * 1024
GIB = 1024 * MIB


class Order(StrEnum):
    """Which groups come first, and so which ones fit under a limit."""

    BYTES_ASCENDING = "bytes-asc"
    BYTES_DESCENDING = "bytes-desc"
    FILES_ASCENDING = "files-asc"
    FILES_DESCENDING = "files-desc"
    OLDEST_FIRST = "oldest-first"
    NONE = "none"
    """As partitions come."""


@dataclass(frozen=True, slots=True)
class Policy:
    """When and how a table is compacted.

    Raises `SettingsError` for values that make no sense.

    Attributes:
        target_file_size_bytes: size wanted for data files; None takes the table's own property.
        small_file_ratio: a file below this share of the target is small, and a candidate.
        large_file_ratio: a file above this multiple of the target is too large, and a candidate.
        min_input_files: small files are rewritten once a partition has this many together, or
            fewer when they fill a whole file, or when the partition is rewritten anyway.
        delete_ratio: a file that has lost at least this share of its rows is a candidate.
        delete_files_min: a file with at least this many delete files is a candidate.
        partitions: shell patterns on the partition as shown (`day=2026-11-*`); empty means all.
        files: shell patterns on the file path; empty means all.
        max_group_bytes: input of one file group at most. A group exceeds it where it would
            otherwise not fill one file: by one oversized file, a lone last file, or as many
            heavily deleted files as that takes.
        max_job_bytes: input of one plan at most; None for no limit. Groups are taken in the order
            of work, one that does not fit is left out.
        min_age_seconds: files written more recently are left alone.
        order: order of work.
        effort: how much is encoded anew: `bytes` copies every row group that can be, whatever its
            size and codec; `balanced` those that are scanned well as they are; `deep` none.
        splice_row_group_bytes_min: stored bytes from which a row group is copied as it is.
        splice_chunk_bytes_min: the same per column chunk, on average; it decides in wide tables.
        splice_row_groups_max: row groups of one file at most, where some of them are copied.
        splice_footer_bytes_max: what row groups may take in the footer of such a file.
        strategy: what files are rewritten for: their sizes, or the order of rows by value.
        sort_by: the columns of that order; empty takes the table's own sort order.
        overlap_depth_max: files of a partition that may hold rows at the same place of the order;
            where there are more, they are put in order together.
        sort_memory_bytes: rows that one task holds in memory while it sorts; others wait on disk.
        convert_delete_files_min: with so many equality delete files those of a data file are
            converted, where that is the strategy.
        output_spec: the partition spec that files are to be parted by, `current` or its id: then
            those of others are rewritten, and no others; None leaves each file in its own.
        rewrites_all: whether every file is a candidate, whatever it is like: what comes of that is
            rewritten again by the next plan.
    """

    target_file_size_bytes: int | None = None
    small_file_ratio: float = 0.75
    large_file_ratio: float = 2.0
    min_input_files: int = 5
    delete_ratio: float = 0.1
    delete_files_min: int = 5
    partitions: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    max_group_bytes: int = 2 * GIB
    max_job_bytes: int | None = None
    min_age_seconds: float = 0.0
    order: Order = Order.FILES_DESCENDING
    effort: Effort = Effort.BALANCED
    splice_row_group_bytes_min: int = 2 * MIB
    splice_chunk_bytes_min: int = 128 * 1024
    splice_row_groups_max: int = 4096
    splice_footer_bytes_max: int = 8 * MIB
    strategy: Strategy = Strategy.BINPACK
    sort_by: tuple[SortKey, ...] = ()
    overlap_depth_max: int = 4
    sort_memory_bytes: int = 512 * MIB
    convert_delete_files_min: int = 1
    rewrites_all: bool = False
    output_spec: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        _require(
            0 < self.small_file_ratio <= SMALL_FILE_RATIO_MAX,
            f"small_file_ratio is {self.small_file_ratio}: it must be above 0 and at most "
            f"{SMALL_FILE_RATIO_MAX}",
            hint="a higher one would rewrite freshly written files again and again",
        )
        _require(
            ROLLED_RATIO_MAX <= self.large_file_ratio < math.inf,
            f"large_file_ratio is {self.large_file_ratio}: it must be at least {ROLLED_RATIO_MAX}",
            hint="a lower one would rewrite freshly written files again and again",
        )
        _require(
            0 <= self.delete_ratio <= 1,
            f"delete_ratio is {self.delete_ratio}: it must be between 0 and 1",
        )
        _require(
            0 <= self.min_age_seconds < math.inf,
            f"min_age_seconds is {self.min_age_seconds}: it must not be negative",
        )
        self._require_counts()
        self._require_order()

    def _require_order(self) -> None:
        _require(
            self.output_spec is None or self.strategy is Strategy.BINPACK,
            f"files are parted by another spec, but the strategy is {self.strategy}",
            hint="part them first, with the strategy binpack",
        )
        names = ", ".join(key.name for key in self.sort_by)
        _require(
            not self.sort_by or self.strategy.is_order,
            f"sort_by names {names}, but the strategy is {self.strategy}",
            hint="set the strategy to sort, zorder or hilbert",
        )
        most = CURVE_COLUMNS_MAX if self.strategy.is_curve else SORT_COLUMNS_MAX
        _require(
            len(self.sort_by) <= most,
            f"sort_by names {len(self.sort_by)} columns: {self.strategy} takes {most} at most",
        )

    def _require_counts(self) -> None:
        least = {
            "target_file_size_bytes": 1,
            "min_input_files": 2,
            "delete_files_min": 1,
            "convert_delete_files_min": 1,
            "max_group_bytes": 1,
            "max_job_bytes": 1,
            "splice_row_group_bytes_min": 0,
            "splice_chunk_bytes_min": 0,
            "splice_row_groups_max": 1,
            "splice_footer_bytes_max": 1,
            "overlap_depth_max": 1,
            "sort_memory_bytes": 16 * MIB,
        }
        for name, minimum in least.items():
            value = getattr(self, name)
            _require(
                value is None or value >= minimum,
                f"{name} is {value}: it must be at least {minimum}",
            )

    def file_sizes(self, table_target_bytes: int) -> FileSizes:
        """Return the sizes to aim at, given the table's own target."""
        # A plain number: settings may hand over a subclass, which has no place in a plan's file.
        target = int(self.target_file_size_bytes or table_target_bytes)
        return FileSizes(
            target_bytes=target,
            small_below_bytes=self.small_file_ratio * target,
            large_above_bytes=self.large_file_ratio * target,
        )

    def splice_limits(self, sizes: FileSizes) -> SpliceLimits | None:
        """Return which row groups may be copied as they are; None for none."""
        if self.effort is Effort.DEEP:
            return None
        is_balanced = self.effort is Effort.BALANCED
        return SpliceLimits(
            row_group_bytes_min=int(self.splice_row_group_bytes_min) if is_balanced else 0,
            chunk_bytes_min=int(self.splice_chunk_bytes_min) if is_balanced else 0,
            row_group_bytes_max=sizes.row_group_bytes_max,
            row_groups_max=self.splice_row_groups_max,
            footer_bytes_max=int(self.splice_footer_bytes_max),
            keeps_layout=is_balanced,
        )


@dataclass(frozen=True, slots=True)
class FileSizes:
    """The sizes that a table's files are judged by.

    Attributes:
        target_bytes: size wanted.
        small_below_bytes: a file with fewer is small.
        large_above_bytes: a file with more is too large.
    """

    target_bytes: int
    small_below_bytes: float
    large_above_bytes: float

    @property
    def row_group_bytes_max(self) -> int:
        """The largest row group that can be copied into files none of which comes out small.

        A file ends within half a row group of the even size, which is `ROLLED_RATIO_MIN` of the
        target at least.
        """
        return int(2 * (ROLLED_RATIO_MIN * self.target_bytes - self.small_below_bytes))

    def rolled_files(self, size_bytes: float) -> int:
        """Return into how many files a group of that many bytes is expected to be rolled."""
        if size_bytes <= 0:
            return 0
        filled = size_bytes / self.target_bytes
        files = max(1, math.floor(filled + 1 - ROLLED_RATIO_MIN))
        return files + 1 if filled > files * ROLLED_RATIO_MAX else files


def _require(is_met: bool, message: str, *, hint: str = "") -> None:
    if not is_met:
        raise SettingsError(message, hint=hint)
