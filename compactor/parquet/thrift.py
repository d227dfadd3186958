"""The compact protocol of Thrift as spans of bytes: walked and edited, never built into objects.

A struct is found field by field; what is not understood is stepped over and stays as it is, so
fields of later versions of a format survive. Specification:
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md

The bytes are untrusted. Every step moves forward, and indexing past the end raises `IndexError`,
so work is linear in the length of the buffer whatever counts and lengths it claims; `decoding`
turns that into an error of the catalog.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, NoReturn

from catalog.errors import CorruptTableError

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT, UUID = range(1, 14)
# A footer nests less than ten structs and lists; recursion must end before Python's own limit.
DEPTH_MAX = 24
_VARINT_BYTES_MAX = 10
_FIELD_ID_MAX = 32_767
_FIXED_BYTES = {TRUE: 1, FALSE: 1, BYTE: 1, DOUBLE: 8, UUID: 16}


class Field(NamedTuple):
    """A field of a struct: its number, its wire type, and where its value lies in the buffer."""

    number: int
    kind: int
    start: int
    end: int


def corrupt(reason: str) -> NoReturn:
    """Refuse bytes that are not what they claim to be."""
    raise CorruptTableError(reason)


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Name the file in every complaint about its bytes.

    Raises:
        CorruptTableError: the block ran off the end of its buffer, or refused what it found.
    """
    try:
        yield
    except IndexError as error:
        raise CorruptTableError(f"{name}: a Thrift structure runs past its end") from error
    except CorruptTableError as error:
        raise CorruptTableError(f"{name}: {error}", hint=error.hint) from error


def read_unsigned(data: bytes, at: int) -> tuple[int, int]:
    """Return a variable-length integer and the position behind it."""
    value = data[at]
    if value < 128:
        return value, at + 1
    value &= 127
    shift = 7
    end = at + _VARINT_BYTES_MAX
    while True:
        at += 1
        byte = data[at]
        if byte < 128:
            break
        value |= (byte & 127) << shift
        shift += 7
        if at >= end:
            corrupt("an integer has more than 64 bits")
    value |= byte << shift
    if value >> 64:
        corrupt("an integer has more than 64 bits")
    return value, at + 1


def read_signed(data: bytes, at: int) -> tuple[int, int]:
    """Return a zigzag integer and the position behind it."""
    value, at = read_unsigned(data, at)
    return (value >> 1) ^ -(value & 1), at


def read_long_field(data: bytes, at: int, last: int) -> tuple[int, int]:
    """Return the number of a field whose header does not hold it, and the position behind.

    Writers number fields upwards; only this form could go back and name a field twice, which
    readers resolve differently.
    """
    number, at = read_signed(data, at)
    if not last < number <= _FIELD_ID_MAX:
        corrupt("the fields of a structure are out of order")
    return number, at


def read_field_number(data: bytes, at: int, last: int) -> tuple[int, int]:
    """Return the number of the field whose header is here, and the position of its value."""
    header = data[at]
    if header > 15:
        return last + (header >> 4), at + 1
    return read_long_field(data, at + 1, last)


def read_list(data: bytes, at: int) -> tuple[int, int, int]:
    """Return count and element type of a list, and the position of its first element."""
    header = data[at]
    count = header >> 4
    at += 1
    if count == 15:
        count, at = read_unsigned(data, at)
    if count > len(data) - at:
        corrupt("a list claims more elements than there are bytes")
    return count, header & 15, at


def read_binary(data: bytes, at: int) -> tuple[bytes, int]:
    """Return a byte string and the position behind it."""
    length, at = read_unsigned(data, at)
    if length > len(data) - at:
        corrupt("a string is longer than what is left")
    return data[at : at + length], at + length


def fields(data: bytes, at: int) -> Iterator[Field]:
    """Yield the fields of the struct at a position; the end of the last one precedes its stop."""
    number = 0
    while header := data[at]:
        number, at = read_field_number(data, at, number)
        end = skip(data, at, header & 15)
        yield Field(number, header & 15, at, end)
        at = end


def skip(data: bytes, at: int, kind: int, depth: int = 0) -> int:
    """Return the position behind the value of a field."""
    if I16 <= kind <= I64:
        while data[at] > 127:
            at += 1
        return at + 1
    if kind == BINARY:
        length, at = read_unsigned(data, at)
        return at + length
    if kind == STRUCT:
        return skip_struct(data, at, depth + 1)
    if kind in (TRUE, FALSE):
        return at
    if kind in (LIST, SET):
        count, element, at = read_list(data, at)
        if I16 <= element <= I64 and data[at : at + count].isascii():
            # Every number takes one byte.
            return at + count
        return _skip_elements(data, at, (element,), count, depth + 1)
    if kind == MAP:
        return _skip_map(data, at, depth + 1)
    if kind not in _FIXED_BYTES:
        corrupt(f"a field has the unknown wire type {kind}")
    return at + _FIXED_BYTES[kind]


def skip_struct(data: bytes, at: int, depth: int = 0) -> int:
    """Return the position behind a struct. The plain cases of `skip` are repeated for speed."""
    if depth > DEPTH_MAX:
        corrupt("structures are nested too deeply")
    while header := data[at]:
        at += 1
        kind = header & 15
        if header < 16:
            at = read_signed(data, at)[1]
        if I16 <= kind <= I64:
            while data[at] > 127:
                at += 1
            at += 1
        elif kind == BINARY and data[at] < 128:
            at += 1 + data[at]
        else:
            at = skip(data, at, kind, depth)
    return at + 1


def _skip_elements(data: bytes, at: int, kinds: tuple[int, ...], count: int, depth: int) -> int:
    """Step over `count` elements; each takes a byte at least, so the end of the data ends it."""
    if depth > DEPTH_MAX:
        corrupt("lists are nested too deeply")
    for _ in range(count):
        for kind in kinds:
            if kind == STRUCT:
                at = skip_struct(data, at, depth)
            else:
                at = at + 1 if kind in (TRUE, FALSE) else skip(data, at, kind, depth)
        if at > len(data):
            corrupt("a list runs past the end")
    return at


def _skip_map(data: bytes, at: int, depth: int) -> int:
    count, at = read_unsigned(data, at)
    if count == 0:
        return at
    kinds = data[at]
    return _skip_elements(data, at + 1, (kinds >> 4, kinds & 15), count, depth)


def unsigned_bytes(value: int) -> bytes:
    """Return a variable-length integer."""
    if value < 128:
        return bytes((value,))
    if 0x1000_0000 <= value < 0x8_0000_0000:
        # As positions in large files are: worth an expression of its own.
        return bytes(
            (
                value & 127 | 128,
                value >> 7 & 127 | 128,
                value >> 14 & 127 | 128,
                value >> 21 & 127 | 128,
                value >> 28,
            )
        )
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed_bytes(value: int) -> bytes:
    """Return a zigzag integer."""
    return unsigned_bytes(value << 1 if value >= 0 else (-value << 1) - 1)


def list_bytes(count: int, kind: int) -> bytes:
    """Return the header of a list."""
    if count < 15:
        return bytes((count << 4 | kind,))
    return bytes((0xF0 | kind,)) + unsigned_bytes(count)


def binary_bytes(value: bytes) -> bytes:
    """Return a byte string with its length."""
    return unsigned_bytes(len(value)) + value


def field_bytes(number: int, kind: int, last: int) -> bytes:
    """Return the header of a field that follows the field `last`, 0 for the first one."""
    if 0 < number - last < 16:
        return bytes((number - last << 4 | kind,))
    return bytes((kind,)) + signed_bytes(number)
