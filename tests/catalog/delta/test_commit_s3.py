"""Commits to a table in a bucket: of racing writers one wins, and lost replies are no losses."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable as PeerTable
from deltalake import write_deltalake

from catalog.commits import Commit, OutputFile, Rewrite
from catalog.delta.head import commit_location
from catalog.delta.table import DeltaTable
from catalog.errors import ObjectExistsError
from catalog.location import Location
from catalog.upkeep import UpkeepOrder
from tests.catalog.delta.lakes import create_table, rows_of
from tests.catalog.storage.fault_proxy import Fault, faulty
from tests.catalog.storage.s3_server import new_bucket, s3_properties, s3_server, s3_storage

RACERS = 8


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as found:
        yield found


@pytest.fixture
def root(endpoint: str, tmp_path: Path) -> Location:
    """Return an unpartitioned table of three files, written by deltalake."""
    root = new_bucket(endpoint).child("lake")
    create_table(tmp_path / "t", configuration={}, partition_columns=())
    first = (tmp_path / "t" / "_delta_log" / f"{0:020}.json").read_bytes()
    s3_storage(endpoint).write(commit_location(root, 0), first)
    for number in range(3):
        append(endpoint, root, number * 10)
    return root


def peer_options(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test-secret",
    }


def append(endpoint: str, root: Location, first: int) -> None:
    rows = rows_of(range(first, first + 10), "a")
    write_deltalake(str(root), rows, mode="append", storage_options=peer_options(endpoint))


def ids(endpoint: str, root: Location) -> list[int]:
    peer = PeerTable(str(root), storage_options=peer_options(endpoint))
    found: list[int] = pa.table(peer.scan(columns=["id"]))["id"].to_pylist()
    return sorted(found)


def opened(endpoint: str, root: Location) -> DeltaTable:
    table = DeltaTable("lake", root, s3_properties(endpoint))
    table._storage = s3_storage(endpoint)
    return table


def plan(table: DeltaTable, commit_id: str) -> Commit:
    """Write every row into one output, through the storage of the table."""
    snapshot = table.snapshot()
    files, inventory = table.files(snapshot), table.inventory(snapshot)
    parts = []
    for one in inventory.slices():
        with files.storage.open_input(files.locate(one.path)) as source:
            parts.append(pq.ParquetFile(source).read().cast(files.schema.written))
    content = pa.concat_tables(parts)
    sink = pa.BufferOutputStream()
    pq.write_table(content, sink)
    data = sink.getvalue().to_pybytes()
    key = inventory.files["partition_key"][0].as_py()
    location = files.new_location(key, f"{commit_id}.parquet")
    files.storage.write(location, data)
    output = OutputFile(str(location), len(data), content.num_rows)
    return Commit(commit_id, snapshot, (Rewrite("g", inventory, (output,), 0),))


def test_of_eight_writers_of_a_version_one_wins(endpoint: str, root: Location) -> None:
    start, outcomes = threading.Barrier(RACERS), list[bool]()

    def put(number: int) -> None:
        storage = s3_storage(endpoint)
        start.wait()
        try:
            storage.put_if_absent(commit_location(root, 4), f"writer {number}".encode())
        except ObjectExistsError:
            outcomes.append(False)
        else:
            outcomes.append(True)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * (RACERS - 1) + [True]


def test_of_eight_compactions_one_commits(endpoint: str, root: Location) -> None:
    commits = [plan(opened(endpoint, root), f"commit-{number}") for number in range(RACERS)]
    start, results = threading.Barrier(RACERS), list[int]()

    def run(commit: Commit) -> None:
        table = opened(endpoint, root)
        start.wait()
        results.append(len(table.commit(commit).committed))

    threads = [threading.Thread(target=run, args=(commit,)) for commit in commits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0] * (RACERS - 1) + [1]
    assert ids(endpoint, root) == list(range(30))


@pytest.mark.parametrize("fault", [Fault.LOSE_REPLY, Fault.HIDE_REPLY, Fault.RESET])
def test_a_lost_reply_to_the_commit(endpoint: str, root: Location, fault: Fault) -> None:
    commit = plan(opened(endpoint, root), "one")
    with faulty(endpoint, r"^PUT .*_delta_log/", fault, hits=1) as proxy:
        result = opened(proxy.endpoint, root).commit(commit)
        assert proxy.hits == 0
    assert (result.committed, result.conflicts) == (("g",), ())
    assert result.snapshot is not None
    assert result.snapshot.snapshot_id == "4"
    assert ids(endpoint, root) == list(range(30))
    assert opened(endpoint, root).find_commit(commit) == result


def test_deltalake_and_we_share_a_log(endpoint: str, root: Location) -> None:
    commit = plan(opened(endpoint, root), "one")
    append(endpoint, root, 30)
    assert opened(endpoint, root).commit(commit).conflicts == ()
    append(endpoint, root, 40)
    assert ids(endpoint, root) == list(range(50))
    assert opened(endpoint, root).snapshot().snapshot_id == "6"


def test_upkeep_of_a_bucket(endpoint: str, root: Location) -> None:
    table = opened(endpoint, root)
    for number in range(3, 12):
        append(endpoint, root, number * 10)
    assert table.commit(plan(table, "one")).conflicts == ()
    names = {info.location.name for info in table.storage.list(root)}
    assert f"{13:020}.checkpoint.parquet" in names
    assert not [name for name in names if name.endswith(".tmp")]
    time.sleep(1.1)
    order = UpkeepOrder(retention_seconds=0, is_forced=True)
    results = {one.name: one.run(order) for one in opened(endpoint, root).upkeep()}
    assert (results["checkpoint"].files, results["vacuum"].files) == (0, 12)
    assert ids(endpoint, root) == list(range(120))
    assert opened(endpoint, root).inventory(table.snapshot()).file_count == 1
