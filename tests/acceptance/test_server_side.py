"""Tables in a bucket whose files the store itself joins: `compact run` as users call it.

Against moto, and against a Ceph RGW, which checks signatures as S3 does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from catalog.location import Location
from catalog.storage import Storage
from catalog.storage.composition import composer
from catalog.storage.s3_identity import address
from catalog.storage.s3_requests import Request
from tests.acceptance.bucket_table import TARGET, BucketLake, append_file, make_bucket_lake
from tests.catalog.storage.fault_proxy import Fault, FaultProxy, faulty
from tests.catalog.storage.s3_server import new_bucket, s3_properties
from tests.iceberg_tables import data_files, delete_positions
from tests.judges import rgw
from tests.judges.counting_proxy import CountingProxy
from tests.judges.moto_process import moto_server

MIB = 1 << 20
ALWAYS = 100_000
# Parts that are uploaded look the same: one fault too many would meet those.
COPY = r"^PUT .*partNumber=\d+&.* copying$"


@dataclass(frozen=True)
class Server:
    """A server of S3's protocol.

    Attributes:
        endpoint: its address.
        properties: of a storage on it.
        new_bucket: makes one.
    """

    endpoint: str
    properties: Mapping[str, str]
    new_bucket: Callable[[str], Location]


@pytest.fixture(
    scope="module", params=["moto", pytest.param("rgw", marks=[pytest.mark.slow, pytest.mark.rgw])]
)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "moto":
        with moto_server() as endpoint:
            yield Server(endpoint, s3_properties(endpoint), new_bucket)
        return
    missing = rgw.missing_programs()
    if missing and rgw.REQUIRED not in os.environ:
        pytest.skip(f"not installed: {', '.join(missing)} (`make judge-rgw` installs them)")
    assert not missing, f"the judge has to be there: apt-get install {rgw.PACKAGES}"
    with rgw.rgw_server() as endpoint:
        yield Server(endpoint, rgw.rgw_properties(endpoint), rgw.new_rgw_bucket)


@dataclass(frozen=True)
class Table:
    """A table in a bucket of its own."""

    lake: BucketLake
    bucket: Location
    storage: Storage

    def rows(self) -> pa.Table:
        """Read all rows through PyIceberg, by id."""
        found = self.lake.table().scan().to_arrow()
        return found.take(pc.sort_indices(found, [("id", "ascending")])).combine_chunks()

    def locations(self) -> list[Location]:
        return [Location.parse(file.file_path) for file in data_files(self.lake.table())]

    def unfinished_uploads(self) -> int:
        found = composer(self.storage, self.bucket.child("x"))
        bucket = address(found.client, self.bucket.child("x"))
        whole = type(bucket)(bucket.url.removesuffix("/x"), bucket.region)
        return found.sender.send(Request("GET", whole, {"uploads": ""})).body.count("<UploadId>")

    def strangers(self) -> list[str]:
        """Return the files of attempts that the table does not refer to."""
        live = {str(location) for location in self.locations()}
        below = self.storage.list(self.bucket.child("ns/t/data"))
        first = {str(location) for location in self.first_files()}
        return [str(info.location) for info in below if str(info.location) not in live | first]

    def first_files(self) -> list[Location]:
        """Return the files of the snapshots before the compaction."""
        table = self.lake.table()
        files = [
            table.inspect.data_files(one.snapshot_id)["file_path"].to_pylist()
            for one in table.snapshots()
        ]
        return [Location.parse(path) for some in files for path in some]


def make_table(server: Server, directory: Path, sizes_mib: list[int]) -> Table:
    bucket = server.new_bucket(server.endpoint)
    lake = make_bucket_lake(directory, str(bucket), server.properties)
    for number, size in enumerate(sizes_mib):
        append_file(lake, number, size * MIB)
    return Table(lake, bucket, Storage.from_properties(server.properties))


def start(table: Table, endpoint: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "compactor.cli.main", *arguments, "--json"],
        env=table.lake.through(endpoint),
        cwd=table.lake.directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def compact(table: Table, endpoint: str, *arguments: str, code: int = 0) -> dict[str, Any]:
    process = start(table, endpoint, *arguments)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == code, f"{process.returncode}\n{stdout}\n{stderr}"
    document: dict[str, Any] = json.loads(stdout)
    return document


RUN = ("run", TARGET, "--yes", "--min-input-files", "2")


def read_with_every_engine(path: Path) -> list[pa.Table]:
    """Return what PyArrow, DuckDB and Polars read, pages and statistics used."""
    some = "id % 1000 = 7 and id > 5000"
    filtered = (pc.field("id") > 5000) & (pc.field("amount") < 0.01)
    with duckdb.connect() as connection:
        relation = connection.sql(f"select count(*), sum(id) from '{path}' where {some}")
        by_duckdb = relation.fetchall()
        whole = connection.sql(f"from '{path}'").to_arrow_table()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lazy = pl.scan_parquet(path)
        by_polars = lazy.filter((pl.col("id") % 1000 == 7) & (pl.col("id") > 5000))
        assert by_polars.select(pl.len(), pl.sum("id")).collect().rows() == by_duckdb
    plain = pq.read_table(path, page_checksum_verification=True)
    assert plain.filter(filtered).equals(pq.read_table(path, filters=filtered))
    return [plain, whole, lazy.collect().to_arrow()]


@pytest.mark.slow
def test_a_table_is_compacted_inside_the_store(server: Server, tmp_path: Path) -> None:
    table = make_table(server, tmp_path, [40, 40, 40, 40])
    before = table.rows()
    plan = compact(table, server.endpoint, "plan", TARGET, "--min-input-files", "2")
    (group,) = plan["groups"]
    assert group["rung"] == "splice, server side"
    assert group["bytes_by_rung"]["splice, server side"] == group["input_bytes"]
    with CountingProxy(server.endpoint) as proxy:
        done = compact(table, proxy.endpoint, *RUN)
        through_us = proxy.bytes_total
    moved = done["bytes_spliced"]
    assert moved > 160_000_000
    assert done["splice"]["composed_bytes"] >= moved
    assert done["splice"]["streamed"] == []
    # What the storage counts, and what went over the wire, metadata and all.
    assert (
        done["bytes_read"] + done["bytes_written"] - done["splice"]["composed_bytes"] < moved / 100
    )
    assert through_us < moved / 100
    assert done["peak_memory_bytes"] < 150 * MIB
    (output,) = table.locations()
    assert table.rows().equals(before)
    assert table.unfinished_uploads() == 0
    copy = tmp_path / "output.parquet"
    copy.write_bytes(table.storage.read(output))
    assert pq.read_metadata(copy).num_row_groups >= 4
    schema = before.schema.remove_metadata()
    for found in read_with_every_engine(copy):
        ordered = found.take(pc.sort_indices(found, [("id", "ascending")]))
        assert ordered.cast(schema).equals(before.cast(schema))
    assert compact(table, server.endpoint, "plan", TARGET, "--min-input-files", "2")["groups"] == []


@pytest.mark.slow
def test_copied_and_encoded_row_groups_stand_in_one_file(server: Server, tmp_path: Path) -> None:
    table = make_table(server, tmp_path, [24, 2, 40])
    large = max(data_files(table.lake.table()), key=lambda file: file.file_size_in_bytes)
    delete_positions(table.lake.table(), large, [3, 5, 100])
    before = table.rows()
    done = compact(table, server.endpoint, *RUN, "--verify", "full", "--delete-ratio", "0.000001")
    assert table.rows().equals(before)
    assert done["verified"]
    assert 0 < done["splice"]["composed_bytes"] < done["bytes_spliced"] + 1
    assert [reason for reason, _ in done["splice"]["reasons"]]
    (output,) = table.locations()
    copy = tmp_path / "output.parquet"
    copy.write_bytes(table.storage.read(output))
    assert {found.num_rows for found in read_with_every_engine(copy)} == {before.num_rows}


def test_the_uploads_of_a_killed_run_are_aborted(server: Server, tmp_path: Path) -> None:
    table = make_table(server, tmp_path, [12, 12])
    before = table.rows()
    with faulty(server.endpoint, r"^POST .*uploadId=", Fault.HOLD, hits=1) as proxy:
        process = start(table, proxy.endpoint, *RUN)
        assert proxy.held.wait(60)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert table.unfinished_uploads() == 1
    done = compact(table, server.endpoint, *RUN)
    assert done["is_resumed"]
    assert table.unfinished_uploads() == 0
    assert table.rows().equals(before)
    assert len(table.locations()) == 1
    assert table.strangers() == []


def act_when_held(proxy: FaultProxy, action: Callable[[], None]) -> None:
    """Act once a request is held, then let it go."""

    def act() -> None:
        if proxy.held.wait(60):
            with suppress(Exception):
                action()
            proxy.released.set()

    threading.Thread(target=act, daemon=True).start()


def failed_run(server: Server, table: Table, action: Callable[[], None]) -> str:
    """Run with an action between planning and copying, and return why it failed."""
    snapshots = len(table.lake.table().snapshots())
    with faulty(server.endpoint, r"^POST .*uploads=", Fault.HOLD, hits=1) as proxy:
        act_when_held(proxy, action)
        done = compact(table, proxy.endpoint, *RUN, code=1)
    assert len(table.lake.table().snapshots()) == snapshots
    assert table.unfinished_uploads() == 0
    assert table.strangers() == []
    (problem,) = done["problems"]
    return str(problem["reason"])


def test_a_source_replaced_between_planning_and_copying_is_refused_by_name(
    server: Server, tmp_path: Path
) -> None:
    table = make_table(server, tmp_path, [12, 12])
    victim = table.locations()[1]
    data = bytearray(table.storage.read(victim))
    data[100_000:100_100] = bytes(100)
    reason = failed_run(server, table, lambda: table.storage.write(victim, bytes(data)))
    assert str(victim) in reason
    assert "replaced" in reason


def test_a_source_deleted_between_planning_and_copying_is_named(
    server: Server, tmp_path: Path
) -> None:
    table = make_table(server, tmp_path, [12, 12])
    victim = table.locations()[0]
    reason = failed_run(server, table, lambda: table.storage.delete([victim]))
    assert str(victim) in reason


@pytest.mark.slow
@pytest.mark.parametrize(
    ("request_line", "fault", "hits"),
    [
        pytest.param("uploads=|uploadId=", Fault.UNAVAILABLE, 12, id="a storm of slow downs"),
        pytest.param(COPY, Fault.RESET, 3, id="resets while copying"),
        pytest.param(COPY, Fault.LOSE_REPLY, 2, id="lost replies while copying"),
        pytest.param(r"^POST .*uploadId=", Fault.ERROR_IN_200, 1, id="an error in 200"),
        pytest.param(r"^POST .*uploadId=", Fault.LOSE_REPLY, 1, id="a lost completion"),
    ],
)
def test_a_run_outlives_faults(
    server: Server, tmp_path: Path, request_line: str, fault: Fault, hits: int
) -> None:
    table = make_table(server, tmp_path, [12, 12])
    before = table.rows()
    with faulty(server.endpoint, request_line, fault, hits=hits) as proxy:
        done = compact(table, proxy.endpoint, *RUN)
        assert proxy.hits == 0
    assert done["splice"]["composed_bytes"] > 0
    assert table.rows().equals(before)
    assert table.unfinished_uploads() == 0
    assert table.strangers() == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault.UNKNOWN_REQUEST, Fault.EMPTY_200, Fault.FORBIDDEN])
def test_a_store_that_does_not_copy_is_done_without(
    server: Server, tmp_path: Path, fault: Fault
) -> None:
    table = make_table(server, tmp_path, [12, 12])
    before = table.rows()
    with faulty(server.endpoint, COPY, fault, hits=2) as proxy:
        done = compact(table, proxy.endpoint, *RUN)
    assert done["splice"]["composed_bytes"] == 0
    ((reason, outputs),) = done["splice"]["streamed"]
    assert "copy" in reason
    assert outputs == 1
    assert table.rows().equals(before)
    assert table.unfinished_uploads() == 0


def test_the_doctor_tells_whether_the_store_copies(server: Server, tmp_path: Path) -> None:
    table = make_table(server, tmp_path, [1])
    before = {str(info.location) for info in table.storage.list(table.bucket)}

    def copying(endpoint: str) -> tuple[str, str]:
        checks = compact(table, endpoint, "doctor", TARGET)["checks"]
        (found,) = [one for one in checks if one["check"] == "copying"]
        return found["grade"], found["detail"]

    grade, detail = copying(server.endpoint)
    assert (grade, "copies ranges" in detail) == ("ok", True)
    with faulty(server.endpoint, COPY, Fault.UNKNOWN_REQUEST, hits=1) as proxy:
        grade, detail = copying(proxy.endpoint)
    assert (grade, detail) == ("warning", "the store does not copy ranges into parts")
    assert {str(info.location) for info in table.storage.list(table.bucket)} == before
