"""Find files on disk that nothing in a table refers to."""

from __future__ import annotations

from pathlib import Path

from pyiceberg.table import Table

from catalog.location import Location


def unreferenced_files(table: Table) -> list[str]:
    """Return the files under a local table's location that no metadata of it names, sorted."""
    table = table.refresh()
    root = _place(table.location())
    known = {table.metadata_location, *(e.metadata_file for e in table.metadata.metadata_log)}
    for snapshot in table.snapshots():
        known.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            known.add(manifest.manifest_path)
            entries = manifest.fetch_manifest_entry(table.io, discard_deleted=True)
            known.update(entry.data_file.file_path for entry in entries)
    on_disk = {path for path in root.rglob("*") if path.is_file()}
    return sorted(str(path) for path in on_disk - {_place(path) for path in known})


def _place(path: str) -> Path:
    return Path(Location.parse(path).path)
