"""A real REST catalog: the rules of every table, the command line, and requests that go astray."""

from __future__ import annotations

import re
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import Catalog

from catalog.iceberg.catalogs import open_catalog
from tests.acceptance.program import compact, start
from tests.catalog.conformance import TableConformance, fill
from tests.catalog.iceberg.lakes import IcebergLake
from tests.catalog.storage.fault_proxy import Fault, FaultProxy, faulty
from tests.iceberg_tables import NAMESPACE
from tests.judges.engines import READERS, normalised
from tests.judges.rest_catalog import rest_catalog
from tests.orphans import unreferenced_files

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(300)]

COMMITS = r"^POST .*/tables/t( |$|\?)"
ALWAYS = 10_000


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rest")


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[str]:
    with rest_catalog(directory) as address:
        yield address


@pytest.fixture
def catalog(server: str, directory: Path) -> Iterator[Catalog]:
    """The catalog with an empty namespace, and no trace of it afterwards."""
    opened = open_catalog("lake", {"type": "rest", "uri": server})
    opened.create_namespace_if_not_exists(NAMESPACE)
    yield opened
    opened.drop_table(f"{NAMESPACE}.t")
    shutil.rmtree(directory / "warehouse")


class TestRestCatalog(TableConformance):
    @pytest.fixture
    def lake(self, tmp_path: Path, catalog: Catalog) -> IcebergLake:
        return IcebergLake(tmp_path, 2, catalog)


@pytest.fixture
def lake(tmp_path: Path, catalog: Catalog) -> IcebergLake:
    made = IcebergLake(tmp_path, 2, catalog)
    files = fill(made)
    made.delete({files["a"][0]: [0, 9], files["a"][2]: [5]})
    return made


def through(address: str) -> dict[str, str]:
    """Return the variables under which `lake.*` is the REST catalog at an address."""
    return {
        "PYICEBERG_CATALOG__LAKE__TYPE": "rest",
        "PYICEBERG_CATALOG__LAKE__URI": address,
    }


def run(tmp_path: Path, address: str, code: int = 0) -> dict[str, Any]:
    return compact(
        tmp_path, "run", "lake.ns.t", "--min-input-files", "2", "--yes",
        code=code, extra=through(address),
    )  # fmt: skip


def replaces(lake: IcebergLake) -> int:
    operations = [one.summary.operation.value for one in lake.other.snapshots() if one.summary]
    return operations.count("replace")


def orphans(lake: IcebergLake) -> list[str]:
    """Return files that nothing refers to; Hadoop's local files have a checksum at their side."""
    return [path for path in unreferenced_files(lake.other) if not path.endswith(".crc")]


def is_compacted(lake: IcebergLake, before: list[Any]) -> None:
    """Two files are left of six, in one commit, with the same rows, and nothing else."""
    assert lake.rows() == before
    assert replaces(lake) == 1
    inventory = lake.table.inventory(lake.table.snapshot())
    assert (inventory.file_count, inventory.delete_files.num_rows) == (2, 0)
    assert orphans(lake) == []


def test_a_table_is_compacted_and_every_engine_reads_it(
    lake: IcebergLake, server: str, tmp_path: Path
) -> None:
    before, table = lake.rows(), lake.other
    expected = normalised(table.scan().to_arrow(), table.schema().as_arrow(), "id")
    report = run(tmp_path, server)
    assert (report["status"], report["verified"]) == ("succeeded", True)
    is_compacted(lake, before)
    for reader in READERS.values():
        rows = reader(lake.other.metadata_location, int(report["snapshot_after"]), tmp_path)
        assert normalised(rows, table.schema().as_arrow(), "id").equals(expected)


@pytest.mark.parametrize(
    "fault", [Fault.LOSE_REPLY, Fault.HIDE_REPLY, Fault.CUT_BODY, Fault.RESET, Fault.UNAVAILABLE]
)
def test_a_commit_that_goes_astray_is_settled_in_the_same_run(
    lake: IcebergLake, server: str, tmp_path: Path, fault: Fault
) -> None:
    before = lake.rows()
    with faulty(server, COMMITS, fault, hits=1) as proxy:
        assert run(tmp_path, proxy.endpoint)["status"] == "succeeded"
    is_compacted(lake, before)


def test_a_refused_commit_leaves_the_table_as_it_was(
    lake: IcebergLake, server: str, tmp_path: Path
) -> None:
    before = lake.rows()
    with faulty(server, COMMITS, Fault.FORBIDDEN, hits=ALWAYS) as proxy:
        run(tmp_path, proxy.endpoint, code=1)
    assert (lake.rows(), replaces(lake), orphans(lake)) == (before, 0, [])


