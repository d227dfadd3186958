"""Column metrics of a data file from its Parquet footer, as manifests carry them.  Pure.

Bounds are taken from the physical statistics and encoded by the format's single-value
serialization (Iceberg specification, appendix D), so no value passes through a Python type that
could not hold it: a timestamp of the year 20000 is as good as any.

A bound that is wrong hides rows from every reader, one that is absent costs a little time: where
the footer leaves a doubt, there is no bound.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    PrimitiveType,
    StringType,
    UUIDType,
)

from catalog.footer_statistics import bounds, decimal_value, null_count
from catalog.iceberg.commit_properties import inferred_metrics_max
from catalog.iceberg.row_lineage import LINEAGE_IDS

_TRUNCATE = re.compile(r"truncate\(([1-9][0-9]*)\)")
_DEFAULT_MODE = "write.metadata.metrics.default"
_COLUMN_MODE = "write.metadata.metrics.column."
_SURROGATES_FIRST, _SURROGATES_END = 0xD800, 0xE000
_CODE_POINT_MAX = 0x10FFFF


@dataclass(frozen=True, slots=True)
class MetricsMode:
    """How much is recorded of a column.

    Attributes:
        has_counts: whether its values and nulls are counted.
        has_bounds: whether its bounds are recorded.
        length_max: characters or bytes that a bound may have; None for all.
    """

    has_counts: bool
    has_bounds: bool
    length_max: int | None = None


NONE = MetricsMode(has_counts=False, has_bounds=False)
_MODES = {
    "none": NONE,
    "counts": MetricsMode(has_counts=True, has_bounds=False),
    "full": MetricsMode(has_counts=True, has_bounds=True),
}
_TRUNCATED = MetricsMode(has_counts=True, has_bounds=True, length_max=16)


@dataclass(frozen=True, slots=True)
class Column:
    """A leaf column of the file.

    Attributes:
        field_id: its id in the table's schema.
        name: its full name in the table's schema, which properties refer to.
        kind: the type it is stored as.
        is_repeated: whether it lies within a list or a map, where bounds mean nothing.
    """

    field_id: int
    name: str
    kind: PrimitiveType
    is_repeated: bool


@dataclass(slots=True)
class FileMetrics:
    """The metrics of one file by field id, under the names that a manifest gives them."""

    column_sizes: dict[int, int] = field(default_factory=dict)
    value_counts: dict[int, int] = field(default_factory=dict)
    null_value_counts: dict[int, int] = field(default_factory=dict)
    nan_value_counts: dict[int, int] = field(default_factory=dict)
    lower_bounds: dict[int, bytes] = field(default_factory=dict)
    upper_bounds: dict[int, bytes] = field(default_factory=dict)

    def beside(self, inputs: Sequence[Mapping[int, int] | None]) -> FileMetrics:
        """Return the metrics of a file whose rows were in other files, whose NaNs were counted.

        Bounds leave NaN out. To readers a file without a count has none: they would take such
        bounds for all rows. So without a count that holds there are none; row groups that are
        written anew have them only where there is no NaN.

        Args:
            inputs: how many there are of each column in each of the other files, where it is known.
        """
        known = [one or {} for one in inputs]
        ids = self.lower_bounds.keys() | self.upper_bounds.keys()
        hidden = {number for one in known for number, count in one.items() if count}
        counted = [number for number in ids if known and all(number in one for one in known)]
        return replace(
            self,
            nan_value_counts={number: 0 for number in counted if number not in hidden},
            lower_bounds=_without(self.lower_bounds, hidden),
            upper_bounds=_without(self.upper_bounds, hidden),
        )


def _without(values: Mapping[int, bytes], ids: Set[int]) -> dict[int, bytes]:
    return {number: value for number, value in values.items() if number not in ids}


def metrics_modes(
    columns: Sequence[Column], properties: Mapping[str, str]
) -> dict[int, MetricsMode]:
    """Return the mode of each column by the table's properties `write.metadata.metrics.*`.

    Without a default mode of its own, a wide table records only its first 100 columns.
    """
    default = properties.get(_DEFAULT_MODE)
    inferred_max = inferred_metrics_max(properties)
    modes = {}
    for index, column in enumerate(columns):
        fallback = _mode(default) if default or index < inferred_max else NONE
        own = properties.get(_COLUMN_MODE + column.name)
        modes[column.field_id] = _mode(own) if own else fallback
        if column.field_id in LINEAGE_IDS:
            # Nulls stand for what is inherited: no bound would hold.
            modes[column.field_id] = NONE
    return modes


def _mode(text: str | None) -> MetricsMode:
    """Read a mode; what cannot be read is the default, as in the reference implementation."""
    wanted = (text or "").strip().lower()
    if truncated := _TRUNCATE.fullmatch(wanted):
        return MetricsMode(has_counts=True, has_bounds=True, length_max=int(truncated[1]))
    return _MODES.get(wanted, _TRUNCATED)


def file_metrics(
    footer: Any, columns: Sequence[Column], modes: Mapping[int, MetricsMode]
) -> FileMetrics:
    """Return the metrics of a file.

    Args:
        footer: its `pyarrow.parquet.FileMetaData`.
        columns: its leaf columns, in the order of the file.
        modes: what to record of each, by field id.
    """
    metrics = FileMetrics()
    row_groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    for position, column in enumerate(columns):
        chunks = [row_group.column(position) for row_group in row_groups]
        field_id = column.field_id
        metrics.column_sizes[field_id] = sum(chunk.total_compressed_size for chunk in chunks)
        mode = modes[field_id]
        if mode.has_counts:
            metrics.value_counts[field_id] = sum(chunk.num_values for chunk in chunks)
            nulls = null_count(chunks)
            if nulls is not None:
                metrics.null_value_counts[field_id] = nulls
        if mode.has_bounds and not column.is_repeated:
            _add_bounds(metrics, column, mode=mode, chunks=chunks)
    return metrics


def split_offsets(footer: Any) -> list[int] | None:
    """Return where the row groups begin; None for a file without rows."""
    offsets = []
    for index in range(footer.num_row_groups):
        row_group = footer.row_group(index)
        if not row_group.num_rows:
            continue
        first = row_group.column(0)
        starts = [first.data_page_offset]
        # A zero stands for a dictionary page that is not there.
        if first.has_dictionary_page and first.dictionary_page_offset:
            starts.append(first.dictionary_page_offset)
        offsets.append(min(starts))
    return sorted(offsets) or None


def _add_bounds(
    metrics: FileMetrics, column: Column, *, mode: MetricsMode, chunks: Sequence[Any]
) -> None:
    found = bounds(chunks, partial(_comparable, column.kind))
    if found is not None and isinstance(column.kind, UUIDType):
        found = _in_either_order(*found)
    if found is None:
        return
    lower = _lower(column.kind, found[0], mode.length_max)
    upper = _upper(column.kind, found[1], mode.length_max)
    metrics.lower_bounds[column.field_id] = encode(column.kind, lower)
    if upper is not None:
        metrics.upper_bounds[column.field_id] = encode(column.kind, upper)


def _comparable(kind: PrimitiveType, raw: Any) -> Any | None:
    """Return the physical value so that it compares as its type does; None for NaN and no text."""
    if isinstance(kind, DecimalType):
        return decimal_value(raw)
    if isinstance(raw, float):
        return None if math.isnan(raw) else raw
    if isinstance(kind, StringType):
        try:
            raw.decode()
        except UnicodeDecodeError:
            return None
    return raw


def _in_either_order(least: bytes, greatest: bytes) -> tuple[bytes, bytes] | None:
    """Return bounds of identifiers that hold for all readers; None where there are none.

    The specification does not say how they compare: some readers compare bytes, others two signed
    halves. Where the first half has one sign, both agree on what is below and above it.
    """
    below = int.from_bytes(least[:8], "big") - 1
    above = int.from_bytes(greatest[:8], "big") + 1
    if below < 0 or above.bit_length() > 64 or (below ^ above) >> 63:
        return None
    lower, upper = (end.to_bytes(8, "big") + bytes(8) for end in (below, above))
    return lower, upper


def _lower(kind: PrimitiveType, value: Any, length_max: int | None) -> Any:
    if length_max is None or not isinstance(kind, StringType | BinaryType):
        return value
    if isinstance(kind, StringType):
        return value.decode()[:length_max].encode()
    return value[:length_max]


def _upper(kind: PrimitiveType, value: Any, length_max: int | None) -> Any | None:
    if length_max is None or not isinstance(kind, StringType | BinaryType):
        return value
    if isinstance(kind, StringType):
        return _text_above(value.decode(), length_max)
    return _bytes_above(value, length_max)


def _text_above(text: str, length_max: int) -> bytes | None:
    """Return a text of at most this many characters that is not below `text`, if there is one."""
    if len(text) <= length_max:
        return text.encode()
    for end in range(length_max, 0, -1):
        following = ord(text[end - 1]) + 1
        if following == _SURROGATES_FIRST:
            following = _SURROGATES_END
        if following <= _CODE_POINT_MAX:
            return (text[: end - 1] + chr(following)).encode()
    return None


def _bytes_above(value: bytes, length_max: int) -> bytes | None:
    if len(value) <= length_max:
        return value
    for end in range(length_max, 0, -1):
        if value[end - 1] < 0xFF:
            return value[: end - 1] + bytes([value[end - 1] + 1])
    return None


def encode(kind: PrimitiveType, value: Any) -> bytes:
    """Encode a physical value of a type as the format's bounds are."""
    if isinstance(kind, StringType | BinaryType | FixedType | UUIDType):
        return bytes(value)
    if isinstance(kind, DecimalType):
        # The shortest two's complement form: one bit more than the magnitude, for the sign.
        bits = (value if value >= 0 else ~value).bit_length() + 1
        return int(value).to_bytes((bits + 7) // 8, "big", signed=True)
    if isinstance(kind, BooleanType):
        return b"\x01" if value else b"\x00"
    return struct.pack(_PACKED.get(type(kind), "<q"), value)


# Every other type is stored as a 64-bit integer: long, time and the timestamps.
_PACKED = {IntegerType: "<i", DateType: "<i", FloatType: "<f", DoubleType: "<d"}
