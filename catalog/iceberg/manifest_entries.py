"""Entries of manifests: read field by field, and written again without a loss.

An entry holds the encoded bytes of its fields. What is written as it was read is copied, fields
that nobody here knows included; what is asked for is decoded when it is asked for. Fields are known
by their ids: a manifest of one format version is written in the form of another.

Specification: https://iceberg.apache.org/spec/#manifests
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from pyiceberg.manifest import (
    DATA_FILE_TYPE,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntryStatus,
    ManifestFile,
)
from pyiceberg.typedef import Record

from catalog.avro.container import AvroFile
from catalog.avro.read import Read, Schema, reader, type_name
from catalog.avro.schema import encoding_of
from catalog.avro.write import Write, writer
from catalog.errors import CorruptTableError
from catalog.iceberg.data_file import DataFile
from catalog.iceberg.deletion_vectors import file_name
from catalog.iceberg.manifest_lists import first_row_id_of
from catalog.iceberg.partition import from_avro, to_avro

STATUS, SNAPSHOT_ID, DATA_FILE, SEQUENCE_NUMBER, FILE_SEQUENCE_NUMBER = 0, 1, 2, 3, 4
_PATH, _FORMAT, _PARTITION, _ROW_COUNT, _CONTENT = 100, 101, 102, 103, 134
_FIRST_ROW_ID, _CONTENT_OFFSET, _CONTENT_SIZE = 142, 144, 145
# Counts of NaN are few, and tell whether bounds hold for every value of the file.
_METRICS = frozenset((108, 109, 110, 125, 128))
# Deprecated, and not to be written any more: a size of blocks, ordinals, distinct counts.
_RETIRED = frozenset((105, 106, 107, 111))
# What manifests of version 1 leave out, and what they must not.
_IMPLIED = {_CONTENT: 0, 105: 64 << 20}
_FILE_FIELDS = DATA_FILE_TYPE[3].fields
_PLACES = {field.field_id: place for place, field in enumerate(_FILE_FIELDS)}


@dataclass(frozen=True, eq=False)
class Layout:
    """The fields of an entry in the order of a file, those of the data file among them.

    There is one of each; see `of`.

    Attributes:
        schema: of the entry.
    """

    schema: Schema

    @staticmethod
    def of(schema: Schema) -> Layout:
        """Return the layout of a schema, the same one for equal schemas."""
        return _layout(json.dumps(schema, sort_keys=True))

    @cached_property
    def fields(self) -> tuple[Mapping[str, Any], ...]:
        """The fields, the data file replaced by its own."""
        return tuple(self._flat(self.schema))

    @cached_property
    def places(self) -> Mapping[int, int]:
        """Where each field is, by its id."""
        return {int(field["field-id"]): place for place, field in enumerate(self.fields)}

    @cached_property
    def readers(self) -> Mapping[int, Read]:
        """What decodes each field, by its id."""
        return {int(field["field-id"]): reader(field["type"]) for field in self.fields}

    def type_of(self, number: int) -> Schema:
        """Return the type of a field."""
        return self.fields[self.places[number]]["type"]

    def steps_to(self, target: Layout) -> tuple[_Step, ...]:
        """Return how entries of this layout are written in another, field by field."""
        return _steps(self, target)

    @cached_property
    def blanks(self) -> Mapping[int, bytes]:
        """What stands for no metrics, by the ids of the fields."""
        found = {}
        for field in self.fields:
            if field["field-id"] in _METRICS and is_optional(field):
                out = bytearray()
                writer(field["type"])(out, None)
                found[int(field["field-id"])] = bytes(out)
        return found

    @staticmethod
    def _flat(schema: Schema) -> Iterator[Mapping[str, Any]]:
        for field in schema["fields"]:
            if field["field-id"] == DATA_FILE:
                yield from field["type"]["fields"]
            else:
                yield field


@lru_cache(maxsize=64)
def _layout(text: str) -> Layout:
    return Layout(json.loads(text))


@dataclass(frozen=True)
class Entry:
    """An entry of a manifest, with what it inherits from its manifest.

    Attributes:
        status: whether it adds, keeps or removes its file.
        snapshot_id: the snapshot that did so.
        sequence_number: that of its data; None for the one that the snapshot will have.
        file_sequence_number: that of the snapshot that added the file.
        first_row_id: of a data file in a table that tells rows apart; None where it has none yet.
        spec_id: the spec that the file is partitioned by.
        layout: of the fields below; None for a file that has never been in a manifest.
        encoded: its fields as they were read.
        new_file: the file that has never been in a manifest.
    """

    status: ManifestEntryStatus
    snapshot_id: int | None
    sequence_number: int | None
    file_sequence_number: int | None
    first_row_id: int | None
    spec_id: int
    layout: Layout | None = None
    encoded: tuple[bytes, ...] = ()
    new_file: DataFile | None = None

    @staticmethod
    def added(file: DataFile, *, snapshot_id: int, sequence_number: int | None) -> Entry:
        """Return the entry of a new file; without a number it gets that of its snapshot."""
        return Entry(
            ManifestEntryStatus.ADDED,
            snapshot_id,
            sequence_number,
            None,
            None,
            file.spec_id,
            new_file=file,
        )

    @cached_property
    def data_file(self) -> DataFile:
        """The file.

        Raises:
            CorruptTableError: a field has no value of its type.
        """
        if self.layout is None:
            return self._new()
        try:
            file = DataFile(*(self._field(self.layout, field.field_id) for field in _FILE_FIELDS))
        except (ArithmeticError, LookupError, TypeError, ValueError) as fault:
            raise CorruptTableError(f"a file in a manifest is malformed: {fault}") from fault
        file.spec_id = self.spec_id
        return file

    def _new(self) -> DataFile:
        if self.new_file is None:
            raise ValueError("an entry has neither fields nor a file")
        return self.new_file

    @property
    def path(self) -> str:
        """Location of the file."""
        return str(self.value(_PATH))

    @property
    def name(self) -> str:
        """What tells the file from all others: see `DataFile.name`."""
        return file_name(self.path, self.value(_CONTENT_OFFSET), self.value(_CONTENT_SIZE))

    @property
    def row_count(self) -> int:
        """Rows of the file."""
        return int(self.value(_ROW_COUNT))

    def value(self, number: int) -> Any:
        """Return one field of the file by its id; None where the entry does not have it.

        Raises:
            CorruptTableError: it has no value of its type.
        """
        if self.layout is None:
            return self._new()[_PLACES[number]]
        place = self.layout.places.get(number)
        if place is None:
            return _IMPLIED.get(number)
        try:
            return self.layout.readers[number](self.encoded[place], 0)[0]
        except (LookupError, ValueError, struct.error) as fault:
            raise CorruptTableError(f"a file in a manifest is malformed: {fault}") from fault

    @property
    def partition_bytes(self) -> bytes:
        """The partition in some encoding: entries of one manifest with the same bytes share it."""
        if self.layout is None:
            return repr(self.data_file.partition).encode()
        return self.encoded[self.layout.places[_PARTITION]]

    def without_metrics(self) -> Entry:
        """Return the entry without its column metrics: most of its bytes, and they mark no file."""
        if self.layout is None:
            return self
        encoded = list(self.encoded)
        for number, blank in self.layout.blanks.items():
            encoded[self.layout.places[number]] = blank
        return replace(self, encoded=tuple(encoded))

    def _field(self, layout: Layout, number: int) -> Any:
        if number == _FIRST_ROW_ID:
            return self.first_row_id
        value = self.value(number)
        if number == _CONTENT:
            return DataFileContent(value)
        if number == _FORMAT:
            return FileFormat(value)
        if number == _PARTITION:
            kinds = (field["type"] for field in layout.type_of(_PARTITION)["fields"])
            return Record(*map(from_avro, kinds, value))
        return value


def read_entries(
    file: AvroFile, manifest: ManifestFile, *, with_deleted: bool = False
) -> Iterator[Entry]:
    """Yield the entries of a manifest.

    Args:
        file: the manifest.
        manifest: its row in the manifest list, whose numbers its entries inherit.
        with_deleted: whether those of files that it removes are wanted as well.
    """
    layout = Layout.of(file.schema)
    next_row_id = first_row_id_of(manifest) if manifest.content == ManifestContent.DATA else None
    for encoded in file.encoded(layout.fields):
        entry = _inherited(layout, encoded, manifest)
        if entry.status != ManifestEntryStatus.DELETED:
            if entry.first_row_id is None and next_row_id is not None:
                entry = replace(entry, first_row_id=next_row_id)
                next_row_id += entry.row_count
        elif not with_deleted:
            continue
        yield entry


def _inherited(layout: Layout, encoded: tuple[bytes, ...], manifest: ManifestFile) -> Entry:
    """Take over from the manifest what was not known when the entry was written.

    Specification: https://iceberg.apache.org/spec/#sequence-number-inheritance
    """

    def read(number: int) -> Any:
        place = layout.places.get(number)
        return None if place is None else layout.readers[number](encoded[place], 0)[0]

    status = ManifestEntryStatus(read(STATUS))
    snapshot_id, first = read(SNAPSHOT_ID), manifest.sequence_number
    inherits = not first or status == ManifestEntryStatus.ADDED
    numbers = [read(number) for number in (SEQUENCE_NUMBER, FILE_SEQUENCE_NUMBER)]
    sequence_number, file_sequence_number = (
        (first or 0) if inherits and number is None else number for number in numbers
    )
    return Entry(
        status,
        manifest.added_snapshot_id if snapshot_id is None else snapshot_id,
        sequence_number,
        file_sequence_number,
        read(_FIRST_ROW_ID),
        manifest.partition_spec_id,
        layout,
        encoded,
    )


# Appends one field of an entry.
_Step = Callable[[bytearray, Entry], None]


def encode_entry(entry: Entry, target: Layout) -> bytes:
    """Return an entry as a manifest of a layout has it."""
    out = bytearray()
    steps = _new_steps(target) if entry.layout is None else entry.layout.steps_to(target)
    for step in steps:
        step(out, entry)
    return bytes(out)


def with_unknown_fields(schema: Schema, entries: Iterable[Entry]) -> Schema:
    """Return the schema of entries with the fields that some have besides, the retired left out."""
    known = {int(field["field-id"]) for field in Layout.of(schema).fields}
    outer: dict[int, Mapping[str, Any]] = {}
    inner: dict[int, Mapping[str, Any]] = {}
    for layout in dict.fromkeys(one.layout for one in entries if one.layout is not None):
        of_entry = {field["field-id"] for field in layout.schema["fields"]}
        for field in layout.fields:
            number = int(field["field-id"])
            if number not in known | _RETIRED and is_optional(field):
                (outer if number in of_entry else inner).setdefault(number, field)
    if not outer and not inner:
        return schema
    fields = [_extended(field, inner.values()) for field in schema["fields"]]
    return {**schema, "fields": [*fields, *outer.values()]}


def _extended(field: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    if field["field-id"] != DATA_FILE:
        return field
    kind = field["type"]
    return {**field, "type": {**kind, "fields": [*kind["fields"], *others]}}


def is_optional(field: Mapping[str, Any]) -> bool:
    """Whether a field may be null."""
    return type_name(field["type"]) == "union"


@lru_cache(maxsize=256)
def _steps(source: Layout, target: Layout) -> tuple[_Step, ...]:
    return tuple(_step(source, field) for field in target.fields)


@lru_cache(maxsize=64)
def _new_steps(target: Layout) -> tuple[_Step, ...]:
    return tuple(_new_step(field) for field in target.fields)


def _step(source: Layout, field: Mapping[str, Any]) -> _Step:
    """Return how a field of a target is written from entries of a source."""
    number, kind = int(field["field-id"]), field["type"]
    if (attribute := _attribute(number, kind)) is not None:
        return attribute
    place = source.places.get(number)
    write = writer(kind)
    if place is None:
        return lambda out, _: write(out, _IMPLIED.get(number))
    if encoding_of(source.fields[place]["type"]) == encoding_of(kind):
        return lambda out, entry: out.extend(entry.encoded[place])
    if number == _PARTITION:
        return _partition_step(source, kind)
    return lambda out, entry: write(out, entry.value(number))


def _partition_step(source: Layout, kind: Schema) -> _Step:
    """Write a partition by the ids of its fields: another writer may have put them otherwise."""
    ids = [field["field-id"] for field in source.type_of(_PARTITION)["fields"]]
    wanted = [(field["field-id"], writer(field["type"])) for field in kind["fields"]]

    def step(out: bytearray, entry: Entry) -> None:
        values = dict(zip(ids, entry.value(_PARTITION), strict=True))
        for one, write in wanted:
            write(out, values.get(one))

    return step


def _new_step(field: Mapping[str, Any]) -> _Step:
    """Return how a field of a target is written from files that have never been in a manifest."""
    number, kind = int(field["field-id"]), field["type"]
    if (attribute := _attribute(number, kind)) is not None:
        return attribute
    write = writer(kind)
    if number == _PARTITION:
        return _new_partition(kind["fields"])
    if number not in _PLACES:
        return lambda out, _: write(out, _IMPLIED.get(number))
    return lambda out, entry: write(out, _plain(entry.value(number)))


def _new_partition(fields: Sequence[Mapping[str, Any]]) -> _Step:
    writers = [(one["type"], writer(one["type"])) for one in fields]

    def step(out: bytearray, entry: Entry) -> None:
        partition = entry.data_file.partition
        for place, (kind, write) in enumerate(writers):
            write(out, to_avro(kind, partition[place]))

    return step


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, DataFileContent | FileFormat) else value


def _attribute(number: int, kind: Schema) -> _Step | None:
    """Return the step of a field that an entry holds decoded; None for the others."""
    write: Write = writer(kind)
    match number:
        case 0:
            return lambda out, entry: write(out, entry.status.value)
        case 1:
            return lambda out, entry: write(out, entry.snapshot_id)
        case 3:
            return lambda out, entry: write(out, entry.sequence_number)
        case 4:
            return lambda out, entry: write(out, entry.file_sequence_number)
        case 142:
            return lambda out, entry: write(out, entry.first_row_id)
    return None
