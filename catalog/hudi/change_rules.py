"""What a table asks of a change of its rows, as far as it can be told before any work.  Pure."""

from __future__ import annotations

import pyarrow as pa

from catalog.commits import ChangeScope
from catalog.errors import UnsupportedTableError
from catalog.hudi.config import TableConfig
from catalog.hudi.key_rules import possible_rules
from catalog.hudi.metadata_table.table import RECORD_INDEX, MetadataTable, Operation
from catalog.hudi.schema import OPERATION

_CHANGE_DATA = "hoodie.table.cdc.enabled"
_PARTITIONS_IN_PARQUET = "hoodie.partition.metafile.use.base.format"


def require_changeable(
    config: TableConfig, schema: pa.Schema, metadata: MetadataTable | None, scope: ChangeScope
) -> None:
    """Make sure that a table takes a change.

    Args:
        config: of the table.
        schema: its columns.
        metadata: its metadata table; None where it has none.
        scope: what the change will do.

    Raises:
        UnsupportedTableError: it does not; what is in the way is named.
    """
    for name in (_CHANGE_DATA, _PARTITIONS_IN_PARQUET):
        _require(config.get(name).lower() != "true", f"the table has {name}")
    _require(OPERATION not in schema.names, f"the table has the column {OPERATION}")
    if metadata is not None:
        metadata.require_writable(Operation.UPSERT)
    if scope.adds_rows:
        _require_key(config, metadata, scope.key)
        list(possible_rules(config, schema))


def _require_key(config: TableConfig, metadata: MetadataTable | None, key: tuple[str, ...]) -> None:
    """Make sure that rows are told apart by their record keys, within each partition at least."""
    _require(bool(key), "rows are appended whatever their record keys")
    asked, fields = set(key), set(config.record_key_fields)
    others = asked - fields
    _require(
        fields <= asked and others <= set(config.partition_fields),
        f"the key is {', '.join(key)}, that of the table {', '.join(config.record_key_fields)}",
    )
    is_global = metadata is not None and RECORD_INDEX in metadata.partitions
    if is_global and metadata is not None and not metadata.is_record_index_divided:
        _require(not others, "its record index has one row of each record key, the key several")


def _require(is_met: bool, obstacle: str) -> None:
    if not is_met:
        raise UnsupportedTableError(f"changes cannot be merged into the table: {obstacle}")
