"""The metadata table as a table: where it is, what it indexes, and what must not be done to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from catalog.errors import CorruptTableError, ObjectNotFoundError, UnsupportedTableError
from catalog.hudi.config import TableConfig, parse_properties, table_config
from catalog.hudi.timeline import Timeline, read_timeline
from catalog.location import Location
from catalog.storage import Storage

_META_FOLDER = ".hoodie/"
EXTENSION = "hfile"
FILES = "files"
COLUMN_STATS = "column_stats"
PARTITION_STATS = "partition_stats"
BLOOM_FILTERS = "bloom_filters"
RECORD_INDEX = "record_index"
SECONDARY_INDEX = "secondary_index_"
EXPRESSION_INDEX = "expr_index_"
_KNOWN = (FILES, COLUMN_STATS, PARTITION_STATS, BLOOM_FILTERS, RECORD_INDEX)
# From this version of the table on, statistics name the types of their values.
_NAMED_TYPES_VERSION = 9


class Operation(StrEnum):
    """What a commit does to the table."""

    COMPACTION = "compaction"
    CLUSTERING = "clustering"
    UPSERT = "merge"
    CLEAN = "clean"
    ROLLBACK = "rollback"


# What leaves each row where its index finds it: keys and values stay, file groups too or not.
_KEEPS_ROWS = frozenset(
    (Operation.COMPACTION, Operation.CLUSTERING, Operation.CLEAN, Operation.ROLLBACK)
)


@dataclass(frozen=True, slots=True)
class IndexDefinition:
    """What the table notes of an index.

    Attributes:
        columns: what it is of.
        options: further settings.
        version: of its form; 0 where it is not said.
    """

    columns: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)
    version: int = 0


@dataclass(frozen=True, slots=True)
class MetadataTable:
    """The metadata table of a table.

    Attributes:
        storage: where both are.
        table_root: of the table.
        table_config: of the table.
        root: of the metadata table.
        config: of the metadata table.
        definitions: of indexes, by their partition.
    """

    storage: Storage
    table_root: Location
    table_config: TableConfig
    root: Location
    config: TableConfig
    definitions: Mapping[str, IndexDefinition]

    @property
    def partitions(self) -> tuple[str, ...]:
        """What it holds: listing and indexes."""
        return self.table_config.metadata_partitions

    def index_version(self) -> int:
        """Return the version of the form of statistics: 1 or 2."""
        for name in (COLUMN_STATS, PARTITION_STATS):
            definition = self.definitions.get(name)
            if definition is not None and definition.version:
                return definition.version
        return 2 if self.table_config.version >= _NAMED_TYPES_VERSION else 1

    @property
    def is_record_index_divided(self) -> bool:
        """Whether the record index has file groups of its own for each partition."""
        options = self.definitions.get(RECORD_INDEX, IndexDefinition(())).options
        return options.get("isPartitioned", "").lower() == "true"

    def timeline(self) -> Timeline:
        """Read the active instants of the metadata table."""
        return read_timeline(self.storage, self.root, self.config)

    def require_writable(self, operation: Operation) -> None:
        """Refuse a commit that an index of the table could not be kept right on.

        Raises:
            UnsupportedTableError: the index is named.
        """
        building = self.table_config.metadata_partitions_inflight
        if building:
            raise UnsupportedTableError(
                f"the index {building[0]} of the table is being built",
                hint="wait for it, or drop it with Hudi's own tools",
            )
        if FILES not in self.partitions:
            raise UnsupportedTableError("the metadata table has no listing of files")
        for name in self.partitions:
            self._require_kept(name, operation)

    def _require_kept(self, name: str, operation: Operation) -> None:
        if name.startswith(SECONDARY_INDEX):
            if operation in _KEEPS_ROWS:
                return
            _refuse(name, operation)
        if name not in _KNOWN:
            _refuse(name, operation)


def _refuse(name: str, operation: Operation) -> None:
    raise UnsupportedTableError(
        f"the index {name} of the table cannot be kept right by a {operation}",
        hint="drop the index, or leave this to Hudi's own tools",
    )


def open_metadata_table(
    storage: Storage, root: Location, config: TableConfig
) -> MetadataTable | None:
    """Open the metadata table of a table; None where it has none.

    Raises:
        CorruptTableError: its settings or the definitions of indexes cannot be read.
        UnsupportedTableError: it is of a version that is not supported.
    """
    if not config.metadata_partitions and not config.metadata_partitions_inflight:
        return None
    place = root.child(".hoodie/metadata")
    try:
        text = storage.read(place.child(".hoodie/hoodie.properties")).decode("latin-1")
    except ObjectNotFoundError as error:
        raise CorruptTableError("the table says it has a metadata table and it is gone") from error
    own = table_config(parse_properties(text))
    definitions = _definitions(storage, root, config)
    return MetadataTable(storage, root, config, place, own, definitions)


def _definitions(
    storage: Storage, root: Location, config: TableConfig
) -> Mapping[str, IndexDefinition]:
    noted = config.get("hoodie.table.index.defs.path")
    # Some releases note the whole path, which is wrong once the table was moved.
    path = noted[max(0, noted.rfind(_META_FOLDER)) :]
    if not path:
        return {}
    try:
        data = storage.read(root.child(path))
    except ObjectNotFoundError:
        return {}
    try:
        found = json.loads(data)["indexDefinitions"] if data else {}
        return {name: _definition(one) for name, one in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptTableError(f"the definitions of indexes in {path} cannot be read") from error


def _definition(one: Mapping[str, Any]) -> IndexDefinition:
    options = {key: str(value) for key, value in (one.get("indexOptions") or {}).items()}
    version = str(one.get("version") or "V0").removeprefix("V")
    return IndexDefinition(tuple(one.get("sourceFields") or ()), options, int(version))
