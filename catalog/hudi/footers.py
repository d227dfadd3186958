"""What the footer of a base file says of its record keys: a filter, the smallest and the largest.

A base file made of others takes up what their footers say, and adds the keys of rows that none of
them stores. So keys of rows that are gone may still be said to be there: readers look and do not
find them, which costs them a look and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.errors import CorruptTableError
from catalog.hudi.bloom import FilterKind, FilterShape, KeyFilter
from catalog.hudi.schema import RECORD_KEY
from catalog.layout import FooterNotes
from catalog.location import Confinement
from catalog.model import FileSlice
from catalog.storage import Storage

FILTER = "org.apache.hudi.bloomfilter"
FILTER_KIND = "hoodie_bloom_filter_type_code"
MIN_KEY, MAX_KEY = "hoodie_min_record_key", "hoodie_max_record_key"
_OLD_FILTER = "com.uber.hoodie.bloomfilter"
# What writers note of their rows and of how they read them; outputs have their own, or none.
REPLACED = (FILTER, FILTER_KIND, MIN_KEY, MAX_KEY, _OLD_FILTER, "parquet.avro.schema")


@dataclass(frozen=True, slots=True)
class KeyNotesMaker:
    """Makes the notes of outputs; implements `catalog.layout.FileLayout.footer_notes`.

    Attributes:
        storage: where base files are.
        confinement: the folders that they are in.
    """

    storage: Storage
    confinement: Confinement

    def __call__(self) -> FooterNotes:
        """Return the notes of one output."""
        return KeyNotes(self)

    def footer(self, file: FileSlice) -> pq.FileMetaData:
        """Return what the footer of a base file says."""
        with self._open(file) as source:
            return pq.read_metadata(source)

    def keys(self, file: FileSlice) -> list[pa.Array]:
        """Return all record keys that a base file stores."""
        with self._open(file) as source:
            batches = pq.ParquetFile(source).iter_batches(columns=[RECORD_KEY])
            return [_texts(batch.column(0)) for batch in batches]

    def _open(self, file: FileSlice) -> pa.NativeFile:
        location = self.confinement.parse(file.path)
        return self.storage.open_input(location, size_bytes=file.size_bytes)


class KeyNotes:
    """Notes of one output; implements `catalog.layout.FooterNotes`."""

    def __init__(self, maker: KeyNotesMaker) -> None:
        self._maker = maker
        self._taken: set[str] = set()
        self._filter: KeyFilter | None = None
        self._bounds: tuple[str, str] | None = None

    def took(self, file: FileSlice) -> None:
        """Take up what the footer of a base file says of its keys, or look at them.

        Raises:
            CorruptTableError: it does not decode.
        """
        if file.path in self._taken:
            return
        self._taken.add(file.path)
        try:
            footer = self._maker.footer(file)
            found = footer.metadata or {}
            known = _filter_of(found)
            if known is not None and self._take(known) and _has_bounds(found):
                self._widen(found[MIN_KEY.encode()].decode(), found[MAX_KEY.encode()].decode())
                return
            for keys in self._maker.keys(file):
                self._add(keys)
        except (pa.ArrowException, ValueError) as error:
            raise CorruptTableError(f"{file.path}: {error}") from error

    def added(self, rows: pa.RecordBatch) -> None:
        """Add the keys of rows."""
        self._add(_texts(rows.column(RECORD_KEY)))

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Return what the footer is to say."""
        keys = self._filter or KeyFilter(FilterShape())
        found = [(FILTER, keys.encode())]
        if keys.shape.kind is FilterKind.DYNAMIC:
            found.append((FILTER_KIND, str(keys.shape.kind)))
        if self._bounds is not None:
            found += [(MIN_KEY, self._bounds[0]), (MAX_KEY, self._bounds[1])]
        return tuple(found)

    def _take(self, known: KeyFilter) -> bool:
        """Take up a filter; False where ours is of another shape."""
        if self._filter is None:
            self._filter = known
        elif self._filter.shape == known.shape:
            self._filter.unite(known)
        else:
            return False
        return True

    def _add(self, keys: pa.Array) -> None:
        if not len(keys):
            return
        if keys.null_count:
            raise CorruptTableError("a row has no record key")
        if self._filter is None:
            self._filter = KeyFilter(FilterShape())
        self._filter.add(keys)
        for some in _alike(keys):
            bounds = pc.min_max(some)
            self._widen(bounds["min"].as_py(), bounds["max"].as_py())

    def _widen(self, least: str, greatest: str) -> None:
        before = self._bounds or (least, greatest)
        self._bounds = (
            min(before[0], least, key=_java_order),
            max(before[1], greatest, key=_java_order),
        )


def _java_order(key: str) -> bytes:
    """Return what keys are compared by where they are looked up: as Java does, by UTF-16."""
    return key.encode("utf-16-be")


def _alike(keys: pa.Array) -> list[pa.Array]:
    """Return keys in parts whose orders by bytes and by UTF-16 are the same.

    They differ where a character beyond the first 65,536 meets one from U+E000 on.
    """
    has_astral = pc.match_substring_regex(keys, "[\U00010000-\U0010ffff]")
    if not pc.any(has_astral).as_py():
        return [keys]
    return [pa.array([one]) for one in keys.to_pylist()]


def _filter_of(pairs: Mapping[bytes, bytes]) -> KeyFilter | None:
    text = pairs.get(FILTER.encode())
    if text is None:
        return None
    kind = pairs.get(FILTER_KIND.encode(), b"").decode()
    return KeyFilter.decode(text, FilterKind(kind) if kind else FilterKind.SIMPLE)


def _has_bounds(pairs: Mapping[bytes, bytes]) -> bool:
    return MIN_KEY.encode() in pairs and MAX_KEY.encode() in pairs


def _texts(column: pa.Array) -> pa.Array:
    return column.cast(pa.string())
