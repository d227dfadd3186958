"""One suite for every kind of catalog: conflicts, lost replies, kills in the middle, and races.

Each test runs against a real server (Glue's is moto's), and the table is read back through the same
catalog by an engine that is not ours.
"""

from __future__ import annotations

import io
import pickle
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.exceptions import CommitFailedException, WaitingForLockException

from catalog.errors import CommitConflictError
from catalog.iceberg import credentials
from catalog.iceberg.partition_statistics import PartitionStatistics, encode
from catalog.storage.lent import S3Purse, purse
from catalog.upkeep import UpkeepOrder
from tests.acceptance.program import compact, start
from tests.acceptance.sites import (
    NAME,
    Site,
    glue_site,
    hive_site,
    nessie_site,
    postgres_site,
)
from tests.catalog.conformance import TableConformance, expected, fill
from tests.catalog.groups import plan_all
from tests.catalog.iceberg.lakes import IcebergLake, rows_of
from tests.catalog.iceberg.version3 import Version3Lake
from tests.iceberg_tables import NAMESPACE
from tests.judges.postgres import Postgres
from tests.judges.spark_session import SparkSession
from tests.judges.wire import Stop, Wire, wire
from tests.orphans import unreferenced_files

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(300)]

TARGET = f"{NAME}.{NAMESPACE}.t"
# Other writers' faults that say that nothing was done.
_LOST = (CommitFailedException, WaitingForLockException)
# A race is over when so much was done, or has failed after so long.
_RACE_COMMITS, _RACE_ROWS = 3, 20
_RACE_SECONDS_MAX = 150.0
# Of tokens and of lent credentials; short enough to be renewed in a suite, not within a request.
_LIFE_SECONDS = 60


class UncheckedSuite:
    """What holds even where the catalog takes every update; a kind takes part by `site`.

    Where the catalog shows no snapshot but the current one, a commit of another writer cannot be
    told from a roll back: what was planned before it is planned anew.
    """

    keeps_history = True

    @pytest.fixture
    def lake(self, tmp_path: Path, site: Site) -> Iterator[IcebergLake]:
        catalog = site.open()
        catalog.create_namespace_if_not_exists(NAMESPACE)
        made = IcebergLake(tmp_path, 2, catalog)
        place = made.other.location()
        yield made
        catalog.drop_table(f"{NAMESPACE}.t")
        if place.startswith("file://"):
            shutil.rmtree(place.removeprefix("file://"), ignore_errors=True)
        site.close()

    @pytest.fixture
    def filled(self, lake: IcebergLake) -> IcebergLake:
        files = fill(lake)
        lake.delete({files["a"][0]: [0, 9], files["a"][2]: [5]})
        return lake

    def has_succeeded(self, report: dict[str, Any]) -> None:
        assert report["status"] == "succeeded"
        assert report["groups"]["committed"] == 2 or not self.keeps_history

    def test_a_table_is_compacted_and_nothing_is_left_over(
        self, filled: IcebergLake, site: Site, tmp_path: Path
    ) -> None:
        before = filled.rows()
        report = run(tmp_path, site)
        assert (report["status"], report["verified"]) == ("succeeded", True)
        is_compacted(filled, before)

    def test_a_reply_that_is_lost_is_looked_for_in_the_table(
        self, filled: IcebergLake, site: Site, tmp_path: Path
    ) -> None:
        before = filled.rows()
        with stopped(site, Stop.REPLY) as after_the_server:
            after_the_server.is_cut = True
            process = begin(tmp_path, site, after_the_server)
            after_the_server.released.set()
            ends(process, 0)
        is_compacted(filled, before)

    def test_a_run_that_is_killed_before_the_reply_is_taken_up(
        self, filled: IcebergLake, site: Site, tmp_path: Path
    ) -> None:
        before = filled.rows()
        with stopped(site, Stop.REPLY) as after_the_server:
            die_meanwhile(tmp_path, site, after_the_server)
        report = run(tmp_path, site)
        self.has_succeeded(report)
        is_compacted(filled, before)

    def test_a_request_of_the_dead_that_arrives_first_is_recognised(
        self, filled: IcebergLake, site: Site, tmp_path: Path
    ) -> None:
        before = filled.rows()
        with stopped(site, Stop.REQUEST) as before_the_server:
            die_meanwhile(tmp_path, site, before_the_server)
            before_the_server.released.set()
            before_the_server.arrived.wait(10)
        report = run(tmp_path, site)
        self.has_succeeded(report)
        is_compacted(filled, before)


