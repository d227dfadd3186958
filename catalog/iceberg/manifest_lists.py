"""Manifest lists: read and written row by row without a loss, and the row ids that they give out.

Specification: https://iceberg.apache.org/spec/#manifest-lists
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from pyiceberg.manifest import (
    MANIFEST_LIST_FILE_SCHEMAS,
    UNASSIGNED_SEQ,
    ManifestContent,
    ManifestFile,
    PartitionFieldSummary,
)
from pyiceberg.utils.schema_conversion import AvroSchemaConversion

from catalog.avro.container import AvroFile
from catalog.avro.container_writing import Container
from catalog.avro.read import Schema, reader
from catalog.avro.schema import encoding_of
from catalog.avro.write import writer
from catalog.errors import CorruptTableError

_VERSION = 3
_STRUCT = MANIFEST_LIST_FILE_SCHEMAS[_VERSION].fields
_PLACES = {field.field_id: place for place, field in enumerate(_STRUCT)}
_PATH, _CONTENT, _SEQUENCE, _MIN_SEQUENCE, _PARTITIONS, _FIRST_ROW_ID = 500, 517, 515, 516, 507, 520
_SUMMARY = (509, 518, 510, 511)
# What manifest lists of version 1 leave out.
_IMPLIED = {_CONTENT: ManifestContent.DATA, _SEQUENCE: 0, _MIN_SEQUENCE: 0}


class ListedManifest(ManifestFile):
    """A row of a manifest list: PyIceberg's, with what later versions of the format have added.

    Attributes:
        unknown: fields that nobody here knows, by id, each with its declaration and its bytes.
    """

    unknown: Mapping[int, tuple[Mapping[str, Any], bytes]]

    def __init__(self, *data: Any) -> None:
        super().__init__(*data)
        self.unknown = {}

    @property
    def first_row_id(self) -> int | None:
        """The id of the first row of its first file that was given none before."""
        found: int | None = self[_PLACES[_FIRST_ROW_ID]]
        return found

    def with_first_row_id(self, first_row_id: int) -> ListedManifest:
        """Return the same manifest with a first id."""
        found = copy(self)
        found._data = [*self._data[:-1], first_row_id]  # noqa: SLF001 - of its own class
        return found


@dataclass(frozen=True, slots=True)
class ListHeader:
    """What a manifest list says of its snapshot.

    Attributes:
        sequence_number: zero in format version 1.
        first_row_id: where its rows count from; None before format version 3.
    """

    format_version: int
    snapshot_id: int
    parent_snapshot_id: int | None
    sequence_number: int
    first_row_id: int | None = None

    @property
    def metadata(self) -> dict[str, str]:
        """The header of the file."""
        parent = self.parent_snapshot_id
        found = {
            "snapshot-id": str(self.snapshot_id),
            "parent-snapshot-id": "null" if parent is None else str(parent),
            "format-version": str(self.format_version),
        }
        if self.format_version > 1:
            found["sequence-number"] = str(self.sequence_number)
        if self.format_version > 2:
            found["first-row-id"] = str(self.first_row_id)
        return found


def first_row_id_of(manifest: ManifestFile) -> int | None:
    """Return where the rows of a manifest count from; None where they do not."""
    return manifest.first_row_id if isinstance(manifest, ListedManifest) else None


def read_manifest_list(file: AvroFile) -> list[ListedManifest]:
    """Return the manifests of a list.

    Raises:
        CorruptTableError: it is no manifest list.
    """
    fields = {int(one["field-id"]): one for one in file.schema["fields"]}
    if _PATH not in fields:
        raise CorruptTableError(f"{file.name} is no manifest list")
    readers = {number: reader(one["type"]) for number, one in fields.items()}
    found = []
    for encoded in file.encoded(tuple(fields.values())):
        raw = dict(zip(fields, encoded, strict=True))
        values = {one: readers[one](raw[one], 0)[0] for one in fields if one in _PLACES}
        found.append(_listed(values, fields.get(_PARTITIONS)))
        found[-1].unknown = {one: (fields[one], raw[one]) for one in fields if one not in _PLACES}
    return found


def _listed(values: dict[int, Any], partitions: Mapping[str, Any] | None) -> ListedManifest:
    values = {**_IMPLIED, **values}
    values[_CONTENT] = ManifestContent(values[_CONTENT])
    if values.get(_PARTITIONS) is not None and partitions is not None:
        ids = _summary_ids(partitions["type"])
        values[_PARTITIONS] = [_summary(ids, one) for one in values[_PARTITIONS]]
    return ListedManifest(*(values.get(field.field_id) for field in _STRUCT))


def _summary_ids(kind: Schema) -> list[int]:
    choices = kind if isinstance(kind, list) else [kind]
    (array,) = [one for one in choices if one != "null"]
    return [int(field["field-id"]) for field in array["items"]["fields"]]


def _summary(ids: Sequence[int], values: Sequence[Any]) -> PartitionFieldSummary:
    by_id = dict(zip(ids, values, strict=True))
    return PartitionFieldSummary(*(by_id.get(one) for one in _SUMMARY))


def with_row_ids(
    manifests: Sequence[ListedManifest], next_row_id: int
) -> tuple[list[ListedManifest], int]:
    """Give ids to the rows of the manifests that have none yet; return the next id as well.

    Files in them that were there before may lack ids, too: so all their rows count.

    Specification: https://iceberg.apache.org/spec/#first-row-id-assignment
    """
    found = []
    for one in manifests:
        if one.content == ManifestContent.DATA and one.first_row_id is None:
            found.append(one.with_first_row_id(next_row_id))
            next_row_id += (one.added_rows_count or 0) + (one.existing_rows_count or 0)
        else:
            found.append(one)
    return found, next_row_id


def write_manifest_list(
    header: ListHeader, manifests: Iterable[ListedManifest], *, codec: str
) -> bytes:
    """Return a manifest list; new manifests get the sequence number of its snapshot."""
    rows = [_numbered(one, header) for one in manifests]
    fields = [*_declared(header.format_version), *_unknown(rows)]
    schema = {"type": "record", "name": "manifest_file", "fields": fields}
    file = Container(schema, header.metadata, codec)
    writers = [(int(field["field-id"]), writer(field["type"])) for field in fields]
    for one in rows:
        out = bytearray()
        for number, write in writers:
            if number in _PLACES:
                write(out, _plain(number, one[_PLACES[number]]))
            elif number in one.unknown:
                out += one.unknown[number][1]
            else:
                write(out, None)
        file.append(out)
    return file.finish()


def _declared(format_version: int) -> list[Mapping[str, Any]]:
    declared = MANIFEST_LIST_FILE_SCHEMAS[format_version]
    found: Any = AvroSchemaConversion().iceberg_to_avro(declared, schema_name="manifest_file")
    return list(found["fields"])


def _unknown(rows: Iterable[ListedManifest]) -> list[Mapping[str, Any]]:
    """Return the declarations of what nobody here knows; of two that differ the first."""
    found: dict[int, Mapping[str, Any]] = {}
    for row in rows:
        for number, (field, _) in row.unknown.items():
            known = found.setdefault(number, field)
            if encoding_of(known["type"]) != encoding_of(field["type"]):
                raise CorruptTableError(f"manifest lists differ in what their field {number} is")
    return list(found.values())


def _numbered(one: ListedManifest, header: ListHeader) -> ListedManifest:
    if header.format_version == 1:
        if one.content != ManifestContent.DATA:
            raise ValueError("tables of format version 1 have no delete manifests")
        return one
    numbers = (one.sequence_number, one.min_sequence_number)
    if UNASSIGNED_SEQ not in numbers:
        return one
    if one.added_snapshot_id != header.snapshot_id:
        raise ValueError(f"{one.manifest_path} has no sequence number and is of another snapshot")
    found = copy(one)
    found._data = list(one._data)  # noqa: SLF001 - of its own class
    assigned = header.sequence_number
    found.sequence_number, found.min_sequence_number = (
        assigned if number == UNASSIGNED_SEQ else number for number in numbers
    )
    return found


def _plain(number: int, value: Any) -> Any:
    if number == _CONTENT:
        return int(value)
    if number == _PARTITIONS and value is not None:
        return [tuple(one[place] for place in range(len(_SUMMARY))) for one in value]
    return value
