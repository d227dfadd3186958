"""Filters are the bytes that the rules of Hudi give; what they take up stays in them."""

from __future__ import annotations

import base64
import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import CorruptTableError
from catalog.hudi.bloom import ENTRIES, FilterKind, FilterShape, KeyFilter

SMALL = FilterShape(FilterKind.DYNAMIC, bits=211, hashes=4, entries=3, entries_max=7)
SIMPLE = FilterShape(FilterKind.SIMPLE, bits=300, hashes=5, entries=100_000)


def signed(number: int) -> int:
    number &= 0xFFFFFFFF
    return number - (1 << 32) if number >> 31 else number


def murmur(data: bytes, seed: int) -> int:
    """Hash as the specification does, in numbers of 32 bits with a sign."""
    m, length = 0x5BD1E995, len(data)
    h = (seed ^ length) & 0xFFFFFFFF
    at = 0
    while at + 4 <= length:
        k = int.from_bytes(data[at : at + 4], "little") * m & 0xFFFFFFFF
        k = (k ^ (k >> 24)) * m & 0xFFFFFFFF
        h = (h * m & 0xFFFFFFFF) ^ k
        at += 4
    left = length - at
    if left:
        for place in range(left, 0, -1):
            byte = data[length - place]
            byte = byte - 256 if byte > 127 else byte
            h ^= (byte << (8 * (place - 1))) & 0xFFFFFFFF
        h = h * m & 0xFFFFFFFF
    h = (h ^ (h >> 13)) * m & 0xFFFFFFFF
    return signed(h ^ (h >> 15))


class Reference:
    """A bounded dynamic filter, as slow as it is plain."""

    def __init__(self, shape: FilterShape) -> None:
        self.shape, self.rows, self.count = shape, [set[int]()], 0
        self.is_bounded, self.turn = False, 0

    def add(self, key: str) -> None:
        row, seed = self._active(), 0
        for _ in range(self.shape.hashes):
            seed = murmur(key.encode(), seed)
            row.add(abs(seed) % self.shape.bits)
        self.count += 1

    def _active(self) -> set[int]:
        if self.is_bounded:
            self.turn += 1
            return self.rows[(self.turn - 1) % len(self.rows)]
        if self.count < self.shape.entries:
            return self.rows[-1]
        if len(self.rows) * self.shape.entries >= self.shape.entries_max:
            self.is_bounded = True
            return self.rows[0]
        self.rows.append(set())
        self.count = 0
        return self.rows[-1]

    def encode(self) -> str:
        head = struct.pack(">iibi", -1, self.shape.hashes, 1, self.shape.bits)
        counts = struct.pack(">iii", self.shape.entries, self.count, len(self.rows))
        rows = b"".join(head + self._packed(row) for row in self.rows)
        return base64.b64encode(head + counts + rows).decode()

    def _packed(self, row: set[int]) -> bytes:
        found = bytearray((self.shape.bits + 7) // 8)
        for bit in row:
            found[bit // 8] |= 1 << (bit % 8)
        return bytes(found)


keys_of_any_length = st.lists(st.text(min_size=1, max_size=12), max_size=14)


@settings(max_examples=60, deadline=None)
@given(keys=keys_of_any_length, parts=st.integers(1, 4))
def test_filters_are_those_of_the_specification(keys: list[str], parts: int) -> None:
    expected = Reference(SMALL)
    for key in keys:
        expected.add(key)
    found = KeyFilter(SMALL)
    for part in np.array_split(np.arange(len(keys)), parts):
        found.add(pa.array([keys[at] for at in part], pa.string()))

    assert found.encode() == expected.encode()
    again = KeyFilter.decode(found.encode(), FilterKind.DYNAMIC)
    assert again.encode() == found.encode()
    if keys:
        assert again.may_have(pa.array(keys)).all()


@settings(max_examples=40, deadline=None)
@given(first=keys_of_any_length, second=keys_of_any_length)
@pytest.mark.parametrize("shape", [SMALL, SIMPLE])
def test_nothing_is_missed_in_a_union(
    shape: FilterShape, first: list[str], second: list[str]
) -> None:
    one, other = KeyFilter(shape), KeyFilter(shape)
    one.add(pa.array(first, pa.string()))
    other.add(pa.array(second, pa.string()))
    one.unite(KeyFilter.decode(other.encode(), shape.kind) if shape is SIMPLE else other)
    one.add(pa.array(["and more"]))
    for key in [*first, *second, "and more"]:
        assert one.may_have(pa.array([key])).all()


def test_few_keys_unite_to_the_filter_of_all() -> None:
    one, other, every = (KeyFilter(FilterShape()) for _ in range(3))
    names = [f"key {n}" for n in range(200)]
    one.add(pa.array(names[:120]))
    other.add(pa.array(names[120:]))
    every.add(pa.array(names))
    one.unite(other)
    assert one.encode() == every.encode()


def test_the_shape_of_hudis_defaults() -> None:
    wanted = FilterShape.of(FilterKind.DYNAMIC, entries=ENTRIES, false_positives=1e-9)
    assert wanted == FilterShape()


def test_a_simple_filter_is_one_row() -> None:
    simple = KeyFilter(SIMPLE)
    simple.add(pa.array([f"key {n}" for n in range(50)]))
    data = base64.b64decode(simple.encode())
    assert data[:13] == struct.pack(">iibi", -1, 5, 1, 300)
    assert len(data) == 13 + 38


@pytest.mark.parametrize("text", ["", "not base64", base64.b64encode(b"\0" * 40).decode()])
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(CorruptTableError, match="does not decode"):
        KeyFilter.decode(text, FilterKind.DYNAMIC)