class CatalogSuite(UncheckedSuite):
    """What holds for tables of every catalog: late updates are refused by the server."""

    def test_another_writer_in_between_is_kept(
        self, filled: IcebergLake, site: Site, tmp_path: Path
    ) -> None:
        with stopped(site, Stop.REQUEST) as before_the_server:
            process = begin(tmp_path, site, before_the_server)
            filled.append(range(100, 110))
            before = filled.rows()
            before_the_server.released.set()
            ends(process, 0)
        inventory = filled.table.inventory(filled.table.snapshot())
        assert (filled.rows(), orphans(filled)) == (before, [])
        assert inventory.file_count == 3 or not self.keeps_history

    def test_a_run_that_is_killed_before_its_request_arrives_is_done_again(
        self, filled: IcebergLake, site: Site, tmp_path: Path
    ) -> None:
        before = filled.rows()
        with stopped(site, Stop.REQUEST) as before_the_server:
            die_meanwhile(tmp_path, site, before_the_server)
            report = run(tmp_path, site)
            self.has_succeeded(report)
            before_the_server.released.set()
            before_the_server.arrived.wait(10)
        is_compacted(filled, before)


class LocalCatalogSuite(CatalogSuite, TableConformance):
    """What takes tables whose files are local as well."""

    def test_ids_of_rows_are_kept_and_vectors_leave(self, site: Site, tmp_path: Path) -> None:
        """Of format version 3, whose metadata the library does not write by itself."""
        catalog = site.open()
        catalog.create_namespace_if_not_exists(NAMESPACE)
        made = Version3Lake(tmp_path, catalog)
        try:
            files = fill(made)
            made.delete({files["a"][0]: [0, 9], files["a"][2]: [5]})
            before = made.lineage()
            assert run(tmp_path, site)["rows_dropped"] == 3
            assert made.lineage() == before
            is_compacted(made, made.rows())
        finally:
            catalog.drop_table(f"{NAMESPACE}.t")
            site.close()

    def test_two_compactors_and_an_appender_lose_no_row(
        self, lake: IcebergLake, site: Site
    ) -> None:
        race = Race(site, time.monotonic() + _RACE_SECONDS_MAX)
        workers = [race.worker(step) for step in (race.append, race.compact, race.compact)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert race.faults == []
        assert race.is_over, (race.commits, len(race.appended))
        assert lake.rows() == sorted(expected(race.appended))


class Race:
    """Writers of one table, each with a catalog of its own."""

    def __init__(self, site: Site, deadline: float) -> None:
        self.site, self.deadline = site, deadline
        self.appended: list[int] = []
        self.commits = 0
        self.faults: list[BaseException] = []

    @property
    def is_over(self) -> bool:
        is_done = self.commits >= _RACE_COMMITS and len(self.appended) >= _RACE_ROWS
        return is_done or bool(self.faults)

    def worker(self, step: Callable[[IcebergLake], None]) -> threading.Thread:
        lake = object.__new__(IcebergLake)
        lake.has_deletes, lake.catalog = True, self.site.open()

        def work() -> None:
            try:
                while not (self.is_over or time.monotonic() > self.deadline):
                    step(lake)
                    time.sleep(random.uniform(0, 0.1))
            except BaseException as fault:  # noqa: BLE001 - told by the test
                self.faults.append(fault)

        return threading.Thread(target=work)

    def append(self, lake: IcebergLake) -> None:
        ids = range(first := len(self.appended), first + 10)
        with suppress(*_LOST):
            lake.other.append(rows_of(ids, "a"))
            self.appended.extend(ids)

    def compact(self, lake: IcebergLake) -> None:
        commit = plan_all(lake.table)
        if commit.rewrites:
            with suppress(CommitConflictError):
                self.commits += bool(lake.table.commit(commit).committed)


class TestPostgres(LocalCatalogSuite):
    pytestmark = pytest.mark.postgres

    @pytest.fixture(scope="class")
    @classmethod
    def site(
        cls, tmp_path_factory: pytest.TempPathFactory, postgres_server: Postgres
    ) -> Iterator[Site]:
        with postgres_site(tmp_path_factory.mktemp("postgres"), postgres_server) as made:
            yield made


class TestGlue(LocalCatalogSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def site(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
        with glue_site(tmp_path_factory.mktemp("glue"), compares_versions=True) as made:
            yield made


@pytest.mark.thorough
class TestGlueThatComparesNothing(UncheckedSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def site(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
        with glue_site(tmp_path_factory.mktemp("glue"), compares_versions=False) as made:
            yield made


@pytest.mark.thorough
class TestHive(LocalCatalogSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def site(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
        with hive_site(tmp_path_factory.mktemp("hive")) as made:
            yield made

    def test_spark_reads_the_same_rows_through_the_catalog(
        self, filled: IcebergLake, site: Site, tmp_path: Path, spark: SparkSession
    ) -> None:
        is_read_by_spark(spark, site, filled, tmp_path)

    def test_spark_goes_on_from_our_partition_statistics(
        self, filled: IcebergLake, site: Site, spark: SparkSession
    ) -> None:
        keeping = PartitionStatistics(filled.table)
        assert keeping.run(UpkeepOrder()).files == 1
        filled.append(range(200, 205), "c")
        name = spark_catalog(spark, site)
        # It adds what has happened since to the file that it finds.
        spark.run(f"CALL {name}.system.compute_partition_stats('{NAMESPACE}.t')")
        theirs = statistics(filled)
        assert "are there" in keeping.run(UpkeepOrder()).note
        table = filled.other
        parts = keeping._parts(table)
        ours = pq.read_table(io.BytesIO(encode(table.metadata, parts))).to_pylist()
        assert [row["partition"]["part"] for row in theirs] == ["a", "b", "c"]
        for own, other in zip(ours, theirs, strict=True):
            told = {name for name, value in own.items() if value is not None}
            assert {name: own[name] for name in told} == {name: other[name] or 0 for name in told}


class TestNessie(CatalogSuite):
    keeps_history = False

    @pytest.fixture(scope="class")
    @classmethod
    def site(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
        with nessie_site(tmp_path_factory.mktemp("nessie"), life_seconds=_LIFE_SECONDS) as made:
            yield made

    def test_a_token_that_has_run_out_is_renewed_in_the_middle(
        self, lake: IcebergLake, site: Site
    ) -> None:
        provider = site.provider
        assert provider is not None
        provider.life_seconds = 6
        try:
            other = object.__new__(IcebergLake)
            other.has_deletes, other.catalog = True, site.open()
            table, before = other.other, len(provider.issued)
            time.sleep(provider.life_seconds + 1)
            table.append(rows_of(range(10), "a"))
            assert len(provider.issued) > before
        finally:
            provider.life_seconds = _LIFE_SECONDS
        assert len(lake.rows()) == 10

    def test_lent_credentials_are_renewed_by_who_works_with_them(
        self, lake: IcebergLake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lake.append(range(10))
        # As if they had been lent long ago.
        monkeypatch.setattr(credentials, "ASSUMED_LIFE_SECONDS", -1.0)
        table = lake.table
        table.load()
        monkeypatch.setattr(credentials, "ASSUMED_LIFE_SECONDS", 600.0)
        storage = pickle.loads(pickle.dumps(table.storage))
        assert storage.loan is not None
        held = purse(S3Purse, storage.loan)
        path = str(table.inventory(table.snapshot()).files["path"][0])
        assert storage.size(table.confinement.parse(path)) > 0
        assert held._due_at > time.time() + 300

    def test_spark_reads_the_same_rows_through_the_catalog(
        self, filled: IcebergLake, site: Site, tmp_path: Path, spark: SparkSession
    ) -> None:
        is_read_by_spark(spark, site, filled, tmp_path, keeps_history=False)


def is_read_by_spark(
    spark: SparkSession,
    site: Site,
    lake: IcebergLake,
    scratch: Path,
    *,
    keeps_history: bool = True,
) -> None:
    """Compact, and let Spark read what is there now and what was there before."""
    before, old = lake.rows(), lake.table.snapshot().snapshot_id
    run(scratch, site)
    table = f"{spark_catalog(spark, site)}.{NAMESPACE}.t"
    for version in ("", f" VERSION AS OF {old}")[: 2 if keeps_history else 1]:
        rows: pa.Table = spark.rows(f"SELECT id, part, text FROM {table}{version} ORDER BY id")
        assert [tuple(row.values()) for row in rows.to_pylist()] == before


def spark_catalog(spark: SparkSession, site: Site) -> str:
    """Let Spark open the catalog; return what it calls it."""
    name = f"{NAME}_{site.settings['type']}"
    spark.run(f"SET spark.sql.catalog.{name} = org.apache.iceberg.spark.SparkCatalog")
    # It is to see what others commit.
    for key, value in {**site.spark, "cache-enabled": "false"}.items():
        spark.run(f"SET `spark.sql.catalog.{name}.{key}` = `{value}`")
    return name


def statistics(lake: IcebergLake) -> list[dict[str, Any]]:
    """Return the rows of the newest statistics of partitions."""
    table = lake.other
    path = table.metadata.partition_statistics[-1].statistics_path
    with table.io.new_input(path).open() as file:
        rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(file.read())).to_pylist()
    return rows


def stopped(site: Site, stop: Stop) -> Any:
    sign = site.request_sign if stop is Stop.REQUEST else site.reply_sign
    return wire(site.dial, sign, stop)


def run(tmp_path: Path, site: Site, code: int = 0) -> dict[str, Any]:
    return compact(
        tmp_path, "run", TARGET, "--min-input-files", "2", "--yes",
        code=code, extra=site.configure(tmp_path),
    )  # fmt: skip


def begin(tmp_path: Path, site: Site, before: Wire) -> Any:
    """Start a run and wait until its commit is stopped."""
    arguments = ("run", TARGET, "--min-input-files", "2", "--yes", "--json")
    process = start(tmp_path, *arguments, extra=site.configure(tmp_path, before.port))
    deadline = time.monotonic() + 120
    while not before.held.wait(0.2):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail("".join(process.communicate()))
    return process


def ends(process: Any, code: int) -> None:
    stdout, stderr = process.communicate(timeout=180)
    assert process.returncode == code, stdout + stderr


def die_meanwhile(tmp_path: Path, site: Site, before: Wire) -> None:
    process = begin(tmp_path, site, before)
    process.kill()
    ends(process, -signal.SIGKILL)


def orphans(lake: IcebergLake) -> list[str]:
    """Return files that nothing refers to; those in buckets are looked for elsewhere."""
    table = lake.other
    return unreferenced_files(table) if table.location().startswith("file://") else []


def is_compacted(lake: IcebergLake, before: list[Any]) -> None:
    """Two files are left of six, in one commit, with the same rows, and nothing else."""
    assert lake.rows() == before
    snapshots = lake.other.snapshots()
    operations = [one.summary.operation.value for one in snapshots if one.summary]
    assert operations.count("replace") == 1
    inventory = lake.table.inventory(lake.table.snapshot())
    assert (inventory.file_count, inventory.delete_files.num_rows) == (2, 0)
    assert orphans(lake) == []