def test_another_writer_in_between_is_answered_by_a_conflict_and_kept(
    lake: IcebergLake, server: str, tmp_path: Path
) -> None:
    with faulty(server, COMMITS, Fault.HOLD, hits=1) as proxy:
        process = begin(tmp_path, proxy)
        lake.append(range(100, 110))
        before = lake.rows()
        proxy.released.set()
        ends(process, 0)
        assert [status for line, status in proxy.statuses if "POST" in line] == [409, 200]
    inventory = lake.table.inventory(lake.table.snapshot())
    assert (lake.rows(), inventory.file_count, orphans(lake)) == (before, 3, [])


def begin(tmp_path: Path, proxy: FaultProxy) -> Any:
    """Start a run and wait until the proxy holds its commit."""
    arguments = ("run", "lake.ns.t", "--min-input-files", "2", "--yes", "--json")
    process = start(tmp_path, *arguments, extra=through(proxy.endpoint))
    if not proxy.held.wait(60):
        process.kill()
        pytest.fail("".join(process.communicate()))
    return process


def ends(process: Any, code: int) -> None:
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == code, stdout + stderr


def die_while_the_commit_is_held(tmp_path: Path, proxy: FaultProxy) -> None:
    process = begin(tmp_path, proxy)
    process.kill()
    ends(process, -signal.SIGKILL)


def release(proxy: FaultProxy) -> int:
    """Let the held request go; return what the catalog answers to it."""
    proxy.released.set()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for line, status in list(proxy.statuses):
            if line.startswith("POST"):
                return status
        time.sleep(0.05)
    pytest.fail("the catalog does not answer")


def test_a_dead_drivers_commit_arrives_before_the_next_run(
    lake: IcebergLake, server: str, tmp_path: Path
) -> None:
    before = lake.rows()
    with faulty(server, COMMITS, Fault.HOLD, hits=1) as proxy:
        die_while_the_commit_is_held(tmp_path, proxy)
        assert release(proxy) == 200
    report = run(tmp_path, server)
    assert (report["status"], report["groups"]["committed"]) == ("succeeded", 2)
    is_compacted(lake, before)


def test_a_dead_drivers_commit_arrives_after_the_next_run(
    lake: IcebergLake, server: str, tmp_path: Path
) -> None:
    before = lake.rows()
    with faulty(server, COMMITS, Fault.HOLD, hits=1) as proxy:
        die_while_the_commit_is_held(tmp_path, proxy)
        report = run(tmp_path, server)
        assert (report["status"], report["groups"]["committed"]) == ("succeeded", 2)
        assert release(proxy) == 409
    is_compacted(lake, before)


def test_a_dead_drivers_commit_arrives_just_before_that_of_the_next_run(
    lake: IcebergLake, server: str, tmp_path: Path
) -> None:
    before = lake.rows()
    with (
        faulty(server, COMMITS, Fault.HOLD, hits=1) as first,
        faulty(server, COMMITS, Fault.HOLD, hits=1) as second,
    ):
        die_while_the_commit_is_held(tmp_path, first)
        process = begin(tmp_path, second)
        assert release(first) == 200
        assert release(second) == 409
        ends(process, 0)
    is_compacted(lake, before)


def test_a_dead_drivers_commit_arrives_after_a_run_that_was_refused(
    lake: IcebergLake, server: str, tmp_path: Path
) -> None:
    before = lake.rows()
    with faulty(server, COMMITS, Fault.HOLD, hits=1) as proxy:
        die_while_the_commit_is_held(tmp_path, proxy)
        with faulty(server, COMMITS, Fault.FORBIDDEN, hits=ALWAYS) as refusing:
            run(tmp_path, refusing.endpoint, code=1)
        assert release(proxy) == 200
    assert lake.rows() == before
    assert run(tmp_path, server)["groups"]["committed"] == 2
    is_compacted(lake, before)


def test_a_catalog_that_stops_answering_mid_commit_is_asked_again_by_the_next_run(
    lake: IcebergLake, server: str, tmp_path: Path
) -> None:
    before = lake.rows()
    with faulty(server, COMMITS, Fault.HOLD, hits=1) as proxy:
        process = begin(tmp_path, proxy)
        proxy.match, proxy.fault, proxy.hits = re.compile("."), Fault.RESET, ALWAYS
        proxy.released.set()
        ends(process, 1)
    assert lake.rows() == before
    assert run(tmp_path, server)["groups"]["committed"] == 2
    is_compacted(lake, before)


def test_an_internal_error_of_the_catalog_is_looked_into_and_the_commit_sent_again(
    lake: IcebergLake, server: str, directory: Path, tmp_path: Path
) -> None:
    before = lake.rows()
    with faulty(server, COMMITS, Fault.HOLD, hits=1) as proxy:
        process = begin(tmp_path, proxy)
        with sqlite3.connect(directory / "catalog.db", isolation_level=None) as database:
            database.execute("BEGIN EXCLUSIVE")
            status = release(proxy)
            database.execute("ROLLBACK")
        database.close()
        assert status == 500
        ends(process, 0)
        assert [status for line, status in proxy.statuses if "POST" in line] == [500, 200]
    is_compacted(lake, before)
