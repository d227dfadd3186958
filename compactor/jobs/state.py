"""The states of a job and of its file groups, the facts that move them, the actions that follow.

A *fact* is something that has happened (an attempt wrote its files, a batch was settled), an
*action* something to be done (start an attempt, discard its files): see `machine`.

    group     waiting -> rewriting -> written -> committing -> committed
                 ^          |  |         |           |  |
                 +----------+  |         +- waiting  |  +-> dropped
                 (tried again) +-> failed  (files    +-> written (proved absent), failed
                                            gone)
    job       planned -> rewriting <-> committing -> succeeded | partial | failed | cancelled

A job that is taken up after its process has died finds groups in `committing`. The request for
their batch may have been applied, be on its way still, or never have left, and no look at the table
tells the last two apart. So the batch is committed again under the id that it had: a table takes a
commit id once, whichever request comes first, and the answer settles both.

What must not break: a group is committed at most once; a written group is either committed, or
its files are discarded; the files of a group whose commit is under way or of unknown outcome
are never discarded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class JobState(StrEnum):
    """Where a job is."""

    PLANNED = "planned"
    REWRITING = "rewriting"
    COMMITTING = "committing"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to the job."""
        return not JOB_TRANSITIONS[self]


class GroupState(StrEnum):
    """Where a file group is."""

    WAITING = "waiting"
    REWRITING = "rewriting"
    WRITTEN = "written"
    COMMITTING = "committing"
    COMMITTED = "committed"
    DROPPED = "dropped"
    FAILED = "failed"


_ENDS = frozenset((JobState.SUCCEEDED, JobState.PARTIAL, JobState.FAILED, JobState.CANCELLED))
JOB_TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.PLANNED: frozenset((JobState.REWRITING, JobState.COMMITTING)) | _ENDS,
    JobState.REWRITING: frozenset((JobState.COMMITTING,)) | _ENDS,
    JobState.COMMITTING: frozenset((JobState.REWRITING,)) | _ENDS,
    **{end: frozenset() for end in _ENDS},
}
GROUP_TRANSITIONS: Mapping[GroupState, frozenset[GroupState]] = {
    GroupState.WAITING: frozenset((GroupState.REWRITING, GroupState.DROPPED)),
    GroupState.REWRITING: frozenset((GroupState.WRITTEN, GroupState.WAITING, GroupState.FAILED)),
    GroupState.WRITTEN: frozenset((GroupState.COMMITTING, GroupState.WAITING, GroupState.DROPPED)),
    GroupState.COMMITTING: frozenset(
        (GroupState.COMMITTED, GroupState.DROPPED, GroupState.WRITTEN, GroupState.FAILED)
    ),
    GroupState.COMMITTED: frozenset(),
    GroupState.DROPPED: frozenset(),
    GroupState.FAILED: frozenset(),
}


class InvalidTransitionError(AssertionError):
    """A fact that cannot follow what came before: a mistake of ours, told with its story."""


@dataclass(frozen=True, slots=True)
class GroupProgress:
    """One file group as the machine knows it.

    Attributes:
        group_id: the group in its plan.
        state: where it is.
        attempts: attempts begun so far.
        attempt_id: the attempt that runs, or whose files it has; empty before the first.
        output_bytes: bytes of those files.
        batch_id: the batch that commits or committed it; empty before the first.
        reason: why it was dropped or failed.
    """

    group_id: str
    state: GroupState = GroupState.WAITING
    attempts: int = 0
    attempt_id: str = ""
    output_bytes: int = 0
    batch_id: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds the machine keeps; the fields of `JobOptions` of the same names.

    Attributes:
        batch_attempts_max: tries at the commit of the same groups before they are given up.
        is_atomic: whether all groups are committed together or none: a merge of changes that were
            in the table in part would be neither before nor after them.
    """

    attempts_max: int = 3
    in_flight_max: int = 32
    commit_groups_max: int = 200
    commit_bytes_max: int = 1 << 36
    failures_max: int = 10
    batch_attempts_max: int = 3
    is_atomic: bool = False
    commit_failures_max: int = 10


# ---------------------------------------------------------------------------------------- facts


@dataclass(frozen=True, slots=True)
class Began:
    """The job holds its table and may work."""


@dataclass(frozen=True, slots=True)
class Written:
    """An attempt wrote its files and proved them."""

    group_id: str
    attempt_id: str
    output_bytes: int


@dataclass(frozen=True, slots=True)
class Broke:
    """An attempt ended without a result.

    Attributes:
        is_retryable: another attempt may succeed.
        stops_job: no other group would fare better (disk full, access denied).
    """

    group_id: str
    attempt_id: str
    error: str
    is_retryable: bool
    stops_job: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """The commit of a batch is known: these groups are in the table, those were dropped."""

    batch_id: str
    committed: tuple[str, ...]
    dropped: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Absent:
    """The commit of a batch has not happened and cannot any more; it left nothing behind."""

    batch_id: str
    reason: str
    is_retryable: bool


@dataclass(frozen=True, slots=True)
class Unknown:
    """It cannot be told whether the commit of a batch happened."""

    batch_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Gone:
    """Files of a written group are not as they were written: it has to be written again."""

    group_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outdated:
    """A group that is not under way no longer fits the table: its inputs have changed."""

    group_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """Somebody asked the job to end: running attempts are cancelled, written groups committed."""

    reason: str


Fact = Began | Written | Broke | Settled | Absent | Unknown | Gone | Outdated | Stopped


# -------------------------------------------------------------------------------------- actions


@dataclass(frozen=True, slots=True)
class Start:
    """Run an attempt at a group."""

    group_id: str
    attempt_id: str
    number: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop a running attempt, then report it as `Broke`."""

    attempt_id: str


@dataclass(frozen=True, slots=True)
class Discard:
    """Delete every file of an attempt: it has ended and no commit refers to it."""

    group_id: str
    attempt_id: str


@dataclass(frozen=True, slots=True)
class CommitBatch:
    """Commit these groups together; batches of a job are numbered from 1."""

    batch_id: str
    number: int
    group_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CommitAgain:
    """Commit a batch that another process began to commit, under the same id."""

    batch_id: str
    group_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Suspend:
    """End this process's work and leave the job to be resumed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The job has ended."""

    status: JobState
    reason: str


Action = Start | Cancel | Discard | CommitBatch | CommitAgain | Suspend | Finish
