"""What archived commits wrote: the numbers of rows of files that no active commit tells of."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.avro.records import Record
from catalog.errors import CorruptTableError
from catalog.hudi.archived import archive_files
from catalog.hudi.archived_logs import archive_logs, archived_entries, is_completed
from catalog.hudi.config import TableConfig
from catalog.hudi.details import CommitDetails, commit_details, read_commit
from catalog.location import Location
from catalog.storage import Storage

_COLUMNS = ["instantTime", "metadata"]


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
    details: dict[str, CommitDetails] = {}
    for _, location in archive_logs(storage, folder):
        if instants <= details.keys():
            break
        for entry in archived_entries(storage, location):
            found = _metadata(entry)
            if found is not None and entry["commitTime"] in instants:
                details[entry["commitTime"]] = commit_details(found)
    return details


def _metadata(entry: Record) -> Record | None:
    """Return what a completed instant has committed; None for anything else."""
    if not is_completed(entry):
        return None
    return entry.get("hoodieCommitMetadata") or entry.get("hoodieReplaceCommitMetadata")
