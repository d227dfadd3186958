"""Which files can share a footer, and the reason that a plan gives when they cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.errors import UnsupportedTableError
from compactor.parquet import (
    Footer,
    SpliceSource,
    column_sources,
    counterparts,
    parse_footer,
    plan_splice,
    why_not,
)
from compactor.parquet.footer import CREATED_BY, KEY_VALUES
from compactor.parquet.thrift import STRUCT, binary_bytes, field_bytes, list_bytes
from tests.compactor.parquet.corpus import WRITERS, opened, rows, whole, with_pyarrow

MR = "parquet-mr version {} (build 0123)"


@pytest.fixture(scope="module")
def footer(tmp_path_factory: pytest.TempPathFactory) -> Footer:
    path = tmp_path_factory.mktemp("compatibility") / "it.parquet"
    with_pyarrow(path, rows(0), store_schema=False)
    return opened(path)


def saying(footer: Footer, number: int, value: bytes | None, kind: int = 8) -> Footer:
    """Return a footer with one field of the file put in, replaced, or left out."""
    parts = {one.number: (one.kind, footer.data[one.start : one.end]) for one in footer.fields}
    parts.pop(number, None)
    if value is not None:
        parts[number] = (kind, value)
    data, last = b"", 0
    for each, (kind_of_each, content) in sorted(parts.items()):
        data += field_bytes(each, kind_of_each, last) + content
        last = each
    data += b"\0"
    return parse_footer(footer.location, data, size_bytes=footer.offset + len(data) + 8)


def by(footer: Footer, writer: str | None) -> Footer:
    return saying(footer, CREATED_BY, None if writer is None else binary_bytes(writer.encode()))


def noting(footer: Footer, **notes: str) -> Footer:
    entries = [
        field_bytes(1, 8, 0) + binary_bytes(key.replace("_DOT_", ".").encode())
        + field_bytes(2, 8, 1) + binary_bytes(value.encode()) + b"\0"
        for key, value in notes.items()
    ]  # fmt: skip
    return saying(footer, KEY_VALUES, list_bytes(len(entries), STRUCT) + b"".join(entries), 9)


def test_files_of_one_writer_are_compatible(footer: Footer) -> None:
    assert why_not(footer, footer) is None
    assert why_not(footer, replace(footer)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"schema": pa.schema([pa.field("id", pa.int64(), nullable=False)])},
        {"schema": pa.schema([pa.field("id", pa.int64(), metadata={"PARQUET:field_id": "7"})])},
        {"schema": pa.schema([("id", pa.int32())])},
        {"schema": pa.schema([("ID", pa.int64())])},
        {"schema": pa.schema([("id", pa.timestamp("us"))])},
    ],
)
def test_another_schema(tmp_path: Path, change: dict[str, pa.Schema]) -> None:
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    table = rows(0).select(["id"])
    pq.write_table(table, paths[0], store_schema=False)
    pq.write_table(table.cast(pa.schema([("id", change["schema"].field(0).type)])).rename_columns(
        change["schema"].names).cast(change["schema"]), paths[1], store_schema=False)  # fmt: skip
    assert why_not(opened(paths[0]), opened(paths[1])) == "the schemas are not equal"
    with pytest.raises(UnsupportedTableError, match=r"b\.parquet cannot be spliced: the schemas"):
        plan_splice([whole(path) for path in paths])


def test_the_name_of_the_root_does_not_count(footer: Footer) -> None:
    data = footer.data.replace(b"\x06schema", b"\x05table", 1)
    assert data != footer.data
    other = parse_footer(footer.location, data, size_bytes=footer.offset + len(data) + 8)
    assert why_not(footer, other) is None


def test_orders_of_statistics(footer: Footer) -> None:
    assert why_not(footer, saying(footer, 7, None)) == (
        "the orders of column statistics are not equal"
    )


def test_fields_of_later_versions_are_kept_and_must_agree(footer: Footer) -> None:
    later = saying(footer, 77, binary_bytes(b"later"))
    assert why_not(later, later) is None
    assert why_not(footer, later) == "the footers differ in fields of unknown meaning"


def test_what_cannot_be_moved(footer: Footer) -> None:
    assert "encrypted" in str(why_not(footer, saying(footer, 8, b"\0", STRUCT)))
    assert "extensions" in str(why_not(saying(footer, 32_767, binary_bytes(b"x")), footer))
    with pytest.raises(UnsupportedTableError, match="encrypted"):
        plan_splice([SpliceSource(saying(footer, 8, b"\0", STRUCT), [0])])
    padded = footer.data + b"rest"
    longer = parse_footer(footer.location, padded, size_bytes=footer.offset + len(padded) + 8)
    assert "unknown meaning" in str(why_not(longer, footer))


@pytest.mark.parametrize(
    ("left", "right", "reason"),
    [
        (MR.format("1.15.2"), MR.format("1.13.1"), None),
        ("Polars", "DuckDB version v1.2.0 (build 5)", None),
        (MR.format("1.13.1"), "parquet-cpp-arrow version 20.0.0", None),
        (MR.format("1.8.0"), MR.format("1.8.0"), None),
        (MR.format("1.8.0"), MR.format("1.13.1"), "exceptions for the writer 'parquet-mr"),
        ("parquet-cpp version 1.5.1-SNAPSHOT", "Polars", "exceptions for the writer"),
        ("parquet-mr", "Polars", "exceptions for the writer 'parquet-mr'"),
        (None, "Polars", "unnamed"),
        (None, None, None),
        (MR.format("1.2.8"), MR.format("1.2.8"), "shorter than they are"),
    ],
)
def test_writers(footer: Footer, left: str | None, right: str | None, reason: str | None) -> None:
    plain = parse_footer(footer.location, footer.data, size_bytes=footer.size_bytes)
    for one, other in ((left, right), (right, left)):
        found = why_not(by(plain, one), by(plain, other))
        assert found is None if reason is None else reason in str(found)


def test_old_timestamps_are_read_by_their_writer(tmp_path: Path) -> None:
    WRITERS["int96"](tmp_path / "it.parquet", rows(0))
    it = opened(tmp_path / "it.parquet")
    assert it.schema.has_int96
    assert "96-bit" in str(why_not(by(it, MR.format("1.13.1")), it))
    assert why_not(by(it, MR.format("1.13.1")), by(it, MR.format("1.14.0"))) is None


@pytest.mark.parametrize(
    ("left", "right", "is_same"),
    [
        ({"iceberg_DOT_schema": "{1}"}, {"iceberg_DOT_schema": "{2}"}, True),
        ({"iceberg_DOT_schema": "{1}"}, {"pandas": "{}"}, True),
        ({"own": "1"}, {"own": "1", "pandas": "{}"}, True),
        ({"org_DOT_apache_DOT_spark_DOT_sql_DOT_parquet_DOT_row_DOT_metadata": "{}"}, {}, True),
        ({"own": "1"}, {"own": "2"}, False),
        ({"own": "1"}, {"other": "1"}, False),
        ({"ARROW:schema": "x"}, {"ARROW:schema": "y"}, False),
        ({"ARROW:schema": "x"}, {}, False),
        (
            {"org_DOT_apache_DOT_spark_DOT_version": "3.5.1"},
            {"org_DOT_apache_DOT_spark_DOT_version": "4.1.0"},
            True,
        ),
        (
            {"org_DOT_apache_DOT_spark_DOT_version": "2.4.8"},
            {"org_DOT_apache_DOT_spark_DOT_version": "4.1.0"},
            False,
        ),
        ({"hoodie_min_record_key": "1"}, {"hoodie_min_record_key": "1"}, False),
    ],
)
def test_key_values(
    footer: Footer, left: dict[str, str], right: dict[str, str], is_same: bool
) -> None:
    for one, other in ((left, right), (right, left)):
        found = why_not(noting(footer, **one), noting(footer, **other))
        assert (found is None) == is_same


SPARK = {"org_DOT_apache_DOT_spark_DOT_version": "4.1.0"}
LEGACY = {**SPARK, "org_DOT_apache_DOT_spark_DOT_legacyDateTime": ""}


@pytest.mark.parametrize(
    ("notes", "other", "is_same"),
    [
        (SPARK, "parquet-cpp-arrow version 26.0.1", True),
        (SPARK, "parquet-rs version 57.0.0", True),
        (SPARK, MR.format("1.13.1"), False),
        (SPARK, None, False),
        (
            {"org_DOT_apache_DOT_spark_DOT_version": "3.0.1"},
            "parquet-cpp-arrow version 26.0",
            False,
        ),
        (LEGACY, "parquet-cpp-arrow version 26.0.1", False),
    ],
)
def test_row_groups_of_spark_stand_beside_those_of_writers_of_the_same_calendar(
    footer: Footer, notes: dict[str, str], other: str | None, is_same: bool
) -> None:
    spark = by(noting(footer, **notes), MR.format("1.16.0"))
    for pair in ((spark, by(footer, other)), (by(footer, other), spark)):
        assert (why_not(*pair) is None) == is_same


def test_arrow_schemas_that_differ_in_what_pandas_notes(tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.parquet" for index in range(3)]
    for index, path in enumerate(paths):
        kind = pa.large_string() if index == 2 else pa.string()
        table = pa.table({"a": pa.array(["x"], kind)})
        pq.write_table(table.replace_schema_metadata({"pandas": str(index)}), path)
    first, second, third = map(opened, paths)
    assert first.key_values() != second.key_values()
    assert why_not(first, second) is None
    assert why_not(first, third) == "the key-value metadata differ in 'ARROW:schema'"


def test_columns_are_the_same_by_id_or_else_by_name(tmp_path: Path) -> None:
    def written(name: str, *columns: tuple[str, str | None]) -> Footer:
        schema = pa.schema(
            [
                pa.field(one, pa.int64(), metadata=number and {"PARQUET:field_id": number})
                for one, number in columns
            ]
        )
        with_pyarrow(tmp_path / name, schema.empty_table())
        return opened(tmp_path / name)

    target = written("target", ("a", "1"), ("b", "2"), ("c", "3"))
    renamed = written("renamed", ("x", "2"), ("b", "1"))
    assert counterparts(target.schema, renamed.schema) == (range(1, 2), range(1), None)
    bare = written("bare", ("c", None), ("a", None))
    assert counterparts(target.schema, bare.schema) == (range(1, 2), None, range(1))
    assert column_sources(target, target) == (range(1), range(1, 2), range(2, 3))
    assert column_sources(target, bare) == (None, None, None)
