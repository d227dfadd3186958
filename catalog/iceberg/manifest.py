"""One manifest, or the list of them, as Arrow columns: what planning needs and no more.

A manifest is read in whatever process the caller's map function chooses, so its reader is a value
that can be pickled. No Python object per file leaves it.

Specification: https://iceberg.apache.org/spec/#manifests
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.avro.container import AvroFile, decode_record
from catalog.duplicates import hash_texts
from catalog.errors import CorruptTableError, LocationError, UnsupportedTableError
from catalog.iceberg.deletion_vectors import file_name
from catalog.iceberg.partition import Spec, encode_key, from_avro, label
from catalog.location import Confinement
from catalog.model import DATA_FILES, DELETE_FILES
from catalog.storage import Storage

DATA, DELETES = 0, 1
_POSITION_DELETES, _EQUALITY_DELETES = 1, 2
_ADDED, _DELETED = 1, 2
_PATH_ID_IN_DELETES = 2147483546

# Field ids of manifest lists, in the order of `Manifest`: path, length, spec, content, sequence
# number, snapshot, first row id, added and existing files.
_MANIFEST = (500, 501, 502, 517, 515, 503, 520, 504, 505)
_MANIFEST_KEY_METADATA = 519
# Field ids of manifest entries.
_STATUS, _SNAPSHOT_ID, _SEQUENCE_NUMBER = 0, 1, 3
_CONTENT, _PATH, _FORMAT, _PARTITION, _ROW_COUNT, _SIZE = 134, 100, 101, 102, 103, 104
_LOWER, _UPPER, _KEY_METADATA, _REFERENCED = 125, 128, 131, 143
_CONTENT_OFFSET, _CONTENT_SIZE, _EQUALITY_IDS, _FIRST_ROW_ID = 144, 145, 135, 142
_ENTRY = (_STATUS, _SNAPSHOT_ID, _SEQUENCE_NUMBER, _CONTENT, _PATH, _FORMAT, _ROW_COUNT, _SIZE)
_DELETE_ENTRY = (_LOWER, _UPPER, _REFERENCED, _CONTENT_OFFSET, _CONTENT_SIZE, _EQUALITY_IDS)

_FOREIGN_FILE = "rewrite the files that lie elsewhere with the engine that added them to the table"
FILES = pa.schema(
    [
        *(DATA_FILES.field(name) for name in ("path", "size_bytes", "row_count")),
        *(DATA_FILES.field(name) for name in ("partition_key", "partition", "sequence_number")),
        pa.field("snapshot_id", pa.int64()),
        DATA_FILES.field("first_row_id"),
        # So that paths need not be looked at to see that each is there once.
        pa.field("path_hash", pa.int64(), nullable=False),
    ]
)
# Bounds are those of the data file paths inside, null where the writer kept none.
DELETE_FILES_SCOPED = pa.schema(
    [
        *DELETE_FILES,
        DATA_FILES.field("partition_key"),
        # Of an unpartitioned spec: equality deletes of such a one apply to every partition.
        pa.field("is_global", pa.bool_()),
        pa.field("path_lower", pa.binary()),
        pa.field("path_upper", pa.binary()),
    ]
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A row of a manifest list; names as in the specification.

    Attributes:
        first_row_id: where the rows of its files count from that have no ids of their own.
        live_files: added and existing files together, where the list counts them.
    """

    path: str
    size_bytes: int
    spec_id: int
    content: int
    sequence_number: int
    added_snapshot_id: int | None
    first_row_id: int | None
    live_files: int | None


_NO_FILES, _NO_DELETE_FILES = FILES.empty_table(), DELETE_FILES_SCOPED.empty_table()


@dataclass(frozen=True, slots=True)
class ManifestPart:
    """The live files of one manifest, schemas `FILES` and `DELETE_FILES_SCOPED`."""

    files: pa.Table
    delete_files: pa.Table

    @staticmethod
    def of(content: int, live: pa.Table) -> ManifestPart:
        """Return the part of a manifest of data files, or of one of deletes."""
        if content == DELETES:
            return ManifestPart(_NO_FILES, live)
        return ManifestPart(live, _NO_DELETE_FILES)

    def live(self, content: int) -> pa.Table:
        """Return the files of the kind that the manifest has."""
        return self.delete_files if content == DELETES else self.files


