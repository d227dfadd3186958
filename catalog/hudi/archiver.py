"""Upkeep that moves old instants from the active timeline into the archive.

They are in the archive before they leave the timeline: a process that dies in between leaves
instants that are in both, which the next one removes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from catalog.hudi.archive_writers import Leaving, archived_already, put_into_archive
from catalog.hudi.archiving import ArchiveRules, archivable, commits_to_keep
from catalog.hudi.cleaner import CleanTarget, cleaned_until, earliest_kept, replaced_groups
from catalog.hudi.locking import Lock
from catalog.hudi.metadata_table.table import open_metadata_table
from catalog.hudi.reading import Source
from catalog.hudi.timeline import (
    COMPLETED_AS,
    Action,
    Instant,
    State,
    StateFile,
    state_files,
    timeline_folder,
)
from catalog.sweeping import Tally
from catalog.upkeep import UpkeepOrder, UpkeepResult

# What Hudi's writers keep where nothing is said.
_COMMITS_MIN, _COMMITS_MAX, _DELTACOMMITS = 20, 30, 5
_MIN, _MAX = "hoodie.keep.min.commits", "hoodie.keep.max.commits"
_DELTAS = "hoodie.compact.inline.max.delta.commits"
# Length of the files of instants that are archived together; in memory they are several times it.
_PORTION_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Archive:
    """Keeps the active timeline of a table short."""

    target: CleanTarget

    @property
    def name(self) -> str:
        """`archive`."""
        return "archive"

    @property
    def is_usual(self) -> bool:
        """A timeline that nobody shortens is read by everybody, again and again."""
        return True

    def check(self, order: UpkeepOrder) -> None:
        """Do nothing: every timeline that is read can be archived."""
        del order

    def run(self, order: UpkeepOrder) -> UpkeepResult:
        """Archive what may leave the timeline; the files that are counted are its instants'.

        Raises:
            CatalogError: the timeline cannot be read, or the storage refuses.
        """
        tally = Tally(self.name)
        with self.target.locked() as (lock, source):
            rules = _rules(self.target, source)
            chosen = Choice.of(source, rules)
            tally.add([(one.file_name, 0) for one in chosen.instants])
            if not order.is_dry_run:
                archive_instants(source, chosen, lock)
        return tally.result(f"{rules.commits_min} commits at least stay")


@dataclass(frozen=True, slots=True)
class Choice:
    """What leaves the timeline.

    Attributes:
        instants: completed, in the order of time.
        archived: those of them that the archive holds: an archiving died before it was through.
    """

    instants: tuple[Instant, ...]
    archived: AbstractSet[Instant]

    @classmethod
    def of(cls, source: Source, rules: ArchiveRules) -> Self:
        """Choose what is due, and what would have left by then."""
        due = archivable(source.timeline, rules)
        possible = archivable(source.timeline, replace(rules, commits_max=rules.commits_min))
        known = archived_already(source, possible)
        return cls(tuple(one for one in possible if one in due or one in known), known)


def _rules(target: CleanTarget, source: Source) -> ArchiveRules:
    config, timeline = source.config, source.timeline
    least = config.count(_MIN, default=_COMMITS_MIN)
    most = config.count(_MAX, default=_COMMITS_MAX)
    earliest = earliest_kept(source)
    commits = commits_to_keep(timeline, None if earliest is None else earliest.time, least=least)
    metadata = open_metadata_table(source.storage, source.root, config)
    folded = None if metadata is None else metadata.timeline().completed(Action.COMMIT)
    return ArchiveRules(
        commits_min=commits,
        commits_max=commits + max(1, most - least),
        deltacommits=config.count(_DELTAS, default=_DELTACOMMITS),
        cleaned_until=_replaced_until(target, source),
        folded_until=folded[-1].time if folded else None,
        has_metadata=metadata is not None,
        is_merge_on_read=config.is_merge_on_read,
    )


def _replaced_until(target: CleanTarget, source: Source) -> str | None:
    """Return the instant before which no file that was replaced is left; None where any may be.

    Cleanings say it by a rule. They leave files of what was replaced while they were planned, and
    those that could not be deleted: these would be read again once nothing says that they are gone.
    """
    until = cleaned_until(source)
    earlier = [one for one in replaced_groups(source) if until and one.instant < until]
    if until is None or not earlier:
        return until
    paths = pa.array({one.group[0] for one in earlier}, pa.string())
    listing = target.listing(source)
    listing = listing.filter(pc.is_in(listing["partition_path"], value_set=paths))
    columns = (listing[name].to_pylist() for name in ("partition_path", "name"))
    pairs = zip(*columns, strict=True)
    # Names of base files and logs begin with the file group.
    left = {(path, name.removeprefix(".").partition("_")[0]) for path, name in pairs}
    return min([until, *(one.instant for one in earlier if one.group in left)])


def archive_instants(source: Source, chosen: Choice, lock: Lock) -> None:
    """Move completed instants of a table, or of its metadata table, into the archive.

    What they say is held in memory for some of them at a time.

    Args:
        source: the table.
        chosen: what leaves the timeline.
        lock: of the table, held.
    """
    for some in _portions(_leaving(source, chosen.instants)):
        if fresh := [one for one in some if one.instant not in chosen.archived]:
            put_into_archive(source, fresh, lock)
        lock.require()
        _remove(source, some)


def _leaving(source: Source, chosen: Sequence[Instant]) -> list[Leaving]:
    """Find the files of all states of some instants."""
    files: dict[tuple[str, Action], list[StateFile]] = {_key(one): [] for one in chosen}
    for one in state_files(source.storage, source.root, source.config):
        files.get(_key(one.instant), []).append(one)
    states = list(State)
    for found in files.values():
        found.sort(key=lambda one: states.index(one.instant.state))
    return [Leaving(one, tuple(files[_key(one)])) for one in chosen]


def _key(instant: Instant) -> tuple[str, Action]:
    return instant.time, COMPLETED_AS.get(instant.action, instant.action)


def _portions(leaving: Sequence[Leaving]) -> Iterator[list[Leaving]]:
    """Yield instants in their order, so many that their files are not too large together."""
    some: list[Leaving] = []
    for one in leaving:
        if some and sum(each.size_bytes for each in (*some, one)) > _PORTION_BYTES:
            yield some
            some = []
        some.append(one)
    if some:
        yield some


def _remove(source: Source, some: Sequence[Leaving]) -> None:
    """Remove instants from the timeline: an instant that lost its end first would seem pending."""
    folder = timeline_folder(source.root, source.config)
    for one in some:
        names = [file.instant.file_name for file in one.files if not file.instant.is_completed]
        source.storage.delete([folder.child(name) for name in names])
    for one in some:
        source.storage.delete([folder.child(one.instant.file_name)])
