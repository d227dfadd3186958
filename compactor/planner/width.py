"""How wide a row of a table is in memory: exactly where types fix it, else from storage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import types

# Bytes in memory per byte on storage, of texts, lists or maps: 2.5 to 8 were measured.
_EXPANSION = 8.0
# An offset and a short text; a list or map of a few small values likewise.
_VARYING_BYTES = 12.0
_VALIDITY_BITS = 1


@dataclass(frozen=True, slots=True)
class RowWidth:
    """What is known of the width of a row.

    Attributes:
        fixed_bytes: of the columns whose types fix it.
        varying_columns: leaf columns of other types.
    """

    fixed_bytes: float
    varying_columns: int

    def of(self, stored_bytes: float) -> float:
        """Return the bytes in memory of a row that takes so many on storage.

        Columns whose types fix their width are taken to fill storage up to that width, and the
        others the rest of it.
        """
        if not self.varying_columns:
            return self.fixed_bytes
        varying = _EXPANSION * (stored_bytes - self.fixed_bytes)
        return self.fixed_bytes + max(_VARYING_BYTES * self.varying_columns, varying)


UNKNOWN_WIDTH = RowWidth(0.0, 1)


def row_width(schema: pa.Schema) -> RowWidth:
    """Return the width of the rows of a schema."""
    bits = [found for field in schema for found in _leaf_bits(field.type)]
    fixed = [one for one in bits if one is not None]
    return RowWidth(sum(fixed) / 8, len(bits) - len(fixed))


def _leaf_bits(kind: pa.DataType) -> Iterator[int | None]:
    """Yield the bits of each leaf, validity included; None where they vary."""
    if types.is_struct(kind):
        for field in kind.fields:
            yield from _leaf_bits(field.type)
    elif types.is_list(kind) or types.is_large_list(kind):
        yield from (None for _ in _leaf_bits(kind.value_type))
    elif types.is_map(kind):
        yield from (None for part in (kind.key_type, kind.item_type) for _ in _leaf_bits(part))
    elif types.is_null(kind):
        yield 0
    else:
        yield kind.bit_width + _VALIDITY_BITS if _is_fixed(kind) else None


def _is_fixed(kind: pa.DataType) -> bool:
    return bool(
        types.is_primitive(kind) or types.is_decimal(kind) or types.is_fixed_size_binary(kind)
    )
