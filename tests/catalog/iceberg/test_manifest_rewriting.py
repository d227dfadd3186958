"""Manifests are put together by partition; the files in them are what they were."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntryStatus

from catalog.errors import CommitConflictError, CommitUnknownError
from catalog.iceberg.manifest_rewriting import RewriteManifests
from catalog.iceberg.upkeep import Answer
from catalog.upkeep import UpkeepOrder, UpkeepResult
from tests.catalog.groups import plan_all
from tests.catalog.iceberg.lakes import IcebergLake
from tests.catalog.iceberg.upkeep_lakes import lose_next_reply, on_disk, referred_to, rows_of_all

DEFAULT = UpkeepOrder()


@pytest.fixture
def lake(tmp_path: Path) -> IcebergLake:
    return make_lake(tmp_path)


def make_lake(directory: Path, version: int = 2) -> IcebergLake:
    """Return a table of six manifests of two partitions, and one of deletes where there are any."""
    lake = IcebergLake(directory, version)
    for number in range(6):
        lake.append(range(number * 10, number * 10 + 10), "ab"[number % 2])
    if lake.has_deletes:
        lake.delete({next(iter(entries(lake))): [0, 3]})
    return lake


def run(lake: IcebergLake, order: UpkeepOrder = DEFAULT, *, is_whole: bool = False) -> UpkeepResult:
    return RewriteManifests(lake.table, is_whole).run(order)


def manifests(lake: IcebergLake, content: ManifestContent = ManifestContent.DATA) -> list[Any]:
    table = lake.other
    head = table.current_snapshot()
    assert head is not None
    return [one for one in head.manifests(table.io) if one.content == content]


def entries(lake: IcebergLake) -> dict[str, tuple[Any, ...]]:
    """Return what the head says of every data file, its place in manifests left out."""
    return {
        entry.data_file.file_path: (
            entry.snapshot_id,
            entry.sequence_number,
            entry.file_sequence_number,
            told(entry.data_file),
        )
        for manifest in manifests(lake)
        for entry in manifest.fetch_manifest_entry(lake.other.io)
    }


def told(file: DataFile) -> str:
    """Return all that is said of a file; maps have no order."""
    values = [file[index] for index in range(len(file))]
    return repr([sorted(one.items()) if isinstance(one, Mapping) else one for one in values])


@pytest.mark.parametrize("version", [1, 2])
def test_the_same_files_in_fewer_manifests(tmp_path: Path, version: int) -> None:
    lake = make_lake(tmp_path, version)
    before, rows = entries(lake), rows_of_all(lake)
    deletes = manifests(lake, ManifestContent.DELETES)
    told = run(lake, UpkeepOrder(is_dry_run=True))
    assert (told.files, rows_of_all(lake)) == (6, rows)
    done = run(lake)
    assert (done.files, done.bytes) == (told.files, told.bytes)
    (one,) = manifests(lake)
    assert entries(lake) == before
    found = one.fetch_manifest_entry(lake.other.io, discard_deleted=False)
    assert {entry.status for entry in found} == {ManifestEntryStatus.EXISTING}
    parts = [entry.data_file.partition[0] for entry in found]
    assert parts == sorted(parts)
    assert [one.manifest_path for one in manifests(lake, ManifestContent.DELETES)] == [
        one.manifest_path for one in deletes
    ]
    head = lake.other.current_snapshot()
    assert head is not None
    assert head.summary is not None
    assert head.summary.operation.value == "replace"
    totals = [one for one in head.summary.additional_properties if one.startswith("total-")]
    parent = lake.other.snapshot_by_id(head.parent_snapshot_id or 0)
    assert parent is not None
    assert parent.summary is not None
    assert [head.summary[name] for name in totals] == [parent.summary[name] for name in totals]
    assert rows_of_all(lake) == {**rows, str(head.snapshot_id): rows[str(parent.snapshot_id)]}
    assert run(lake).files == 0
    assert on_disk(lake) == referred_to(lake)


def test_few_manifests_are_left_alone_unless_all_are_asked_for(tmp_path: Path) -> None:
    lake = make_lake(tmp_path)
    run(lake)
    lake.append(range(100, 110))
    before = entries(lake)
    assert run(lake).files == 0
    assert run(lake, is_whole=True).files == 2
    assert entries(lake) == before
    assert len(manifests(lake)) == 1


def test_a_large_manifest_is_split_by_partition(tmp_path: Path) -> None:
    lake = make_lake(tmp_path)
    with lake.other.transaction() as transaction:
        transaction.set_properties({"commit.manifest.target-size-bytes": "10"})
    before = entries(lake)
    assert run(lake).files == 0
    assert run(lake, is_whole=True).files == 6
    assert entries(lake) == before


def test_an_append_meanwhile_stays(lake: IcebergLake) -> None:
    original: Callable[..., Any] = lake.catalog.commit_table

    def late(*arguments: Any) -> Any:
        lake.catalog.commit_table = original  # type: ignore[method-assign]
        lake.append(range(500, 505), "b")
        return original(*arguments)

    lake.catalog.commit_table = late  # type: ignore[method-assign]
    run(lake)
    assert len(entries(lake)) == 7
    assert len(manifests(lake)) == 1
    assert len(lake.rows()) == (63 if lake.has_deletes else 65)
    assert on_disk(lake) == referred_to(lake)


def test_a_compaction_planned_before_still_stands(lake: IcebergLake) -> None:
    commit, rows = plan_all(lake.table), lake.rows()
    run(lake)
    result = lake.table.commit(commit)
    assert result.snapshot is not None
    assert not result.conflicts
    assert lake.rows() == rows


def test_a_lost_reply(lake: IcebergLake, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_next_reply(lake, monkeypatch)
    run(lake)
    assert len(manifests(lake)) == 1
    assert len(lake.other.metadata.snapshots) == (8 if lake.has_deletes else 7)
    assert on_disk(lake) == referred_to(lake)


@pytest.mark.parametrize(
    ("answer", "error"),
    [(Answer.REFUSED, CommitConflictError), (Answer.UNKNOWN, CommitUnknownError)],
)
def test_a_catalog_that_never_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, error: type[Exception]
) -> None:
    lake = make_lake(tmp_path)
    with lake.other.transaction() as transaction:
        transaction.set_properties({"commit.retry.num-retries": "2"})
    before, rows = on_disk(lake), lake.rows()
    monkeypatch.setattr("catalog.iceberg.upkeep_commit.swap", lambda *_: answer)
    with pytest.raises(error):
        run(lake)
    # What a request may still refer to stays.
    assert (on_disk(lake) == before) == (answer is Answer.REFUSED)
    assert lake.rows() == rows


def test_an_empty_table(tmp_path: Path) -> None:
    assert run(IcebergLake(tmp_path, 2)).files == 0
