"""A few values out of maps in Avro's binary encoding, the others stepped over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from catalog.avro.read import (
    Read,
    Schema,
    item_run,
    map_types,
    read_union,
    reader,
    type_name,
)
from catalog.avro.skip import skipper


def picker(kind: Schema, *, keys: Sequence[int]) -> Read:
    """Compile the function that reads the values of some keys of a map: a tuple, null for absent.

    Raises:
        ValueError: the type is no map.
    """
    if type_name(kind) == "union":
        return read_union(tuple(_picker_or_null(choice, keys) for choice in kind))
    pair = map_types(kind)
    if pair is None:
        raise ValueError("what should be a map is none")
    read_key, read_value, skip_value = reader(pair[0]), reader(pair[1]), skipper(pair[1])
    places = {key: at for at, key in enumerate(keys)}

    def pick(block: bytes, at: int) -> tuple[tuple[Any, ...], int]:
        found: list[Any] = [None] * len(keys)
        count, _, at = item_run(block, at)
        while count:
            for _ in range(count):
                key, at = read_key(block, at)
                place = places.get(key)
                if place is None:
                    at = skip_value(block, at)
                else:
                    found[place], at = read_value(block, at)
            count, _, at = item_run(block, at)
        return tuple(found), at

    return pick


def _picker_or_null(kind: Schema, keys: Sequence[int]) -> Read:
    if type_name(kind) != "null":
        return picker(kind, keys=keys)
    nothing = (None,) * len(keys)
    return lambda _, at: (nothing, at)
