"""Whether row groups of two files can stand under one footer without meaning something else.

What the footer says once for the whole file (schema, order of statistics, writer, key-value
metadata) then holds for the row groups of both. So each of it must be equal, or be known to
change nothing about how the pages are read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from compactor.parquet.footer import (
    COLUMN_ORDERS,
    CREATED_BY,
    KEY_VALUES,
    ROW_GROUPS,
    ROWS,
    SCHEMA,
    VERSION,
    Footer,
)
from compactor.parquet.schema import Schema
from compactor.parquet.thrift import STRUCT, list_bytes

# ColumnOrder with TypeDefinedOrder, serialised.
_DEFINED_BY_TYPE = b"\x1c\0\0"
_MERGED = frozenset((VERSION, SCHEMA, ROWS, ROW_GROUPS, KEY_VALUES, CREATED_BY, COLUMN_ORDERS))
_WRITER = re.compile(r"(?P<name>.*?)\s+version\s+(?P<major>\d+)\.(?P<minor>\d+)")
# Readers make exceptions for older writers than these: they disbelieve statistics, expect chunks
# to be longer than said, or decode pages in another way.
_TRUSTED_SINCE = {"parquet-mr": (1, 11), "parquet-cpp-arrow": (3, 0)}
# Chunks of these are longer than their footer says (PARQUET-816).
_SHORT_CHUNKS_BEFORE = {"parquet-mr": (1, 3)}
_NEVER_TRUSTED = frozenset(("parquet-cpp",))
# What describes the rows of the very file it stands in.
_ABOUT_THE_FILE = (b"hoodie_", b"org.apache.hudi.")
# What readers of tables do not use when the Parquet schemas are equal; the first file's is kept.
_SPARK_SCHEMA = b"org.apache.spark.sql.parquet.row.metadata"
_WITHOUT_MEANING = frozenset((b"iceberg.schema", b"pandas", b"writer.model.name", _SPARK_SCHEMA))
ARROW_SCHEMA = b"ARROW:schema"
_SPARK_VERSION = b"org.apache.spark.version"
# Earlier versions wrote dates and times in another calendar unless other entries say otherwise.
_SPARK_PROLEPTIC_SINCE = (3, 1)
# Under this name others than Spark have written in that calendar, too.
_ANY_CALENDAR = "parquet-mr"


def obstacle(footer: Footer, ignored_keys: frozenset[bytes] = frozenset()) -> str | None:
    """Return why no row group of a file can stand in another file; None when all can.

    Args:
        footer: the file's.
        ignored_keys: key-value metadata that is not taken over.
    """
    if footer.obstacle is not None:
        return footer.obstacle
    name, version = _writer(footer)
    if version is not None and version < _SHORT_CHUNKS_BEFORE.get(name, (0, 0)):
        return f"{footer.created_by} states column chunks shorter than they are"
    kept = footer.key_values().keys() - ignored_keys
    if any(key.startswith(_ABOUT_THE_FILE) for key in kept):
        return "the key-value metadata describes the rows of this very file"
    return None


def why_not(
    first: Footer, other: Footer, *, ignored_keys: frozenset[bytes] = frozenset()
) -> str | None:
    """Return why row groups of `other` cannot follow those of `first`; None when they can.

    Args:
        first: what is said once for the file comes from here.
        other: the footer whose row groups are wanted.
        ignored_keys: key-value metadata that no reader of the output needs.

    Raises:
        CorruptTableError: the key-value metadata or the writer's name cannot be read.
    """
    reason = obstacle(first, ignored_keys) or obstacle(other, ignored_keys)
    if reason is not None or first is other:
        return reason
    if first.schema is not other.schema and first.schema != other.schema:
        return "the schemas are not equal"
    return _why_not_file(first, other, ignored_keys)


def why_not_file(
    first: Footer, other: Footer, *, ignored_keys: frozenset[bytes] = frozenset()
) -> str | None:
    """Return why no column chunk of `other` can stand under the footer of `first`.

    None when those can whose columns are the same; arguments and errors are those of `why_not`.
    """
    reason = obstacle(first, ignored_keys) or obstacle(other, ignored_keys)
    return reason or _why_not_file(first, other, ignored_keys)


def column_sources(target: Footer, other: Footer) -> tuple[range | None, ...]:
    """Return, for each top-level column of `target`, the leaves of the same column in `other`.

    None where `other` has no column with that name, id and type.
    """
    known = {column.data: column.leaves for column in other.schema.columns}
    return tuple(known.get(column.data) for column in target.schema.columns)


@lru_cache(maxsize=64)
def counterparts(target: Schema, other: Schema) -> tuple[range | None, ...]:
    """Return, for each top-level column of `target`, the leaves of `other`'s in whatever form.

    Columns are the same by their id, or by their name where an id is missing.
    """
    by_id, by_name = {}, {}
    for column in other.columns:
        number, name = column.identity()
        by_name[name] = column.leaves
        if number is not None:
            by_id[number] = column.leaves
    wanted = (column.identity() for column in target.columns)
    return tuple(
        by_name.get(name) if number is None or not by_id else by_id.get(number)
        for number, name in wanted
    )


def why_not_columns(
    target: Footer,
    parts: Sequence[tuple[Footer, range]],
    *,
    ignored_keys: frozenset[bytes] = frozenset(),
) -> str | None:
    """Return why leaf columns of several files, in this order, are not those of `target`.

    Raises:
        CorruptTableError: as `why_not`.
    """
    reasons = (why_not_file(target, one, ignored_keys=ignored_keys) for one, _ in parts)
    found = next(filter(None, reasons), None)
    if found is not None:
        return found
    columns = [
        column.data
        for footer, leaves in parts
        for column in footer.schema.columns
        if column.leaves.start in leaves and column.leaves[-1] in leaves
    ]
    if columns != [column.data for column in target.schema.columns]:
        return "the columns together are not those of the schema"
    if sum(len(leaves) for _, leaves in parts) != target.schema.leaves:
        return "nested columns are divided"
    return None


def _why_not_file(
    first: Footer, other: Footer, ignored_keys: frozenset[bytes] = frozenset()
) -> str | None:
    if _column_orders(first) != _column_orders(other):
        return "the orders of column statistics are not equal"
    if _unmerged(first) != _unmerged(other):
        return "the footers differ in fields of unknown meaning"
    return _why_not_writers(first, other) or _why_not_key_values(first, other, ignored_keys)


def _column_orders(footer: Footer) -> bytes | None:
    """Return the orders; the usual one is the same for any number of columns."""
    value = footer.value(COLUMN_ORDERS)
    leaves = footer.schema.leaves
    return b"" if value == list_bytes(leaves, STRUCT) + _DEFINED_BY_TYPE * leaves else value


def _unmerged(footer: Footer) -> list[tuple[int, int, bytes]]:
    return [
        (one.number, one.kind, footer.data[one.start : one.end])
        for one in footer.fields
        if one.number not in _MERGED
    ]


def _why_not_writers(first: Footer, other: Footer) -> str | None:
    if first.value(CREATED_BY) == other.value(CREATED_BY):
        return None
    for footer in (first, other):
        if not _is_trusted(footer):
            return f"readers make exceptions for the writer {footer.created_by or '(unnamed)'!r}"
    if first.schema.has_int96 and _writer(first)[0] != _writer(other)[0]:
        return "96-bit timestamps of different writers are read differently"
    return None


def _is_trusted(footer: Footer) -> bool:
    if not footer.created_by:
        return False
    name, version = _writer(footer)
    since = _TRUSTED_SINCE.get(name)
    if since is None:
        return name not in _NEVER_TRUSTED
    return version is not None and version >= since


def _writer(footer: Footer) -> tuple[str, tuple[int, int] | None]:
    """Return name and version of the program that wrote a file."""
    text = footer.created_by or ""
    found = _WRITER.match(text)
    if found is None:
        return text.partition(" ")[0], None
    return found["name"], (int(found["major"]), int(found["minor"]))


def _why_not_key_values(first: Footer, other: Footer, ignored_keys: frozenset[bytes]) -> str | None:
    if first.value(KEY_VALUES) == other.value(KEY_VALUES):
        return None
    ours, theirs = first.key_values(), other.key_values()
    is_proleptic = _is_proleptic(first) and _is_proleptic(other)
    for key in sorted((ours.keys() | theirs.keys()) - ignored_keys):
        left, right = ours.get(key), theirs.get(key)
        if key == _SPARK_VERSION and is_proleptic:
            continue
        if left != right and not _means_the_same(key, left, right):
            return f"the key-value metadata differ in {key.decode('utf-8', 'replace')!r}"
    return None


def _means_the_same(key: bytes, left: bytes | None, right: bytes | None) -> bool:
    if key in _WITHOUT_MEANING:
        return True
    if left is None or right is None:
        return False
    return key == ARROW_SCHEMA and _same_arrow_types(left, right)


def _is_proleptic(footer: Footer) -> bool:
    """Whether dates and times are in the calendar that all writers use by now."""
    version = footer.key_values().get(_SPARK_VERSION)
    if version is None:
        return _writer(footer)[0] not in ("", _ANY_CALENDAR)
    found = re.match(rb"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= _SPARK_PROLEPTIC_SINCE


def _same_arrow_types(left: bytes, right: bytes) -> bool:
    """Compare two Arrow schemas; what pandas notes of its index does not count."""
    import base64

    import pyarrow as pa

    try:
        schemas = [
            pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text))) for text in (left, right)
        ]
    except (pa.ArrowException, ValueError, OSError):
        return False
    kept = [
        {k: v for k, v in (one.metadata or {}).items() if k not in _WITHOUT_MEANING}
        for one in schemas
    ]
    fields_equal = (
        schemas[0].remove_metadata().equals(schemas[1].remove_metadata(), check_metadata=True)
    )
    return bool(fields_equal and kept[0] == kept[1])
