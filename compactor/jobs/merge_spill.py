"""Changes that memory does not hold: cut by their keys into buckets, which are spilled and awaited.

Every part of the changes is read by one task, which leaves behind what cannot matter; every bucket
is put together by one. The buckets of a round, one after the other, are its changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from compactor.errors import ChangesRefusedError
from compactor.jobs.spread import answer
from compactor.merge.arriving import Bucketing, Incoming
from compactor.merge.buckets import bucket_columns
from compactor.merge.changes import ChangeSet, joined
from runtime import Ref, Runtime, TaskError
from runtime.shuffle import Shuffle, shuffle

# A worker with Arrow loaded; then a part as it is decoded, conformed, and cut.
_PROCESS_BYTES = 64 << 20
_PART_COPIES = 8
# Buckets per round: each is put together by a task of its own.
_BUCKETS_PER_ROUND = 4
_BUCKETS_MAX = 1 << 12


class SpilledChanges:
    """Changes in buckets."""

    def __init__(self, runtime: Runtime, buckets: Sequence[Ref[ChangeSet]], rounds: int) -> None:
        """Take over the buckets, which are divided evenly among the rounds."""
        self._runtime = runtime
        per_round = len(buckets) // rounds
        self._of_round = {
            number: buckets[number * per_round : (number + 1) * per_round]
            for number in range(rounds)
        }

    def take(self, number: int) -> ChangeSet:
        """Return the changes of a round, counted from 0, and forget them.

        They are one per key, as `latest` returns them.

        Raises:
            ChangesRefusedError: a part cannot be merged into the table.
            CatalogError: a part could not be read.
            RuntimeFailure: a task failed otherwise.
        """
        try:
            return joined([answer(self._runtime, one) for one in self._of_round.pop(number)])
        except TaskError as failure:
            if isinstance(failure.cause, ChangesRefusedError):
                raise failure.cause from failure
            raise


def spilled(
    runtime: Runtime,
    incoming: Sequence[Incoming],
    bucketing: Bucketing,
    *,
    rounds: int,
    table: str,
) -> SpilledChanges:
    """Read parts of changes into buckets.

    Args:
        runtime: where it runs; it spills what its memory does not hold.
        incoming: the parts.
        bucketing: what is done with them.
        rounds: in how many rounds the changes will be merged.
        table: name of the table, the first half of the key that grants are predicted by.

    Raises:
        CatalogError: a part cannot be looked at.
    """
    buckets = min(_BUCKETS_MAX, rounds * _BUCKETS_PER_ROUND)
    # Half of the memory for a task, so that its estimate may be wrong by as much.
    grant_bytes_max = runtime.stats().total.memory_bytes // 2
    part_bytes_max = max(1, (grant_bytes_max - _PROCESS_BYTES) // (2 * _PART_COPIES))
    pieces = [piece for one in incoming for piece in one.divided(part_bytes_max)]
    of_a_bucket = sum(one.stored_bytes for one in pieces) // buckets
    largest = max(of_a_bucket, *(one.stored_bytes for one in pieces))
    plan = Shuffle(
        by=bucket_columns(bucketing.rules),
        buckets=buckets - buckets % rounds,
        read=bucketing.read,
        reduce=bucketing.settle,
        key=(table, "changes"),
    )
    memory = min(grant_bytes_max, _PROCESS_BYTES + _PART_COPIES * largest)
    refs = shuffle(runtime, pieces, plan, memory=memory)
    return SpilledChanges(runtime, refs, rounds)
