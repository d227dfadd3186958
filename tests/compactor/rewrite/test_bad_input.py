"""Files that others have written badly, oddly or long ago: copied right, encoded, or refused."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.errors import CatalogError, CorruptTableError, UnsupportedTableError
from catalog.schema import TableSchema
from compactor.errors import VerificationError
from compactor.parquet.footer import ROW_GROUPS, SCHEMA
from compactor.parquet.thrift import STRUCT, field_bytes, list_bytes, read_list, skip_struct
from compactor.rewrite import group
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.ladder import FOOTER_FULL, TOO_WIDE
from compactor.rewrite.task import Proof, RewriteResult
from compactor.splicing import SpliceLimits
from tests.compactor.parquet.corpus import opened
from tests.compactor.rewrite.tables import (
    LocalTable,
    described,
    inventory,
    make_task,
    output_files,
    with_ids,
)
from tests.compactor.rewrite.test_mixed import ANYTHING, sample, write
from tests.compactor.rewrite.test_mixed import SCHEMA as ROWS

EITHER_WAY = pytest.mark.parametrize("splice", [ANYTHING, None], ids=["copied", "encoded"])
Splice = SpliceLimits | None


def rewrite(
    table: LocalTable, paths: Sequence[str], splice: Splice, **options: Any
) -> RewriteResult:
    return rewrite_group(replace(make_task(table, paths, **options), splice=splice))


def table_of(directory: Path, schema: pa.Schema = ROWS) -> LocalTable:
    return LocalTable(str(directory), TableSchema(schema))


def rows(result: RewriteResult) -> list[dict[str, Any]]:
    return [row for one in result.outputs for row in pq.read_table(one.path).to_pylist()]


class Keys(pe.KmsClient):
    """Keeps keys by wrapping them in nothing."""

    def wrap_key(self, key: bytes, master: str) -> bytes:
        return base64.b64encode(key)

    def unwrap_key(self, key: bytes, master: str) -> bytes:
        return base64.b64decode(key)


def encrypted(path: Path, *, has_plain_footer: bool) -> str:
    wanted = pe.EncryptionConfiguration(
        footer_key="k",
        column_keys={"c": ["text"]},
        plaintext_footer=has_plain_footer,
        double_wrapping=False,
    )
    factory = pe.CryptoFactory(lambda _: Keys())
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), wanted)
    return write(path, sample(0, 100), encryption_properties=properties)


@EITHER_WAY
@pytest.mark.parametrize("has_plain_footer", [True, False])
def test_encrypted_columns(tmp_path: Path, splice: Splice, has_plain_footer: bool) -> None:
    fine = write(tmp_path / "fine.parquet", sample(0, 100))
    locked = encrypted(tmp_path / "locked.parquet", has_plain_footer=has_plain_footer)
    table = table_of(tmp_path)
    files = described([(path, Path(path).stat().st_size, 100) for path in (fine, locked)])
    with pytest.raises(UnsupportedTableError, match="encrypted"):
        rewrite(table, [], splice, files=files)
    assert output_files(table) == []


@EITHER_WAY
@pytest.mark.parametrize(
    "change", ["shorter", "longer", "fewer rows", "other bytes, same size", "gone to zeros"]
)
def test_files_that_have_changed_since_the_plan(
    tmp_path: Path, splice: Splice, change: str
) -> None:
    paths = [write(tmp_path / f"{n}.parquet", sample(n * 100, 100)) for n in range(2)]
    table, planned = table_of(tmp_path), inventory(paths)
    data = Path(paths[1]).read_bytes()
    if change == "fewer rows":
        write(Path(paths[1]), sample(100, 99))
        padding = len(data) - Path(paths[1]).stat().st_size
        planned = described(
            [(paths[0], Path(paths[0]).stat().st_size, 100), (paths[1], len(data) - padding, 100)]
        )
    else:
        changed = {
            "shorter": data[:-100],
            "longer": data + b"x",
            "other bytes, same size": bytes(len(data)),
            "gone to zeros": data[:-8] + bytes(8),
        }
        Path(paths[1]).write_bytes(changed[change])
    with pytest.raises(CorruptTableError, match=r"1\.parquet"):
        rewrite(table, [], splice, files=planned)
    assert output_files(table) == []


@EITHER_WAY
def test_files_and_row_groups_without_rows(tmp_path: Path, splice: Splice) -> None:
    schema = with_ids(pa.schema([("n", pa.int64())]))
    empty = schema.empty_table()
    with pq.ParquetWriter(tmp_path / "1.parquet", schema, store_schema=False) as writer:
        writer.write_table(empty)
        writer.write_table(pa.table([[1, 2]], schema))
        writer.write_table(empty)
    paths = [
        write(tmp_path / "0.parquet", empty),
        str(tmp_path / "1.parquet"),
        write(tmp_path / "2.parquet", empty),
    ]
    table = table_of(tmp_path, schema)
    assert [row["n"] for row in rows(rewrite(table, paths, splice))] == [1, 2]
    nothing = rewrite(replace(table, directory=f"{tmp_path}/2"), [paths[0], paths[2]], splice)
    assert nothing.outputs == ()


@EITHER_WAY
def test_old_timestamps_are_encoded_and_the_columns_beside_them_copied(
    tmp_path: Path, splice: Splice
) -> None:
    schema = with_ids(
        pa.schema([("a", pa.int64()), ("b", pa.string()), ("t", pa.timestamp("us", "UTC"))])
    )
    moments = [0, 1_700_000_000_000_001, None, -62_135_596_800_000_000]
    data = pa.table(
        [
            [n * 10**12 for n in range(4)],
            ["a rather long text " * 9, "b", "c", "d"],
            pa.array(moments, pa.timestamp("us", "UTC")),
        ],
        schema,
    )
    paths = [
        write(tmp_path / f"{n}.parquet", data, use_deprecated_int96_timestamps=n > 0)
        for n in range(3)
    ]
    result = rewrite(table_of(tmp_path, schema), paths, splice)
    assert rows(result) == data.to_pylist() * 3
    physical = pq.read_metadata(result.outputs[0].path).schema.column(2).physical_type
    assert physical == "INT64"
    if splice is not None:
        assert (result.splice.row_groups, result.splice.row_groups_patched) == (1, 2)


LISTS = with_ids(
    pa.schema(
        [("n", pa.int64()), ("tags", pa.list_(pa.field("element", pa.int32(), nullable=False)))]
    )
)
TAGS = [[1, 2], [], None, [3]]


def two_level_lists(path: str) -> str:
    """Declare the lists of a file as the oldest writers did: the elements repeat themselves."""
    footer = opened(Path(path))
    out, last = bytearray(), 0
    for field in footer.fields:
        value = footer.data[field.start : field.end]
        if field.number == SCHEMA:
            count, _, at = read_list(value, 0)
            elements = []
            for _ in range(count):
                end = skip_struct(value, at)
                elements.append(value[at:end])
                at = end
            assert b"\x04list" in elements[3]
            assert b"\x07element" in elements[4]
            # Required becomes repeated, and the group between is gone.
            leaf = elements[4].replace(b"\x25\x00\x18\x07element", b"\x25\x04\x18\x05array")
            assert leaf != elements[4]
            value = list_bytes(count - 1, STRUCT) + b"".join([*elements[:3], leaf])
        elif field.number == ROW_GROUPS:
            value = value.replace(b"\x38\x04tags\x04list\x07element", b"\x28\x04tags\x05array")
        out += field_bytes(field.number, field.kind, last) + value
        last = field.number
    out.append(0)
    body = Path(path).read_bytes()[: footer.offset]
    Path(path).write_bytes(body + out + len(out).to_bytes(4, "little") + b"PAR1")
    return path


@EITHER_WAY
@pytest.mark.parametrize("form", ["two levels", "item", "all alike"])
def test_lists_as_older_writers_declare_them(tmp_path: Path, splice: Splice, form: str) -> None:
    data = pa.table([range(4), TAGS], LISTS)
    usual = [] if form == "all alike" else [write(tmp_path / "a.parquet", data)]
    odd = [
        write(tmp_path / f"{n}.parquet", data, use_compliant_nested_type=form != "item")
        for n in range(2)
    ]
    if form != "item":
        odd = list(map(two_level_lists, odd))
        assert pq.read_schema(odd[0]).field("tags").type.value_field.name == "array"
    assert pq.read_table(odd[0])["tags"].to_pylist() == TAGS
    paths = [*usual, *odd]
    result = rewrite(table_of(tmp_path, LISTS), paths, splice)
    assert rows(result) == data.to_pylist() * len(paths)
    assert splice is None or result.splice.copied_bytes


def test_ten_thousand_row_groups(tmp_path: Path) -> None:
    schema = with_ids(pa.schema([("n", pa.int64())]))
    path = write(tmp_path / "in.parquet", pa.table([range(10_000)], schema), row_group_size=1)
    table = table_of(tmp_path, schema).dropping(path, [77])
    copied = rewrite(table, [path], replace(ANYTHING, row_groups_max=1 << 20), proof=Proof.COUNTS)
    assert copied.splice.row_groups == 9_999
    (output,) = copied.outputs
    assert pq.read_metadata(output.path).num_row_groups == 9_999
    tidy = replace(table, directory=f"{tmp_path}/2")
    found = rewrite(tidy, [path], replace(ANYTHING, row_groups_max=1000), proof=Proof.COUNTS)
    assert dict(found.splice.reasons)[FOOTER_FULL] == 9_999
    assert pq.read_metadata(found.outputs[0].path).num_row_groups == 1


def test_a_column_that_expands_a_thousandfold_is_not_held_beside_copied_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The footer admits nothing of it: one long text in a dictionary, named by every row."""
    monkeypatch.setattr(group, "ROW_GROUP_BYTES_MAX", 8 << 20)
    count = 100_000
    fields = [pa.field("n", pa.int64()), pa.field("text", pa.string())]
    schema = with_ids(pa.schema(fields))
    numbers = np.random.default_rng(1).integers(0, 1 << 62, count)
    long = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), ["x" * 2000])
    tight = schema.set(1, schema.field(1).with_nullable(False))
    small = pa.table([[1], ["y"]], schema)
    paths = [
        write(tmp_path / "a.parquet", small),
        write(tmp_path / "b.parquet", pa.table([numbers, long.cast(pa.string())], tight)),
    ]
    assert Path(paths[1]).stat().st_size < 1 << 20
    result = rewrite(table_of(tmp_path, schema), paths, ANYTHING, proof=Proof.COUNTS)
    assert dict(result.splice.reasons).get(TOO_WIDE, 0) + result.splice.row_groups_patched == 1
    found = pq.read_table(result.outputs[0].path)
    assert found["n"].to_pylist()[1:] == numbers.tolist()


