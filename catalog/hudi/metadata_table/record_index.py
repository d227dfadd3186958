"""What a commit changes in the index of records: where each row is, by its key.

Rows move with clustering, come and go with merges, and stay with compaction: a compaction keeps
its file groups. Keys are read from the files, batch by batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.errors import CorruptTableError
from catalog.hudi.config import TableConfig
from catalog.hudi.metadata_table.change import AddedFile, MetadataChange
from catalog.hudi.metadata_table.records import RecordPlace, encode_place
from catalog.hudi.metadata_table.table import MetadataTable, Operation
from catalog.hudi.schema import RECORD_KEY

_MOVING = frozenset((Operation.CLUSTERING, Operation.UPSERT))
_BATCH_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class PlacedKeys:
    """Keys of rows that are all in one place.

    Attributes:
        partition_path: of the file that they are in, or were in.
        keys: of the rows, in any order.
        record: the record that says where they are; None for rows that are gone.
    """

    partition_path: str
    keys: Sequence[str]
    record: bytes | None


def placed_keys(table: MetadataTable, change: MetadataChange, instant: str) -> Iterator[PlacedKeys]:
    """Yield the rows that a commit deletes, then those that it puts in a place.

    A row that goes from one file to another is both: what comes later holds.

    Raises:
        CorruptTableError: a file has no keys.
    """
    if change.operation not in _MOVING:
        return
    moment = instant_milliseconds(instant, table.table_config)
    bases = [one for one in change.added if not one.is_log]
    for one in bases:
        gone = _missing(table, one)
        if gone:
            yield PlacedKeys(one.partition_path, gone, None)
    for one in bases:
        place = RecordPlace(one.partition_path, one.file_id, moment)
        record = encode_place(place)
        before = _together(_before(table, one))
        for batch in _key_batches(table, one, one.name):
            new = batch.filter(pc.invert(pc.is_in(batch, before))) if len(before) else batch
            if len(new):
                yield PlacedKeys(one.partition_path, new.to_pylist(), record)


def _missing(table: MetadataTable, one: AddedFile) -> Sequence[str]:
    """Return the keys that a file lacks and the slice that it takes the place of has."""
    if one.keys_before is None and one.previous_name is None:
        return []
    kept = _together(_key_batches(table, one, one.name))
    found: list[str] = []
    for batch in _before(table, one):
        found += batch.filter(pc.invert(pc.is_in(batch, kept))).to_pylist()
    return found


def _before(table: MetadataTable, one: AddedFile) -> Iterator[pa.Array]:
    """Yield the keys of the rows of the slice that a file takes the place of."""
    if one.keys_before is not None:
        return one.keys_before()
    return iter(()) if one.previous_name is None else _key_batches(table, one, one.previous_name)


def _together(batches: Iterable[pa.Array]) -> pa.Array:
    found = list(batches)
    return pa.concat_arrays(found) if found else pa.array([], pa.string())


def _key_batches(table: MetadataTable, one: AddedFile, name: str) -> Iterator[pa.Array]:
    """Yield the record keys of a base file in the same folder."""
    path = f"{one.partition_path}/{name}" if one.partition_path else name
    size_bytes = one.size_bytes if name == one.name else None
    location = table.table_root.child(path)
    with table.storage.open_input(location, size_bytes=size_bytes) as file:
        parquet = pq.ParquetFile(file)
        if RECORD_KEY not in parquet.schema_arrow.names:
            raise CorruptTableError(f"{location} has no column {RECORD_KEY}")
        for batch in parquet.iter_batches(_BATCH_ROWS, columns=[RECORD_KEY]):
            yield batch.column(0).cast(pa.string())


def instant_milliseconds(instant: str, config: TableConfig) -> int:
    """Return the moment that an instant is named after, since 1970."""
    moment = datetime.strptime(instant.ljust(17, "0")[:17] + "000", "%Y%m%d%H%M%S%f")
    zoned = moment.replace(tzinfo=UTC) if config.is_utc else moment.astimezone()
    return int(zoned.timestamp() * 1000)
