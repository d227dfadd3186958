"""What `hoodie.properties` says of a table, and the text of such a file.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from catalog.errors import CorruptTableError, UnsupportedTableError

VERSIONS = (6, 8, 9)
# From here on: completion times in names, Avro in instants.
LAYOUT_2_VERSION = 8
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
# A key ends at the first separator that no backslash precedes.
_PAIR = re.compile(r"((?:\\.|[^\\=:\s])*)[ \t\f]*(?:[=:][ \t\f]*)?(.*)", re.DOTALL)
_ESCAPED = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)


class TableType(StrEnum):
    """How updates are stored."""

    COPY_ON_WRITE = "COPY_ON_WRITE"
    MERGE_ON_READ = "MERGE_ON_READ"


@dataclass(frozen=True, slots=True)
class TableConfig:
    """A table's own settings, defaults filled in.

    Attributes:
        name: of the table.
        database: that the table belongs to; empty for none.
        version: of the table, one of `VERSIONS`.
        table_type: whether updates are merged when they are written or when they are read.
        layout: 1 for instants in `.hoodie` named by their own time, 2 for instants in a folder of
            their own, named by their completion time, too.
        timeline_path: folder of the instants below the table.
        history_path: folder of the archived instants below the table.
        is_utc: whether instants are named in UTC; else in the local time of whoever writes.
        record_key_fields: columns of the record key; empty where keys are generated.
        partition_fields: columns of the partition path, without their kinds.
        ordering_fields: columns that say which of two records with the same key is newer.
        key_generator: class or type of the key generator, as it is set.
        is_hive_style: whether partition paths have the names of columns in them.
        is_url_encoded: whether values in partition paths are encoded.
        populates_meta_fields: whether rows carry `_hoodie_record_key` and the other four.
        drops_partition_columns: whether data files lack the partition columns.
        base_file_format: of base files, in lower case.
        merge_mode: `hoodie.record.merge.mode`; empty where it is not set, as before version 8.
        payload_class: full name of the class that merges; empty where it is not set.
        merge_strategy_id: of the merger; empty where it is not set.
        partial_update_mode: how incomplete records are completed; empty for not at all.
        metadata_partitions: parts of the metadata table that are in use.
        metadata_partitions_inflight: those that are being built.
        create_schema: the Avro schema that the table was created with; empty where it is not set.
        properties: all pairs as they stand, sorted.
    """

    name: str
    database: str
    version: int
    table_type: TableType
    layout: int
    timeline_path: str
    history_path: str
    is_utc: bool
    record_key_fields: tuple[str, ...]
    partition_fields: tuple[str, ...]
    ordering_fields: tuple[str, ...]
    key_generator: str
    is_hive_style: bool
    is_url_encoded: bool
    populates_meta_fields: bool
    drops_partition_columns: bool
    base_file_format: str
    merge_mode: str
    payload_class: str
    merge_strategy_id: str
    partial_update_mode: str
    metadata_partitions: tuple[str, ...]
    metadata_partitions_inflight: tuple[str, ...]
    create_schema: str
    properties: tuple[tuple[str, str], ...]

    def get(self, name: str, default: str = "") -> str:
        """Return a property as it stands."""
        return next((value for key, value in self.properties if key == name), default)

    def count(self, *names: str, default: int) -> int:
        """Return the first of these properties that is set, as a number of what is to stay.

        Returns:
            1 at least: nobody means that nothing stays.

        Raises:
            CorruptTableError: it is no number.
        """
        for name in names:
            if text := self.get(name).strip():
                if not (text.isascii() and text.lstrip("-").isdigit()):
                    raise CorruptTableError(f"hoodie.properties has no number for {name}: {text!r}")
                return max(1, int(text))
        return default

    @property
    def is_merge_on_read(self) -> bool:
        """Whether file slices may have log files."""
        return self.table_type is TableType.MERGE_ON_READ


def parse_properties(text: str) -> dict[str, str]:
    """Read a Java properties file; of a key that comes twice, the last value stands."""
    found = {}
    for line in _lines(text):
        pair = _PAIR.match(line)
        if pair is not None:
            found[_unescaped(pair[1])] = _unescaped(pair[2])
    return found


def format_properties(pairs: Mapping[str, str]) -> str:
    """Return the text of a Java properties file, sorted by key."""
    return "".join(
        f"{_escaped(key, ' :=#!')}={_escaped(value, ':=#!')}\n"
        for key, value in sorted(pairs.items())
    )


def table_config(properties: Mapping[str, str]) -> TableConfig:
    """Return what the properties of a table say.

    Raises:
        CorruptTableError: one that every table has is missing or means nothing.
        UnsupportedTableError: the version of the table or its layout is not one we know.
    """
    read = _Reader(properties)
    version = read.number("hoodie.table.version")
    if version not in VERSIONS:
        known = ", ".join(map(str, VERSIONS))
        raise UnsupportedTableError(
            f"hoodie.table.version is {version}; {known} are supported",
            hint="upgrade the table with Hudi's own tools",
        )
    layout = read.number("hoodie.timeline.layout.version", 2 if version >= LAYOUT_2_VERSION else 1)
    if layout != (2 if version >= LAYOUT_2_VERSION else 1):
        raise UnsupportedTableError(
            f"hoodie.timeline.layout.version is {layout} in a table of version {version}"
        )
    return TableConfig(
        name=read.text("hoodie.table.name"),
        database=read.text("hoodie.database.name"),
        version=version,
        table_type=_table_type(read.text("hoodie.table.type", TableType.COPY_ON_WRITE)),
        layout=layout,
        timeline_path=_timeline_path(read, layout),
        history_path=_history_path(read, layout),
        is_utc=read.text("hoodie.table.timeline.timezone").upper() == "UTC",
        record_key_fields=read.names("hoodie.table.recordkey.fields"),
        # Behind a colon stands the kind that a custom key generator gives to the field.
        partition_fields=tuple(
            name.partition(":")[0] for name in read.names("hoodie.table.partition.fields")
        ),
        ordering_fields=read.names("hoodie.table.ordering.fields")
        or read.names("hoodie.table.precombine.field"),
        key_generator=read.text("hoodie.table.keygenerator.class")
        or read.text("hoodie.table.keygenerator.type"),
        is_hive_style=read.flag("hoodie.datasource.write.hive_style_partitioning"),
        is_url_encoded=read.flag("hoodie.datasource.write.partitionpath.urlencode"),
        populates_meta_fields=read.flag("hoodie.populate.meta.fields", default=True),
        drops_partition_columns=read.flag("hoodie.datasource.write.drop.partition.columns"),
        base_file_format=read.text("hoodie.table.base.file.format", "parquet").lower(),
        merge_mode=read.text("hoodie.record.merge.mode"),
        payload_class=read.text("hoodie.compaction.payload.class"),
        merge_strategy_id=read.text("hoodie.record.merge.strategy.id")
        or read.text("hoodie.compaction.record.merger.strategy"),
        partial_update_mode=read.text("hoodie.table.partial.update.mode"),
        metadata_partitions=read.names("hoodie.table.metadata.partitions"),
        metadata_partitions_inflight=read.names("hoodie.table.metadata.partitions.inflight"),
        create_schema=read.text("hoodie.table.create.schema"),
        properties=tuple(sorted(properties.items())),
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Properties by their types; an empty value is one that is not set."""

    properties: Mapping[str, str]

    def text(self, name: str, default: str = "") -> str:
        return self.properties.get(name, "").strip() or default

    def names(self, name: str) -> tuple[str, ...]:
        parts = (part.strip() for part in self.text(name).split(","))
        return tuple(part for part in parts if part)

    def flag(self, name: str, *, default: bool = False) -> bool:
        return self.text(name, str(default)).lower() == "true"

    def number(self, name: str, default: int | None = None) -> int:
        text = self.text(name)
        if not text and default is not None:
            return default
        if not (text.isascii() and text.isdigit()):
            raise CorruptTableError(f"hoodie.properties has no number for {name}: {text!r}")
        return int(text)


