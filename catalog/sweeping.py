"""What sweeps have in common that remove files nobody refers to: names, batches and tallies.

Names are kept as hashes, eight bytes each: where two collide, a file too many is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from catalog.upkeep import UpkeepResult

BATCH = 4096
_EXAMPLES = 20
# How coarse times of files are: by the ticks of the kernel, and in stores that tell whole seconds.
_TICK_MS = 10
_SECOND_MS = 1000
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Names:
    """A set of names, by their hashes."""

    hashes: npt.NDArray[np.int64]

    @staticmethod
    def of(names: Iterable[str]) -> Names:
        """Make the set of names."""
        return Names(np.unique(np.fromiter(map(hash, names), np.int64)))

    def __or__(self, other: Names) -> Names:
        """Unite two sets."""
        return Names(np.union1d(self.hashes, other.hashes))

    def holds(self, names: list[str]) -> npt.NDArray[np.bool_]:
        """Tell for each name whether it is in the set."""
        wanted = np.fromiter(map(hash, names), np.int64)
        if not len(self.hashes):
            return np.zeros(len(wanted), np.bool_)
        places = np.searchsorted(self.hashes, wanted)
        found: npt.NDArray[np.bool_] = (
            self.hashes[np.minimum(places, len(self.hashes) - 1)] == wanted
        )
        return found


@dataclass(slots=True)
class Seen:
    """Names that have been met: sets of growing size, so that a new one costs little."""

    _runs: list[Names] = field(default_factory=list)

    def is_new(self, names: list[str]) -> npt.NDArray[np.bool_]:
        """Tell for each name whether it is met for the first time, and remember all."""
        hashes = np.fromiter(map(hash, names), np.int64)
        found = np.zeros(len(names), np.bool_)
        found[np.unique(hashes, return_index=True)[1]] = True
        for run in self._runs:
            found &= ~run.holds(names)
        self._runs.append(Names(np.unique(hashes)))
        while len(self._runs) > 1 and len(self._runs[-2].hashes) <= len(self._runs[-1].hashes):
            self._runs[-2:] = [self._runs[-2] | self._runs[-1]]
        return found


def batches(found: Iterable[_T]) -> Iterator[list[_T]]:
    """Yield what there is, some thousand at a time."""
    rest = iter(found)
    while batch := list(islice(rest, BATCH)):
        yield batch


def latest_ms(modified_at: datetime) -> float:
    """Return the last moment that a time of the store can stand for, in ms since the epoch."""
    grain_ms = _TICK_MS if modified_at.microsecond else _SECOND_MS
    return modified_at.timestamp() * 1000 + grain_ms


@dataclass(slots=True)
class Tally:
    """What a sweep has removed so far, or would have."""

    operation: str
    files: int = 0
    bytes: int = 0
    examples: tuple[str, ...] = ()

    def add(self, batch: list[tuple[str, int]]) -> None:
        """Count files: their names and sizes."""
        self.files += len(batch)
        self.bytes += sum(size_bytes for _, size_bytes in batch)
        names = [path for path, _ in batch[: _EXAMPLES - len(self.examples)]]
        self.examples += tuple(names)

    def result(self, note: str) -> UpkeepResult:
        """Say what came of it."""
        return UpkeepResult(self.operation, self.files, self.bytes, note, self.examples)
