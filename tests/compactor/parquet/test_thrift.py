"""The compact protocol, against an independent decoder and against bytes that lie."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import CorruptTableError
from compactor.parquet import thrift
from tests.compactor.parquet.decoded import Decoder

NUMBERS = st.integers(-(2**63), 2**63 - 1)
LEAVES = (
    st.tuples(st.sampled_from([thrift.I16, thrift.I32, thrift.I64]), NUMBERS)
    | st.tuples(st.just(thrift.BINARY), st.binary(max_size=300))
    | st.tuples(st.just(thrift.DOUBLE), st.binary(min_size=8, max_size=8))
)


def lists(values: st.SearchStrategy, max_size: int) -> st.SearchStrategy:
    """Lists have elements of one type: one value, some times."""
    pairs = st.tuples(values, st.integers(0, max_size))
    return pairs.map(lambda pair: (thrift.LIST, (pair[0][0], [pair[0]] * pair[1])))


VALUES = st.recursive(
    LEAVES | lists(LEAVES, 20),
    lambda inner: (
        st.tuples(
            st.just(thrift.STRUCT), st.dictionaries(st.integers(1, 32_767), inner, max_size=4)
        )
        | lists(inner, 2)
    ),
    max_leaves=10,
)
STRUCTS = st.dictionaries(st.integers(1, 32_767), VALUES, max_size=8)


def encoded(kind: int, value: object) -> bytes:
    if kind == thrift.STRUCT:
        return encoded_struct(value)
    if kind == thrift.LIST:
        element, values = value
        parts = [encoded(*one) for one in values]
        return thrift.list_bytes(len(values), element) + b"".join(parts)
    if kind == thrift.BINARY:
        return thrift.binary_bytes(value)
    return value if kind == thrift.DOUBLE else thrift.signed_bytes(value)


def encoded_struct(fields: dict[int, tuple[int, object]]) -> bytes:
    out, last = b"", 0
    for number in sorted(fields):
        kind, value = fields[number]
        out += thrift.field_bytes(number, kind, last) + encoded(kind, value)
        last = number
    return out + b"\0"


@given(NUMBERS)
def test_numbers_come_back(value: int) -> None:
    data = thrift.signed_bytes(value)
    assert thrift.read_signed(data, 0) == (value, len(data))
    assert Decoder(data).signed() == value


@given(STRUCTS)
def test_steps_over_any_structure(fields: dict[int, tuple[int, object]]) -> None:
    data = encoded_struct(fields)
    assert thrift.skip_struct(data + b"rest", 0) == len(data)
    assert list(Decoder(data).struct()) == sorted(fields)
    found = list(thrift.fields(data, 0))
    assert [one.number for one in found] == sorted(fields)
    assert [data[one.start : one.end] for one in found] == [
        encoded(*fields[number]) for number in sorted(fields)
    ]


@given(STRUCTS, st.data())
def test_structures_cut_short_are_refused(
    fields: dict[int, tuple[int, object]], data: st.DataObject
) -> None:
    whole = encoded_struct(fields)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(CorruptTableError), thrift.decoding("it"):
        thrift.skip_struct(cut, 0)


def test_maps_sets_and_single_bytes() -> None:
    two = b"\x02" + bytes([thrift.BYTE << 4 | thrift.TRUE]) + b"\x07\x01\x08\x00"
    assert thrift.skip(two + b"x", 0, thrift.MAP) == len(two)
    assert thrift.skip(b"\0x", 0, thrift.MAP) == 1
    assert thrift.skip(b"\x31\1\0\1x", 0, thrift.SET) == 4
    assert thrift.skip(b"\x05x", 0, thrift.BYTE) == 1
    assert thrift.skip(b"x", 0, thrift.FALSE) == 0


ENDLESS = bytes([255]) * 9
NESTED = bytes([1 << 4 | thrift.STRUCT]) * 100_000
LISTS = bytes([1 << 4 | thrift.LIST]) + bytes([1 << 4 | thrift.LIST]) * 100_000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes([1 << 4 | thrift.I64]),
        bytes([1 << 4 | thrift.I64]) + b"\xff" * 1000,
        bytes([1 << 4 | thrift.BINARY]) + ENDLESS + b"\1",
        bytes([1 << 4 | thrift.LIST, 0xF0 | thrift.STRUCT]) + ENDLESS + b"\1",
        bytes([1 << 4 | thrift.LIST, 0xF0 | thrift.TRUE]) + ENDLESS + b"\1",
        bytes([1 << 4 | thrift.LIST, 0xF0 | thrift.DOUBLE]) + b"\x20" + bytes(40),
        bytes([1 << 4 | thrift.MAP]) + ENDLESS + b"\1" + b"\x11" + bytes(100),
        bytes([1 << 4 | 14, 0]),
        bytes([1 << 4, 0]),
        NESTED,
        LISTS,
    ],
)
def test_lies_are_refused_at_once(data: bytes) -> None:
    with pytest.raises(CorruptTableError), thrift.decoding("it"):
        thrift.skip_struct(data, 0)


def test_integers_of_more_than_64_bits_are_refused() -> None:
    for data in (b"\xff" * 10 + b"\1", b"\xff" * 9 + b"\2", b"\x80" * 5000 + b"\0"):
        with pytest.raises(CorruptTableError, match="64 bits"):
            thrift.read_unsigned(data, 0)


def test_fields_out_of_order_are_refused() -> None:
    twice = bytes([5 << 4 | thrift.I32, 0, thrift.I32]) + thrift.signed_bytes(5) + b"\0\0"
    with pytest.raises(CorruptTableError, match="out of order"):
        list(thrift.fields(twice, 0))
