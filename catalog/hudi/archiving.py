"""Which instants leave the active timeline for the archive, by the rules of Hudi's archiver.  Pure.

Writers look for what they need on the active timeline, so that an instant stays on it as long as
one of them may: what is pending, what has happened since the last compaction, what has replaced
files that are still there, what the metadata table has not folded yet, what a savepoint holds.
Behaviour: `TimelineArchiverV1` and `V2`, `ArchivalUtils`, `ClusteringUtils`, `CompactionUtils` of
Hudi 1.2. In layout 1 cleanings and rollbacks are counted by themselves, in layout 2 they go with
the commits that they stand among.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from catalog.hudi.timeline import REPLACING, WRITES, Action, Instant, Timeline

_COMMITS = (Action.COMMIT, Action.DELTACOMMIT, Action.REPLACECOMMIT)
_SERVICES = (Action.CLEAN, Action.ROLLBACK)


@dataclass(frozen=True, slots=True)
class ArchiveRules:
    """What a table's timeline is to keep.

    Attributes:
        commits_min: commits that stay.
        commits_max: nothing is archived as long as there are no more than so many.
        deltacommits: how many of them since the last compaction stay, for whoever schedules one.
        cleaned_until: what was replaced before this instant is deleted; None where nothing is.
        folded_until: the last compaction of the metadata table; None where it has had none.
        has_metadata: whether there is a metadata table.
        is_merge_on_read: whether the table is compacted.
        told_since: of a metadata table, the first instant that the table itself still tells of.
    """

    commits_min: int
    commits_max: int
    deltacommits: int
    cleaned_until: str | None
    folded_until: str | None
    has_metadata: bool
    is_merge_on_read: bool
    told_since: str | None = None


def archivable(timeline: Timeline, rules: ArchiveRules) -> tuple[Instant, ...]:
    """Return the completed instants that may leave the active timeline, in their order."""
    if rules.has_metadata and rules.folded_until is None:
        return ()
    chosen = _commits(timeline, rules)
    services = _services(timeline, rules, chosen)
    return tuple(sorted([*chosen, *services], key=lambda one: one.time))


def _commits(timeline: Timeline, rules: ArchiveRules) -> Sequence[Instant]:
    commits = timeline.completed(*_COMMITS)
    if len(commits) <= rules.commits_max:
        return ()
    bounds = [
        _before_pending(timeline),
        _since_compaction(timeline, rules),
        _replacing(timeline, rules),
        _unfolded(timeline, rules),
        min((one.time for one in timeline.completed(Action.SAVEPOINT)), default=None),
        rules.told_since,
    ]
    bound = min((one for one in bounds if one is not None), default=None)
    older = [one for one in commits if bound is None or one.time < bound]
    return older[: len(commits) - rules.commits_min]


def _services(
    timeline: Timeline, rules: ArchiveRules, commits: Sequence[Instant]
) -> Iterator[Instant]:
    if timeline.layout > 1:
        services = timeline.completed(*_SERVICES)
        yield from (one for one in services if commits and one.time < commits[-1].time)
        return
    bounds = [one for one in (rules.folded_until, rules.told_since) if one is not None]
    for action in _SERVICES:
        done = timeline.completed(action)
        if len(done) > rules.commits_max:
            older = done[: len(done) - rules.commits_min]
            yield from (one for one in older if all(one.time < bound for bound in bounds))


def commits_to_keep(timeline: Timeline, earliest: str | None, *, least: int) -> int:
    """Return how many commits stay, those that cleaning keeps readable and two more among them.

    Args:
        timeline: of the table.
        earliest: the earliest commit that stays readable; None where all do.
        least: how many stay in any case.
    """
    if earliest is None:
        return least
    later = sum(1 for one in timeline.completed(*_COMMITS) if one.time > earliest)
    return max(least, later + 2)


def _before_pending(timeline: Timeline) -> str | None:
    """Return the last commit before the first pending write, or that write."""
    pending = [one.time for one in timeline.pending() if one.action in WRITES]
    if not pending:
        return None
    before = [one.time for one in timeline.completed(*_COMMITS) if one.time < min(pending)]
    return before[-1] if before else min(pending)


def _since_compaction(timeline: Timeline, rules: ArchiveRules) -> str | None:
    """Return the first of the deltacommits by which it is told whether a compaction is due."""
    if not rules.is_merge_on_read:
        return None
    compactions = [one.time for one in timeline.completed(Action.COMMIT)]
    since = max(compactions, default="")
    deltas = [one.time for one in timeline.completed(Action.DELTACOMMIT) if one.time > since]
    if len(deltas) >= rules.deltacommits:
        return deltas[len(deltas) - rules.deltacommits]
    return since or min(deltas, default=None)


def _replacing(timeline: Timeline, rules: ArchiveRules) -> str | None:
    """Return the first replacement whose replaced files may still be there."""
    replacing = [one.time for one in timeline.instants if one.action in REPLACING]
    bound = rules.cleaned_until
    return min((one for one in replacing if bound is None or one >= bound), default=None)


def _unfolded(timeline: Timeline, rules: ArchiveRules) -> str | None:
    """Return the first commit that the metadata table has in logs only."""
    if rules.folded_until is None:
        return None
    return min(
        (
            one.time
            for one in timeline.completed(*_COMMITS)
            if (one.completion_time or one.time) > rules.folded_until
        ),
        default=None,
    )
