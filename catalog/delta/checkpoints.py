"""Checkpoints: the files of a version in Parquet or JSON, in parts or in sidecars, and its facts.

Parquet is read batch by batch and only in the columns that are needed.  A part may be read in any
process, so its reader is a value that can be pickled.

Specification: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#checkpoints
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.delta.actions import Raw
from catalog.delta.file_columns import FileColumns
from catalog.delta.gathering import gather
from catalog.delta.json_actions import blocks, file_actions, small_actions
from catalog.delta.log import SIDECARS_DIRECTORY, LogSegment
from catalog.errors import CorruptTableError, LocationError, ObjectNotFoundError
from catalog.location import Location
from catalog.storage import Storage

# Statistics are long: a batch of them must stay small.
_BATCH_ROWS = 8 << 10
_BUFFER_BYTES = 1 << 20
_FILE_FIELDS = (
    "path",
    "partitionValues",
    "size",
    "modificationTime",
    "deletionVector",
    "baseRowId",
    "defaultRowCommitVersion",
)
_SMALL = ("metaData", "protocol", "domainMetadata", "txn", "sidecar")
_PARSED_ROWS = "add.stats_parsed.numRecords"


class DamagedCheckpointError(CorruptTableError):
    """A checkpoint cannot be read: an older one and the commits after it may tell the same."""


@contextmanager
def reading_checkpoint(segment: LogSegment) -> Iterator[None]:
    """Turn whatever is wrong with the checkpoint of a segment into a `DamagedCheckpointError`."""
    try:
        yield
    except DamagedCheckpointError:
        raise
    except (CorruptTableError, ObjectNotFoundError) as fault:
        raise DamagedCheckpointError(str(fault), hint=fault.hint) from fault


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a checkpoint: its top level, or a sidecar."""

    location: Location
    size_bytes: int

    @property
    def is_json(self) -> bool:
        """Whether it holds lines of JSON; else it is Parquet."""
        return self.location.name.endswith(".json")


def top_parts(segment: LogSegment) -> list[Part]:
    """Return the files that the log lists for the checkpoint of a segment."""
    if segment.checkpoint is None:
        return []
    return [Part(segment.locate(one), one.size_bytes) for one in segment.checkpoint.parts]


def sidecars(log: Location, found: Sequence[Raw]) -> list[Part]:
    """Return the files that a checkpoint names besides itself.

    Raises:
        CorruptTableError: one is malformed.
        LocationError: one lies elsewhere than all sidecars do.
    """
    return [_sidecar(log.child(SIDECARS_DIRECTORY), raw) for raw in found]


def small_actions_of(
    storage: Storage, part: Part, kinds: Sequence[str] = _SMALL
) -> Iterator[tuple[str, Raw]]:
    """Yield what a part holds besides files, by kind; `sidecar` among it.

    Raises:
        CorruptTableError: it cannot be read as a checkpoint.
    """
    if part.is_json:
        for block in blocks(storage, part.location, part.size_bytes):
            found = small_actions(block, str(part.location))
            yield from ((kind, raw) for kind, raw in found if kind in kinds)
        return
    with opened(storage, part) as file:
        present = [name for name in kinds if name in file.schema_arrow.names]
        for batch in batches(file, present, part):
            for name in present:
                yield from ((name, raw) for raw in _objects(batch.column(name), part))


def _objects(actions: pa.Array, part: Part) -> list[Raw]:
    with _decoding(part):
        found = actions.drop_null()
        found.validate(full=True)
        objects: list[Raw] = found.to_pylist()
    return objects