@dataclass(frozen=True, slots=True)
class ManifestReader:
    """Reads the manifests of one table; a function that can be sent to another process."""

    storage: Storage
    confinement: Confinement
    specs: tuple[Spec, ...]

    def manifests(self, manifest_list: str) -> list[Manifest]:
        """Read a manifest list; manifests without live files are left out.

        Raises:
            CorruptTableError: it cannot be read as a manifest list.
            LocationError: it lies outside of the table's prefixes.
        """
        file = self.open(manifest_list)
        columns = file.columns((*_MANIFEST, _MANIFEST_KEY_METADATA))
        count = len(_required(columns, _MANIFEST[0], manifest_list))
        if any(columns.get(_MANIFEST_KEY_METADATA, ())):
            raise _encrypted("manifests")
        rows = zip(*(columns.get(field_id, [None] * count) for field_id in _MANIFEST), strict=True)
        return [
            Manifest(
                path,
                size,
                spec_id,
                content or DATA,
                sequence_number or 0,
                snapshot_id,
                row_id,
                None if added is None or existing is None else added + existing,
            )
            for (
                path,
                size,
                spec_id,
                content,
                sequence_number,
                snapshot_id,
                row_id,
                added,
                existing,
            ) in rows
            if added != 0 or existing != 0
        ]

    def __call__(self, manifest: Manifest) -> ManifestPart:
        """Read one manifest.

        Raises:
            CorruptTableError: it cannot be read as a manifest.
            LocationError: it, or a file in it, lies outside of the table's prefixes.
            UnsupportedTableError: it holds a file that we do not handle.
        """
        file = self.open(manifest.path)
        extra = _DELETE_ENTRY if manifest.content == DELETES else (_FIRST_ROW_ID,)
        columns = file.columns((*_ENTRY, _KEY_METADATA, *extra), raw=_PARTITION)
        live = np.asarray(_required(columns, _STATUS, manifest.path)) != _DELETED
        if manifest.live_files not in (None, np.count_nonzero(live)):
            raise CorruptTableError(
                f"manifest {manifest.path} has {np.count_nonzero(live)} live files, "
                f"its list says {manifest.live_files}"
            )
        _refuse_entries(columns, live, manifest)
        table = self._files(manifest, file, columns).filter(pa.array(live))
        self._check_paths(table["path"])
        if manifest.content == DATA:
            return ManifestPart.of(DATA, table)
        spec = self._spec(manifest)
        scoped = _scoped(table, columns, live=live, is_global=spec.is_unpartitioned)
        return ManifestPart.of(DELETES, scoped)

    def open(self, path: str) -> AvroFile:
        """Open a manifest, or the list of them.

        Raises:
            CorruptTableError: it is no Avro file.
            LocationError: it lies outside of the table's prefixes.
        """
        return AvroFile.parse(path, self.storage.read(self.confinement.parse(path)))

    def _files(self, manifest: Manifest, file: AvroFile, columns: dict[int, list[Any]]) -> pa.Table:
        keys, labels = self._partitions(manifest, file, columns[_PARTITION])
        _refuse_nulls(manifest, columns)
        try:
            paths = pa.array(columns[_PATH], pa.string())
            return pa.table(
                [
                    paths,
                    pa.array(columns[_SIZE], pa.int64()),
                    pa.array(columns[_ROW_COUNT], pa.int64()),
                    keys,
                    labels,
                    pa.array(_sequence_numbers(manifest, columns)),
                    _snapshot_ids(manifest, columns),
                    pa.array(_first_row_ids(manifest, columns), pa.int64()),
                    pa.array(hash_texts(paths)),
                ],
                schema=FILES,
            )
        except (KeyError, OverflowError, pa.ArrowInvalid, pa.ArrowTypeError) as fault:
            raise CorruptTableError(f"manifest {manifest.path} is malformed: {fault}") from fault

    def _partitions(
        self, manifest: Manifest, file: AvroFile, encoded: list[bytes]
    ) -> tuple[pa.DictionaryArray, pa.DictionaryArray]:
        """Decode each distinct partition once; files refer to it by number."""
        spec = self._spec(manifest)
        schema = file.record_type(_PARTITION)
        kinds = {field["field-id"]: field["type"] for field in schema["fields"]}
        codes = dict.fromkeys(encoded)
        keys, labels = [], []
        for code, text in enumerate(codes):
            codes[text] = code
            plain = decode_record(manifest.path, schema, text)
            values = spec.order({key: from_avro(kinds[key], plain[key]) for key in plain})
            keys.append(encode_key(spec.spec_id, values))
            labels.append(label(spec, values))
        indices = pa.array([codes[text] for text in encoded], pa.int32())
        return (
            pa.DictionaryArray.from_arrays(indices, pa.array(keys, pa.string())),
            pa.DictionaryArray.from_arrays(indices, pa.array(labels, pa.string())),
        )

    def _spec(self, manifest: Manifest) -> Spec:
        for spec in self.specs:
            if spec.spec_id == manifest.spec_id:
                return spec
        raise CorruptTableError(
            f"manifest {manifest.path} uses the unknown partition spec {manifest.spec_id}"
        )

    def _check_paths(self, paths: pa.ChunkedArray) -> None:
        """Confine every path: the plain ones by one expression, the others one by one."""
        prefixes = "|".join(
            re.escape(str(prefix).rstrip("/")) for prefix in self.confinement.prefixes
        )
        plain = rf"^(?:{prefixes})(?:/[A-Za-z0-9_=+:,~@-][A-Za-z0-9_=+:,~@.-]*)+$"
        odd = pc.invert(pc.match_substring_regex(paths, plain))
        for path in paths.filter(odd).to_pylist():
            try:
                self.confinement.parse(path)
            except LocationError as fault:
                raise LocationError(str(fault), hint=_FOREIGN_FILE) from fault


