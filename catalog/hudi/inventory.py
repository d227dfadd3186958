"""File slices as the inventory that planners read: a row per slice, its logs as delete files."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.hudi.details import WriteStat
from catalog.hudi.reading import Source, read_commits
from catalog.hudi.schema import META_COLUMNS, RECORD_KEY
from catalog.hudi.slices import Slices
from catalog.hudi.timeline import Action
from catalog.location import Location
from catalog.model import DATA_FILES, DELETE_FILES, Inventory
from catalog.storage import Storage
from catalog.table import MapFunction

# Rows of log files are told apart by the record key.
_KEY_ID = META_COLUMNS.index(RECORD_KEY) + 1
# Footers that one task reads.
_FOOTERS = 64
# By partition path and name.
_Stats = dict[tuple[str, str], WriteStat]
_WRITES = (Action.COMMIT, Action.DELTACOMMIT, Action.REPLACECOMMIT)


def read_inventory(source: Source, slices: Slices, *, map_function: MapFunction = map) -> Inventory:
    """Return the inventory of file slices.

    The number of rows of a base file comes from the commit that wrote it, active or archived, else
    from its footer. A slice of logs alone goes by its first log, without size and rows.

    Raises:
        CorruptTableError: metadata or a footer cannot be read.
    """
    if not slices.slices.num_rows:
        return Inventory.empty()
    stats = _stats(source, slices)
    base_paths = _paths(source.root, slices.slices["partition_path"], slices.slices["base_name"])
    counts = _counts(slices.slices["partition_path"], slices.slices["base_name"], stats)
    missing = np.flatnonzero(pc.and_(counts.is_null(), base_paths.is_valid()).to_numpy())
    filled = counts.fill_null(0).to_numpy().copy()
    chosen = base_paths.take(pa.array(missing)).to_pylist()
    filled[missing] = list(_footer_counts(source.storage, chosen, map_function))
    owners = np.repeat(np.arange(slices.slices.num_rows), _lengths(slices))
    folders = slices.slices["partition_path"].take(pa.array(owners))
    log_paths = _paths(source.root, folders, slices.logs["name"])
    paths = _slice_paths(slices, base_paths, log_paths)
    told = (
        stats.get(one)
        for one in zip(folders.to_pylist(), slices.logs["name"].to_pylist(), strict=True)
    )
    records = pa.array(map(_records, told), pa.int64())
    deletes = _delete_files(slices, records, log_paths, paths.take(pa.array(owners)))
    return Inventory(_files(source, slices, paths=paths, counts=filled), deletes)


def _stats(source: Source, slices: Slices) -> _Stats:
    """Return what is known of files by their paths: names may come again in other partitions."""
    wanted = {*slices.slices["instant"].unique().to_pylist()}
    if source.timeline.layout == 1:
        # Logs are named after their slices: any commit may have written them.
        wanted |= {one.time for one in source.timeline.completed(*_WRITES)}
    else:
        wanted |= {*slices.logs["instant"].unique().to_pylist()}
    found: _Stats = {}
    for _, details in read_commits(source, wanted):
        found |= {(one.partition_path, one.name): one for one in details.write_stats}
    return found


def _paths(root: Location, folders: pa.ChunkedArray, names: pa.ChunkedArray) -> pa.ChunkedArray:
    prefixes = pc.if_else(pc.equal(folders, ""), "", pc.binary_join_element_wise(folders, "", "/"))
    start = str(root).rstrip("/") + "/"
    return pc.binary_join_element_wise(start, prefixes, names, "")


def _counts(folders: pa.ChunkedArray, names: pa.ChunkedArray, stats: _Stats) -> pa.ChunkedArray:
    """Return the rows of base files as commits tell them; null where none does."""
    found = (stats.get(one) for one in zip(folders.to_pylist(), names.to_pylist(), strict=True))
    counts = [None if one is None else one.row_count for one in found]
    return pa.chunked_array([pa.array(counts, pa.int64())])


def _footer_counts(storage: Storage, paths: list[str], map_function: MapFunction) -> Iterator[int]:
    tasks = [(storage, paths[at : at + _FOOTERS]) for at in range(0, len(paths), _FOOTERS)]
    for counts in map_function(_rows_of, tasks):
        yield from counts


def _rows_of(task: tuple[Storage, list[str]]) -> list[int]:
    storage, paths = task
    found = []
    for path in paths:
        with storage.open_input(Location.parse(path)) as file:
            found.append(pq.ParquetFile(file).metadata.num_rows)
    return found


def _lengths(slices: Slices) -> npt.NDArray[np.int64]:
    """Return how many logs each slice has."""
    counts = pc.list_value_length(slices.slices["logs"])
    return np.asarray(counts.to_numpy(), dtype=np.int64)


def _slice_paths(
    slices: Slices, base_paths: pa.ChunkedArray, log_paths: pa.ChunkedArray
) -> pa.ChunkedArray:
    """Return the path that each slice goes by: of its base file, else of its first log."""
    lengths = _lengths(slices)
    firsts = np.cumsum(lengths) - lengths
    first_logs = log_paths.take(pa.array(firsts, mask=lengths == 0))
    return pc.coalesce(base_paths, first_logs)


def _delete_files(
    slices: Slices,
    records: pa.Array,
    log_paths: pa.ChunkedArray,
    targets: pa.ChunkedArray,
) -> pa.Table:
    logs = slices.logs
    ids = DELETE_FILES.field("equality_ids").type
    offsets = pa.array(np.arange(logs.num_rows + 1), pa.int32())
    keys = pa.array(np.full(logs.num_rows, _KEY_ID, np.int32))
    columns = [
        log_paths,
        logs["size_bytes"],
        records,
        pc.cast(logs["instant"], pa.int64()),
        targets,
        pa.ListArray.from_arrays(offsets, keys, type=ids),
    ]
    return pa.Table.from_arrays(columns, schema=DELETE_FILES)


def _records(stat: WriteStat | None) -> int:
    """Return how many records a log file has; 0 where that is not known."""
    return 0 if stat is None else stat.row_count + stat.deleted_count


def _files(
    source: Source, slices: Slices, *, paths: pa.ChunkedArray, counts: npt.NDArray[np.int64]
) -> pa.Table:
    found = slices.slices
    rows = found.num_rows
    partitions = found["partition_path"].dictionary_encode()
    # Logs are numbered as the delete files are.
    deletes = found["logs"].cast(DATA_FILES.field("deletes").type)
    columns = [
        paths,
        found["base_size_bytes"].fill_null(0),
        pa.array(counts),
        partitions,
        partitions,
        pc.cast(found["instant"], pa.int64()),
        _written_at_ms(source, found["instant"]),
        pa.nulls(rows, pa.int64()),
        pa.nulls(rows, pa.int64()),
        pa.nulls(rows, pa.bool_()),
        deletes,
    ]
    return pa.Table.from_arrays(columns, schema=DATA_FILES)


def _written_at_ms(source: Source, instants: pa.ChunkedArray) -> pa.Array:
    encoded = pa.concat_arrays(instants.dictionary_encode().unify_dictionaries().chunks)
    zone = UTC if source.config.is_utc else None
    known = [_moment_ms(text, zone) for text in encoded.dictionary.to_pylist()]
    return pa.array(known, pa.int64()).take(encoded.indices)


def _moment_ms(instant: str, zone: tzinfo | None) -> int | None:
    """Return when an instant was requested; None for names that are no times."""
    try:
        moment = datetime.strptime(instant[:14], "%Y%m%d%H%M%S")
    except ValueError:
        return None
    local = moment.replace(tzinfo=zone) if zone else moment.astimezone()
    return int(local.timestamp()) * 1000 + int(instant[14:17] or 0)
