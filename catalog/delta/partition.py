"""Partition values of a Delta table: text in the log, one exact key, a label, a scalar of a type.

The log keeps every value as text, and null as null or as empty text.  A key is the JSON list of the
texts in the order of the partition columns, so that outputs carry exactly what their inputs did:
there are readers to whom an empty text is no null, and so the two are never put together.

Specification: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#partition-value-serialization
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import types

from catalog.errors import CorruptTableError, UnsupportedTableError

Values = tuple[str | None, ...]

_NULL_DIRECTORY = "__HIVE_DEFAULT_PARTITION__"
# As Hive: what a file system or a URI might take for something else.
_ESCAPED = re.compile(r"""[\x00-\x1f\x7f-\x9f\ud800-\udfff"#%'*/:=?\\{}\[\]^ <>|&;$!`~+@,()]""")
_SLASH = re.compile(r"[/\\]")
_BROKEN_ESCAPE = re.compile(r"%[0-9A-F]?$")
# What file systems allow of a name, and of all directories together so that a key of S3 has room.
_NAME_BYTES_MAX = 255
_PATH_BYTES_MAX = 640
_DIGEST_LENGTH = 16
_DOTS = frozenset((".", ".."))
_DECODINGS_MAX = 5
_ZONED = re.compile(r"(?:Z|[+-]\d{2}:?\d{2})$")
_TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class PartitionColumn:
    """A column that the table is partitioned by.

    Attributes:
        name: as readers see it.
        physical_name: as the log and the directories have it.
        field_id: its id in the table's schema.
        kind: its type.
    """

    name: str
    physical_name: str
    field_id: int
    kind: pa.DataType

    def scalar(self, text: str | None) -> pa.Scalar:
        """Return a value of the log in the column's type.

        Raises:
            CorruptTableError: the text is no value of the type.
        """
        if not text:
            return pa.scalar(None, self.kind)
        try:
            return _parse(text, self.kind)
        except (ValueError, KeyError, InvalidOperation, pa.ArrowException) as fault:
            raise CorruptTableError(
                f"the partition column {self.name!r} has the value {text[:100]!r},"
                f" which is no {self.kind}"
            ) from fault

    def text(self, value: Any) -> str | None:
        """Return a value as the log spells it.

        Raises:
            UnsupportedTableError: it would be read as another value.
        """
        if value is None:
            return None
        text = _spell(value)
        if not text or self.scalar(text).as_py() != value:
            raise UnsupportedTableError(
                f"the partition column {self.name!r} cannot hold the value {value!r}:"
                " the log would spell another one"
            )
        return text


@dataclass(frozen=True, slots=True)
class Partition:
    """What files of one group share.

    Attributes:
        values: as in the log, in the order of the partition columns; None for null.
        is_foreign: whether the files lie outside of the table's directory, in another table's.
    """

    values: Values
    is_foreign: bool = False

    @property
    def key(self) -> str:
        """Text that is equal for equal partitions; files of another table have keys apart."""
        values = list(self.values)
        document = {"foreign": values} if self.is_foreign else values
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def of(key: str) -> Partition:
        """Read a key."""
        found = json.loads(key)
        is_foreign = isinstance(found, dict)
        return Partition(tuple(found["foreign"] if is_foreign else found), is_foreign)

    def label(self, columns: Sequence[PartitionColumn]) -> str:
        """Return it as people read it, `day=2026-11-20/region=eu`."""
        pairs = zip(columns, self.values, strict=True)
        texts = ((column.name, "null" if value is None else value) for column, value in pairs)
        return "/".join(f"{name}={text}" for name, text in texts)

    def directories(self, columns: Sequence[PartitionColumn]) -> tuple[str, ...]:
        """Return the directories that its new files go to, below the table's.

        There are readers that take the values from there: null and empty text stay apart. What is
        too long for a name is cut: the log has the value, and a digest of it tells it from others.
        """
        pairs = zip(columns, self.values, strict=True)
        texts = (
            (column.physical_name, _NULL_DIRECTORY if value is None else value)
            for column, value in pairs
        )
        found = [f"{_escape(name)}={_escape(text)}" for name, text in texts]
        longest = min(_NAME_BYTES_MAX, _PATH_BYTES_MAX // max(1, len(found)))
        return tuple(_cut(name, longest) for name in found)


def _cut(directory: str, bytes_max: int) -> str:
    """Return the name of a directory, or its beginning and a digest where it is too long."""
    data = directory.encode()
    if len(data) <= bytes_max:
        return directory
    digest = hashlib.sha256(data).hexdigest()[:_DIGEST_LENGTH]
    beginning = data[: bytes_max - _DIGEST_LENGTH - 1].decode(errors="ignore")
    return f"{_BROKEN_ESCAPE.sub('', beginning)}-{digest}"


def _leads_elsewhere(text: str) -> bool:
    """Whether dots beside a slash would be steps for whoever decodes a path, be it too often."""
    for _ in range(_DECODINGS_MAX):
        segments = _SLASH.split(text)
        if len(segments) > 1 and not _DOTS.isdisjoint(segments):
            return True
        text, before = unquote(text), text
        if text == before:
            return False
    return True


def _escape(text: str) -> str:
    if _leads_elsewhere(text):
        text = text.replace(".", "_").replace("%", "_")
    return _ESCAPED.sub(_percent_encoded, text)


def _percent_encoded(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode(errors="surrogatepass"))


def _spell(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case bytes():
            return value.decode("utf-8", "replace")
        case Decimal():
            return format(value, "f")
        case datetime.datetime():
            plain = value.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
            # What has a zone is told in UTC and says so: readers differ about what does not.
            return plain if value.tzinfo is None else plain.replace(" ", "T") + "Z"
        case _:
            return str(value)


def _parse(text: str, kind: pa.DataType) -> pa.Scalar:
    if types.is_string(kind):
        return pa.scalar(text, kind)
    if types.is_binary(kind):
        return pa.scalar(text.encode(), kind)
    if types.is_boolean(kind):
        return pa.scalar(_TRUTHS[text.lower()], kind)
    if types.is_integer(kind):
        return pa.scalar(int(text), kind)
    if types.is_floating(kind):
        return pa.scalar(float(text), pa.float64()).cast(kind)
    if types.is_decimal(kind):
        return _decimal(Decimal(text), kind)
    if types.is_date(kind):
        return pa.scalar(text).cast(kind)
    if types.is_timestamp(kind):
        return _timestamp(text, kind)
    raise ValueError(f"columns of type {kind} partition no table")


def _decimal(value: Decimal, kind: pa.Decimal128Type) -> pa.Scalar:
    """Return a decimal with the digits that its column has; a digit too many is refused."""
    digits = value.as_tuple()
    exact = pa.decimal128(38, max(0, -int(digits.exponent)))
    return pa.scalar(value, exact).cast(kind)


def _timestamp(text: str, kind: pa.TimestampType) -> pa.Scalar:
    """Return a point in time; without a zone in the text it is meant in UTC."""
    text = text.replace("T", " ")
    if kind.tz is not None and _ZONED.search(text):
        return pa.scalar(text).cast(kind)
    local = pa.scalar(text.removesuffix("Z")).cast(pa.timestamp(kind.unit))
    return local if kind.tz is None else pa.scalar(local.value, pa.int64()).cast(kind)
