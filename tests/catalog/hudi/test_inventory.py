"""The inventory of a Hudi table: slices, their logs, and where numbers of rows come from."""

import uuid

import numpy as np
import pytest

from catalog.commits import Commit, OutputFile, Rewrite
from catalog.errors import CorruptTableError, StorageError
from catalog.hudi.archived_commits import archived_commits
from catalog.hudi.commit import live_names
from catalog.hudi.commit_bodies import WrittenBase
from catalog.hudi.inventory import read_inventory
from catalog.hudi.listing import list_files
from catalog.hudi.reading import Source, read_commits, read_details, read_slices
from catalog.hudi.states import NO_STATE
from catalog.hudi.timeline import Action, Instant, State, timeline_of
from tests.catalog.hudi.lake import HudiLake, rows_of
from tests.catalog.hudi.test_reading import opened
from tests.judges.make_hudi_fixtures import unpack


def inventory(source):
    slices = read_slices(source, list_files(source.storage, source.root))
    return slices, read_inventory(source, slices)


@pytest.mark.parametrize("name", ["v6_mor", "v9_mor"])
def test_a_row_per_slice_and_one_per_log(name, tmp_path):
    source = opened(unpack(name, tmp_path))
    slices, found = inventory(source)
    files = found.files.to_pylist()
    assert [one["partition"] for one in files] == ["p1", "p2", "p3"]
    assert [one["row_count"] for one in files] == [4, 3, 1]
    assert [len(one["deletes"]) for one in files] == [3, 3, 0]
    assert [one["path"] for one in files] == [
        f"{tmp_path}/table/{one['partition_path']}/{one['base_name']}"
        for one in slices.slices.to_pylist()
    ]
    assert {str(one["sequence_number"]) for one in files} == set(
        slices.slices["instant"].to_pylist()
    )
    assert all(one["written_at_ms"] > 1_700_000_000_000 for one in files)
    logs = found.delete_files.to_pylist()
    assert {one["target"] for one in logs} == {one["path"] for one in files if one["deletes"]}
    # Updates of three and of one record, and a delete, as the commits say.
    assert [one["row_count"] for one in logs][:3] == [3, 1, 1]
    assert {tuple(one["equality_ids"]) for one in logs} == {(3,)}
    assert all((tmp_path / "table").joinpath(*one["path"].split("/")[-2:]).exists() for one in logs)


def test_a_slice_of_logs_alone_goes_by_its_first_log(tmp_path):
    table = unpack("v9_mor", tmp_path)
    source = opened(table)
    for path in table.glob("p1/*.parquet"):
        path.unlink()
    _, found = inventory(source)
    first = found.files.to_pylist()[0]
    assert (first["size_bytes"], first["row_count"]) == (0, 0)
    assert first["path"] == found.delete_files["path"][0].as_py()
    assert first["path"] == found.delete_files["target"][0].as_py()


@pytest.mark.parametrize("name", ["v6_mor_archived", "v9_mor_archived"])
def test_archived_commits_tell_of_their_files(name, tmp_path):
    source = opened(unpack(name, tmp_path))
    _, expected = inventory(source)
    oldest = min(str(number) for number in expected.files["sequence_number"].to_pylist())
    assert source.timeline.find(oldest) is None
    details = dict(read_commits(source, [oldest, "1"]))
    assert list(details) == [oldest]
    names = {path.rpartition("/")[2] for path in expected.files["path"].to_pylist()}
    stats = [one for one in details[oldest].write_stats if one.name in names]
    assert stats
    assert all(one.row_count > 0 for one in stats)


def test_rows_that_no_commit_tells_of_are_counted_in_footers(tmp_path):
    table = unpack("v9_mor_archived", tmp_path)
    source = opened(table)
    _, expected = inventory(source)
    for path in (table / ".hoodie" / "timeline" / "history").glob("*.parquet"):
        path.unlink()
    (table / ".hoodie" / "timeline" / "history" / "_version_").unlink()
    _, found = inventory(source)
    assert found.files["row_count"].to_pylist() == expected.files["row_count"].to_pylist()


@pytest.mark.parametrize("name", ["v6_mor_archived", "v9_mor_archived"])
def test_what_is_archived_while_it_is_read_is_found_there(name, tmp_path):
    source = opened(unpack(name, tmp_path))
    _, found = inventory(source)
    oldest = str(min(found.files["sequence_number"].to_pylist()))
    gone = Instant(oldest, Action.DELTACOMMIT, State.COMPLETED, None, f"{oldest}.deltacommit")
    assert read_details(source, gone).write_stats
    never = Instant("1", Action.DELTACOMMIT, State.COMPLETED, None, "1.deltacommit")
    with pytest.raises(StorageError, match="went away"):
        read_details(source, never)


def test_an_archive_that_does_not_decode_is_damaged(tmp_path):
    table = unpack("v6_mor_archived", tmp_path)
    source = opened(table)
    for path in table.glob(".hoodie/*/.commits_.archive*"):
        data = bytearray(path.read_bytes())
        at = data.index(b"20261123", data.index(b'"fields"') + 4000)
        data[at - 1] = 0x81
        path.write_bytes(data)
    with pytest.raises(CorruptTableError, match="does not decode"):
        archived_commits(source.storage, source.root, source.config, ["1"])


def test_a_table_that_was_never_written_to_is_empty(tmp_path):
    source = opened(unpack("v9_cow", tmp_path))
    empty = Source(source.storage, source.root, source.config, timeline_of([], layout=2))
    _, found = inventory(empty)
    assert found.file_count == found.delete_files.num_rows == 0


def test_files_of_two_partitions_may_have_one_name(tmp_path, monkeypatch):
    """As Flink names those of buckets; each has its own rows, and is live by itself."""
    lake = HudiLake(tmp_path / "table", 9, merges_on_read=False)
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=0))
    base = lake.writer._base
    monkeypatch.setattr(
        lake.writer, "_base", lambda time, rows, _, **options: base(time, rows, 0, **options)
    )
    lake.writer.insert(rows_of([1, 2], "a"), rows_of([3], "b"))
    source = lake.table.source()
    slices, found = inventory(source)
    name = slices.slices["base_name"][0].as_py()
    assert slices.slices["base_name"].to_pylist() == [name, name]
    assert found.files["row_count"].to_pylist() == [2, 1]
    taken = Rewrite("1", found.take(np.array([0])), (), 0)
    written = [
        WrittenBase(part, OutputFile(f"{lake.root}/{part}/new-0_1-0-0_9.parquet", 1, 1))
        for part in "ab"
    ]
    live = live_names(slices, Commit("1", NO_STATE, (taken,)), written)
    assert live == {"a": {"new-0_1-0-0_9.parquet"}, "b": {"new-0_1-0-0_9.parquet", name}}