@EITHER_WAY
def test_a_footer_with_other_counts_than_its_pages(tmp_path: Path, splice: Splice) -> None:
    """The footer says of row groups what their pages do not hold."""
    path = write(tmp_path / "in.parquet", sample(0, 100), row_group_size=50)
    other = write(tmp_path / "other.parquet", sample(0, 120), row_group_size=60)
    right, lying = opened(Path(path)), opened(Path(other))
    body = Path(path).read_bytes()[: right.offset]
    body += bytes(max(0, lying.offset - len(body)))
    footer = lying.data
    Path(path).write_bytes(body + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    table = table_of(tmp_path)
    with pytest.raises((CorruptTableError, VerificationError)):
        rewrite(table, [path], splice, proof=Proof.FULL)
    assert output_files(table) == []


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3),
    is_wider=st.booleans(),
    proof=st.sampled_from(list(Proof)),
)
def test_a_changed_footer_is_copied_right_or_refused(
    changes: list[tuple[float, int]],
    is_wider: bool,
    proof: Proof,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("changed")
    path = Path(write(directory / "in.parquet", sample(0, 300), row_group_size=100))
    data = bytearray(path.read_bytes())
    footer_bytes = int.from_bytes(data[-8:-4], "little") + 8
    for place, value in changes:
        data[-1 - int(place * (footer_bytes - 1))] = value
    path.write_bytes(data)
    more = [pa.field("more", pa.int64(), metadata={"PARQUET:field_id": "9"})] if is_wider else []
    table = table_of(directory, pa.schema([*ROWS, *more]))
    files = described([(str(path), len(data), 300)])
    try:
        result = rewrite(table, [], ANYTHING, files=files, proof=proof)
    except (CatalogError, VerificationError):
        assert output_files(table) == []
    else:
        assert result.rows_written == 300
