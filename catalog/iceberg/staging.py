"""A snapshot of ours written out: manifests, the manifest list, and the summary.

Names carry the commit's id, so that whatever a killed commit leaves behind can be told apart from
everybody else's files and be removed.

Specification: https://iceberg.apache.org/spec/#manifests, https://iceberg.apache.org/spec/#snapshots
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from itertools import count
from time import time_ns

from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFileContent, ManifestContent, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata, TableMetadataV3
from pyiceberg.table.snapshots import Operation, Snapshot, Summary

from catalog.commits import Commit, CommitKind
from catalog.errors import CorruptTableError
from catalog.iceberg.commit_properties import avro_codec, manifest_size_bytes
from catalog.iceberg.data_file import DataFile
from catalog.iceberg.entries import live_entries
from catalog.iceberg.head import Head, LiveEntry, partition_text, schema_for
from catalog.iceberg.manifest_entries import Entry
from catalog.iceberg.manifest_lists import (
    ListedManifest,
    ListHeader,
    with_row_ids,
    write_manifest_list,
)
from catalog.iceberg.manifest_writing import ManifestForm, ManifestInMaking, begin
from catalog.iceberg.summary import counted_summary
from catalog.iceberg.watermarks import in_summary

_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SNAPSHOT_ID_BITS = 63


@dataclass(frozen=True, slots=True)
class Changes:
    """What a snapshot changes in its parent.

    Attributes:
        added: new files, data and deletes alike.
        removed: files that leave, data and deletes alike.
        operation: what it does to the rows of the table.
    """

    added: tuple[DataFile, ...]
    removed: tuple[LiveEntry, ...]
    operation: Operation = Operation.REPLACE


def snapshot_id_of(commit_id: str) -> int:
    """Return the snapshot id of a commit: the same in every attempt and every process."""
    digest = blake2b(commit_id.encode(), digest_size=8).digest()
    # Zero stands for no snapshot with some writers.
    return (int.from_bytes(digest, "big") >> (64 - _SNAPSHOT_ID_BITS)) or 1


def leftover_pattern(commit_id: str) -> re.Pattern[str]:
    """Return the pattern of the names that the commit gives to its metadata files."""
    stem, number = re.escape(commit_id), snapshot_id_of(commit_id)
    return re.compile(
        rf"{stem}-[0-9a-f]{{8}}-m\d+\.avro|snap-{number}-\d+-{stem}-[0-9a-f]{{8}}\.avro"
    )


class Staging:
    """Writes the snapshots that one commit proposes, one per head that it meets.

    A manifest that is still right for the next head is kept. `discard` removes the rest.
    """

    def __init__(self, io: FileIO, commit: Commit) -> None:
        if not _SAFE_ID.fullmatch(commit.commit_id):
            raise ValueError(
                f"a commit id is letters, digits, dots and dashes: {commit.commit_id!r}"
            )
        self._io = io
        self._commit = commit
        self.snapshot_id = snapshot_id_of(commit.commit_id)
        # Another process may be at the same commit after a crash: no two may share a file.
        self._token = secrets.token_hex(4)
        self._numbers = count()
        self._attempts = count()
        self._written: set[str] = set()
        self._reusable: dict[tuple[str, frozenset[str]], list[ListedManifest]] = {}

    def stage(self, table: Table, head: Head, changes: Changes) -> Snapshot:
        """Write a snapshot that follows the table's current one."""
        manifests = self._manifests(table, head, changes)
        return self._snapshot(table, manifests, self._summary(table.metadata, changes))

    def rearrange(
        self,
        table: Table,
        kept: Sequence[ListedManifest],
        merged: Iterable[Sequence[ListedManifest]],
    ) -> Snapshot:
        """Write a snapshot of the same files, those of some manifests listed in new ones.

        Args:
            table: the table; the snapshot follows its current one.
            kept: manifests that stay as they are.
            merged: those whose live files are put in order together.

        Raises:
            CorruptTableError: the new manifests do not list what the old ones do.
        """
        new = [one for some in merged for one in self._merged(table, some)]
        summary = self._summary(table.metadata, Changes((), ()))
        return self._snapshot(table, [*new, *kept], summary)

    def _merged(self, table: Table, manifests: Sequence[ListedManifest]) -> list[ListedManifest]:
        def entries() -> list[Entry]:
            return [
                self._with_status(ManifestEntryStatus.EXISTING, entry)
                for manifest in manifests
                for entry in live_entries(manifest, self._io)
            ]

        key = ("merged", frozenset(one.manifest_path for one in manifests))
        new = self._write_once(table, manifests[0].content, key=key, entries=entries)
        if _listed(new) != _listed(manifests):
            raise CorruptTableError(
                f"{len(manifests)} manifests list {_listed(manifests)} files and rows,"
                f" what is written of them {_listed(new)}"
            )
        return new

    def _snapshot(
        self, table: Table, manifests: list[ListedManifest], summary: Summary
    ) -> Snapshot:
        metadata = table.metadata
        parent = metadata.current_snapshot()
        sequence_number = metadata.next_sequence_number()
        path = self._list_path(table)
        first_row_id = metadata.next_row_id if isinstance(metadata, TableMetadataV3) else None
        added_rows = None
        if first_row_id is not None:
            manifests, next_row_id = with_row_ids(manifests, first_row_id)
            added_rows = next_row_id - first_row_id
        header = ListHeader(
            metadata.format_version,
            self.snapshot_id,
            parent.snapshot_id if parent else None,
            sequence_number,
            first_row_id,
        )
        codec = avro_codec(metadata.properties)
        self._store(path, write_manifest_list(header, manifests, codec=codec))
        return Snapshot(  # type: ignore[call-arg]  # names are as good as aliases
            snapshot_id=self.snapshot_id,
            parent_snapshot_id=parent.snapshot_id if parent else None,
            sequence_number=sequence_number,
            # A clock that lags behind the last writer's must not set the table back.
            timestamp_ms=max(time_ns() // 1_000_000, metadata.last_updated_ms),
            manifest_list=path,
            summary=summary,
            schema_id=metadata.current_schema_id,
            first_row_id=first_row_id,
            added_rows=added_rows,
        )

    def _store(self, path: str, content: bytes) -> None:
        with self._io.new_output(path).create() as sink:
            sink.write(content)

    def discard(self, kept: Iterable[str] = ()) -> None:
        """Remove what was written, except for the given files."""
        for path in sorted(self._written.difference(kept)):
            self._io.delete(path)
        self._written.clear()

    def _list_path(self, table: Table) -> str:
        attempt = next(self._attempts)
        name = f"snap-{self.snapshot_id}-{attempt}-{self._commit.commit_id}-{self._token}.avro"
        return self._path(table, name)

    def _path(self, table: Table, name: str) -> str:
        path = table.location_provider().new_metadata_location(name)
        self._written.add(path)
        return path

    def _summary(self, metadata: TableMetadata, changes: Changes) -> Summary:
        properties = {
            **dict(self._commit.properties),
            **in_summary(self._commit.watermarks),
            COMMIT_ID: self._commit.commit_id,
        }
        counted = counted_summary(
            metadata,
            added=changes.added,
            removed=[one.file for one in changes.removed],
            properties=properties,
        )
        return Summary(operation=changes.operation, **counted)

    def _manifests(self, table: Table, head: Head, changes: Changes) -> list[ListedManifest]:
        leaving: dict[str, set[str]] = {}
        for one in changes.removed:
            names = leaving.setdefault(one.manifest.manifest_path, set())
            names.add(one.entry.name)
        carried: list[ListedManifest] = []
        for manifest in head.manifests:
            names = leaving.get(manifest.manifest_path, set())
            carried += self._without(table, manifest, names) if names else [manifest]
        return [*self._added(table, changes), *self._deleted(table, changes.removed), *carried]

    def _added(self, table: Table, changes: Changes) -> list[ListedManifest]:
        data = [one for one in changes.added if one.content == DataFileContent.DATA]
        deletes = [one for one in changes.added if one.content != DataFileContent.DATA]
        return [
            *self._added_files(table, ManifestContent.DATA, data),
            *self._added_files(table, ManifestContent.DELETES, deletes),
        ]

    def _added_files(
        self, table: Table, content: ManifestContent, files: Sequence[DataFile]
    ) -> list[ListedManifest]:
        # Deletes are told apart by others, too, by their number: it is that of their snapshot.
        is_data = content == ManifestContent.DATA
        sequence_number = self._sequence_number(table) if is_data else None

        def entries() -> list[Entry]:
            return [
                Entry.added(file, snapshot_id=self.snapshot_id, sequence_number=sequence_number)
                for file in files
            ]

        key = ("added", frozenset(file.name for file in files))
        return self._write_once(table, content, key=key, entries=entries)

    def _sequence_number(self, table: Table) -> int | None:
        """Return that of added data files; None for the one that their snapshot is given."""
        if self._commit.kind is CommitKind.CHANGE or table.metadata.format_version == 1:
            return None
        # What is deleted later must hit the outputs as it would have hit the inputs.
        return self._commit.base.sequence_number

    def _deleted(self, table: Table, removed: Sequence[LiveEntry]) -> list[ListedManifest]:
        manifests: list[ListedManifest] = []
        for content in ManifestContent:
            entries = [
                self._with_status(ManifestEntryStatus.DELETED, one.entry)
                for one in removed
                if one.manifest.content == content
            ]
            key = ("deleted", frozenset(entry.name for entry in entries))
            manifests += self._write_once(table, content, key=key, entries=partial(list, entries))
        return manifests

    def _without(
        self, table: Table, manifest: ListedManifest, names: set[str]
    ) -> list[ListedManifest]:
        """Write a manifest anew, without some of its files; nothing when no other is left."""
        if len(names) == (manifest.added_files_count or 0) + (manifest.existing_files_count or 0):
            return []

        def rest() -> list[Entry]:
            return [
                self._with_status(ManifestEntryStatus.EXISTING, entry)
                for entry in live_entries(manifest, self._io)
                if entry.name not in names
            ]

        key = (manifest.manifest_path, frozenset(names))
        return self._write_once(table, manifest.content, key=key, entries=rest)

    def _write_once(
        self,
        table: Table,
        content: ManifestContent,
        *,
        key: tuple[str, frozenset[str]],
        entries: Callable[[], Sequence[Entry]],
    ) -> list[ListedManifest]:
        """Write entries, or find the manifests with the same ones from the attempt before."""
        if key not in self._reusable:
            self._reusable[key] = self._write_all(table, content, entries())
        return self._reusable[key]

    def _with_status(self, status: ManifestEntryStatus, entry: Entry) -> Entry:
        is_deleted = status == ManifestEntryStatus.DELETED
        snapshot_id = self.snapshot_id if is_deleted else entry.snapshot_id
        return replace(entry, status=status, snapshot_id=snapshot_id)

    def _write_all(
        self, table: Table, content: ManifestContent, entries: Iterable[Entry]
    ) -> list[ListedManifest]:
        """Write entries clustered by partition, so that planners can skip whole manifests."""
        by_spec: dict[int, list[Entry]] = {}
        for entry in entries:
            by_spec.setdefault(entry.spec_id, []).append(entry)
        manifests: list[ListedManifest] = []
        for spec_id, some in sorted(by_spec.items()):
            texts = {one.partition_bytes: one for one in some}
            keys = {key: partition_text(one.data_file) for key, one in texts.items()}
            some.sort(key=lambda one: (keys[one.partition_bytes], one.path))
            manifests += self._write_rolling(self._form(table, content, spec_id), some, table)
        return manifests

    def _write_rolling(
        self, form: ManifestForm, entries: Sequence[Entry], table: Table
    ) -> list[ListedManifest]:
        target_bytes = manifest_size_bytes(table.metadata.properties)
        manifests: list[ListedManifest] = []
        remaining = iter(entries)
        for first in remaining:
            making = begin(form, entries)
            making.add(first)
            while making.size_bytes < target_bytes and (entry := next(remaining, None)):
                making.add(entry)
            manifests.append(self._finish(making, table))
        return manifests

    def _finish(self, making: ManifestInMaking, table: Table) -> ListedManifest:
        name = f"{self._commit.commit_id}-{self._token}-m{next(self._numbers)}.avro"
        path = self._path(table, name)
        content, listed = making.finish(path)
        self._store(path, content)
        return listed

    def _form(self, table: Table, content: ManifestContent, spec_id: int) -> ManifestForm:
        metadata = table.metadata
        spec = metadata.specs()[spec_id]
        schema, codec = schema_for(metadata, spec), avro_codec(metadata.properties)
        version = metadata.format_version
        return ManifestForm(version, spec, schema, content, self.snapshot_id, codec)


def _listed(manifests: Iterable[ListedManifest]) -> tuple[int, int]:
    """Return how many live files manifests list, and how many rows."""
    found = list(manifests)
    files = sum((one.added_files_count or 0) + (one.existing_files_count or 0) for one in found)
    rows = sum((one.added_rows_count or 0) + (one.existing_rows_count or 0) for one in found)
    return files, rows


# The property of a snapshot's summary that holds the id of the commit that made it.
COMMIT_ID = "compactor.commit-id"


def committed_by(snapshot: Snapshot) -> str | None:
    """Return the id of the commit of ours that made a snapshot, None for others' snapshots."""
    properties: Mapping[str, str] = (
        snapshot.summary.additional_properties if snapshot.summary else {}
    )
    return properties.get(COMMIT_ID)
