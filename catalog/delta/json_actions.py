"""Actions in lines of JSON: commits, compacted commits, and checkpoints in that form.

The files among them are read by Arrow into columns, everything else line by line; which is which is
told by how a line begins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from catalog.delta.actions import Raw
from catalog.delta.file_columns import FileColumns
from catalog.errors import CorruptTableError
from catalog.location import Location
from catalog.storage import Storage

_BLOCK_BYTES = 8 << 20
# One action of more than this is no action.
_LINE_BYTES_MAX = 256 << 20
_SMALL = re.compile(rb'^(?!\s*\{\s*"(?:add|remove|cdc)"\s*:)[^\n]*\S[^\n]*$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FileActions:
    """File actions in their order.

    Attributes:
        identities: path and vector of each.
        is_add: whether it adds; else it removes.
        added: the files that are added, in the same order.
        lines: which line each stands in, counted from 0, blank ones left out.
    """

    identities: pa.Table
    is_add: pa.BooleanArray
    added: pa.Table
    lines: npt.NDArray[np.int64]


def blocks(storage: Storage, location: Location, size_bytes: int) -> Iterator[bytes]:
    """Yield a file in pieces of whole lines.

    Raises:
        CorruptTableError: it is empty, or has a line that no writer writes.
    """
    if not size_bytes:
        raise CorruptTableError(f"{location} is empty")
    with storage.open_input(location, size_bytes=size_bytes) as source:
        rest = b""
        while chunk := source.read(_BLOCK_BYTES):
            rest += chunk
            end = rest.rfind(b"\n") + 1
            if end:
                yield rest[:end]
                rest = rest[end:]
            elif len(rest) > _LINE_BYTES_MAX:
                raise CorruptTableError(f"{location} has a line of {len(rest)} bytes and more")
        if rest.strip():
            yield rest


def small_actions(block: bytes, name: str) -> Iterator[tuple[str, Raw]]:
    """Yield the actions that are about no file, by kind.

    Raises:
        CorruptTableError: the lines are cut off or no JSON.
    """
    for found in _SMALL.finditer(block):
        try:
            action: Any = json.loads(found[0])
        except (ValueError, RecursionError) as fault:
            raise CorruptTableError(f"{name} is cut off or no JSON: {fault}") from fault
        if not isinstance(action, dict):
            raise CorruptTableError(f"{name} has a line that is no action")
        yield from ((kind, raw) for kind, raw in action.items() if isinstance(raw, dict))


def file_actions(block: bytes, columns: FileColumns, name: str) -> FileActions:
    """Return the actions that are about files.

    Raises:
        CorruptTableError: the lines are cut off or no JSON, or an action is malformed.
        LocationError: a file lies outside of the table's prefixes.
    """
    table = _parse(block, columns, name)
    adds, removes = table["add"].combine_chunks(), table["remove"].combine_chunks()
    is_add = adds.is_valid()
    both = pc.and_(is_add, removes.is_valid())
    if pc.any(both).as_py():
        raise CorruptTableError(f"{name} has a line with two actions")
    try:
        added = columns.files(adds.drop_null())
        removed = columns.identities(removes.drop_null())
    except CorruptTableError as fault:
        raise CorruptTableError(f"{name}: {fault}") from fault
    order = pc.or_(is_add, removes.is_valid())
    lines = np.flatnonzero(order.to_numpy(False))
    return _in_order(is_add.filter(order), added, removed, lines)


def lines_of(block: bytes) -> list[bytes]:
    """Return the lines that `FileActions.lines` counts."""
    return [line for line in block.split(b"\n") if line.strip()]


def _in_order(
    is_add: pa.BooleanArray, added: pa.Table, removed: pa.Table, lines: npt.NDArray[np.int64]
) -> FileActions:
    both = pa.concat_tables([added.select(removed.column_names), removed]).combine_chunks()
    flags = is_add.to_numpy(False)
    rows = flags.cumsum() - 1
    rows[~flags] = len(added) + (~flags).cumsum()[~flags] - 1
    return FileActions(both.take(pa.array(rows, pa.int64())), is_add, added, lines)


def _parse(block: bytes, columns: FileColumns, name: str) -> pa.Table:
    schema = pa.schema([("add", columns.add_type), ("remove", columns.remove_type)])
    parse = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    read = pj.ReadOptions(use_threads=False, block_size=len(block) + 1)
    try:
        block.decode()
        return pj.read_json(pa.BufferReader(block), read_options=read, parse_options=parse)
    except (pa.ArrowException, ValueError) as fault:
        reason = str(fault).splitlines()[0]
        raise CorruptTableError(f"{name} is cut off or malformed: {reason}") from fault
