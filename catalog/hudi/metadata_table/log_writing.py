"""Write to the file groups of one partition of the metadata table: to each at most one log file.

A log is a run of blocks: deleted keys, then records sorted by key. Keys are spread over the file
groups by their hash. Blocks are written as they fill, so memory holds one for each file group.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from catalog.errors import CorruptTableError
from catalog.hudi.delete_records import DeletedKey, Ordering, encode_deletes
from catalog.hudi.log_blocks import BlockKind, HeaderKey, encode_block
from catalog.hudi.metadata_table.hfile_writer import encode_hfile
from catalog.hudi.metadata_table.keys import file_group_numbers
from catalog.hudi.metadata_table.record_schema import RECORD_SCHEMA
from catalog.hudi.metadata_table.view import MetadataSlice, MetadataView
from catalog.storage.output import OutputFile

_VERSION = re.compile(r"\.log\.(\d+)")
_OWNED = re.compile(r"record-index-(.+)-\d{4}-0")
# About 60 MiB of keys and records.
_HELD_MAX = 250_000
_TOKEN_MAX = 1_000_000_000


@dataclass(frozen=True, slots=True)
class WrittenLog:
    """A log file that was written.

    Attributes:
        partition: of the metadata table.
        file_id: its file group.
        slice_instant: the instant at which its slice begins.
        name: of the file.
        size_bytes: its length.
        entry_count: records in it.
        deleted_count: keys in it that are deleted.
    """

    partition: str
    file_id: str
    slice_instant: str
    name: str
    size_bytes: int
    entry_count: int
    deleted_count: int


@dataclass(slots=True)
class _GroupLog:
    """The log of one file group, and what waits to be written to it."""

    slice: MetadataSlice
    name: str
    output: OutputFile | None = None
    entries: dict[bytes, bytes] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    entry_count: int = 0
    deleted_count: int = 0


class PartitionWriter:
    """Writes to one partition of the metadata table; `finish` or `abort` ends it."""

    def __init__(
        self, view: MetadataView, partition: str, instant: str, *, owner: str | None = None
    ) -> None:
        """Find the file groups to write to.

        Args:
            view: the metadata table.
            partition: of it.
            instant: that writes.
            owner: path of the table's partition whose file groups are meant; None for all.

        Raises:
            CorruptTableError: there are none.
        """
        self._view = view
        self._partition = partition
        self._instant = instant
        self._held = 0
        slices = view.slices(partition)
        if owner is not None:
            slices = [one for one in slices if _owner(one.file_id) == owner]
        if not slices:
            raise CorruptTableError(f"the partition {partition} of the metadata table has no files")
        token = f"0-0-{secrets.randbelow(_TOKEN_MAX)}"
        self._logs = [
            _GroupLog(one, _log_name(one, instant, token, layout=view.timeline.layout))
            for one in slices
        ]

    def add(self, entries: Mapping[str, bytes]) -> None:
        """Write records by their key."""
        keys = list(entries)
        for key, number in zip(keys, self._numbers(keys), strict=True):
            self._logs[number].entries[key.encode()] = entries[key]
        self._hold(len(keys))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete records; what was added since the last block for the same key holds."""
        texts = list(keys)
        for key, number in zip(texts, self._numbers(texts), strict=True):
            self._logs[number].deleted.add(key)
        self._hold(len(texts))

    def finish(self) -> list[WrittenLog]:
        """Write what is left and return the logs."""
        self._flush()
        found = []
        for log in self._logs:
            if log.output is not None:
                log.output.close()
                found.append(
                    WrittenLog(
                        self._partition,
                        log.slice.file_id,
                        log.slice.instant,
                        log.name,
                        log.output.size_bytes,
                        log.entry_count,
                        log.deleted_count,
                    )
                )
        return found

    def abort(self) -> None:
        """Leave nothing behind of logs that are not finished."""
        for log in self._logs:
            if log.output is not None:
                log.output.abort()

    def _numbers(self, keys: list[str]) -> list[int]:
        numbers: list[int] = file_group_numbers(keys, len(self._logs)).tolist()
        return numbers

    def _hold(self, count: int) -> None:
        self._held += count
        if self._held >= _HELD_MAX:
            self._flush()

    def _flush(self) -> None:
        for log in self._logs:
            if log.deleted:
                self._append(log, BlockKind.DELETE, self._deletes(log))
                log.deleted_count += len(log.deleted)
                log.deleted = set()
            if log.entries:
                content = encode_hfile(sorted(log.entries.items()), RECORD_SCHEMA)
                self._append(log, BlockKind.HFILE_DATA, content)
                log.entry_count += len(log.entries)
                log.entries = {}
        self._held = 0

    def _deletes(self, log: _GroupLog) -> bytes:
        return encode_deletes(
            DeletedKey(key, self._partition, Ordering.INT, 0) for key in sorted(log.deleted)
        )

    def _append(self, log: _GroupLog, kind: BlockKind, content: bytes) -> None:
        if log.output is None:
            location = self._view.table.root.child(self._partition, log.name)
            log.output = self._view.table.storage.open_output(location)
        header = {HeaderKey.INSTANT_TIME: self._instant}
        if kind is BlockKind.HFILE_DATA:
            header[HeaderKey.SCHEMA] = RECORD_SCHEMA
        log.output.write(encode_block(kind, header, content))


def _owner(file_id: str) -> str | None:
    """Return the partition that a file group is of, where each partition has its own."""
    found = _OWNED.fullmatch(file_id)
    return unquote(found[1]) if found is not None else None


def _log_name(one: MetadataSlice, instant: str, token: str, *, layout: int) -> str:
    """Return the name of a slice's next log: by its instant, or in layout 1 by the slice's."""
    if layout > 1:
        return f".{one.file_id}_{instant}.log.1_{token}"
    begin = one.planned_instant or one.instant
    stem = f".{one.file_id}_{begin}.log."
    versions = [
        int(found[1])
        for log in one.logs
        if (name := log.location.name).startswith(stem) and (found := _VERSION.search(name))
    ]
    return f"{stem}{max(versions, default=0) + 1}_{token}"
