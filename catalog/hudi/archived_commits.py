"""What archived commits wrote: the numbers of rows of files that no active commit tells of."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.errors import CorruptTableError
from catalog.hudi.archived import archive_files
from catalog.hudi.avro_container import Record, decode
from catalog.hudi.config import TableConfig
from catalog.hudi.details import CommitDetails, commit_details, read_commit
from catalog.hudi.log_blocks import BlockKind, HeaderKey, read_blocks
from catalog.hudi.log_records import record_frames
from catalog.hudi.schema import parse_avro
from catalog.hudi.timeline import State
from catalog.location import Location
from catalog.storage import Storage

_COLUMNS = ["instantTime", "metadata"]
_ARCHIVE_NAME = re.compile(r"\.commits_\.archive\.(\d+).*")
_FAULTS = (LookupError, TypeError, ValueError)


def archived_commits(
    storage: Storage, root: Location, config: TableConfig, instants: Collection[str]
) -> Mapping[str, CommitDetails]:
    """Return what these instants wrote, as far as they are archived.

    Raises:
        CorruptTableError: the archive cannot be read.
    """
    if not instants:
        return {}
    folder = root.child(config.history_path)
    if config.layout == 1:
        return _from_logs(storage, folder, frozenset(instants))
    return dict(_from_parquet(storage, folder, frozenset(instants)))


def _from_parquet(
    storage: Storage, folder: Location, instants: frozenset[str]
) -> Iterator[tuple[str, CommitDetails]]:
    first, last = min(instants), max(instants)
    for name in archive_files(storage, folder):
        begin, end = name.split("_")[:2]
        if begin <= last and first <= end:
            with storage.open_input(folder.child(name)) as file:
                for instant, data in _stored(file, name, instants):
                    yield instant, read_commit(f"{name} {instant}", data)


def _stored(
    file: pa.NativeFile, name: str, instants: frozenset[str]
) -> Iterator[tuple[str, bytes]]:
    try:
        for batch in pq.ParquetFile(file).iter_batches(columns=_COLUMNS, use_threads=False):
            times = batch.column(_COLUMNS[0]).cast(pa.string())
            rows = batch.filter(pc.is_in(times, value_set=pa.array(sorted(instants))))
            yield from zip(*(rows.column(one).to_pylist() for one in _COLUMNS), strict=True)
    except pa.ArrowException as error:
        raise CorruptTableError(f"{name} of the archive cannot be read: {error}") from error


def _from_logs(
    storage: Storage, folder: Location, instants: frozenset[str]
) -> Mapping[str, CommitDetails]:
    """Read the archive of layout 1, from its last file back, until all are found."""
    numbered = (
        (int(found[1]), one.location)
        for one in storage.list(folder)
        if (found := _ARCHIVE_NAME.fullmatch(one.location.name))
    )
    details: dict[str, CommitDetails] = {}
    for _, location in sorted(numbered, key=lambda pair: -pair[0]):
        if instants <= details.keys():
            break
        with storage.open_input(location) as file:
            try:
                details |= dict(_entries(file, instants))
            except _FAULTS as fault:
                raise CorruptTableError(f"{location} does not decode: {fault}") from fault
    return details


def _entries(file: pa.NativeFile, instants: frozenset[str]) -> Iterator[tuple[str, CommitDetails]]:
    for block in read_blocks(file):
        if block.kind is not BlockKind.AVRO_DATA:
            continue
        schema = parse_avro(block.header[HeaderKey.SCHEMA])
        for body in record_frames(file, block):
            entry, _ = decode(schema, body)
            found = _metadata(entry)
            if found is not None and entry["commitTime"] in instants:
                yield entry["commitTime"], commit_details(found)


def _metadata(entry: Record) -> Record | None:
    """Return what a completed instant has committed; None for anything else."""
    if str(entry.get("actionState") or State.COMPLETED).lower() != State.COMPLETED:
        return None
    return entry.get("hoodieCommitMetadata") or entry.get("hoodieReplaceCommitMetadata")
