"""Paths of a Delta log: URL-decoded, made absolute and confined, a column at a time.

A path in the log is URL-encoded, on top of whatever the directory's own name contains: the value
`a b` lies in the directory `k=a%20b`, which the log spells `k=a%2520b`.  It is relative to the
table, or absolute (shallow clones name the files of another table).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import CorruptTableError, LocationError
from catalog.location import Confinement, Location

_Bytes = npt.NDArray[np.uint8]

_ABSOLUTE = r"^(?:/|[A-Za-z][A-Za-z0-9+.-]*:/)"
# What `Location` may have something against; all else below a valid prefix is fine as it is.
_SUSPECT = (
    r"[\x00-\x1f\x7f-\x{9f}?#]|//|/$|^$|(?i:%2e|%25)"
    r"|(?i:^|/|\\|%2f|%5c)\.\.?(?i:$|/|\\|%2f|%5c)"
)
# Never encoded in what we write; a reader decodes whatever is. The vacuum of the reference writer
# compares paths as they are spelled, and removes what is spelled otherwise than Java does it.
_PLAIN = "/=:+,@~!$'()*;&"
_FOREIGN = (
    "files outside of the table's directory are read only below the prefixes that the variable"
    " DELTA_READ_PREFIXES or the property delta.read-prefixes names"
)
_HEX = np.full(256, 255, np.uint8)
_HEX[np.frombuffer(b"0123456789", np.uint8)] = np.arange(10)
_HEX[np.frombuffer(b"abcdef", np.uint8)] = np.arange(10, 16)
_HEX[np.frombuffer(b"ABCDEF", np.uint8)] = np.arange(10, 16)


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the files of one table may lie.

    Attributes:
        root: the table's directory.
        confinement: the root, and other prefixes that may be read.
    """

    root: Location
    confinement: Confinement

    def resolve(self, stored: pa.StringArray) -> pa.StringArray:
        """Return the absolute locations of stored paths, as text; equal files have equal texts.

        Absolute ones may lie anywhere: a log may speak of files that it no longer has. What is
        live must pass `confine`.

        Raises:
            LocationError: one is malformed, or leads out of the table by a relative path.
            CorruptTableError: one is no UTF-8 after decoding.
        """
        decoded = decode(stored)
        prefix = str(self.root).rstrip("/")
        whole = pc.binary_join_element_wise(prefix, decoded, "/")
        is_absolute = pc.match_substring_regex(decoded, _ABSOLUTE)
        is_odd = pc.or_(is_absolute, pc.match_substring_regex(decoded, _SUSPECT))
        if not pc.any(is_odd).as_py():
            return whole
        texts, absolute = (one.filter(is_odd).to_pylist() for one in (decoded, is_absolute))
        odd = [
            self._absolute(text) if is_so else self._relative(text)
            for text, is_so in zip(texts, absolute, strict=True)
        ]
        return pc.replace_with_mask(whole, is_odd, pa.array(odd, pa.string()))

    def confine(self, resolved: pa.StringArray) -> None:
        """Refuse files that the table must not read.

        Raises:
            LocationError: one lies outside of the table's prefixes.
        """
        for prefix in self.confinement.prefixes:
            resolved = resolved.filter(pc.invert(_is_below(resolved, prefix)))
        for path in resolved.to_pylist():
            try:
                self.confinement.parse(path)
            except LocationError as fault:
                raise LocationError(str(fault), hint=_FOREIGN) from fault

    def resolve_all(self, stored: Iterable[str]) -> list[str]:
        """Return the absolute locations of stored paths, as `resolve` does."""
        texts: list[str] = self.resolve(pa.array(list(stored), pa.string())).to_pylist()
        return texts

    def resolve_one(self, stored: str) -> str:
        """Return the absolute location of one stored path, as `resolve` does."""
        text: str = self.resolve(pa.array([stored], pa.string()))[0].as_py()
        return text

    def stored(self, location: Location) -> str:
        """Return how the log spells the location of a file in the table."""
        path = location.relative_to(self.root)
        return "".join(one if _is_letter_beyond_ascii(one) else quote(one, _PLAIN) for one in path)

    def is_foreign(self, resolved: pa.StringArray) -> npt.NDArray[np.bool_]:
        """Tell which files lie outside of the table's own directory."""
        inside: npt.NDArray[np.bool_] = _is_below(resolved, self.root).to_numpy(False)
        return ~inside

    def _relative(self, decoded: str) -> str:
        if not decoded:
            raise CorruptTableError("the log names a file without a path")
        return str(self.root.child(self.root.child(decoded).relative_to(self.root)))

    def _absolute(self, decoded: str) -> str:
        location = Location.parse(decoded)
        if location.is_within(self.root):
            return str(self.root.child(location.relative_to(self.root)))
        return str(location)


def _is_below(resolved: pa.StringArray, prefix: Location) -> pa.BooleanArray:
    return pc.starts_with(resolved, str(prefix).rstrip("/") + "/")


def _is_letter_beyond_ascii(letter: str) -> bool:
    """Tell what `java.net.URI` leaves as it is beyond ASCII: all but spaces and controls."""
    return not letter.isascii() and unicodedata.category(letter) not in ("Zs", "Zl", "Zp", "Cc")


def decode(stored: pa.StringArray) -> pa.StringArray:
    """Undo URL encoding once; what is no escape stays as it is.

    Raises:
        CorruptTableError: the result is no UTF-8.
    """
    encoded = pc.match_substring(stored, "%")
    if not pc.any(encoded).as_py():
        return stored
    data, offsets = string_parts(stored)
    starts = _escapes(data, offsets)
    high, low = _HEX[data[starts + 1]], _HEX[data[starts + 2]]
    decoded = data.copy()
    decoded[starts] = high << 4 | low
    is_kept = np.ones(len(data), np.bool_)
    is_kept[starts + 1] = is_kept[starts + 2] = False
    before = np.concatenate([[0], np.cumsum(is_kept)])
    try:
        return pa.Array.from_buffers(
            pa.binary(),
            len(stored),
            [None, pa.py_buffer(before[offsets].astype(np.int32)), pa.py_buffer(decoded[is_kept])],
        ).cast(pa.string())
    except pa.ArrowInvalid as fault:
        raise CorruptTableError("the log names a file by a path that is no UTF-8") from fault


def string_parts(array: pa.StringArray) -> tuple[_Bytes, npt.NDArray[np.int64]]:
    """Return the bytes of all strings and where each begins and ends."""
    array = array.cast(pa.string())
    _, offsets, data = array.buffers()
    every = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
    first, last = int(every[0]), int(every[-1])
    return np.frombuffer(data, np.uint8)[first:last], (every - first).astype(np.int64)


def _escapes(data: _Bytes, offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Find the percent signs that two hexadecimal digits of the same string follow."""
    starts = np.flatnonzero(data == ord("%"))
    ends = offsets[np.searchsorted(offsets, starts, side="right")]
    starts = starts[starts + 2 < ends]
    is_hex = (_HEX[data[starts + 1]] < 16) & (_HEX[data[starts + 2]] < 16)
    return starts[is_hex]
