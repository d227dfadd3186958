"""What a job tells while it runs: frozen values handed to one callback, in the driver's thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from compactor.jobs.state import JobState
from compactor.planner.plan import Plan


@dataclass(frozen=True, slots=True)
class JobPlanned:
    """A plan was made and is about to be recorded as a job: raising now declines it."""

    job: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class ChangesRead:
    """Changes were read, and are looked for among the stored rows.

    Attributes:
        upserts: how many there are.
        deletes: how many deletes there are.
        superseded: how many of both others have made void.
    """

    upserts: int
    deletes: int
    superseded: int


@dataclass(frozen=True, slots=True)
class JobStarted:
    """A job begins, or goes on where a process that died left it.

    Attributes:
        job: id of the job.
        table: the target.
        groups: file groups of its plan.
        input_bytes: bytes of their data files.
        groups_done: groups that need no rewriting any more, because they were written or
            committed before the interruption; 0 for a new job.
        is_resumed: whether it goes on.
    """

    job: str
    table: str
    groups: int
    input_bytes: int
    groups_done: int = 0
    is_resumed: bool = False


@dataclass(frozen=True, slots=True)
class GroupStarted:
    """An attempt was handed to the runtime."""

    job: str
    group_id: str
    partition: str
    attempt: int
    input_bytes: int


@dataclass(frozen=True, slots=True)
class GroupFinished:
    """A group is written and proved, and waits for its commit batch."""

    job: str
    group_id: str
    partition: str
    input_bytes: int
    output_bytes: int
    output_files: int


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """An attempt failed; the group is tried again when `is_retried`."""

    job: str
    group_id: str
    attempt: int
    error: str
    is_retried: bool


@dataclass(frozen=True, slots=True)
class BatchCommitted:
    """Groups are in the table, in the snapshot given."""

    job: str
    group_ids: tuple[str, ...]
    snapshot_id: str


@dataclass(frozen=True, slots=True)
class GroupDropped:
    """Another writer changed the inputs: the outputs are deleted, that writer's work stays."""

    job: str
    group_id: str
    partition: str
    reason: str


@dataclass(frozen=True, slots=True)
class GroupFailed:
    """No attempt at the group succeeded; the table keeps its inputs."""

    job: str
    group_id: str
    partition: str
    error: str


@dataclass(frozen=True, slots=True)
class JobStopping:
    """No further group is started; what is written is still committed."""

    job: str
    reason: str


@dataclass(frozen=True, slots=True)
class JobFinished:
    """The job reached its last state."""

    job: str
    status: JobState
    reason: str


Event = (
    JobPlanned
    | ChangesRead
    | JobStarted
    | GroupStarted
    | GroupFinished
    | AttemptFailed
    | BatchCommitted
    | GroupDropped
    | GroupFailed
    | JobStopping
    | JobFinished
)
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Drop an event: for callers that only want the report."""
