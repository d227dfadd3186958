"""Read the metadata table: slices merged by key, and the listing of the table's files.

A slice is a base file and logs, all sorted by key. They are merged as they stream, so memory holds
one block of each. Of a key, what is read is every version since the base file, oldest first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

import pyarrow as pa

from catalog.errors import UnsupportedTableError
from catalog.hudi.delete_records import read_deletes
from catalog.hudi.log_blocks import BlockKind, HeaderKey, LogBlock, read_blocks
from catalog.hudi.metadata_table.hfile_reader import HFile, open_hfile
from catalog.hudi.metadata_table.keys import ALL_PARTITIONS, partition_path
from catalog.hudi.metadata_table.record_reader import decode_files
from catalog.hudi.metadata_table.records import FileInfo, combine_files
from catalog.hudi.metadata_table.table import FILES, MetadataTable
from catalog.hudi.metadata_table.versions import Version, since_deleted
from catalog.hudi.metadata_table.view import MetadataSlice, MetadataView, read_view
from catalog.hudi.slices import LISTING
from catalog.hudi.timeline import Timeline


@dataclass(frozen=True, slots=True)
class _Source:
    """A sorted run of versions: a base file, or a block of a log."""

    order: int
    hfile: HFile | None = None
    deleted: tuple[bytes, ...] = ()

    def versions(self, prefixes: Sequence[bytes] | None) -> Iterator[Version]:
        if self.hfile is None:
            for key in self.deleted:
                yield Version(key, self.order, None, "")
            return
        schema = self.hfile.schema
        entries = (
            self.hfile.entries() if prefixes is None else self.hfile.entries_with_prefixes(prefixes)
        )
        for key, record in entries:
            yield Version(key, self.order, record, schema)


def read_listing(table: MetadataTable, data: Timeline) -> pa.Table:
    """Return the files of all partitions as the metadata table lists them, schema `LISTING`.

    Args:
        table: the metadata table.
        data: the instants of the table itself, read before this.

    Raises:
        CorruptTableError: the metadata table cannot be read.
        UnsupportedTableError: it has something that we do not know.
    """
    view = read_view(table, data)
    found = {
        key.decode(): _live(versions)
        for one in view.slices(FILES)
        for key, versions in slice_versions(view, one)
    }
    known = found.pop(ALL_PARTITIONS, {})
    paths: list[str] = []
    names: list[str] = []
    sizes: list[int] = []
    for partition in sorted(known):
        files = found.get(partition, {})
        paths.extend([partition_path(partition)] * len(files))
        names.extend(files)
        sizes.extend([info.size_bytes for info in files.values()])
    return pa.table([paths, names, sizes], schema=LISTING)


def _live(versions: Sequence[Version]) -> Mapping[str, FileInfo]:
    """Return the files that versions of a listing leave."""
    parts = (decode_files(one.record, one.schema) for one in since_deleted(versions) if one.record)
    listed = combine_files(parts)
    return {name: info for name, info in listed.items() if not info.is_deleted}


def slice_versions(
    view: MetadataView, one: MetadataSlice, *, prefixes: Sequence[bytes] | None = None
) -> Iterator[tuple[bytes, list[Version]]]:
    """Yield each key of a slice with its versions, oldest first; keys rise.

    Args:
        view: what the slice was found in.
        one: the slice.
        prefixes: of the keys that are wanted; None for all. Deletes of others may come, too.
    """
    with ExitStack() as opened:
        sources = list(_sources(view, one, opened))
        merged = heapq.merge(*(source.versions(prefixes) for source in sources))
        for key, versions in groupby(merged, attrgetter("key")):
            yield key, list(versions)


def _sources(view: MetadataView, one: MetadataSlice, opened: ExitStack) -> Iterator[_Source]:
    storage = view.table.storage
    if one.base is not None:
        file = opened.enter_context(
            storage.open_input(one.base.location, size_bytes=one.base.size_bytes)
        )
        yield _Source(0, open_hfile(file))
    blocks = []
    for log in one.logs:
        file = opened.enter_context(storage.open_input(log.location, size_bytes=log.size_bytes))
        blocks += [(file, block) for block in read_blocks(file)]
    for order, (file, block) in enumerate(_counting(view, blocks), start=1):
        if block.kind is BlockKind.DELETE:
            deletes = read_deletes(block.read_content(file).to_pybytes())
            yield _Source(order, deleted=tuple(sorted(one.key.encode() for one in deletes)))
        elif block.kind is BlockKind.HFILE_DATA:
            yield _Source(order, open_hfile(pa.BufferReader(block.read_content(file))))
        else:
            raise UnsupportedTableError(
                f"a log of the metadata table has a block of the kind {block.kind.name}"
            )


def _counting(
    view: MetadataView, blocks: Iterable[tuple[pa.NativeFile, LogBlock]]
) -> list[tuple[pa.NativeFile, LogBlock]]:
    """Return the blocks that count, in the order in which they hold."""
    kept: list[tuple[pa.NativeFile, LogBlock]] = []
    for file, block in blocks:
        if block.kind is BlockKind.COMMAND:
            target = block.target_instant_time
            kept = [pair for pair in kept if pair[1].instant_time != target]
        elif block.kind is not BlockKind.CORRUPT and view.is_valid(block.instant_time):
            kept.append((file, block))
    if any(HeaderKey.COMPACTED_BLOCK_TIMES in block.header for _, block in kept):
        raise UnsupportedTableError("the metadata table has logs that were compacted into logs")
    return kept
