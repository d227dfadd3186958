"""What cleaning gives up, held against a plain reading of the rules; and real tables, cleaned."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.announcing import Announcement
from catalog.errors import (
    CommitConflictError,
    CorruptTableError,
    StorageError,
    UnsupportedTableError,
)
from catalog.hudi import cleaner
from catalog.hudi.avro_schemas import Kind
from catalog.hudi.avro_writing import container
from catalog.hudi.cleaner import Clean
from catalog.hudi.cleaning import (
    CleanPolicy,
    Kept,
    Replaced,
    earliest_by_age,
    earliest_by_commits,
    first_replacing,
    not_after,
    read_since,
    unneeded_files,
)
from catalog.hudi.instants import InstantWriter, new_instant
from catalog.hudi.listing import list_files
from catalog.hudi.metadata_table.reading import read_listing
from catalog.hudi.metadata_table.table import open_metadata_table
from catalog.hudi.reading import read_places
from catalog.hudi.slices import PLACES, Pending
from catalog.hudi.table import HudiTable
from catalog.hudi.timeline import (
    Action,
    Instant,
    State,
    instant_time,
    timeline_folder,
    timeline_of,
)
from catalog.location import Location
from catalog.storage import Storage
from catalog.upkeep import UnfinishedJob, UpkeepOrder
from compactor.jobs.state import JobState
from compactor.planner.policy import Policy
from tests.catalog.hudi.compacting import compact, planned
from tests.catalog.hudi.lake import HudiLake
from tests.catalog.hudi.test_compaction import announcement
from tests.judges.make_hudi_fixtures import unpack


def commit(time: int, state: State = State.COMPLETED) -> Instant:
    return Instant(f"{time:03d}", Action.COMMIT, state, f"{time:03d}5", f"{time:03d}.commit")


def timeline(completed: range, *pending: int):
    instants = [commit(one) for one in completed] + [commit(one, State.INFLIGHT) for one in pending]
    return timeline_of(instants, layout=2)


class TestEarliest:
    def test_the_newest_commits_stay(self):
        found = earliest_by_commits(timeline(range(15)), 10)
        assert found == commit(5)

    def test_few_commits_all_stay(self):
        assert earliest_by_commits(timeline(range(10)), 10) is None

    def test_what_is_pending_holds_it_back(self):
        assert earliest_by_commits(timeline(range(0, 30, 2), 9), 3) == commit(8)
        assert earliest_by_commits(timeline(range(2, 30, 2), 1), 3) is None

    def test_by_age(self):
        assert earliest_by_age(timeline(range(9)), "0045") == commit(5)
        assert earliest_by_age(timeline(range(9)), "009") is None

    def test_older_states_that_are_read_hold_it_back(self):
        every = timeline(range(9))
        assert not_after(every, commit(7), ["0045", "006"]) == commit(4)
        assert not_after(every, commit(3), ["006"]) == commit(3)
        assert not_after(every, commit(3), []) == commit(3)
        assert not_after(timeline(range(5, 9)), commit(7), ["001"]) is None

    def test_what_is_young_stays_whatever_it_is_called(self):
        assert earliest_by_age(timeline(range(9)), "0065", {"003"}) == commit(3)
        assert earliest_by_age(timeline(range(9)), "009", {"003"}) == commit(3)

    def test_states_do_not_have_what_was_requested_before_and_completed_after_them(self):
        slow, quick = replace(commit(1), completion_time="0050"), commit(2)
        every = timeline_of([slow, quick, commit(6)], layout=2)
        assert read_since(every, ["0025", "0065"]) == "001"
        assert read_since(every, ["0065"]) == "0065"
        assert read_since(every, []) is None

    def test_cleaning_versions_says_whose_replaced_files_stay(self):
        pending = Instant("004", Action.CLUSTERING, State.REQUESTED, None, "")
        every = timeline_of([*map(commit, range(4)), pending, commit(6)], layout=2)
        assert first_replacing(every, ["006"]) == pending
        assert first_replacing(every, ["002"]) == commit(2)
        assert first_replacing(timeline(range(9)), []) is None


File = tuple[str, str, int, str]
groups = st.tuples(st.sampled_from(["", "p", "q"]), st.sampled_from(["f", "g", "h"]))
some_files = st.lists(
    st.tuples(groups, st.integers(0, 9), st.integers(0, 2)), max_size=40, unique=True
)


def plainly(files: list[File], kept: Kept) -> set[File]:
    """Say what may go, file group by file group."""
    found = set()
    plans = (kept.pending.compactions, kept.pending.log_compactions, kept.pending.clusterings)
    for group in {(path, file_id) for path, file_id, _, _ in files}:
        own = [one for one in files if one[:2] == group]
        replaced = [one.instant for one in kept.replaced if one.group == group]
        if any(group in plan for plan in plans):
            continue
        if replaced:
            if kept.policy is CleanPolicy.VERSIONS or replaced[0] < kept.earliest.time:
                found |= set(own)
            continue
        begins = sorted({one[2] for one in own})
        if kept.policy is CleanPolicy.VERSIONS:
            stays = begins[-kept.versions :]
        else:
            earliest = int(kept.earliest.time)
            older = [one for one in begins if one < earliest]
            stays = [one for one in begins if one >= earliest] + older[-1:]
        found |= {one for one in own if one[2] not in {*stays, begins[-1]}}
    saved = {one[:3] for one in found if one[3] in kept.savepoint_files}
    return {one for one in found if one[:3] not in saved}


@given(
    files=some_files,
    policy=st.sampled_from([CleanPolicy.COMMITS, CleanPolicy.VERSIONS]),
    number=st.integers(1, 4),
    earliest=st.integers(0, 9),
    replaced=st.dictionaries(groups, st.integers(0, 9), max_size=3),
    planned=st.dictionaries(groups, st.just("009"), max_size=2),
    saved=st.sets(st.integers(0, 9), max_size=2),
)
def test_what_may_go(files, policy, number, earliest, replaced, planned, saved) -> None:
    listed = [(path, one, at, f"{one}-{at}-{n}") for (path, one), at, n in files]
    kept = Kept(
        policy=policy,
        versions=number,
        earliest=commit(earliest),
        pending=Pending(compactions=planned),
        replaced=tuple(Replaced(group, f"{at:03d}") for group, at in replaced.items()),
        savepoint_files=frozenset(f"f-{at}-0" for at in saved),
    )
    rows = [(path, one, f"{at:03d}", name, 1) for path, one, at, name in listed]
    places = pa.table([list(column) for column in zip(*rows, strict=True)] or [[]] * 5, PLACES)

    found = unneeded_files(places, kept)

    columns = found.to_pydict()
    names = zip(columns["partition_path"], columns["file_id"], columns["name"], strict=True)
    assert set(names) == {(path, one, name) for path, one, _, name in plainly(listed, kept)}


@given(
    begun=st.dictionaries(st.tuples(groups, st.integers(0, 9)), st.none(), min_size=1, max_size=30),
    delays=st.lists(st.integers(0, 12), min_size=10, max_size=10),
    policy=st.sampled_from([CleanPolicy.COMMITS, CleanPolicy.VERSIONS]),
    state=st.integers(0, 22),
    replaced=st.dictionaries(groups, st.integers(0, 9), max_size=3),
)
def test_what_a_running_reader_sees_stays(begun, delays, policy, state, replaced) -> None:
    """Each write is completed some time after it was requested: later ones may be before it."""
    ended = {at: f"{at + delays[at]:03d}5" for at in range(10)}
    commits = [replace(commit(at), completion_time=ended[at]) for at in range(10)]
    every, reader = timeline_of(commits, layout=2), f"{state:03d}5"
    gone = [Replaced(group, f"{at:03d}") for group, at in replaced.items()]
    since = read_since(every, [reader])
    earliest = not_after(every, earliest_by_commits(every, 1), [since])
    kept = Kept(policy, 1, earliest, Pending(), tuple(gone), read_since=since)
    names = [(*group, f"{at:03d}", f"{group[1]}-{at}", 1) for group, at in begun]
    places = pa.table([list(column) for column in zip(*names, strict=True)], PLACES)

    found = unneeded_files(places, kept)

    columns = (found[name].to_pylist() for name in ("partition_path", "file_id", "name"))
    cleaned_names = set(zip(*columns, strict=True))
    for group in {group for group, _ in begun}:
        if group in replaced and ended[replaced[group]] <= reader:
            continue
        seen = [at for one, at in begun if one == group and ended[at] <= reader]
        if seen:
            assert (*group, f"{group[1]}-{max(seen)}") not in cleaned_names


def test_nothing_goes_where_every_commit_stays() -> None:
    places = pa.table([["p"], ["f"], ["000"], ["n"], [1]], PLACES)
    kept = Kept(CleanPolicy.COMMITS, 1, None, Pending(), (Replaced(("p", "f"), "000"),))
    assert unneeded_files(places, kept).num_rows == 0


@pytest.fixture(params=[6, 9])
def lake(tmp_path: Path, request: pytest.FixtureRequest) -> HudiLake:
    """Make a table whose two file groups have three slices each."""
    made = HudiLake(tmp_path / "table", request.param)
    paths = [made.append(range(start, start + 20), "ab"[start // 20]) for start in (0, 20)]
    for turn in range(2):
        for path in paths:
            group = Path(path).name.partition("_")[0]
            inventory = made.table.inventory(made.table.snapshot())
            now = next(one.path for one in inventory.slices() if group in one.path)
            first = 0 if "/a/" in now or "part=a" in now else 20
            made.update(now, range(first, first + 5), f"turn {turn}")
        compact(made.table, tmp_path)
    return made


def data_files(table: HudiTable) -> set[str]:
    listing = list_files(table.storage, table.root)
    return {f"{one['partition_path']}/{one['name']}" for one in listing.to_pylist()}


def cleaned(table: HudiTable, **order: object):
    return Clean(table).run(UpkeepOrder(**order))


def test_only_what_nobody_reads_goes(lake: HudiLake) -> None:
    before, rows = data_files(lake.table), lake.rows()

    told = cleaned(lake.table, versions_min=1, is_dry_run=True)
    assert data_files(lake.table) == before
    result = cleaned(lake.table, versions_min=1)

    assert (result.files, result.bytes > 0) == (told.files, False)
    assert lake.rows() == rows
    left = data_files(lake.table)
    assert len(before - left) == result.files > 0
    assert left <= before
    (instant,) = lake.table.source().timeline.completed(Action.CLEAN)
    assert not lake.table.source().timeline.pending()
    assert cleaned(lake.table, versions_min=1).files == 0
    assert lake.table.source().timeline.completed(Action.CLEAN) == (instant,)


def test_kept_commits_are_still_read(lake: HudiLake) -> None:
    table = lake.table
    newest = [one.completion_time or one.time for one in table.source().timeline.completed()]
    states = {name: lake.rows(name) for name in sorted(newest)[-3:]}

    assert cleaned(lake.table, versions_min=3).files > 0

    for name, rows in states.items():
        assert lake.rows(name) == rows


def test_all_is_kept_by_age(lake: HudiLake) -> None:
    assert cleaned(lake.table, retention_seconds=3600).files == 0
    assert cleaned(lake.table, retention_seconds=0, versions_min=1).files == 0


@pytest.mark.parametrize("policy", ["KEEP_LATEST_COMMITS", "KEEP_LATEST_FILE_VERSIONS"])
def test_states_that_unfinished_jobs_read_stay(lake: HudiLake, policy: str) -> None:
    settings = Path(lake.root.child(".hoodie", "hoodie.properties").path)
    kept = "hoodie.clean.fileversions.retained=1\nhoodie.clean.commits.retained=1\n"
    settings.write_text(f"{settings.read_text()}hoodie.clean.policy={policy}\n{kept}")
    first = min(one.completion_time or one.time for one in lake.table.source().timeline.completed())
    jobs = (UnfinishedJob("job", first),)
    assert cleaned(lake.table, unfinished=jobs).files == 0
    assert cleaned(lake.table, is_dry_run=True).files > 0


def test_replaced_files_that_a_job_reads_are_not_said_to_be_gone(small: HudiLake) -> None:
    """Whoever archives goes by what the cleaning says, and what replaced them is read no more."""
    settings = Path(small.root.child(".hoodie", "hoodie.properties").path)
    settings.write_text(settings.read_text() + "\nhoodie.clean.policy=KEEP_LATEST_FILE_VERSIONS\n")
    small.remove(small.append([1], "c"))
    kept = small.append([2], "c")
    state = small.table.snapshot().snapshot_id
    small.remove(kept)
    cleaned(small.table, unfinished=(UnfinishedJob("job", state),))
    assert Path(kept).exists()
    source = small.table.source()
    (_, second) = source.timeline.completed(Action.REPLACECOMMIT)
    assert cleaner.cleaned_until(source) == second.time


@pytest.mark.parametrize("name", ["commits", "fileversions"])
def test_nobody_means_that_nothing_is_kept(small: HudiLake, name: str) -> None:
    settings = Path(small.root.child(".hoodie", "hoodie.properties").path)
    settings.write_text(f"{settings.read_text()}\nhoodie.clean.{name}.retained=0\n")
    small.append([1], "c")
    assert cleaned(small.table).files == 0


AUTUMN = datetime(2026, 10, 25, 1, tzinfo=UTC)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize("change", [AUTUMN, datetime(2026, 3, 29, 1, tzinfo=UTC)])
def test_cleaning_by_hours_keeps_what_is_young_when_clocks_are_changed(
    change: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In autumn the names of an hour come twice, in spring an hour has none."""
    table = HudiLake(tmp_path / "table", 6).table
    settings = Path(table.root.child(".hoodie", "hoodie.properties").path)
    settings.write_text(settings.read_text().replace("timezone=UTC", "timezone=LOCAL"))
    source = table.source()
    written = {}
    for minutes in range(-95, 100, 10):
        moment = change + timedelta(minutes=minutes)
        name = instant_time(moment, source.config)
        path = Path(table.root.child(".hoodie", f"{name}.commit").path)
        path.touch()
        os.utime(path, (moment.timestamp(),) * 2)
        written[moment] = name
    source = table.source()

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            del tz
            return change + timedelta(hours=6)

    monkeypatch.setattr(cleaner, "datetime", Clock)
    for minutes in range(-90, 95, 10):
        oldest = change + timedelta(minutes=minutes)
        order = UpkeepOrder(retention_seconds=int((Clock.now() - oldest).total_seconds()))
        earliest = cleaner.earliest_by_hours(source, order)
        assert earliest is not None
        assert all(name >= earliest.time for at, name in written.items() if at >= oldest)


