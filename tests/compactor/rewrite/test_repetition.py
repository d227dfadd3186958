"""Texts that repeat: the output is what it would be otherwise, and deleted ones are gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import UnsupportedTableError
from catalog.schema import TableSchema
from compactor.rewrite import repetition
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.repetition import (
    decoded_bytes,
    repeating_columns,
    united,
    with_dictionaries,
    with_values_in_use,
)
from tests.compactor.rewrite.tables import (
    LAYOUT,
    LocalTable,
    make_task,
    output_files,
    with_ids,
    write_file,
)

ROWS = 4000
SCHEMA = with_ids(
    pa.schema(
        [
            pa.field("state", pa.string()),
            pa.field("flag", pa.binary(), nullable=False),
            pa.field("text", pa.string()),
        ]
    )
)
texts = st.lists(st.none() | st.sampled_from(["", "a", "ab", "ü", "\0"]), min_size=1, max_size=30)


def rows_of(seed: int, states: tuple[str, ...]) -> pa.Table:
    random = np.random.default_rng(seed)
    picked = random.integers(0, len(states) + 1, ROWS)
    return pa.table(
        {
            "state": [None if pick == len(states) else states[pick] for pick in picked],
            "flag": [b"yes" if pick else b"no" for pick in picked],
            "text": [random.bytes(9).hex() for _ in range(ROWS)],
        },
        schema=SCHEMA,
    )


def compacted(tmp_path: Path, name: str, paths: list[str]) -> bytes:
    table = LocalTable(str(tmp_path / name), TableSchema(SCHEMA))
    rewrite_group(make_task(table, paths))
    (output,) = output_files(table)
    return output.read_bytes()


def test_output_is_the_same_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = tuple(f"{number:05}" for number in range(1500))
    contents = [rows_of(1, ("new", "old")), rows_of(2, ("sold",)), rows_of(3, many)]
    paths = [
        write_file(tmp_path / f"{number}.parquet", rows) for number, rows in enumerate(contents)
    ]

    group = pq.read_metadata(paths[0]).row_group(0)
    assert repeating_columns(group, {"state", "flag", "text"}) == {"state", "flag"}
    with_them = compacted(tmp_path, "with", paths)
    monkeypatch.setattr(repetition, "_VALUES_PER_BYTE_MIN", 1 << 40)
    assert repeating_columns(group, {"state", "flag", "text"}) == frozenset()

    assert with_them == compacted(tmp_path, "without", paths)


def test_keys_that_are_small_only_compressed_do_not_repeat(tmp_path: Path) -> None:
    keys = [f"key{number}-" for number in range(100_000)]
    path = tmp_path / "keys.parquet"
    pq.write_table(pa.table({"key": keys}), path, compression="zstd")
    chunk = pq.read_metadata(path).row_group(0).column(0)
    # Compressed it is as small as the dictionary of a column with few values.
    assert chunk.data_page_offset - chunk.dictionary_page_offset < chunk.num_values // 4
    assert repeating_columns(pq.read_metadata(path).row_group(0), {"key"}) == frozenset()


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_other_spellings_in_files_pass_too(tmp_path: Path, kind: pa.DataType) -> None:
    rows = rows_of(1, ("new", "old"))
    spelled = rows.cast(SCHEMA.set(0, SCHEMA.field(0).with_type(kind)))
    paths = [write_file(tmp_path / "in.parquet", spelled, store_schema=True)]

    output = compacted(tmp_path, "out", paths)

    assert pq.read_table(pa.BufferReader(output)).to_pylist() == rows.to_pylist()


def named_twice(path: Path, **options: bool) -> tuple[str, list[str | None]]:
    """Write a file whose dictionary names one value twice; return it and what its rows say."""
    values = ["aa", "ab", "ac", None] * 1000
    schema = with_ids(pa.schema([("state", pa.string())]))
    rows = pa.table({"state": values}, schema=schema)
    kind = pa.dictionary(pa.int32(), pa.string())
    if options:
        rows = rows.set_column(0, schema.field(0).with_type(kind), rows["state"].cast(kind))
    write_file(
        path, rows, compression="none", write_statistics=False, write_page_checksum=False, **options
    )
    content = path.read_bytes()
    changed = content.replace(b"\2\0\0\0aa\2\0\0\0ab", b"\2\0\0\0aa\2\0\0\0aa", 1)
    assert changed != content
    path.write_bytes(changed)
    return str(path), ["aa", "aa", "ac", None] * 1000


def test_a_dictionary_that_names_a_value_twice(tmp_path: Path) -> None:
    path, values = named_twice(tmp_path / "in.parquet")
    group = pq.read_metadata(path).row_group(0)
    assert repeating_columns(group, {"state"}) == {"state"}
    # Arrow reads such a file wrongly as a dictionary, here with an index that there is not.
    misread = pq.ParquetFile(path, read_dictionary=["state"]).read()["state"].chunk(0)
    assert misread.dictionary.to_pylist() == ["aa", "ac"]
    table = LocalTable(str(tmp_path), TableSchema(with_ids(pa.schema([("state", pa.string())]))))
    rewrite_group(make_task(table, [path]))
    (output,) = output_files(table)
    assert pq.read_table(output)["state"].to_pylist() == values


def test_such_a_dictionary_is_refused_where_arrow_insists_on_it(tmp_path: Path) -> None:
    path, _ = named_twice(tmp_path / "in.parquet", store_schema=True)
    table = LocalTable(str(tmp_path), TableSchema(with_ids(pa.schema([("state", pa.string())]))))
    with pytest.raises(UnsupportedTableError, match=r"in.parquet.*'state' names a value twice"):
        rewrite_group(make_task(table, [path]))
    assert output_files(table) == []


def test_deleted_text_does_not_live_on_in_a_dictionary(tmp_path: Path) -> None:
    rows = rows_of(1, ("public",))
    secret = rows.set_column(0, SCHEMA.field(0), pa.array(["secret"] + ["public"] * (ROWS - 1)))
    path = write_file(tmp_path / "in.parquet", secret, compression="none")
    layout = replace(LAYOUT, codec="none", codec_level=None)
    table = LocalTable(str(tmp_path / "t"), TableSchema(SCHEMA), layout=layout).dropping(path, [0])

    rewrite_group(make_task(table, [path]))

    (output,) = output_files(table)
    assert b"public" in output.read_bytes()
    assert b"secret" not in output.read_bytes()


def test_a_row_group_names_only_its_own_texts(tmp_path: Path) -> None:
    """A text of the next one would stay in this one's dictionary when its row is deleted."""
    states = ["public"] * ROWS
    states[ROWS // 2] = "secret"
    rows = rows_of(1, ("public",)).set_column(0, SCHEMA.field(0), pa.array(states))
    path = write_file(tmp_path / "in.parquet", rows, compression="none")
    layout = replace(LAYOUT, codec="none", codec_level=None, row_group_rows_max=ROWS // 3)
    table = LocalTable(str(tmp_path / "t"), TableSchema(SCHEMA), layout=layout)

    rewrite_group(make_task(table, [path], target_bytes=1))

    with_it = [output for output in output_files(table) if b"secret" in output.read_bytes()]
    assert len(output_files(table)) > len(with_it) == 1
    assert "secret" in pq.read_table(with_it[0])["state"].to_pylist()


def test_what_the_table_does_not_allow_may_be_dropped(tmp_path: Path) -> None:
    stored = with_ids(pa.schema([("state", pa.binary())]))
    rows = pa.table({"state": [b"\xff"] + [b"a", b"b", None] * 1000}, schema=stored)
    path = write_file(tmp_path / "in.parquet", rows)
    assert repeating_columns(pq.read_metadata(path).row_group(0), {"state"}) == {"state"}
    schema = TableSchema(with_ids(pa.schema([("state", pa.string())])))

    table = LocalTable(str(tmp_path / "t"), schema).dropping(path, [0])
    rewrite_group(make_task(table, [path]))

    (output,) = output_files(table)
    assert pq.read_table(output)["state"].to_pylist() == ["a", "b", None] * 1000


@given(texts, st.data())
def test_only_values_in_use_are_left(values: list[str | None], data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    batch = pa.RecordBatch.from_pydict(
        {"x": pa.array(values).dictionary_encode(), "y": list(range(len(values)))}
    ).filter(pa.array(kept, pa.bool_()))

    found = with_values_in_use(batch, {"x"})

    assert found.to_pylist() == batch.to_pylist()
    assert found.schema == batch.schema
    rows = set(found["x"].drop_null().to_pylist())
    assert sorted(found["x"].dictionary.to_pylist()) == sorted(rows)


@given(st.lists(st.tuples(texts, st.booleans()), min_size=1, max_size=5))
def test_united_rows_are_the_rows(parts: list[tuple[list[str | None], bool]]) -> None:
    schema = pa.schema([("x", pa.string())])
    arrays = [pa.array(values, pa.string()) for values, _ in parts]
    batches = [
        pa.RecordBatch.from_arrays(
            [array.dictionary_encode() if is_dictionary else array], names=["x"]
        )
        for array, (_, is_dictionary) in zip(arrays, parts, strict=True)
    ]

    together = united(batches, with_dictionaries(schema, {"x"}))

    assert together["x"].to_pylist() == [text for values, _ in parts for text in values]
    (dictionary,) = {tuple(chunk.dictionary.to_pylist()) for chunk in together["x"].chunks}
    assert sorted(dictionary) == sorted(set(together["x"].drop_null().to_pylist()))
    assert united(batches, schema)["x"].to_pylist() == together["x"].to_pylist()


def test_dictionaries_count_as_what_they_stand_for() -> None:
    values = pa.array(["abcd", "efgh"] * 500)
    plain = pa.RecordBatch.from_arrays([values], names=["x"])
    short = pa.RecordBatch.from_arrays([values.dictionary_encode()], names=["x"])

    assert decoded_bytes(short) == pytest.approx(plain.nbytes, rel=0.01)
