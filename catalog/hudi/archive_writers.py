"""Putting instants into the archive: a log file in layout 1, a Parquet file in layout 2.

A file is put there whole before the first of its instants leaves the timeline. Who dies in between
leaves instants that are in both places: they are looked up here before others are written.
Specification: "LSM History Timeline" of Hudi's technical specification; `TimelineArchiverV1`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.hudi.archive_entries import ENTRY_FIELDS, archive_entry
from catalog.hudi.archived import archive_manifest, completion_times
from catalog.hudi.archived_logs import archive_logs, archived_entries, is_completed
from catalog.hudi.avro_schemas import Kind, schema_text
from catalog.hudi.locking import Lock
from catalog.hudi.log_blocks import BlockKind, HeaderKey, encode_block
from catalog.hudi.log_records import avro_content
from catalog.hudi.reading import Source
from catalog.hudi.timeline import (
    COMPLETED_AS,
    Action,
    Instant,
    State,
    StateFile,
    instant_time,
    read_instant,
)
from catalog.location import Location

# Hudi's token of log files that no task wrote.
_LOG_NAME = ".commits_.archive.{}_1-0-1"
_VERSION = 1
_COLUMNS = pa.schema(
    [
        pa.field("instantTime", pa.string()),
        pa.field("completionTime", pa.string()),
        pa.field("action", pa.string()),
        pa.field("metadata", pa.binary()),
        pa.field("plan", pa.binary()),
        pa.field("version", pa.int32(), nullable=False),
    ]
)
_FOOTER = {"writer.model.name": "avro", "parquet.avro.schema": schema_text(Kind.ARCHIVED_2)}


@dataclass(frozen=True, slots=True)
class Leaving:
    """An instant that leaves the timeline.

    Attributes:
        instant: completed.
        files: of all of its states, in their order, the completed one last.
    """

    instant: Instant
    files: tuple[StateFile, ...]

    @property
    def size_bytes(self) -> int:
        """Length of its files."""
        return sum(one.size_bytes for one in self.files)


def archived_already(source: Source, instants: Sequence[Instant]) -> AbstractSet[Instant]:
    """Return which of these completed instants, in the order of time, the archive holds.

    Raises:
        CorruptTableError: the archive cannot be read.
    """
    if not instants:
        return frozenset()
    archive = source.storage, source.root, source.config
    if source.config.layout > 1:
        known = completion_times(*archive, {one.time for one in instants})
        return {one for one in instants if known.get(one.time) == one.completion_time}
    done = _completed_since(source, instants[0].time)
    return {one for one in instants if (one.time, str(one.action)) in done}


def put_into_archive(source: Source, chosen: Sequence[Leaving], lock: Lock) -> None:
    """Write instants into the archive, one after the other in memory by what their files hold.

    Raises:
        CorruptTableError: one says what no archive can hold; none is written then.
    """
    if source.config.layout == 1:
        _put_log(source, chosen, lock)
    else:
        _put_parquet(source, chosen, lock)


def _completed_since(source: Source, first: str) -> AbstractSet[tuple[str, str]]:
    """Read the archive of layout 1 from its last file back, until all instants are earlier."""
    folder = source.root.child(source.config.history_path)
    done: set[tuple[str, str]] = set()
    for _, location in archive_logs(source.storage, folder):
        latest = ""
        for entry in archived_entries(source.storage, location, unwanted=ENTRY_FIELDS):
            latest = max(latest, entry["commitTime"])
            if is_completed(entry):
                done.add((entry["commitTime"], entry["actionType"]))
        if latest < first:
            break
    return done


def _put_log(source: Source, chosen: Sequence[Leaving], lock: Lock) -> None:
    """Add a file with a block for each instant; the number is that of nobody else."""
    header = {HeaderKey.SCHEMA: schema_text(Kind.ARCHIVED)}
    blocks = bytearray()
    for one in chosen:
        entries = [
            archive_entry(
                file.instant,
                _content(source, file),
                instant_time(file.modified_at, source.config),
            )
            for file in one.files
        ]
        blocks += encode_block(BlockKind.AVRO_DATA, header, avro_content(entries))
    folder = source.root.child(source.config.history_path)
    number = max((number for number, _ in archive_logs(source.storage, folder)), default=0) + 1
    lock.require()
    source.storage.put_if_absent(folder.child(_LOG_NAME.format(number)), bytes(blocks))


def _put_parquet(source: Source, chosen: Sequence[Leaving], lock: Lock) -> None:
    """Write a file; one of that name that no manifest names is torn. Then name it."""
    folder = source.root.child(source.config.history_path)
    name = f"{chosen[0].instant.time}_{chosen[-1].instant.time}_0.parquet"
    rows = [_row(source, one) for one in chosen]
    table = pa.Table.from_pylist(rows, schema=_COLUMNS).replace_schema_metadata(_FOOTER)
    made = pa.BufferOutputStream()
    pq.write_table(table, made, compression="gzip", store_schema=False)
    data = made.getvalue().to_pybytes()
    source.storage.write(folder.child(name), data)
    lock.require()
    _name_in_manifest(source, folder, name, len(data))


def _row(source: Source, one: Leaving) -> Mapping[str, object]:
    return {
        "instantTime": one.instant.time,
        "completionTime": one.instant.completion_time,
        "action": str(one.instant.action),
        "metadata": _content(source, one.files[-1]) or None,
        "plan": _plan(source, one) or None,
        "version": _VERSION,
    }


def _plan(source: Source, one: Leaving) -> bytes:
    """Return what was requested, of actions that have a plan."""
    for file in one.files:
        action = file.instant.action
        is_planned = action in COMPLETED_AS or action in (Action.CLEAN, Action.REPLACECOMMIT)
        if file.instant.state is State.REQUESTED and is_planned:
            return _content(source, file)
    return b""


def _content(source: Source, file: StateFile) -> bytes:
    if not file.size_bytes:
        return b""
    return read_instant(source.storage, source.root, source.config, file.instant.file_name)


def _name_in_manifest(source: Source, folder: Location, name: str, size_bytes: int) -> None:
    """Write the next manifest, and say that it counts."""
    version, entries = archive_manifest(source.storage, folder)
    files = [one for one in entries if one["fileName"] != name]
    files.append({"fileName": name, "fileLen": size_bytes})
    text = json.dumps({"files": files}, indent=2)
    source.storage.write(folder.child(f"manifest_{version + 1}"), text.encode())
    source.storage.write(folder.child("_version_"), str(version + 1).encode())
