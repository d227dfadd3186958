"""Which row groups may be copied as they are: the limits that planner and rewriter share.

Copying costs a fiftieth of encoding, but keeps row groups as small as they were. What a scan pays
for that is decided by the bytes of a column chunk: about 5 % of its time at 150 KiB, for a single
column a third at 80 KiB and half as much again at 40 KiB; and a footer with too many of them is
slow to open whatever is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Effort(StrEnum):
    """How much work the files of a table are worth."""

    BYTES = "bytes"
    BALANCED = "balanced"
    DEEP = "deep"


@dataclass(frozen=True, slots=True)
class SpliceLimits:
    """What a row group must be like to be copied.

    Attributes:
        row_group_bytes_min: its stored bytes at least.
        chunk_bytes_min: the same per column chunk, on average.
        row_group_bytes_max: its stored bytes at most where a group becomes several files: row
            groups are not divided, and every file must come out near its target.
        row_groups_max: row groups of one output.
        footer_bytes_max: their part of its footer.
        keeps_layout: whether its codec and Bloom filters must be those that the table wants.
    """

    row_group_bytes_min: int
    chunk_bytes_min: int
    row_group_bytes_max: int
    row_groups_max: int
    footer_bytes_max: int
    keeps_layout: bool

    def is_small(self, stored_bytes: float, chunks: int) -> bool:
        """Tell whether a row group would be scanned at too high a cost as it is."""
        return stored_bytes < max(self.row_group_bytes_min, self.chunk_bytes_min * chunks)

    def overfills_footer(
        self, stored_bytes: int, *, footer_bytes: int, file_bytes_max: float
    ) -> bool:
        """Tell whether a file full of such row groups would have too many or too long a footer."""
        fitting = file_bytes_max / max(stored_bytes, 1)
        return fitting > self.row_groups_max or fitting * footer_bytes > self.footer_bytes_max
