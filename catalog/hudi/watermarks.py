"""How far sources of changes have been merged: told by the commits that merged them.

Each such commit has what those before it said, too, so the newest of them tells all. Other writers
go on and theirs is archived some day: a small file beside the timeline names the last two, for
nobody searches a whole archive. It is written before the commit, which may not come about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from catalog.commits import Watermark
from catalog.errors import CorruptTableError, ObjectNotFoundError
from catalog.hudi.archived_commits import archived_commits
from catalog.hudi.details import CommitDetails
from catalog.hudi.reading import Source, read_details
from catalog.hudi.states import order_of
from catalog.hudi.timeline import Action
from catalog.location import Location

# Before the name of a source, in the further pairs of a commit.
PREFIX = "compactor.watermark."
_WRITES = (Action.COMMIT, Action.DELTACOMMIT)


@dataclass(frozen=True, slots=True)
class Merged:
    """How far sources have been merged.

    Attributes:
        time: the commit that tells; empty for none.
        sources: values by the names of sources.
    """

    time: str
    sources: Mapping[str, str]

    def pairs(self, watermarks: Iterable[Watermark]) -> dict[str, str]:
        """Return what a commit says of all sources that merges some."""
        found = {**self.sources, **{one.source: one.value for one in watermarks}}
        return {PREFIX + name: value for name, value in found.items()}


def read_merged(source: Source) -> Merged:
    """Return how far each source has been merged.

    Raises:
        CorruptTableError: sources have been merged, and it cannot be told any more how far.
    """
    newest = sorted(source.timeline.completed(*_WRITES), key=order_of, reverse=True)
    for instant in newest:
        if found := _told(read_details(source, instant)):
            return Merged(instant.time, found)
    noted = _noted(source)
    archived = archived_commits(source.storage, source.root, source.config, noted)
    for time in reversed(noted):
        if time in archived and (found := _told(archived[time])):
            return Merged(time, found)
    if len(noted) < 2:
        # The first merge of all may not have come about, or the table was restored to before it.
        return Merged("", {})
    raise CorruptTableError(
        f"it cannot be told how far changes have been merged: the commits {', '.join(noted)} are"
        " neither on the timeline nor in the archive",
        hint=f"if the table was restored to before them, delete {_note(source)}",
    )


def note_merge(source: Source, before: Merged, time: str) -> None:
    """Note that an instant is about to be completed that tells of sources."""
    times = [one for one in (before.time, time) if one]
    source.storage.write(_note(source), msgspec.json.encode(times))


def _told(details: CommitDetails) -> dict[str, str]:
    pairs = details.extra.items()
    return {name.removeprefix(PREFIX): value for name, value in pairs if name.startswith(PREFIX)}


def _noted(source: Source) -> list[str]:
    try:
        data = source.storage.read(_note(source))
    except ObjectNotFoundError:
        return []
    try:
        return msgspec.json.decode(data, type=list[str])
    except msgspec.DecodeError as error:
        raise CorruptTableError(f"{_note(source)} does not decode: {error}") from error


def _note(source: Source) -> Location:
    return source.root.child(".hoodie", ".compactor", "merges.json")
