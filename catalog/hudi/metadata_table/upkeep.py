"""Keep the metadata table small when only we write to it: compacted, cleaned, instants archived.

Cleaning leaves no instant on its timeline: what is deleted is what its readers do not look at.
"""

from __future__ import annotations

from catalog.hudi.archiver import Choice, archive_instants
from catalog.hudi.archiving import ArchiveRules
from catalog.hudi.cleaning import CleanPolicy, Kept, unneeded_files
from catalog.hudi.locking import Lock
from catalog.hudi.metadata_table.compaction import DELTACOMMITS_MAX, compact_metadata
from catalog.hudi.metadata_table.table import MetadataTable
from catalog.hudi.metadata_table.view import MetadataView, completed_since_compaction, read_view
from catalog.hudi.reading import Source, read_pending, read_places
from catalog.hudi.timeline import WRITES, Timeline

# Hudi's defaults. Readers that began before a compaction may still want what it stands for.
_VERSIONS = 2
_COMMITS_MIN = 3
_ARCHIVED_FROM, _ARCHIVED_TO = 31, 21


def maintain_metadata(table: MetadataTable, data: Timeline, lock: Lock) -> None:
    """Compact, clean and archive the metadata table as far as it is due and safe.

    Args:
        table: the metadata table.
        data: the instants of the table, read under its lock.
        lock: of the table, held.
    """
    compact_metadata(table, data)
    lock.require()
    clean_metadata(table, data)
    archive_metadata(table, data, lock)


def clean_metadata(table: MetadataTable, data: Timeline) -> int:
    """Delete the files of all slices but the newest two; return how many."""
    view = read_view(table, data)
    if len(completed_since_compaction(view.timeline)) < _COMMITS_MIN:
        return 0
    return sum(_clean(view, partition) for partition in table.partitions)


def _clean(view: MetadataView, partition: str) -> int:
    places = read_places(view.source, view.listing(partition))
    pending = read_pending(view.source)
    kept = Kept(CleanPolicy.VERSIONS, _VERSIONS, None, pending, ())
    names = unneeded_files(places, kept)["name"].to_pylist()
    folder = view.table.root.child(partition)
    view.table.storage.delete([folder.child(name) for name in names])
    return len(names)


def archive_metadata(table: MetadataTable, data: Timeline, lock: Lock) -> int:
    """Take instants that a compaction has folded off the timeline; return how many.

    Those of writes that the table itself still tells of stay: by them it is known what is to be
    taken back here when one of those writes is.
    """
    timeline = table.timeline()
    rules = ArchiveRules(
        commits_min=_ARCHIVED_TO,
        commits_max=_ARCHIVED_FROM,
        deltacommits=DELTACOMMITS_MAX,
        cleaned_until=None,
        folded_until=None,
        has_metadata=False,
        is_merge_on_read=True,
        told_since=_told_since(data),
    )
    source = Source(table.storage, table.root, table.config, timeline)
    chosen = Choice.of(source, rules)
    archive_instants(source, chosen, lock)
    return len(chosen.instants)


def _told_since(data: Timeline) -> str | None:
    commits = [one.time for one in data.instants if one.action in WRITES]
    return min([*commits, *(one.time for one in data.pending())], default=None)
