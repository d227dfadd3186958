"""`compact upkeep` asks the table what there is to do, and does it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from catalog.iceberg.demo import DemoCatalog
from tests.catalog.conformance import fill
from tests.catalog.delta.lakes import DeltaLake
from tests.catalog.groups import plan_all
from tests.compactor.cli.calls import call, call_json


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    """Return a table that was compacted, with its inputs still there."""
    lake = DeltaLake(tmp_path)
    fill(lake, files=2)
    lake.table.commit(plan_all(lake.table))
    time.sleep(0.01)
    return lake


def data_files(lake: DeltaLake) -> int:
    return len(list(lake.directory.glob("part=*/*.parquet")))


def test_the_usual_upkeep_of_a_delta_table(lake: DeltaLake) -> None:
    before = lake.rows()
    target, asked = str(lake.directory), ("--retention", "0s", "--force")
    told = call_json("upkeep", target, *asked, "--dry-run")
    assert (told["format"], told["dry_run"]) == ("delta v3/7", True)
    names = [(one["operation"], one["files"]) for one in told["operations"]]
    assert names == [("checkpoint", 0), ("log-cleanup", 0), ("vacuum", 4)]
    assert data_files(lake) == 6
    done = call_json("upkeep", target, *asked)
    assert done["operations"] == told["operations"]
    assert data_files(lake) == 2
    assert lake.rows() == before


def test_one_operation_may_be_chosen(lake: DeltaLake) -> None:
    target = str(lake.directory)
    asked = ("--only", "vacuum-lite", "--retention", "0s", "--force")
    (found,) = call_json("upkeep", target, *asked)["operations"]
    assert (found["operation"], found["files"]) == ("vacuum-lite", 4)
    (found,) = call_json("upkeep", target, "--only", "log-compaction")["operations"]
    assert (found["operation"], found["files"]) == ("log-compaction", 1)
    assert "no operation `polish`" in call("upkeep", target, "--only", "polish", code=2).stderr


def test_people_get_a_table(lake: DeltaLake) -> None:
    text = call("upkeep", str(lake.directory), "--dry-run").stdout
    assert "Operation" in text
    assert "kept for 168 hours" in text
    assert "Nothing was changed" in text


def test_a_short_retention_is_refused_before_anything_is_done(lake: DeltaLake) -> None:
    log = lake.directory / "_delta_log"
    for path in log.glob("*.checkpoint.parquet"):
        path.unlink()
    lake.append(range(1000, 1010))
    for number in range(10):
        lake.append(range(2000 + number, 2001 + number))
    result = call("upkeep", str(lake.directory), "--retention", "1h", code=1)
    assert "168" in result.stderr
    assert "--force" in result.stderr
    assert not list(log.glob("*.checkpoint.parquet"))
    result = call("upkeep", str(lake.directory), "--retention", "soon", code=2)
    assert "--retention" in result.stderr


def test_versions_of_a_delta_table_are_not_counted(lake: DeltaLake) -> None:
    result = call("upkeep", str(lake.directory), "--keep-last", "3", code=1)
    assert "kept by age" in result.stderr


def test_the_usual_upkeep_of_an_iceberg_table(own_catalog: DemoCatalog) -> None:
    target, asked = own_catalog.orders, ("--only", "expire-snapshots", "--retention", "0s")
    assert "--force" in call("upkeep", target, *asked, code=1).stderr
    told = call_json("upkeep", target, *asked, "--force", "--keep-last", "3", "--dry-run")
    assert told["format"] == "iceberg v2"
    (found,) = told["operations"]
    assert "3 kept" in found["note"]
    done = call_json("upkeep", target, *asked, "--force", "--keep-last", "3")
    assert done["operations"] == told["operations"]
    (again,) = call_json("upkeep", target, *asked, "--force", "--keep-last", "3")["operations"]
    assert again["files"] == 0
