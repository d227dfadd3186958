"""Each file of changes below a prefix is merged once, in the order of names."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.errors import CorruptTableError
from catalog.location import Location
from catalog.storage import Storage
from compactor.errors import ChangesRefusedError
from compactor.merge.changes import change_set, joined
from compactor.merge.latest import latest
from compactor.merge.rules import MergeRules
from compactor.merge.sources import new_files, read_sources
from tests.compactor.rewrite.tables import with_ids

SCHEMA = with_ids(pa.schema([("k", pa.int64()), ("v", pa.string())]))


def put(directory: Path, name: str, rows: pa.Table | None = None) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"k": [1], "v": [name]}) if rows is None else rows, path)


def test_what_comes_after_the_watermark_is_new(tmp_path: Path) -> None:
    for name in ("2026/02.parquet", "2026/01.parquet", "2026/10.parquet", "2027/01.parquet"):
        put(tmp_path, name)
    for name in ("_SUCCESS", "2026/.02.parquet.crc", "_tmp/x.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    prefix, storage = Location.parse(str(tmp_path)), Storage()
    every = [one.name for one in new_files(storage, prefix, None)]
    assert every == ["2026/01.parquet", "2026/02.parquet", "2026/10.parquet", "2027/01.parquet"]
    assert [one.name for one in new_files(storage, prefix, "2026/02.parquet")] == every[2:]
    assert new_files(storage, prefix, every[-1]) == []
    assert new_files(storage, prefix.child("absent"), None) == []


def test_a_file_that_is_not_read_is_not_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "1.parquet")
    (tmp_path / "2.csv").write_text("k,v\n1,x\n")
    with pytest.raises(ChangesRefusedError, match=r"2\.csv"):
        new_files(Storage(), Location.parse(str(tmp_path)), None)


def test_of_equal_keys_the_row_of_the_last_file_wins(tmp_path: Path) -> None:
    put(tmp_path, "b.parquet")
    put(tmp_path, "a.parquet")
    put(tmp_path, "empty.parquet", pa.table({"k": pa.array([], pa.int32())}))
    storage, rules = Storage(), MergeRules(("k",))
    files = new_files(storage, Location.parse(str(tmp_path)), None)
    sets = [change_set(one, SCHEMA, rules) for one in read_sources(storage, files, stream=7)]
    assert latest(joined(sets), rules, SCHEMA).rows.to_pylist() == [{"k": 1, "v": "b.parquet"}]


def test_a_file_that_is_no_parquet_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "1.parquet").write_bytes(b"no such thing")
    storage = Storage()
    files = new_files(storage, Location.parse(str(tmp_path)), None)
    with pytest.raises(CorruptTableError, match=r"1\.parquet"):
        list(read_sources(storage, files, stream=0))
