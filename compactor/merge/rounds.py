"""Merges larger than memory go in rounds, each of which is committed by itself.

A round merges the changes of some keys, all of them: the keys are divided by their hashes. So a row
is either as it was or as it will be, and the table after the last round is the same as after one
merge, whatever the changes are ordered by. What a round is part of is recorded with its commit,
beside the source's own watermark, which the last round moves. Whoever goes on after a crash goes on
with the same changes and the same division; what has come since waits for the next merge.

Deletes on other columns than the key act on stored rows in the first round alone: what later
changes bring back stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from catalog.commits import Watermark
from compactor.errors import ChangesRefusedError
from compactor.merge.sources import Arrivals

# Of the same changes stored: decoded. An estimate; what does not fit is spilled, and goes on.
_EXPANSION = 3
# What the driver holds of a round: its changes, the rows that come in, and these by partition; and
# beside it stand the keys, the rows they hit, and the tasks that run.
_BUDGET_SHARE = 6
_ROUNDS_MAX = 1 << 10
# How keys are divided: another way of hashing them would be another version.
_VERSION = "1"
_SUFFIX = ".round"


def rounds_needed(stored_bytes: int, budget_bytes: int) -> int:
    """Return in how many rounds changes are merged.

    Args:
        stored_bytes: of the changes.
        budget_bytes: memory that the driver and all tasks have together.
    """
    wanted = -(-stored_bytes * _EXPANSION * _BUDGET_SHARE // max(1, budget_bytes))
    return min(_ROUNDS_MAX, max(1, wanted))


@dataclass(frozen=True, slots=True)
class RoundMark:
    """How far the rounds of one merge have come, for one source.

    Attributes:
        until: the watermark that the source has once all are done.
        done: rounds that are committed.
        count: rounds in all.
    """

    until: str
    done: int
    count: int

    @property
    def text(self) -> str:
        """The mark as it is recorded."""
        return f"{_VERSION} {self.done}/{self.count} {self.until}"

    @property
    def is_open(self) -> bool:
        """Whether rounds are left."""
        return self.done < self.count

    @property
    def next(self) -> RoundMark:
        """The mark after one more round."""
        return replace(self, done=self.done + 1)

    @classmethod
    def parse(cls, text: str) -> RoundMark:
        """Read a mark.

        Raises:
            ChangesRefusedError: another version of this program wrote it.
        """
        version, _, rest = text.partition(" ")
        numbers, _, until = rest.partition(" ")
        done, _, count = numbers.partition("/")
        if version != _VERSION or not (done.isdigit() and count.isdigit()):
            raise ChangesRefusedError(
                f"a merge was begun by another version and is not finished: {text!r}",
                hint="Finish it with the version that began it.",
            )
        return cls(until, int(done), int(count))


def mark_name(source: str) -> str:
    """Return the name under which the mark of a source is recorded."""
    return f"{source}{_SUFFIX}"


def watermarks(source: str, mark: RoundMark) -> tuple[Watermark, ...]:
    """Return what a commit records that brings the rounds of a source as far as a mark says."""
    found = [Watermark(mark_name(source), mark.text)]
    if not mark.is_open:
        found.append(Watermark(source, mark.until))
    return tuple(found)


def limited(arrivals: Arrivals, until: str) -> Arrivals:
    """Return what is new up to a watermark.

    Raises:
        ChangesRefusedError: the changes that a merge began with are not there any more.
    """
    reached = [part.watermark for part in arrivals.parts]
    if arrivals.watermark == until:
        return arrivals
    if until not in reached:
        raise ChangesRefusedError(
            f"the merge that was begun goes as far as {until!r}, which is not there any more"
        )
    end = max(at for at, one in enumerate(reached) if one == until) + 1
    return replace(arrivals, parts=arrivals.parts[:end], watermark=until)
