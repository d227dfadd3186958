"""What became of the groups of earlier jobs, as the store tells it: light, for services read it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GroupOutcome:
    """What became of a group of an earlier job.

    Attributes:
        job: the job.
        at_ms: when the job was made, milliseconds since the epoch.
        partition: the group's, for people.
        is_lost: whether it was rewritten and lost; else it was committed.
        reason: why it was lost.
    """

    job: str
    at_ms: int
    partition: str
    is_lost: bool
    reason: str
