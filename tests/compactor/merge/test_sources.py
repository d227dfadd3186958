"""Each file of changes below a prefix is merged once, in the order of names."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from catalog.errors import CorruptTableError, TableNotFoundError
from catalog.location import Location
from catalog.storage import Storage
from compactor.errors import ChangesRefusedError
from compactor.merge.changes import change_set, joined
from compactor.merge.latest import latest
from compactor.merge.rules import MergeRules
from compactor.merge.source_arrow import ArrowSource
from compactor.merge.source_files import FileSource
from compactor.merge.source_opening import open_source
from compactor.merge.sources import Part
from tests.compactor.rewrite.tables import with_ids

SCHEMA = with_ids(pa.schema([("k", pa.int64()), ("v", pa.string())]))


def put(directory: Path, name: str, rows: pa.Table | None = None) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"k": [1], "v": [name]}) if rows is None else rows, path)


def source_of(directory: Path) -> FileSource:
    return FileSource(Storage(), Location.parse(str(directory)))


def names(source: FileSource, watermark: str | None) -> list[str | None]:
    return [one.watermark for one in source.arrivals(watermark).parts]


def test_what_comes_after_the_watermark_is_new(tmp_path: Path) -> None:
    for name in ("2026/02.parquet", "2026/01.parquet", "2026/10.parquet", "2027/01.parquet"):
        put(tmp_path, name)
    for name in ("_SUCCESS", "2026/.02.parquet.crc", "_tmp/x.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    source = source_of(tmp_path)
    every = ["2026/01.parquet", "2026/02.parquet", "2026/10.parquet", "2027/01.parquet"]
    assert names(source, None) == every
    assert names(source, "2026/02.parquet") == every[2:]
    nothing = source.arrivals(every[-1])
    assert nothing.is_empty
    assert nothing.watermark == every[-1]
    assert source_of(tmp_path / "absent").arrivals(None).watermark is None


def test_a_file_that_is_not_read_is_not_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "1.parquet")
    (tmp_path / "2.csv").write_text("k,v\n1,x\n")
    with pytest.raises(ChangesRefusedError, match=r"2\.csv"):
        source_of(tmp_path).arrivals(None)


def test_of_equal_keys_the_row_of_the_last_file_wins(tmp_path: Path) -> None:
    put(tmp_path, "b.parquet")
    put(tmp_path, "a.parquet")
    put(tmp_path, "empty.parquet", pa.table({"k": pa.array([], pa.int32())}))
    rules = MergeRules(("k",))
    arrivals = source_of(tmp_path).arrivals(None)
    assert (arrivals.row_count, arrivals.schema.names) == (2, ["k", "v"])
    parts: list[Part] = pickle.loads(pickle.dumps(arrivals.parts))
    sets = [change_set(one, SCHEMA, rules) for part in reversed(parts) for one in part.read()]
    assert latest(joined(sets), rules, SCHEMA).rows.to_pylist() == [{"k": 1, "v": "b.parquet"}]


def test_a_file_that_is_no_parquet_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "1.parquet").write_bytes(b"no such thing")
    with pytest.raises(CorruptTableError, match=r"1\.parquet"):
        source_of(tmp_path).arrivals(None)


@pytest.mark.parametrize("is_dataset", [False, True])
def test_arrow_rows_are_merged_once_under_their_watermark(tmp_path: Path, is_dataset: bool) -> None:
    put(tmp_path, "1.parquet")
    put(tmp_path, "2.parquet")
    rows = ds.dataset(tmp_path)
    source = ArrowSource("api", rows if is_dataset else rows.to_table(), watermark="monday")
    arrivals = source.arrivals("sunday")
    assert [row for part in arrivals.parts for one in part.read() for row in one.rows.to_pylist()]
    assert [one.file for part in arrivals.parts for one in part.read()][-1] == int(is_dataset)
    assert arrivals.parts[-1].watermark == arrivals.watermark == "monday"
    assert source.arrivals("monday").is_empty


def test_a_path_without_a_table_is_a_prefix_of_files(tmp_path: Path) -> None:
    put(tmp_path, "1.parquet")
    source = open_source(str(tmp_path))
    assert (source.name, source.arrivals(None).row_count) == (str(tmp_path), 1)
    with pytest.raises(TableNotFoundError):
        open_source("no.such.table")


TEXTS = (pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.large_string(), pa.string())


def test_files_spell_their_texts_as_their_writers_do(tmp_path: Path) -> None:
    # deltalake and Polars leave views behind, which Arrow reads and cannot select from.
    for number, kind in enumerate(TEXTS):
        rows = pa.table({"k": [number, 9], "v": pa.array(["", f"v{number}"]).cast(kind)})
        put(tmp_path, f"{number}.parquet", rows)
    arrivals = source_of(tmp_path).arrivals(None)
    assert arrivals.schema.field("v").type in (pa.string(), pa.large_string())
    rules = MergeRules(("k",))
    pieces = (piece for part in arrivals.parts for piece in part.read())
    found = latest(joined([change_set(one, SCHEMA, rules) for one in pieces]), rules, SCHEMA)
    values = {**dict.fromkeys(range(len(TEXTS)), ""), 9: "v3"}
    assert {row["k"]: row["v"] for row in found.rows.to_pylist()} == values


@pytest.mark.parametrize("kind", TEXTS, ids=str)
def test_rows_in_memory_spell_their_texts_as_they_like(kind: pa.DataType) -> None:
    rows = pa.table({"k": [1, 2], "v": pa.array(["", None]).cast(kind)})
    (part,) = ArrowSource("rows", rows).arrivals(None).parts
    (piece,) = part.read()
    found = change_set(piece, SCHEMA, MergeRules(("k",)))
    assert found.rows["v"].to_pylist() == ["", None]


def test_a_prefix_has_one_name_however_it_is_spelled(tmp_path: Path) -> None:
    for spelled in (
        f"{tmp_path}/x",
        f"{tmp_path}/x/",
        f"file://{tmp_path}/x",
        f"file:{tmp_path}/x/",
    ):
        assert open_source(spelled).name == f"{tmp_path}/x"
    found = {FileSource(Storage(), Location.parse(f"{s3}://b/k")).name for s3 in ("s3", "s3a")}
    assert found == {"s3://b/k"}


def test_files_name_time_zones_as_their_writers_do(tmp_path: Path) -> None:
    schema = with_ids(pa.schema([("k", pa.timestamp("us", "UTC")), ("v", pa.string())]))
    for number, kind in enumerate([pa.timestamp("us", "Europe/Berlin"), pa.timestamp("ms", "UTC")]):
        moment = pa.array([0], pa.timestamp("us", "UTC")).cast(kind)
        put(tmp_path, f"{number}.parquet", pa.table({"k": moment, "v": [str(number)]}))
    arrivals, rules = source_of(tmp_path).arrivals(None), MergeRules(("k",))
    pieces = (piece for part in arrivals.parts for piece in part.read())
    found = latest(joined([change_set(one, schema, rules) for one in pieces]), rules, schema)
    assert found.rows["v"].to_pylist() == ["1"]
