"""Filters of the keys of data files, kept beside the table: which files cannot hold a changed key.

A filter is a split-block Bloom filter over the hashes of all keys that a file stores, deleted rows
included: it stays right whatever becomes of these. It is known by the path of the file, which no
other file ever has, by the columns of the key, and by a digest of how their values are hashed: a
filter of another version of this program, or of a column whose type has changed since, is none.

A filter that is damaged would hide rows. So its checksum is verified, and without it the file is
looked at.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from pyarrow import types

from catalog.errors import CorruptTableError, ObjectNotFoundError
from catalog.model import FileSlice, Inventory, Snapshot
from catalog.puffin import Blob
from catalog.schema import field_id
from catalog.sidecars import SidecarTable, StoredBlob, stored_blobs
from catalog.storage import Storage
from catalog.table import MapFunction, Table, TableFiles
from compactor.merge.keys import Keys, hashes_of, keys_of
from compactor.parquet.bloom import SplitBlocks
from compactor.rewrite.conversion import is_bytes, stored_type
from compactor.rewrite.fingerprint import Hashes
from compactor.rewrite.read import SliceReader

KIND = "compact-key-filter-v1"
_PATH, _SCHEME, _CHECKSUM = "data-file", "hashing", "crc32"
# Of ten thousand keys that a file does not have, some pass by mistake: see `KEYS_MAX`.
_BITS_PER_KEY = 16
# More keys than this nearly always find a filter that lets one pass.
KEYS_MAX = 1000
# Bytes of filters that are made at a time: they are held in memory until they are written.
_KEPT_BYTES_MAX = 256 << 20
# Bytes of data files whose filters are made by one task.
_TASK_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class KeyColumns:
    """The columns of a key, in the order of their ids: filters know no other."""

    fields: tuple[pa.Field, ...]

    @staticmethod
    def of(schema: pa.Schema, names: Sequence[str]) -> KeyColumns:
        """Put the columns of a key in order."""
        fields = (schema.field(name) for name in names)
        return KeyColumns(tuple(sorted(fields, key=lambda one: field_id(one) or 0)))

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [one.name for one in self.fields]

    @property
    def ids(self) -> tuple[int, ...]:
        """Their ids."""
        return tuple(field_id(one) or 0 for one in self.fields)

    @property
    def scheme(self) -> str:
        """Digest of how values of these types are hashed: equal only where filters are."""
        kinds = [stored_type(one.type) for one in self.fields]
        rows = pa.table([_samples(one) for one in kinds], names=self.names)
        digest = blake2b(keys_of(rows, self.names).hashes.tobytes(), digest_size=16)
        digest.update(repr([*map(str, kinds)]).encode())
        return digest.hexdigest()

    def hashes(self, names: Sequence[str], keys: Keys) -> Hashes:
        """Return the hashes of keys whose columns have these names, in any order."""
        columns = dict(zip(names, keys.columns, strict=True))
        return hashes_of([columns[name] for name in self.names], len(keys))


# Texts of all these lengths take every way through hashing; 64 bits have as many places.
_SAMPLES = 80
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


def _samples(kind: pa.DataType) -> pa.Array:
    """Return values of a type, a null among them, that hashing treats in all of its ways."""
    places = pa.array([None, *range(_SAMPLES - 1)], pa.int64())
    words = np.arange(_SAMPLES, dtype=np.uint64) * _SPREAD
    if is_bytes(kind) or types.is_fixed_size_binary(kind):
        # Digits, letters and what is between them: valid as text, too.
        texts = [bytes(range(48, 48 + length)) for length in range(_SAMPLES - 1)]
        if types.is_fixed_size_binary(kind):
            texts = [
                (one * kind.byte_width)[: kind.byte_width].ljust(kind.byte_width) for one in texts
            ]
        return pa.array(texts, pa.binary()).cast(kind).take(places)
    if types.is_decimal(kind):
        numbers = (words % np.uint64(10 ** min(kind.precision, 18))).tolist()
        return pa.array([Decimal(one).scaleb(-kind.scale) for one in numbers], kind).take(places)
    if types.is_boolean(kind):
        return pa.array((words & np.uint64(1)).astype(np.bool_)).take(places)
    narrow = pa.array(words.astype(f"u{kind.bit_width // 8}"))
    return narrow.view(kind).take(places)


@dataclass(frozen=True, slots=True)
class KeyFilters:
    """Filters that are there for some files; can be sent to a worker.

    Attributes:
        storage: where they are.
        columns: of the key that they are about.
        places: by the path of the data file.
    """

    storage: Storage
    columns: KeyColumns
    places: Mapping[str, StoredBlob] = field(default_factory=dict)

    def of(self, files: Inventory) -> KeyFilters:
        """Return those of some files."""
        paths = files.files["path"].to_pylist()
        return replace(self, places={one: self.places[one] for one in paths if one in self.places})

    def may_hold(self, path: str, hashes: Hashes) -> bool:
        """Tell whether a file may hold a key with one of some hashes (`KeyColumns.hashes`)."""
        stored = self.places.get(path)
        if stored is None or not 0 < len(hashes) <= KEYS_MAX:
            return bool(len(hashes))
        with suppress(ObjectNotFoundError, CorruptTableError):
            (bits,) = self.storage.read_ranges(stored.location, [stored.blob.place])
            if str(zlib.crc32(bits)) == stored.blob.properties.get(_CHECKSUM):
                return bool(SplitBlocks(bytes(bits)).may_hold(hashes).any())
        return True


def filters_of(table: Table, key: Sequence[str], schema: pa.Schema) -> KeyFilters | None:
    """Return the filters that are kept beside a table for a key; None where it can keep none.

    Args:
        table: the coordinator's side.
        key: names of columns.
        schema: the columns of the table, with field ids.

    Raises:
        AccessDeniedError, StorageError: they cannot be looked for.
    """
    if not isinstance(table, SidecarTable) or not key:
        return None
    columns = KeyColumns.of(schema, key)
    scheme = columns.scheme
    places = {
        one.blob.properties.get(_PATH, ""): one
        for one in stored_blobs(table, KIND)
        if one.blob.fields == columns.ids and one.blob.properties.get(_SCHEME) == scheme
    }
    return KeyFilters(table.storage, columns, places)


def keep_filters(
    table: Table,
    snapshot: Snapshot,
    files: Inventory,
    key: Sequence[str],
    *,
    map_function: MapFunction = map,
) -> int:
    """Make filters of data files and keep them beside the table.

    Args:
        table: the coordinator's side.
        snapshot: a snapshot that has the files.
        files: slices of them; the first ones, if all take too much memory.
        key: names of the columns of the key.
        map_function: runs the reading of files.

    Returns:
        How many filters were kept: none where the table cannot, or another writer was first.

    Raises:
        CatalogError: the files cannot be read, or the filters not written.
    """
    if not isinstance(table, SidecarTable) or not files.file_count or not key:
        return 0
    side = table.files(snapshot)
    columns = KeyColumns.of(side.schema.arrow, key)
    builder = FilterBuilder(side, columns)
    blobs = [blob for some in map_function(builder, list(_parts(_first(files)))) for blob in some]
    return len(blobs) if table.add_sidecar(snapshot, blobs) else 0


@dataclass(frozen=True, slots=True)
class FilterBuilder:
    """Makes the filters of data files; a function that can be sent to another process."""

    table: TableFiles
    columns: KeyColumns

    def __call__(self, files: Inventory) -> list[Blob]:
        """Read the keys of files and return a filter of each.

        Raises:
            CatalogError: a file cannot be read.
        """
        schema = replace(self.table.schema, arrow=pa.schema(self.columns.fields))
        # Rows that are deleted count as well: they may come back.
        reader = SliceReader(self.table, {}, schema, reads_ahead=False)
        scheme = self.columns.scheme
        return [self._blob(reader, file, scheme) for file in files.slices()]

    def _blob(self, reader: SliceReader, file: FileSlice, scheme: str) -> Blob:
        names = self.columns.names
        hashes = [keys_of(batch, names).hashes for batch in reader.batches(file)]
        every = np.concatenate([np.empty(0, np.uint64), *hashes])
        bits = SplitBlocks.of(every, bits_per_value=_BITS_PER_KEY).data
        said = {_PATH: file.path, _SCHEME: scheme, _CHECKSUM: str(zlib.crc32(bits))}
        return Blob(KIND, self.columns.ids, said, bits)


def _first(files: Inventory) -> Inventory:
    """Return the first files whose filters together do not take too much memory."""
    after = np.cumsum(files.files["row_count"].to_numpy()) * _BITS_PER_KEY // 8
    count = max(1, int(np.searchsorted(after, _KEPT_BYTES_MAX, side="right")))
    return files.take(np.arange(min(count, files.file_count)))


def _parts(files: Inventory) -> Iterator[Inventory]:
    """Yield the files in parts, one per task."""
    before = np.cumsum([0, *files.files["size_bytes"].to_pylist()[:-1]])
    cuts = np.flatnonzero(np.diff(before // _TASK_BYTES)) + 1
    yield from (files.take(rows) for rows in np.split(np.arange(files.file_count), cuts))