@dataclass(frozen=True, slots=True)
class PartReader:
    """Reads the files that parts of checkpoints hold; a function that other processes can run."""

    storage: Storage
    columns: FileColumns

    def __call__(self, part: Part) -> pa.Table:
        """Return the files of a part, one row each.

        Raises:
            CorruptTableError: it does not exist, or cannot be read as a checkpoint.
            LocationError: a file lies outside of the table's prefixes.
        """
        try:
            tables = self._json(part) if part.is_json else self._parquet(part)
            return gather(tables, self.columns.schema)
        except ObjectNotFoundError as fault:
            raise CorruptTableError(f"a part of the checkpoint is missing: {fault}") from fault

    def _json(self, part: Part) -> Iterator[pa.Table]:
        for block in blocks(self.storage, part.location, part.size_bytes):
            yield file_actions(block, self.columns, str(part.location)).added

    def _parquet(self, part: Part) -> Iterator[pa.Table]:
        with opened(self.storage, part) as file:
            wanted = _wanted(file, self.columns)
            if not wanted:
                return
            for batch in batches(file, wanted, part):
                adds = batch.column("add")
                if adds.null_count:
                    adds = adds.drop_null()
                try:
                    yield self.columns.files(adds)
                except CorruptTableError as fault:
                    raise CorruptTableError(f"{part.location}: {fault}") from fault


def _wanted(file: pq.ParquetFile, columns: FileColumns) -> list[str]:
    """Return the columns to read; none when the part holds no files."""
    schema = file.schema_arrow
    if "add" not in schema.names or not pa.types.is_struct(schema.field("add").type):
        return []
    adds = schema.field("add").type
    found = [child.name for child in adds]
    wanted = [f"add.{name}" for name in _FILE_FIELDS if name in found]
    wanted += columns.checkpoint_columns(adds)
    is_parsed, is_complete = _parsed_row_counts(file.metadata)
    if is_parsed:
        wanted.append(_PARSED_ROWS)
    if "stats" in found and not is_complete:
        wanted.append("add.stats")
    return list(dict.fromkeys(wanted))


def _parsed_row_counts(metadata: pq.FileMetaData) -> tuple[bool, bool]:
    """Tell whether row counts stand in a column of their own, and those of all files do."""
    paths = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
    if _PARSED_ROWS not in paths or "add.size" not in paths:
        return False, False
    counted, sized = paths.index(_PARSED_ROWS), paths.index("add.size")
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        statistics = [group.column(one).statistics for one in (counted, sized)]
        if any(one is None or not one.has_null_count for one in statistics):
            return True, False
        if statistics[0].null_count != statistics[1].null_count:
            return True, False
    return True, True


def _sidecar(directory: Location, raw: Raw) -> Part:
    path, size_bytes = raw.get("path"), raw.get("sizeInBytes")
    if not isinstance(path, str) or not isinstance(size_bytes, int) or size_bytes < 0:
        raise CorruptTableError(f"the checkpoint names a malformed sidecar: {dict(raw)!r:.200}")
    name = unquote(path)
    location = Location.parse(name) if "/" in name else directory.child(name)
    if location.parent != directory:
        raise LocationError(f"refused the sidecar {path[:200]!r}: it lies outside of {directory}")
    return Part(location, size_bytes)


@contextmanager
def opened(storage: Storage, part: Part) -> Iterator[pq.ParquetFile]:
    """Open a part in Parquet.

    Raises:
        CorruptTableError: it is no Parquet file.
    """
    with storage.open_input(part.location, size_bytes=part.size_bytes) as source:
        with _decoding(part):
            file = pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        yield file


def batches(file: pq.ParquetFile, columns: Sequence[str], part: Part) -> Iterator[pa.RecordBatch]:
    """Yield some columns of a part piece by piece; nothing without columns.

    Raises:
        CorruptTableError: the part is damaged.
    """
    if not columns:
        return
    with _decoding(part):
        found = file.iter_batches(_BATCH_ROWS, columns=list(columns), use_threads=False)
    while True:
        with _decoding(part):
            batch = next(found, None)
        if batch is None:
            return
        yield batch


@contextmanager
def _decoding(part: Part) -> Iterator[None]:
    """Turn every complaint of the Parquet reader into a `CorruptTableError` about the part."""
    try:
        yield
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as fault:
        reason = str(fault).partition("\n")[0]
        raise CorruptTableError(f"{part.location} cannot be read: {reason}") from fault
