"""Tables that Spark has made, one for each feature: read, compacted and read again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from catalog.errors import LocationError, UnsupportedTableError
from catalog.open import open_table
from compactor.jobs.compaction import compact_table
from compactor.jobs.options import JobOptions
from compactor.jobs.planning import plan_table
from compactor.jobs.report import JobReport
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.store import open_store
from compactor.planner.policy import Policy
from compactor.rewrite.task import Proof
from compactor.splicing import Effort
from runtime import Runtime
from runtime.connect import connect
from tests.acceptance.delta_reading import our_rows, spelled
from tests.judges.delta_engines import READERS, UNREADABLE
from tests.judges.delta_features import FEATURE_TABLES, FeatureTable
from tests.judges.make_delta_fixtures import unpack

POLICY = Policy(min_input_files=2)
REFUSED = {"variant": "type variant"}
COMPACTED = [one for one in FEATURE_TABLES if one.name not in REFUSED and not one.is_cloned]


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with connect("inline") as opened:
        yield opened


def by_name(feature: FeatureTable) -> str:
    return feature.name


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def compacted(path: str, runtime: Runtime, policy: Policy = POLICY) -> JobReport:
    with open_store(f"sqlite:///{path}-jobs.db") as store:
        return compact_table(
            open_table(path),
            policy,
            environment=JobEnvironment(runtime, store, lambda _: None),
            options=JobOptions(proof=Proof.FULL),
        )


@pytest.mark.parametrize("name", ["plain", "append_only", "column_mapping_upgraded", "nested"])
def test_row_groups_that_spark_wrote_are_copied(
    name: str, tmp_path: Path, runtime: Runtime
) -> None:
    path = str(unpack(name, tmp_path))
    names, before = our_rows(path)
    report = compacted(path, runtime, replace(POLICY, effort=Effort.BYTES))
    assert report.splice.row_groups >= 1
    assert {reason for reason, _ in report.splice.reasons} <= {"rows of it were deleted"}
    assert our_rows(path) == (names, before)
    for engine, read in READERS.items():
        if name not in UNREADABLE[engine]:
            assert spelled(read(path), names) == before


@pytest.mark.parametrize("feature", COMPACTED, ids=by_name)
def test_no_row_and_no_row_id_changes(
    feature: FeatureTable, tmp_path: Path, runtime: Runtime
) -> None:
    path = str(unpack(feature.name, tmp_path))
    names, before = our_rows(path)
    expected = spelled(pq.read_table(tmp_path / "expected.parquet"), names)
    assert before == expected

    report = compacted(path, runtime)
    assert (report.status, report.verified) == ("succeeded", True)
    assert report.groups.committed >= 1
    assert report.files_after < report.files_before
    assert not plan_table(open_table(path), POLICY, now_ms=0).groups
    assert our_rows(path) == (names, expected)
    shown = [name for name in names if not name.startswith("row_")]
    for engine, read in READERS.items():
        if feature.name not in UNREADABLE[engine]:
            assert spelled(read(path), shown) == [row[: len(shown)] for row in expected]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_by_name(name: str, tmp_path: Path) -> None:
    path = unpack(name, tmp_path)
    before = contents(path)
    with pytest.raises(UnsupportedTableError, match=REFUSED[name]):
        plan_table(open_table(str(path)), POLICY, now_ms=0)
    assert contents(path) == before


def test_files_of_a_cloned_table_are_left_alone_unless_allowed(tmp_path: Path) -> None:
    table = open_table(str(unpack("shallow_clone", tmp_path)))
    with pytest.raises(LocationError, match="table_source"):
        table.inventory(table.snapshot())


def test_a_clone_is_compacted_without_touching_its_source(
    tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(unpack("shallow_clone", tmp_path))
    monkeypatch.setenv("DELTA_READ_PREFIXES", f"{path}_source")
    source = contents(Path(f"{path}_source"))
    names, before = our_rows(path)
    assert before == spelled(pq.read_table(tmp_path / "expected.parquet"), names)
    report = compacted(path, runtime)
    assert (report.status, report.verified) == ("succeeded", True)
    assert our_rows(path) == (names, before)
    for read in READERS.values():
        assert spelled(read(path), names) == before
    assert contents(Path(f"{path}_source")) == source


def test_a_cloned_table_gets_files_of_its_own_and_leaves_its_source_alone(
    tmp_path: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = unpack("shallow_clone", tmp_path)
    for checkpoint in (path / "_delta_log").glob("*.checkpoint.parquet"):
        checkpoint.unlink()  # it has the absolute paths of where it was made
    source = path.with_name("table_source")
    before = contents(source)
    monkeypatch.setenv("DELTA_READ_PREFIXES", str(source))
    names, rows = our_rows(str(path))
    assert rows == spelled(pq.read_table(tmp_path / "expected.parquet"), names)

    with open_store(f"sqlite:///{tmp_path}/jobs.db") as store:
        report = compact_table(
            open_table(str(path)),
            POLICY,
            environment=JobEnvironment(runtime, store, lambda _: None),
            options=JobOptions(proof=Proof.FULL),
        )
    # Files of the source and files of its own are never put together.
    assert (report.status, report.groups.committed) == ("succeeded", 2)
    assert contents(source) == before
    monkeypatch.delenv("DELTA_READ_PREFIXES")
    assert our_rows(str(path)) == (names, rows)
