"""Upkeep that moves old instants from the active timeline into the archive, in layout 2.

They are written to a Parquet file, a new manifest names it, and then they leave the timeline: a
process that dies in between leaves instants that are in both, which the next one removes.
Specification: "LSM History Timeline" of Hudi's technical specification.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.errors import ObjectNotFoundError, UnsupportedTableError
from catalog.hudi.archived import archive_manifest, completion_times
from catalog.hudi.archiving import ArchiveRules, archivable, commits_to_keep
from catalog.hudi.avro_schemas import Kind, schema_text
from catalog.hudi.cleaner import CleanTarget, cleaned_until, earliest_kept
from catalog.hudi.locking import Lock
from catalog.hudi.metadata_table.table import open_metadata_table
from catalog.hudi.reading import Source
from catalog.hudi.timeline import Action, Instant, State, read_instant, timeline_folder
from catalog.location import Location
from catalog.sweeping import Tally
from catalog.upkeep import UpkeepOrder, UpkeepResult

_LAYOUT = 2
# What Hudi's writers keep where nothing is said.
_COMMITS_MIN, _COMMITS_MAX, _DELTACOMMITS = 20, 30, 5
_MIN, _MAX = "hoodie.keep.min.commits", "hoodie.keep.max.commits"
_DELTAS = "hoodie.compact.inline.max.delta.commits"
_VERSION = 1
_COLUMNS = pa.schema(
    [
        pa.field("instantTime", pa.string()),
        pa.field("completionTime", pa.string()),
        pa.field("action", pa.string()),
        pa.field("metadata", pa.binary()),
        pa.field("plan", pa.binary()),
        pa.field("version", pa.int32(), nullable=False),
    ]
)
_FOOTER = {"writer.model.name": "avro", "parquet.avro.schema": schema_text(Kind.ARCHIVED_2)}
# Actions that have a plan, by what they are called while they are pending.
_PLANNED = {
    Action.COMMIT: (Action.COMPACTION,),
    Action.DELTACOMMIT: (Action.LOGCOMPACTION,),
    Action.REPLACECOMMIT: (Action.CLUSTERING, Action.REPLACECOMMIT),
    Action.CLEAN: (Action.CLEAN,),
}


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
        """Whether the table has the layout that is archived here; writers archive the other."""
        return self.target.source().config.layout == _LAYOUT

    def check(self, order: UpkeepOrder) -> None:
        """Refuse tables whose archive has the old form.

        Raises:
            UnsupportedTableError: it has.
        """
        del order
        version = self.target.source().config.version
        if not self.is_usual:
            raise UnsupportedTableError(
                f"the timeline of a table of version {version} is archived by its writers only",
                hint="leave it to them, or upgrade the table",
            )

    def run(self, order: UpkeepOrder) -> UpkeepResult:
        """Archive what may leave the timeline; the files that are counted are its instants'.

        Raises:
            UnsupportedTableError: as `check` does.
            CatalogError: the timeline cannot be read, or the storage refuses.
        """
        self.check(order)
        tally = Tally(self.name)
        with self.target.locked() as (lock, source):
            rules = _rules(source)
            chosen = archivable(source.timeline, rules)
            tally.add([(one.file_name, 0) for one in chosen])
            if chosen and not order.is_dry_run:
                archive_instants(source, chosen, lock)
        return tally.result(f"{rules.commits_min} commits at least stay")


def _rules(source: Source) -> ArchiveRules:
    config, timeline = source.config, source.timeline
    least = int(config.get(_MIN) or _COMMITS_MIN)
    most = int(config.get(_MAX) or _COMMITS_MAX)
    earliest = earliest_kept(source)
    commits = commits_to_keep(timeline, None if earliest is None else earliest.time, least=least)
    metadata = open_metadata_table(source.storage, source.root, config)
    folded = None if metadata is None else metadata.timeline().completed(Action.COMMIT)
    return ArchiveRules(
        commits_min=commits,
        commits_max=commits + max(1, most - least),
        deltacommits=int(config.get(_DELTAS) or _DELTACOMMITS),
        cleaned_until=cleaned_until(source),
        folded_until=folded[-1].time if folded else None,
        has_metadata=metadata is not None,
        is_merge_on_read=config.is_merge_on_read,
    )


def archive_instants(source: Source, chosen: Sequence[Instant], lock: Lock) -> None:
    """Move completed instants of a table, or of its metadata table, into the archive.

    Args:
        source: the table, of layout 2.
        chosen: what leaves the timeline, in the order of time.
        lock: of the table, held.
    """
    folder = source.root.child(source.config.history_path)
    times = {one.time for one in chosen}
    known = completion_times(source.storage, source.root, source.config, times)
    fresh = [one for one in chosen if known.get(one.time) != one.completion_time]
    if fresh:
        name = f"{fresh[0].time}_{fresh[-1].time}_0.parquet"
        size_bytes = _write(source, fresh, folder.child(name))
        lock.require()
        _name_in_manifest(source, folder, name, size_bytes)
    lock.require()
    _remove(source, chosen)


def _write(source: Source, chosen: Sequence[Instant], location: Location) -> int:
    """Write instants with what they say; a file of that name that no manifest names is torn."""
    rows = [
        {
            "instantTime": one.time,
            "completionTime": one.completion_time,
            "action": str(one.action),
            "metadata": _content(source, one.file_name) or None,
            "plan": _plan(source, one) or None,
            "version": _VERSION,
        }
        for one in chosen
    ]
    table = pa.Table.from_pylist(rows, schema=_COLUMNS).replace_schema_metadata(_FOOTER)
    made = pa.BufferOutputStream()
    pq.write_table(table, made, compression="gzip", store_schema=False)
    data = made.getvalue().to_pybytes()
    source.storage.write(location, data)
    return len(data)


def _plan(source: Source, instant: Instant) -> bytes:
    for action in _PLANNED.get(instant.action, ()):
        name = Instant(instant.time, action, State.REQUESTED, None, "").named(State.REQUESTED)
        if data := _content(source, name):
            return data
    return b""


def _content(source: Source, name: str) -> bytes:
    try:
        return read_instant(source.storage, source.root, source.config, name)
    except ObjectNotFoundError:
        return b""


def _name_in_manifest(source: Source, folder: Location, name: str, size_bytes: int) -> None:
    """Write the next manifest, and say that it counts."""
    version, entries = archive_manifest(source.storage, folder)
    files = [one for one in entries if one["fileName"] != name]
    files.append({"fileName": name, "fileLen": size_bytes})
    text = json.dumps({"files": files}, indent=2)
    source.storage.write(folder.child(f"manifest_{version + 1}"), text.encode())
    source.storage.write(folder.child("_version_"), str(version + 1).encode())


def _remove(source: Source, chosen: Sequence[Instant]) -> None:
    """Remove instants from the timeline: an instant that lost its end first would seem pending."""
    folder = timeline_folder(source.root, source.config)
    for one in chosen:
        actions = (one.action, *_PLANNED.get(one.action, ()))
        states = (State.REQUESTED, State.INFLIGHT)
        names = {
            Instant(one.time, action, state, None, "").named(state)
            for action in actions
            for state in states
        }
        source.storage.delete([folder.child(name) for name in sorted(names)])
    for one in chosen:
        source.storage.delete([folder.child(one.file_name)])
