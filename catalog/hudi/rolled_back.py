"""Writes that work took up and that were rolled back since: their rows must not come back with it.

A completed write can be rolled back while a compaction of its logs is running; nothing else tells
the one of the other. Since layout 2 logs are named after their writes; in layout 1 it is the plan
of the rollback that says which write goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from catalog.commits import Commit
from catalog.hudi.details import instant_record
from catalog.hudi.file_names import read_name
from catalog.hudi.reading import Source, read_commits
from catalog.hudi.timeline import Action, Instant, State, read_instant, timeline_folder


def rolled_back(source: Source, commit: Commit, instant: Instant) -> str:
    """Return the time of a write that is in a compaction and was taken back; empty for none.

    Args:
        source: the table as it is under its lock.
        commit: of the compaction.
        instant: that is to be completed.
    """
    is_named = source.timeline.layout > 1
    found = _unknown(source, commit) if is_named else _undone(source, commit, instant)
    return min(found, default="")


def undone_by(source: Source, instant: Instant) -> str:
    """Return the time of what is taking a pending instant back; empty for nothing.

    Its markers go last: until then nothing else tells that its files are being deleted, as they are
    once its writer has given no sign of life for a while. A restore may take back anything.
    """
    for one in source.timeline.pending(Action.ROLLBACK, Action.RESTORE):
        undone = {} if one.action is Action.RESTORE else _plan_of(source, one)
        # A plan that is being written says nothing yet.
        if undone.get("commitTime", instant.time) == instant.time:
            return one.time
    return ""


def _plan_of(source: Source, rollback: Instant) -> Mapping[str, str]:
    """Return what a rollback takes back; nothing while that is being written."""
    name = rollback.named(State.REQUESTED)
    plan = read_instant(source.storage, source.root, source.config, name)
    return instant_record(name, plan).get("instantToRollback") or {}


def _unknown(source: Source, commit: Commit) -> Iterable[str]:
    """Return the writes of logs that are neither on the timeline nor archived."""
    paths = (path for one in commit.rewrites for path in one.files.delete_files["path"].to_pylist())
    times = {read_name(path).instant for path in paths}
    missing = {one for one in times if not source.timeline.is_log_visible(one)}
    return missing - {time for time, _ in read_commits(source, missing)}


def _undone(source: Source, commit: Commit, instant: Instant) -> Iterator[str]:
    """Yield writes before the state that was planned against, rolled back since it was."""
    base = commit.base.snapshot_id
    for one in source.timeline.instants:
        if (
            one.action is Action.ROLLBACK
            and one.time > base
            and not _was_known(source, one, instant)
        ):
            undone = _plan_of(source, one)
            time = undone.get("commitTime") or ""
            if time and time <= base and not _is_begun_anew(source, undone):
                yield time


def _was_known(source: Source, rollback: Instant, instant: Instant) -> bool:
    """Whether a rollback was through before an instant was requested, by the store's one clock."""
    folder = timeline_folder(source.root, source.config)
    names = (rollback.file_name, instant.named(State.REQUESTED))
    done, requested = (source.storage.head(folder.child(name)).modified_at for name in names)
    return rollback.is_completed and done < requested


def _is_begun_anew(source: Source, undone: Mapping[str, str]) -> bool:
    """Whether what was taken back is carried out under the same time, as compactions are."""
    again = source.timeline.find(undone["commitTime"])
    return undone.get("action") == Action.COMPACTION or (again is not None and again.is_completed)
