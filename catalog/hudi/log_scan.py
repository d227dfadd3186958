"""Which blocks of a slice's log files count, and in which order they apply.

Blocks of writes that failed do not count, nor do those that a rollback took back, nor those that a
log compaction has merged into a block of its own, which stands where the last of them stood. All
blocks of one instant apply where the first of them was met. So does Hudi's own reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.hudi.log_blocks import BlockKind, HeaderKey, LogBlock, read_blocks
from catalog.hudi.timeline import Timeline

_ROLLBACK = "0"


@dataclass(frozen=True, slots=True)
class LogScope:
    """Which instants' blocks count.

    Attributes:
        latest: blocks of later instants do not; empty for no limit.
        timeline: in layout 1 blocks of its instants count if these are completed; in layout 2,
            where log files of others are left out as a whole, all do.
        is_write_atomic: whether the store shows whole objects only: then what is no block was not
            torn, but damaged.
    """

    latest: str
    timeline: Timeline
    is_write_atomic: bool = False

    def admits(self, block: LogBlock) -> bool:
        """Whether the block of data or deletes counts."""
        if self.latest and block.instant_time > self.latest:
            return False
        return self.timeline.layout != 1 or self.timeline.is_block_valid(block.instant_time)


@dataclass(frozen=True, slots=True)
class PlacedBlock:
    """A block, and the number of the file that it is in."""

    file: int
    block: LogBlock


def valid_blocks(files: Sequence[pa.NativeFile], scope: LogScope) -> list[PlacedBlock]:
    """Return the blocks that count, in the order in which they apply.

    Args:
        files: the log files of a slice in the order in which they are merged.
        scope: which instants' blocks count.

    Raises:
        CorruptTableError: a file is damaged.
        UnsupportedTableError: a block is of a kind or a version that is not known.
    """
    by_instant: dict[str, list[PlacedBlock]] = {}
    for number, file in enumerate(files):
        for block in read_blocks(file):
            if block.kind is BlockKind.COMMAND:
                # Blocks that the same instant writes later on count again.
                by_instant.pop(_rolled_back(block), None)
            elif _counts(block, scope):
                by_instant.setdefault(block.instant_time, []).append(PlacedBlock(number, block))
    return _in_order(by_instant)


def _counts(block: LogBlock, scope: LogScope) -> bool:
    if block.kind is not BlockKind.CORRUPT:
        return scope.admits(block)
    if scope.is_write_atomic:
        raise CorruptTableError(f"a log file is damaged at byte {block.content_offset}")
    return False


def _rolled_back(block: LogBlock) -> str:
    kind = block.header.get(HeaderKey.COMMAND_BLOCK_TYPE)
    if kind != _ROLLBACK:
        raise UnsupportedTableError(f"a log file has a command of the unknown kind {kind}")
    return block.target_instant_time


def _in_order(by_instant: dict[str, list[PlacedBlock]]) -> list[PlacedBlock]:
    """Put blocks made by log compaction where the last of those was that they stand for."""
    merged_into: dict[str, str] = {}
    found: list[list[PlacedBlock]] = []
    included: set[str] = set()
    for instant in reversed(by_instant):
        compacted = by_instant[instant][0].block.compacted_instants
        if compacted:
            final = merged_into.get(instant, instant)
            merged_into |= dict.fromkeys(compacted, final)
            continue
        final = merged_into.get(instant, instant)
        if final not in included:
            included.add(final)
            found.append(by_instant[final])
    return [one for blocks in reversed(found) for one in blocks]
