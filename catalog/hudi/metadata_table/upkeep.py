"""Keep the metadata table small when only we write to it: compact it, delete its older slices.

Deleting leaves no instant on its timeline: what is deleted is what its readers do not look at.
"""

from __future__ import annotations

from catalog.hudi.cleaning import CleanPolicy, Kept, unneeded_files
from catalog.hudi.metadata_table.compaction import compact_metadata
from catalog.hudi.metadata_table.table import MetadataTable
from catalog.hudi.metadata_table.view import MetadataView, completed_since_compaction, read_view
from catalog.hudi.reading import read_pending, read_places
from catalog.hudi.timeline import Timeline

# Hudi's defaults. Readers that began before a compaction may still want what it stands for.
_VERSIONS = 2
_COMMITS_MIN = 3


def maintain_metadata(table: MetadataTable, data: Timeline) -> None:
    """Compact and clean the metadata table as far as it is due and safe.

    Args:
        table: the metadata table.
        data: the instants of the table, read under its lock, which is still held.
    """
    compact_metadata(table, data)
    clean_metadata(table, data)


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