@pytest.fixture(params=[6, 9])
def small(tmp_path: Path, request: pytest.FixtureRequest) -> HudiLake:
    return HudiLake(tmp_path / "table", request.param)


def test_work_planned_on_what_is_cleaned_by_then_is_planned_anew(small: HudiLake) -> None:
    path = small.append(range(100, 110), "c")
    small.append(range(110, 120), "c")
    plan = planned(small.table)
    assert plan.groups
    small.remove(path)
    small.append(range(90, 95), "d")
    small.append(range(80, 85), "d")
    assert cleaned(small.table, versions_min=1).files > 0
    assert not Path(path).exists()
    with pytest.raises(CommitConflictError):
        small.table.announce(announcement(plan))
    assert not small.table.source().timeline.pending()


def test_files_that_go_while_a_job_reads_them_fail_it_and_no_row_is_lost(
    small: HudiLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever overwrites a partition may clean it at once, whatever is announced for its files."""
    path = small.append(range(100, 110), "c")
    small.append(range(110, 120), "c")
    expected = [one for one in small.rows() if one[0] not in range(100, 110)]
    announce = HudiTable.announce

    def overwritten(self: HudiTable, announced: Announcement) -> object:
        files = announce(self, announced)
        small.remove(path)
        Path(path).unlink()
        return files

    with monkeypatch.context() as patched:
        patched.setattr(HudiTable, "announce", overwritten)
        report = compact(small.table, tmp_path)
    assert report.status is not JobState.SUCCEEDED
    assert small.rows() == expected
    report = compact(small.table, tmp_path)
    assert report.status is JobState.SUCCEEDED
    assert small.rows() == expected
    assert not small.table.source().timeline.pending()


def test_a_cleaning_that_died_is_finished(lake: HudiLake, monkeypatch) -> None:
    rows, before = lake.rows(), data_files(lake.table)

    def fail(self: Storage, locations: object) -> None:
        if any(".parquet" in one.name for one in locations):
            raise StorageError("out of order")

    with monkeypatch.context() as patched:
        patched.setattr(Storage, "delete", fail)
        with pytest.raises(StorageError):
            cleaned(lake.table, versions_min=1)
    assert len(lake.table.source().timeline.pending(Action.CLEAN)) == 1
    assert lake.rows() == rows

    result = cleaned(lake.table, versions_min=1)

    assert result.files == len(before - data_files(lake.table)) > 0
    assert not lake.table.source().timeline.pending()
    assert lake.rows() == rows


def test_a_cleaning_that_died_takes_nothing_that_a_restore_brought_back(
    small: HudiLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small.append([1, 2], "c")
    rows = small.rows()
    small.remove(path)
    small.append([3], "c")

    def fail(self: Storage, locations: object) -> None:
        raise StorageError("out of order")

    with monkeypatch.context() as patched:
        patched.setattr(Storage, "delete", fail)
        with pytest.raises(StorageError):
            cleaned(small.table, versions_min=1)
    source = small.table.source()
    assert source.timeline.pending(Action.CLEAN)
    (replaced,) = source.timeline.completed(Action.REPLACECOMMIT)
    for file in Path(timeline_folder(small.root, source.config).path).glob(f"{replaced.time}*"):
        file.unlink()
    with pytest.raises(UnsupportedTableError, match="part of the table by now"):
        cleaned(small.table, versions_min=1)
    assert set(rows) < set(small.rows())


def test_no_plan_takes_what_is_no_data(small: HudiLake) -> None:
    small.append([1], "c")
    source = small.table.source()
    file = {"filePath": "/t/.hoodie/hoodie.properties", "isBootstrapBaseFile": False}
    plan = {
        "policy": "KEEP_LATEST_COMMITS",
        "lastCompletedCommitTimestamp": "",
        "filesToBeDeletedPerPartition": {},
        "filePathsToBeDeletedPerPartition": {".hoodie": [file]},
        "version": 2,
    }
    writer = InstantWriter(source.storage, source.root, source.config)
    time = new_instant(source.timeline, source.config)
    writer.request(time, Action.CLEAN, container(Kind.CLEAN_PLAN, [plan]))
    with pytest.raises(CorruptTableError, match="no file of its data"):
        cleaned(small.table)
    assert len(small.rows()) == 1


def test_replaced_groups_go_as_a_whole(tmp_path: Path) -> None:
    lake = HudiLake(tmp_path / "table", 9)
    old = [lake.append(range(start, start + 5)) for start in (0, 5, 10)]
    compact(lake.table, tmp_path, Policy(min_input_files=2))
    rows = lake.rows()
    assert cleaned(lake.table, versions_min=1).files == 0
    lake.append(range(90, 95), "b")

    assert cleaned(lake.table, versions_min=1).files == len(old)

    assert not any(Path(path).exists() for path in old)
    assert [one for one in lake.rows() if one[0] < 90] == rows


@pytest.mark.parametrize("name", ["v6_mor_archived", "v9_cow_archived", "v8_mor_record_index"])
def test_tables_of_spark_keep_their_rows_and_their_listing(name: str, tmp_path: Path) -> None:
    table = opened(unpack(name, tmp_path))
    places = latest(table)

    cleaned(table, versions_min=1)

    source = table.source()
    metadata = open_metadata_table(source.storage, source.root, source.config)
    assert metadata is not None
    listed = list_files(source.storage, source.root)
    is_data = pc.invert(pc.starts_with(listed["name"], ".hoodie_partition"))
    assert rows_of(read_listing(metadata, source.timeline)) == rows_of(listed.filter(is_data))
    assert latest(table) == places


def test_change_data_is_left_to_writers(tmp_path: Path) -> None:
    table = opened(unpack("v9_mor_cdc", tmp_path))
    with pytest.raises(UnsupportedTableError, match="change data"):
        cleaned(table, versions_min=1)


def rows_of(listing: pa.Table) -> set[tuple[object, ...]]:
    return {tuple(one.values()) for one in listing.to_pylist()}


def opened(path: Path) -> HudiTable:
    return HudiTable(str(path), Location.parse(str(path)), {})


def latest(table: HudiTable) -> Mapping[str, object]:
    source = table.source()
    assert read_places(source, table.listing(source)).num_rows
    return table.slices(source).slices.to_pydict()
