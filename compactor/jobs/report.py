"""What a job has done, in figures: the end of every run."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from compactor.jobs.starvation import Starvation
from compactor.jobs.state import JobState
from compactor.planner.plan import ChangePlan, Touched
from compactor.rewrite.task import NOT_SPLICED, Spliced

# Exit codes of the command line for a job that ended; 130 as for any interrupted process.
EXIT_DONE, EXIT_FAILED, EXIT_PARTIAL, EXIT_CONFLICT, EXIT_INTERRUPTED = 0, 1, 3, 11, 130


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """File groups by what became of them; groups that were never started are in none."""

    committed: int = 0
    dropped: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class CommitCounts:
    """Commits by what became of them.

    Attributes:
        made: those in the table.
        lost: those of which no group is in the table.
    """

    made: int = 0
    lost: int = 0

    def __add__(self, other: CommitCounts) -> CommitCounts:
        """Return the commits of both."""
        return CommitCounts(self.made + other.made, self.lost + other.lost)


@dataclass(frozen=True, slots=True)
class GroupProblem:
    """A group that is not in the table, and why.

    Attributes:
        group_id: the group in its plan.
        partition: its partition, for people.
        is_conflict: whether another writer's commit was the cause.
        reason: the cause.
    """

    group_id: str
    partition: str
    is_conflict: bool
    reason: str


@dataclass(frozen=True, slots=True)
class OrderGain:
    """An order of rows, and what it spares readers.

    Attributes:
        order: the order, for people.
        before: what predicates on its columns touched of the files that were looked at.
        after: what they touch now; None unless every group is in the table.
    """

    order: str
    before: Touched
    after: Touched | None


@dataclass(frozen=True, slots=True)
class JobReport:
    """The outcome of a job, or of the rounds of jobs that one command needed.

    Attributes:
        job: id of the job; of the last one when conflicts were planned again.
        table: the target.
        status: how it ended.
        reason: why it ended so; empty when it succeeded.
        snapshot_before: the snapshot that was planned against.
        snapshot_after: the last snapshot this job committed; `snapshot_before` without one.
        files_before: data files of `snapshot_before`.
        files_after: data files of `snapshot_after`.
        bytes_read: bytes fetched by the attempts that succeeded.
        bytes_written: bytes of the files that they wrote.
        bytes_spliced: bytes moved without being decoded.
        bytes_kept: bytes of the data files that stay by reference.
        rows_before: rows stored in `snapshot_before`, less those whose deletes were applied; all
            of them where changes were merged.
        rows_after: rows stored in `snapshot_after`.
        verified: every committed group has as many rows as its inputs had live ones, and so
            have the snapshots around each commit.
        conflicts: groups lost to other writers' commits after work on them had begun, those planned
            again included.
        cpu_seconds: CPU time of this process and of its workers.
        peak_memory_bytes: largest anonymous memory of any attempt.
        seconds: wall time.
        groups: groups by what became of them.
        problems: the groups that are not in the table.
        is_resumed: whether it went on with the work of a process that had died.
        rows_dropped: rows that deletes or changes have removed and that are no longer stored.
        rows_added: rows that changes have brought.
        change: what was merged; None where nothing was to be. Nothing counts that is not in the
            table.
        order: the order that rows were put in; None when they kept theirs.
        splice: more of `bytes_spliced`, and why the other row groups were encoded anew.
        warnings: what people should know of other writers of the table, a sentence each.
        commits: commits by what became of them.
        rows_marked: deleted rows whose positions were recorded anew.
        rows_tail: rows that were in logs and are stored now.
        starving: partitions that jobs in a row have lost to other writers.
    """

    job: str
    table: str
    status: JobState
    reason: str
    snapshot_before: str
    snapshot_after: str
    files_before: int
    files_after: int
    bytes_read: int
    bytes_written: int
    bytes_spliced: int
    bytes_kept: int
    rows_before: int
    rows_after: int
    verified: bool
    conflicts: int
    cpu_seconds: float
    peak_memory_bytes: int
    seconds: float
    groups: GroupCounts
    problems: tuple[GroupProblem, ...] = ()
    is_resumed: bool = False
    rows_dropped: int = 0
    splice: Spliced = NOT_SPLICED
    order: OrderGain | None = None
    warnings: tuple[str, ...] = ()
    rows_added: int = 0
    change: ChangePlan | None = None
    commits: CommitCounts = CommitCounts()
    rows_marked: int = 0
    rows_tail: int = 0
    starving: tuple[Starvation, ...] = ()

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ran this job."""
        match self.status:
            case JobState.SUCCEEDED:
                return EXIT_DONE
            case JobState.PARTIAL:
                return EXIT_PARTIAL
            case JobState.CANCELLED:
                return EXIT_INTERRUPTED
        is_conflict = bool(self.problems) and all(p.is_conflict for p in self.problems)
        return EXIT_CONFLICT if is_conflict else EXIT_FAILED


def decode_report(text: str) -> JobReport:
    """Read a report as the job store keeps it."""
    return msgspec.json.decode(text, type=JobReport)
