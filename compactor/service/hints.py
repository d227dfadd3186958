"""What a receiver makes of a verified request: hints about tables, and the answer to them.

A hint is never truth.  It selects a table that is already registered, and the table itself is
looked at before anything happens.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Hint:
    """Something may have happened to a table; exactly one of `target` and `location` is set.

    Attributes:
        target: the name that a table is registered under.
        location: URI of a table, or of an object within one; the longest registered prefix wins,
            compared by segment.
        snapshot_id: the snapshot that the event tells of, where it does.
        operation: what made it, in the words of the format (`append`, `replace`, `clustering`).
        job_id: the job of ours that the event names as its cause.
        reason: for people: which event this was.
    """

    target: str | None
    location: str | None
    snapshot_id: str | None
    operation: str | None
    job_id: str | None
    reason: str

    def __post_init__(self) -> None:
        """Hold the rule that a hint names its table in one way.

        Raises:
            ValueError: it has both names, or none.
        """
        if (self.target is None) == (self.location is None):
            raise ValueError("a hint names a target or a location, and not both")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One verified request of a source.

    Attributes:
        source: the name under `[webhooks]`, or what else made it (`schedule`, `sweep`).
        delivery_id: unique within the source for as long as deliveries are kept; a request that
            comes twice has the same one.
        hints: what it tells; empty for one that asks for nothing (a test event).
    """

    source: str
    delivery_id: str
    hints: tuple[Hint, ...]


class AcceptanceKind(StrEnum):
    """What became of a delivery."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The durable answer to a delivery.

    Attributes:
        kind: `ACCEPTED` when at least one hint became part of a waiting job.
        trigger_ids: the queue rows that wait because of it; a duplicate has those of the first.
        reason: why it was ignored, or which hints were; empty when all were accepted.
    """

    kind: AcceptanceKind
    trigger_ids: tuple[int, ...]
    reason: str
