"""The archive of layout 1 as it is read: numbered log files with an entry for each state."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyarrow as pa

from catalog.avro.records import Record, record_reader
from catalog.errors import CorruptTableError
from catalog.hudi.log_blocks import BlockKind, HeaderKey, read_blocks
from catalog.hudi.log_records import record_frames
from catalog.hudi.schema import parse_avro
from catalog.hudi.timeline import State
from catalog.location import Location
from catalog.storage import Storage

_NAME = re.compile(r"\.commits_\.archive\.(\d+).*")
_FAULTS = (LookupError, TypeError, ValueError)


def archive_logs(storage: Storage, folder: Location) -> list[tuple[int, Location]]:
    """Return the numbers and the places of the files of an archive, the newest one first."""
    depth = len(folder.segments) + 1
    found = [
        (int(named[1]), one.location)
        for one in storage.list(folder)
        # The folder may be `.hoodie` itself, which holds the metadata table as well.
        if len(one.location.segments) == depth and (named := _NAME.fullmatch(one.location.name))
    ]
    return sorted(found, key=lambda pair: -pair[0])


def archived_entries(
    storage: Storage, location: Location, *, unwanted: frozenset[str] = frozenset()
) -> Iterator[Record]:
    """Yield the entries of a file of the archive.

    Args:
        storage: where it is.
        location: of the file.
        unwanted: names of fields, at any depth, that are stepped over.

    Raises:
        CorruptTableError: it does not decode.
    """
    with storage.open_input(location) as file:
        try:
            yield from _entries(file, unwanted)
        except _FAULTS as fault:
            raise CorruptTableError(f"{location} does not decode: {fault}") from fault


def is_completed(entry: Record) -> bool:
    """Whether an entry is of a completed instant; old ones are of no others."""
    return str(entry.get("actionState") or State.COMPLETED).lower() == State.COMPLETED


def _entries(file: pa.NativeFile, unwanted: frozenset[str]) -> Iterator[Record]:
    for block in read_blocks(file):
        if block.kind is not BlockKind.AVRO_DATA:
            continue
        read = record_reader(parse_avro(block.header[HeaderKey.SCHEMA]), unwanted=unwanted)
        for body in record_frames(file, block):
            yield read(body, 0)[0]