def _required(columns: dict[int, list[Any]], field_id: int, path: str) -> list[Any]:
    if field_id not in columns:
        raise CorruptTableError(f"{path} has no field {field_id}: it is not what it should be")
    return columns[field_id]


def _refuse_nulls(manifest: Manifest, columns: dict[int, list[Any]]) -> None:
    for field_id in (_PATH, _SIZE, _ROW_COUNT):
        if None in columns.get(field_id, ()):
            raise CorruptTableError(
                f"manifest {manifest.path} has an entry without a value of field {field_id}"
            )


def _refuse_entries(
    columns: dict[int, list[Any]], live: npt.NDArray[np.bool_], manifest: Manifest
) -> None:
    def some(field_id: int) -> set[Any]:
        """The distinct values of the live entries."""
        values = columns.get(field_id, ())
        return {value for value, is_live in zip(values, live, strict=False) if is_live}

    are_deletes = {(one or DATA) != DATA for one in some(_CONTENT)}
    if (manifest.content == DATA) in are_deletes:
        raise CorruptTableError(
            f"manifest {manifest.path} lists files of another kind than its list says"
        )
    # Deletion vectors are told by their place in a file.
    known = {"PARQUET", "PUFFIN"} if _CONTENT_OFFSET in columns else {"PARQUET"}
    formats = {str(name).upper() for name in some(_FORMAT)} - known
    if formats:
        raise UnsupportedTableError(
            f"the table has {' and '.join(sorted(formats))} files; only Parquet is supported",
            hint="rewrite these files as Parquet with the engine that wrote them",
        )
    if some(_KEY_METADATA) - {None, b""}:
        raise _encrypted("files")


def _encrypted(what: str) -> UnsupportedTableError:
    return UnsupportedTableError(
        f"the table has encrypted {what}, which are not supported",
        hint="compact it with an engine that has its keys; it was not touched",
    )


