"""hudi-rs reads tables after our compaction as it read them, and Spark did, before.

Only its second reader is asked for: the first one is wrong and says nothing.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hudi import HudiTableBuilder

from catalog.hudi.table import HudiTable
from catalog.location import Location
from tests.catalog.hudi.compacting import compact
from tests.judges.make_hudi_fixtures import unpack

QUICK = ["v6_mor", "v8_mor_record_index", "v9_mor", "v9_mor_partial_updates", "v9_mor_two_levels"]
SLOW = [
    "v6_mor_archived",
    "v6_mor_bucket_index",
    "v6_mor_commit_time",
    "v6_mor_compaction_pending",
    "v6_mor_soft_deletes",
    "v6_mor_unpartitioned",
    "v8_mor",
    "v8_mor_commit_time",
    "v8_mor_partial_updates",
    "v9_mor_archived",
    "v9_mor_bucket_index",
    "v9_mor_compaction_pending",
    "v9_mor_evolved",
    "v9_mor_hive_style",
    "v9_mor_no_metadata",
    "v9_mor_no_ordering",
    "v9_mor_parquet_logs",
    "v9_mor_simple_index",
    "v9_mor_soft_deletes",
    "v9_mor_strange_keys",
    "v9_mor_unpartitioned_commit_time",
]


def rows(table: Path, names: list[str]) -> list[str]:
    opened = HudiTableBuilder.from_base_uri(str(table))
    opened = opened.with_option("hoodie.read.file.group.reader.version", "2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = opened.build().read()
    return shown([row for batch in found for row in batch.to_pylist()], names)


def shown(found: list[dict[str, Any]], names: list[str]) -> list[str]:
    return sorted(str([row.get(name) for name in names]) for row in found)


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_another_reader_finds_the_same_rows(name: str, tmp_path: Path) -> None:
    table = unpack(name, tmp_path)
    snapshot = pq.read_table(tmp_path / "snapshot.parquet")
    names = [one for one in snapshot.column_names if one != "_hoodie_file_name"]
    expected = shown(snapshot.to_pylist(), names)
    assert rows(table, names) == expected
    logs = [path for path in table.glob("**/.*.log.*") if ".hoodie" not in path.parts]
    assert logs
    report = compact(HudiTable(str(table), Location.parse(str(table)), {}), tmp_path / "jobs")
    assert report.snapshot_after != report.snapshot_before
    assert rows(table, names) == expected
