"""Files of partitions are found; what lies elsewhere is not data."""

from catalog.hudi.listing import list_files, partition_files
from catalog.location import Location
from catalog.storage import Storage

MARK = ".hoodie_partition_metadata"


def test_partitions_are_directories_with_their_mark(tmp_path):
    for name in (f"a=1/b=2/{MARK}", "a=1/b=2/x.parquet", "a=1/stray.parquet", "loose/y.parquet",
                 f"c/{MARK}.parquet", f".hoodie/metadata/{MARK}", ".hoodie/z.parquet"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12")
    found = list_files(Storage(), Location.parse(str(tmp_path)))
    assert sorted(zip(*found.to_pydict().values(), strict=True)) == [
        ("a=1/b=2", MARK, 2),
        ("a=1/b=2", "x.parquet", 2),
        ("c", f"{MARK}.parquet", 2),
    ]


def test_a_table_without_partitions_is_one_itself():
    files = [("", MARK, 1), ("", "a.parquet", 2), ("sub", MARK, 1), ("sub", "b.parquet", 2)]
    assert partition_files(files)["name"].to_pylist() == [MARK, "a.parquet"]


def test_what_is_below_a_partition_is_none():
    files = [("p", MARK, 1), ("p/q/r", MARK, 1), ("p/q/r", "b.parquet", 2), ("pq", MARK, 1)]
    assert set(partition_files(files)["partition_path"].to_pylist()) == {"p", "pq"}


def test_nothing_is_listed_where_nothing_is():
    assert partition_files([]).num_rows == 0