def _table_type(text: str) -> TableType:
    try:
        return TableType(text.upper())
    except ValueError as error:
        raise UnsupportedTableError(f"hoodie.table.type is {text}") from error


def _timeline_path(read: _Reader, layout: int) -> str:
    if layout == 1:
        return ".hoodie"
    return ".hoodie/" + read.text("hoodie.timeline.path", "timeline").strip("/")


def _history_path(read: _Reader, layout: int) -> str:
    if layout == 1:
        # Old tables have an empty value, which means `.hoodie` itself.
        folder = read.properties.get("hoodie.archivelog.folder", "archived").strip().strip("/")
        return f".hoodie/{folder}" if folder else ".hoodie"
    history = read.text("hoodie.timeline.history.path", "history").strip("/")
    return f"{_timeline_path(read, layout)}/{history}"


def _lines(text: str) -> Iterator[str]:
    """Yield the logical lines: comments left out, continued lines joined."""
    waiting = ""
    for line in re.split(r"\r\n|\n|\r", text):
        stripped = line.lstrip(" \t\f")
        if not waiting and (not stripped or stripped[0] in "#!"):
            continue
        waiting += stripped
        if (len(waiting) - len(waiting.rstrip("\\"))) % 2:
            waiting = waiting[:-1]
            continue
        yield waiting
        waiting = ""
    if waiting:
        yield waiting


def _unescaped(text: str) -> str:
    def meant(found: re.Match[str]) -> str:
        code = found[1]
        if len(code) == 5:
            return chr(int(code[1:], 16))
        return _ESCAPES.get(code, code)

    # Characters beyond the first plane come as two halves.
    plain = _ESCAPED.sub(meant, text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _escaped(text: str, special: str) -> str:
    names = {value: key for key, value in _ESCAPES.items()}

    def written(position: int, character: str) -> str:
        if character in names:
            return "\\" + names[character]
        if character == "\\" or character in special or (character == " " and not position):
            return "\\" + character
        if " " <= character <= "~":
            return character
        data = character.encode("utf-16-be")
        return "".join(f"\\u{data[at : at + 2].hex()}" for at in range(0, len(data), 2))

    return "".join(written(*pair) for pair in enumerate(text))
