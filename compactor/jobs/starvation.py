"""Partitions that compaction keeps losing to other writers: what is done about it, and said.  Pure.

A writer that deletes rows of a partition again and again invalidates every group that is rewritten
there meanwhile. The shorter a group takes, the better its chances: so its size is halved with every
loss. Where that does not help either, the partition is left alone for a while, longer after every
further loss, and people are told what the writer makes impossible.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from compactor.jobs.outcomes import GroupOutcome
from compactor.planner.plan import Plan, Skipped

# So many losses in a row are taken for bad luck.
_PATIENCE = 3
_BACKOFF_MS = 60_000
_BACKOFF_MS_MAX = 3_600_000
_HALVINGS_MAX = 6


@dataclass(frozen=True, slots=True)
class Starvation:
    """A partition that jobs have lost since they last got through.

    Attributes:
        partition: for people.
        losses: jobs in a row that lost groups of it and committed none.
        last_at_ms: when the last of them was made.
        reason: why it was lost the last time.
    """

    partition: str
    losses: int
    last_at_ms: int
    reason: str

    @property
    def halvings(self) -> int:
        """How often the size of its groups is halved."""
        return min(self.losses, _HALVINGS_MAX)

    @property
    def left_alone_until_ms(self) -> int:
        """Until when it is left alone; in the past where there is still hope."""
        if self.losses < _PATIENCE:
            return 0
        wait_ms = _BACKOFF_MS << min(self.losses - _PATIENCE, 10)
        return self.last_at_ms + min(wait_ms, _BACKOFF_MS_MAX)

    @property
    def advice(self) -> str:
        """What can be done about it."""
        if "rows of" in self.reason:
            return (
                "its rows are deleted while it is rewritten: leave young files alone (--min-age),"
                " or rewrite it when its writer rests"
            )
        if "no longer in the table" in self.reason or "replaced" in self.reason:
            return "its files are rewritten by others, too: have one of them do it"
        return "run less of it at once (--max-group-size), or when its writer rests"

    def __str__(self) -> str:
        """Return it as people read it."""
        where = f"`{self.partition}`" if self.partition else "the table"
        return (
            f"{where} was lost to other writers by {self.losses} jobs in a row"
            f" ({self.reason}): {self.advice}"
        )


def starving(outcomes: Iterable[GroupOutcome]) -> dict[str, Starvation]:
    """Return by name the partitions that jobs have lost since they last got through.

    Args:
        outcomes: of the newest jobs, newest first.
    """
    by_partition: dict[str, dict[str, list[GroupOutcome]]] = {}
    for one in outcomes:
        by_partition.setdefault(one.partition, {}).setdefault(one.job, []).append(one)
    found = {}
    for partition, jobs in by_partition.items():
        losses: list[GroupOutcome] = []
        for groups in jobs.values():
            if any(not one.is_lost for one in groups):
                break
            losses.append(groups[0])
        if losses:
            newest = losses[0]
            found[partition] = Starvation(partition, len(losses), newest.at_ms, newest.reason)
    return found


def without_starving(plan: Plan, known: Mapping[str, Starvation], now_ms: int) -> Plan:
    """Return a plan less the groups of partitions that are left alone for now."""
    alone = {name for name, one in known.items() if one.left_alone_until_ms > now_ms}
    left = [group for group in plan.groups if group.partition in alone]
    if not left:
        return plan
    return replace(
        plan,
        groups=tuple(group for group in plan.groups if group.partition not in alone),
        kept_files=plan.kept_files + sum(group.files.file_count for group in left),
        kept_bytes=plan.kept_bytes + sum(group.files.size_bytes for group in left),
        skipped=(
            *plan.skipped,
            *(
                Skipped(
                    group.partition,
                    group.files.file_count,
                    group.files.size_bytes,
                    f"lost to other writers {known[group.partition].losses} times in a row",
                )
                for group in left
            ),
        ),
    )
