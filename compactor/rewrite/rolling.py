"""Where to end a row group and where to end a file: pure arithmetic on what has been measured.

Files are sized in written bytes, which are known only after a row group is written. So each
decision is taken anew from the ratio of written to read bytes so far: what is left, the open file
included, is split evenly over as many files as it takes to keep every one of them within
[`SHARE_MIN`, `SHARE_MAX`] of the target. The planner leaves such files alone, and no small tail
remains to be planned again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

SHARE_MIN = 0.9
SHARE_MAX = 1.8
# A file is ended rather than filled up by a row group of less than this share of its size.
_TAIL_SHARE = 0.04
# The last row group of a file has at least so much of the size of the others.
_TAIL_ROW_GROUP_SHARE = 1 / 8


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rewrite has come; all sizes in bytes.

    Attributes:
        unread_bytes: stored size of the surviving rows that are to be encoded and are not yet.
        read_bytes: stored size, in the inputs, of the rows that are written.
        decoded_bytes: size of those rows in memory.
        written_bytes: their size in the outputs.
        open_bytes: size of the file being written.
        uncopied_bytes: size of the row groups that are still to be copied as they are.
    """

    unread_bytes: float
    read_bytes: float = 0.0
    decoded_bytes: int = 0
    written_bytes: int = 0
    open_bytes: int = 0
    uncopied_bytes: int = 0

    def after(self, *, stored_bytes: float, decoded_bytes: int, written_bytes: int) -> Progress:
        """Return the progress once a row group is written."""
        return replace(
            self,
            unread_bytes=max(0.0, self.unread_bytes - stored_bytes),
            read_bytes=self.read_bytes + stored_bytes,
            decoded_bytes=self.decoded_bytes + decoded_bytes,
            written_bytes=self.written_bytes + written_bytes,
            open_bytes=self.open_bytes + written_bytes,
        )

    def after_copy(self, copied_bytes: int) -> Progress:
        """Return the progress once a row group is copied."""
        return replace(
            self,
            open_bytes=self.open_bytes + copied_bytes,
            uncopied_bytes=max(0, self.uncopied_bytes - copied_bytes),
        )

    def with_new_file(self) -> Progress:
        """Return the progress once the open file is ended."""
        return replace(self, open_bytes=0)

    @property
    def remaining_bytes(self) -> float:
        """What is left, in bytes to be written; as large as stored until something is measured."""
        ratio = self.written_bytes / self.read_bytes if self.read_bytes else 1.0
        return self.unread_bytes * ratio + self.uncopied_bytes


def file_count(total_bytes: float, target_bytes: int) -> int:
    """Return how many files of even size hold `total_bytes`, each as near the target as can be."""
    targets = total_bytes / target_bytes
    count = max(1, math.floor(targets + 1 - SHARE_MIN))
    return count + 1 if targets / count > SHARE_MAX else count


def is_file_full(progress: Progress, target_bytes: int) -> bool:
    """Tell whether the open file is to be ended before the next row group."""
    total = progress.open_bytes + progress.remaining_bytes
    count = file_count(total, target_bytes)
    if count == 1:
        return False
    size = total / count
    return size - progress.open_bytes < size * _TAIL_SHARE


def is_full_before(progress: Progress, target_bytes: int, *, copied_bytes: int) -> bool:
    """Tell whether the open file comes out nearer to its size without the next copied row group."""
    total = progress.open_bytes + progress.remaining_bytes
    count = file_count(total, target_bytes)
    if count == 1 or not progress.open_bytes:
        return False
    return progress.open_bytes + copied_bytes / 2 > total / count


def row_group_bytes(
    progress: Progress, target_bytes: int, *, limit_bytes: int, decoded_per_stored: float
) -> float:
    """Return the decoded size of the next row group: at most the limit, and none left tiny.

    Args:
        progress: so far.
        target_bytes: size of a file.
        limit_bytes: decoded size of a row group at most.
        decoded_per_stored: decoded bytes per stored byte of the rows at hand, for as long as
            nothing has been written.
    """
    total = progress.open_bytes + progress.remaining_bytes
    count = file_count(total, target_bytes)
    measured = progress.written_bytes > 0
    expansion = progress.decoded_bytes / progress.written_bytes if measured else decoded_per_stored
    room = (total / count - progress.open_bytes) * expansion
    if total > target_bytes and not measured:
        # One row group must not overfill the file before the ratio is known.
        return max(1.0, min(limit_bytes, room / 2))
    if count == 1 and room <= limit_bytes:
        return limit_bytes
    return max(1.0, _without_tail(room, limit_bytes))


def _without_tail(room_bytes: float, limit_bytes: int) -> float:
    """Return the size of the next row group: the limit, but what is left of a file is not tiny.

    Row groups of even size would make what a worker holds jump between the limit and half of it,
    by what nobody knows before the rows are read.
    """
    tail_bytes = _TAIL_ROW_GROUP_SHARE * limit_bytes
    if room_bytes >= limit_bytes + tail_bytes:
        return limit_bytes
    return room_bytes if room_bytes <= limit_bytes else room_bytes - tail_bytes
