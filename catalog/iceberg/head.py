"""What a snapshot holds of the files that a commit replaces and of the deletes beside them.

A reader lives as long as one commit. Manifests never change, so each is opened once however many
heads the commit meets; those that the manifest list excludes are not opened at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile as AnyDataFile
from pyiceberg.manifest import DataFileContent, ManifestContent
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.types import PrimitiveType

from catalog.commits import Commit
from catalog.errors import UnsupportedTableError
from catalog.iceberg.data_file import DataFile
from catalog.iceberg.entries import live_entries, manifests_of
from catalog.iceberg.manifest_entries import Entry
from catalog.iceberg.manifest_lists import ListedManifest
from catalog.iceberg.partition import decode_key, encode_key
from catalog.iceberg.pruning import Values, may_hold
from catalog.model import DATA_FILES

# Manifests in flight at once: they hide the latency of storage, decoding holds one core anyway.
_READERS = 4


@dataclass(frozen=True, slots=True)
class LiveEntry:
    """A live file, and the manifest that lists it."""

    manifest: ListedManifest
    entry: Entry

    @property
    def file(self) -> DataFile:
        """The file."""
        return self.entry.data_file

    @property
    def is_equality(self) -> bool:
        """Whether it deletes rows by their values."""
        return bool(self.file.content == DataFileContent.EQUALITY_DELETES)

    @property
    def sequence_number(self) -> int:
        """Its data sequence number; zero in tables of format version 1."""
        return self.entry.sequence_number or 0


@dataclass(frozen=True, slots=True)
class Head:
    """The state that a commit meets.

    Attributes:
        manifests: all that hold live files.
        files: the files to be replaced that are live, by path.
        deletes: the delete files that may apply to them, of any kind.
        unpartitioned: ids of the specs that part nothing: equality deletes of theirs apply to
            every partition.
    """

    manifests: tuple[ListedManifest, ...]
    files: Mapping[str, LiveEntry]
    deletes: tuple[LiveEntry, ...]
    unpartitioned: frozenset[int]

    def scope(self, delete: LiveEntry) -> Scope:
        """Return which partitions an equality delete file applies to."""
        is_global = delete.file.spec_id in self.unpartitioned
        return Scope(None if is_global else partition_text(delete.file))


@dataclass(frozen=True, slots=True)
class Scope:
    """The partition that an equality delete file applies to; None for all."""

    partition: str | None

    def holds(self, partition: str) -> bool:
        """Whether the deletes apply to data files of a partition."""
        return self.partition in (None, partition)


@dataclass(frozen=True, slots=True)
class _Opened:
    entries: tuple[LiveEntry, ...]
    paths: frozenset[str]


class HeadReader:
    """Reads one head after another on behalf of one commit."""

    def __init__(self, io: FileIO, commit: Commit) -> None:
        self._io = io
        self._opened: dict[str, _Opened] = {}
        files = [DATA_FILES.empty_table(), *(one.files.files for one in commit.rewrites)]
        table = pa.concat_tables(files).unify_dictionaries()
        self._replaced = frozenset(table["path"].to_pylist())
        self._keys = frozenset(table["partition_key"].unique().to_pylist())
        self._partitions: dict[int, list[Values]] = {}
        for spec_id, values in map(decode_key, self._keys):
            self._partitions.setdefault(spec_id, []).append(values)
        self._planned_deletes = frozenset(
            path
            for rewrite in commit.rewrites
            for path in rewrite.files.delete_files["path"].to_pylist()
        )
        numbers = table["sequence_number"].to_numpy()
        self._base_sequence_number = commit.base.sequence_number
        self._sequence_numbers = (int(numbers.min()), int(numbers.max())) if len(numbers) else None

    def read(self, metadata: TableMetadata, snapshot: Snapshot | None) -> Head:
        """Read what the snapshot holds of the files of the commit; None for an empty table.

        Raises:
            LocationError: a manifest lies outside of the table's prefixes.
            ObjectNotFoundError: a manifest is missing.
        """
        listed = manifests_of(snapshot, self._io) if snapshot else []
        manifests = tuple(filter(has_live_files, listed))
        touched = [one for one in manifests if self._is_touched(one, metadata)]
        data = [one for one in touched if one.content == ManifestContent.DATA]
        opened = self._open_all(filter(self._may_list_replaced, data))
        return Head(
            manifests=manifests,
            files={one.file.file_path: one for part in opened for one in part.entries},
            deletes=tuple(self._deletes(manifests, touched)),
            unpartitioned=frozenset(
                spec.spec_id for spec in metadata.partition_specs if spec.is_unpartitioned()
            ),
        )

    def _deletes(
        self, manifests: Iterable[ListedManifest], touched: Collection[ListedManifest]
    ) -> list[LiveEntry]:
        """Return the delete files that may apply to the files of the commit.

        One that names its data file applies to it whatever partition it is filed under. So what is
        younger than the base is opened in any case, and everything when a planned one is missing.
        """
        deletes = [one for one in manifests if one.content == ManifestContent.DELETES]
        likely = [one for one in deletes if one in touched or self._is_younger(one)]
        entries = self._delete_entries(likely)
        if self._planned_deletes <= {one.entry.name for one in entries}:
            return entries
        return self._delete_entries(deletes)

    def _delete_entries(self, manifests: Iterable[ListedManifest]) -> list[LiveEntry]:
        return [one for part in self._open_all(manifests) for one in part.entries]

    def _is_younger(self, manifest: ListedManifest) -> bool:
        return (manifest.sequence_number or 0) > self._base_sequence_number

    def live_paths(
        self, metadata: TableMetadata, manifests: Iterable[ListedManifest]
    ) -> Iterator[str]:
        """Yield the paths of all live data files, those of untouched partitions last."""
        data = [one for one in manifests if one.content == ManifestContent.DATA]
        data.sort(key=lambda one: not self._is_touched(one, metadata))
        for opened in self._open_all(data):
            yield from opened.paths

    def outliving(
        self, metadata: TableMetadata, head: Head, replaced: Collection[str]
    ) -> Iterator[LiveEntry]:
        """Yield the data files that a commit leaves in place.

        Only those that equality deletes beside the commit may apply to, by partition and age.
        """
        equality = [one for one in head.deletes if one.is_equality]
        youngest = max((one.sequence_number for one in equality), default=0)
        is_wide = any(head.scope(one).partition is None for one in equality)
        for manifest in head.manifests:
            is_data = manifest.content == ManifestContent.DATA
            is_old = least_sequence_number(manifest) < youngest
            if is_data and is_old and (is_wide or self._is_touched(manifest, metadata)):
                for entry in live_entries(manifest, self._io):
                    if entry.path not in replaced:
                        yield LiveEntry(manifest, entry)

    def young_paths(self, metadata: TableMetadata, head: Head) -> set[str]:
        """Return the live data files in the commit's partitions that may be younger than its base.

        A manifest is at least as young as what it says was added.
        """
        young = (
            one
            for one in head.manifests
            if one.content == ManifestContent.DATA
            and (one.sequence_number or 0) >= self._base_sequence_number
            and self._is_touched(one, metadata)
        )
        return {path for opened in self._open_all(young) for path in opened.paths}

    def _is_touched(self, manifest: ListedManifest, metadata: TableMetadata) -> bool:
        spec = metadata.specs().get(manifest.partition_spec_id)
        if spec is None:
            return False
        partitions = self._partitions.get(spec.spec_id, [])
        if manifest.content == ManifestContent.DELETES and spec.is_unpartitioned():
            return True  # equality deletes of an unpartitioned spec apply everywhere
        return bool(partitions) and may_hold(manifest, partition_kinds(metadata, spec), partitions)

    def _may_list_replaced(self, manifest: ListedManifest) -> bool:
        if self._sequence_numbers is None:
            return False
        least, greatest = self._sequence_numbers
        return least_sequence_number(manifest) <= greatest and (
            (manifest.sequence_number or 0) >= least
        )

    def _open_all(self, manifests: Iterable[ListedManifest]) -> Iterator[_Opened]:
        """Open manifests a few at a time, so that no more than these are in memory decoded."""
        remaining = iter(manifests)
        with ThreadPoolExecutor(_READERS) as readers:
            while batch := list(islice(remaining, _READERS)):
                yield from readers.map(self._open, batch)

    def _open(self, manifest: ListedManifest) -> _Opened:
        known = self._opened.get(manifest.manifest_path)
        if known is None:
            known = self._decode(manifest)
            self._opened[manifest.manifest_path] = known
        return known

    def _decode(self, manifest: ListedManifest) -> _Opened:
        entries = live_entries(manifest, self._io)
        if manifest.content == ManifestContent.DELETES:
            live = [LiveEntry(manifest, entry) for entry in entries]
            return _Opened(tuple(live), frozenset())
        held = [one for one in entries if one.path in self._replaced]
        return _Opened(
            # Metrics are most of the memory and mark no file.
            tuple(LiveEntry(manifest, entry.without_metrics()) for entry in held),
            frozenset(entry.path for entry in entries),
        )


def partition_text(file: AnyDataFile) -> str:
    """Return the partition of a file as one comparable text, which two NaNs share."""
    return encode_key(file.spec_id, [file.partition[index] for index in range(len(file.partition))])


def partition_kinds(metadata: TableMetadata, spec: PartitionSpec) -> Sequence[PrimitiveType]:
    """Return the types of the fields of a spec."""
    fields = spec.partition_type(schema_for(metadata, spec)).fields
    return [field.field_type for field in fields]  # type: ignore[misc]  # no partition is nested


def schema_for(metadata: TableMetadata, spec: PartitionSpec) -> Schema:
    """Return the newest schema that has every column that a spec is computed from.

    An old spec outlives the columns of its fields: its files keep their partition values.

    Raises:
        UnsupportedTableError: no schema is left that has them: the type of the values is lost.
    """
    sources = {field.source_id for field in spec.fields}
    schemas = sorted(metadata.schemas, key=lambda schema: -schema.schema_id)
    for schema in (metadata.schema(), *schemas):
        if sources <= schema.field_ids:
            return schema
    raise UnsupportedTableError(
        f"no schema of the table has the columns of partition spec {spec.spec_id}",
        hint="rewrite the files of this spec with the engine that removed the schema",
    )


def least_sequence_number(manifest: ListedManifest) -> int:
    """Return a number that no live file of a manifest is below.

    What it keeps of older snapshots is older than itself. Where its row in the list denies that, as
    older releases of PyIceberg had it for files of format version 1, nothing is known.
    """
    least = manifest.min_sequence_number or 0
    is_wrong = manifest.has_existing_files() and least >= (manifest.sequence_number or 0)
    return 0 if is_wrong else least


def has_live_files(manifest: ListedManifest) -> bool:
    """Whether a manifest lists files that are in the table."""
    return manifest.has_added_files() or manifest.has_existing_files()
