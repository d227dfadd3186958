"""How a job is run: limits and proofs, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from compactor.planner.policy import GIB
from compactor.proof import Proof


@dataclass(frozen=True, slots=True)
class JobOptions:
    """Limits of one job.

    Attributes:
        proof: what is checked per group before it may be committed.
        attempts_max: tries at one file group; errors that cannot pass are not tried again.
        in_flight_max: attempts handed to the runtime at once. It queues what it has no memory
            for, so this bounds what a stopped job throws away and what the driver holds.
        commit_groups_max: groups of one commit batch at most.
        commit_bytes_max: a batch is committed once its outputs have this many bytes.
        failures_max: failed groups after which no further group is started.
        rounds_max: how often groups lost to a conflict are planned and run, the first time
            included.
        commits_max: commits that a job is divided into at most; None for as many as its batches
            make. Fewer commits disturb other writers less, and lose more work to them at once.
        commit_failures_max: commits that lost all of their groups after which no further group is
            started: 0 stops at the first.
        merge_attempts_max: how often changes are matched and written again because of commits of
            other writers, the first time included.
    """

    proof: Proof = Proof.COUNTS
    attempts_max: int = 3
    in_flight_max: int = 32
    commit_groups_max: int = 200
    commit_bytes_max: int = 64 * GIB
    failures_max: int = 10
    rounds_max: int = 3
    merge_attempts_max: int = 10
    commits_max: int | None = None
    commit_failures_max: int = 10