def _sequence_numbers(manifest: Manifest, columns: dict[int, list[Any]]) -> npt.NDArray[np.int64]:
    """Inherit what was not known when the entry was written.

    Specification: https://iceberg.apache.org/spec/#sequence-number-inheritance
    """
    given = columns.get(_SEQUENCE_NUMBER, [None] * len(columns[_STATUS]))
    inherits = {_ADDED, _DELETED} if manifest.sequence_number else {0, _ADDED, _DELETED}
    for status, number in zip(columns[_STATUS], given, strict=True):
        if number is None and status not in inherits:
            raise CorruptTableError(
                f"manifest {manifest.path} has an existing file without a sequence number"
            )
    inherited = manifest.sequence_number
    return np.fromiter(
        (inherited if number is None else number for number in given), np.int64, len(given)
    )


def _snapshot_ids(manifest: Manifest, columns: dict[int, list[Any]]) -> pa.Array:
    given = columns.get(_SNAPSHOT_ID)
    if given is None:
        return pa.array([manifest.added_snapshot_id] * len(columns[_STATUS]), pa.int64())
    ids = pa.array(given, pa.int64())
    return ids if manifest.added_snapshot_id is None else ids.fill_null(manifest.added_snapshot_id)


def _first_row_ids(manifest: Manifest, columns: dict[int, list[Any]]) -> list[int | None]:
    """Give each data file that has no first row id the next one of its manifest.

    Specification: https://iceberg.apache.org/spec/#first-row-id-inheritance
    """
    statuses = columns[_STATUS]
    given = columns.get(_FIRST_ROW_ID, [None] * len(statuses))
    following = manifest.first_row_id
    if following is None or manifest.content != DATA:
        return given
    found = []
    for status, own, rows in zip(statuses, given, columns[_ROW_COUNT], strict=True):
        inherits = own is None and status != _DELETED
        found.append(following if inherits else own)
        following += rows if inherits else 0
    return found


def _scoped(
    table: pa.Table,
    columns: dict[int, list[Any]],
    *,
    live: npt.NDArray[np.bool_],
    is_global: bool,
) -> pa.Table:
    """Add what a delete file tells of the data files it refers to, and of its kind."""
    absent = [None] * len(live)
    offsets = columns.get(_CONTENT_OFFSET, absent)
    sizes = columns.get(_CONTENT_SIZE, absent)
    lower, upper = (
        [(bounds or {}).get(_PATH_ID_IN_DELETES) for bounds in columns.get(field_id, absent)]
        for field_id in (_LOWER, _UPPER)
    )
    targets = [
        referenced or (low.decode() if low is not None and low == high else None)
        for referenced, low, high in zip(
            columns.get(_REFERENCED, absent), lower, upper, strict=True
        )
    ]
    names = [
        file_name(path, offset, size)
        for path, offset, size in zip(columns[_PATH], offsets, sizes, strict=True)
    ]
    lengths = [
        whole if offset is None else size
        for whole, offset, size in zip(columns[_SIZE], offsets, sizes, strict=True)
    ]
    scope = pa.table(
        [
            pa.array(names, pa.string()),
            pa.array(lengths, pa.int64()),
            pa.array(targets, pa.string()),
            pa.array(lower, pa.binary()),
            pa.array(upper, pa.binary()),
            pa.array(_equality_ids(columns), DELETE_FILES.field("equality_ids").type),
            pa.array([is_global] * len(live)),
        ],
        [
            "path",
            "size_bytes",
            "target",
            "path_lower",
            "path_upper",
            "equality_ids",
            "is_global",
        ],
    ).filter(pa.array(live))
    return pa.table(
        [
            scope[name] if name in scope.column_names else table[name]
            for name in DELETE_FILES_SCOPED.names
        ],
        schema=DELETE_FILES_SCOPED,
    )


def _equality_ids(columns: dict[int, list[Any]]) -> list[list[int] | None]:
    """Return the columns that each delete file compares; None where it names positions."""
    contents = columns.get(_CONTENT, ())
    ids = columns.get(_EQUALITY_IDS, [None] * len(contents))
    found = [
        one if content == _EQUALITY_DELETES else None
        for content, one in zip(contents, ids, strict=True)
    ]
    for content, one in zip(contents, found, strict=True):
        if content == _EQUALITY_DELETES and not one:
            raise CorruptTableError("an equality delete file does not say which columns it is by")
    return found
