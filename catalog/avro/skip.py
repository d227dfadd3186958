"""Stepping over values in Avro's binary encoding without reading them.

A step takes a block and an offset and returns the offset after the value. It may pass the end of
the block: whoever runs steps checks where the last one arrives. Statistics of columns are what
most bytes of a manifest are, so here readers of manifests spend their time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from catalog.avro.read import Schema, item_run, map_types, read_long, type_name

Step = Callable[[bytes, int], int]


def skipper(kind: Schema) -> Step:
    """Compile the function that steps over values of a type."""
    name = type_name(kind)
    if name == "union":
        return _skip_union(tuple(skipper(choice) for choice in kind))
    if name in ("array", "map"):
        pair = map_types(kind)
        items = pair or (kind["items"],)
        return _skip_items(items)
    if name == "record":
        return _skip_all(tuple(skipper(field["type"]) for field in kind["fields"]))
    if name in _FIXED_BYTES or name == "fixed":
        size = _FIXED_BYTES.get(name) or int(kind["size"]) if name != "null" else 0
        return lambda block, at: at + size
    return _LEAF_SKIPPERS[name]


def _skip_long(block: bytes, at: int) -> int:
    while block[at] > 0x7F:
        at += 1
    return at + 1


def _skip_bytes(block: bytes, at: int) -> int:
    size = block[at]
    if size < 0x80 and not size & 1:
        return at + 1 + (size >> 1)
    size, at = read_long(block, at)
    if size < 0:
        raise ValueError("a value has a negative length")
    return at + size


def _skip_union(choices: tuple[Step, ...]) -> Step:
    def skip(block: bytes, at: int) -> int:
        choice = block[at]
        if choice & 1 or choice > 0x7F:
            raise ValueError("a union has no such branch")
        return choices[choice >> 1](block, at + 1)

    return skip


def _skip_all(steps: tuple[Step, ...]) -> Step:
    def skip(block: bytes, at: int) -> int:
        for step in steps:
            at = step(block, at)
        return at

    return skip


def _skip_items(items: tuple[Schema, ...]) -> Step:
    names = tuple(type_name(item) for item in items)
    if set(names) <= {"int", "long"}:
        skip_run = _skip_longs(len(items))
    elif names in (("int", "bytes"), ("long", "bytes")):
        skip_run = _skip_bounds
    else:
        skip_run = _skip_each(_skip_all(tuple(skipper(item) for item in items)))

    def skip(block: bytes, at: int) -> int:
        while count := block[at]:
            if count < 0x80 and not count & 1:  # a small positive number, nearly always
                at = skip_run(block, at + 1, count >> 1)
            else:
                count, size, at = item_run(block, at)
                at = skip_run(block, at, count) if size < 0 else at + size
        return at + 1

    return skip


def _skip_each(item: Step) -> Callable[[bytes, int, int], int]:
    def skip_run(block: bytes, at: int, count: int) -> int:
        for _ in range(count):
            at = item(block, at)
        return at

    return skip_run


def _skip_longs(per_item: int) -> Callable[[bytes, int, int], int]:
    def skip_run(block: bytes, at: int, count: int) -> int:
        found = _longs_pattern(count * per_item).match(block, at)
        if found is None:
            raise ValueError("a list ends outside of its block")
        return found.end()

    return skip_run


@lru_cache(maxsize=256)
def _longs_pattern(count: int) -> re.Pattern[bytes]:
    """Match `count` numbers: the expression engine walks them many times faster than a loop."""
    return re.compile(rb"(?:[\x80-\xff]*+[\x00-\x7f]){%d}" % count)


def _skip_bounds(block: bytes, at: int, count: int) -> int:
    """Step over pairs of a number and bytes; written out, for here readers spend their time."""
    for _ in range(count):
        while block[at] > 0x7F:
            at += 1
        size = block[at + 1]
        if size > 0x7F or size & 1:
            at = _skip_bytes(block, at + 1)
        else:
            at += 2 + (size >> 1)
    return at


_FIXED_BYTES = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_LEAF_SKIPPERS: dict[str, Step] = {
    "enum": _skip_long,
    "int": _skip_long,
    "long": _skip_long,
    "bytes": _skip_bytes,
    "string": _skip_bytes,
}
