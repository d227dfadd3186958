"""Logs are folded into base files, and small files put together, on the timeline of the table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from catalog.announcing import Announced, Announcement, WorkKind
from catalog.avro.container import AvroFile
from catalog.commits import Commit, CommitResult, OutputFile, Rewrite
from catalog.errors import CommitConflictError, CommitUnknownError, CorruptTableError
from catalog.hudi import reading, scheduling
from catalog.hudi.avro_schemas import Kind
from catalog.hudi.avro_writing import container
from catalog.hudi.bloom import FilterKind, KeyFilter
from catalog.hudi.config import TableConfig
from catalog.hudi.details import read_commit
from catalog.hudi.footers import FILTER, FILTER_KIND, MAX_KEY, MIN_KEY
from catalog.hudi.instants import InstantWriter, new_instant
from catalog.hudi.reading import read_details
from catalog.hudi.schema import FILE_NAME, RECORD_KEY
from catalog.hudi.table import HudiTable
from catalog.hudi.timeline import Action, State, Timeline, timeline_folder
from catalog.open import open_table
from compactor.jobs.state import JobState
from compactor.planner.plan import Plan
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.task import Proof, RewriteTask
from tests.catalog.conformance import expected, text_of
from tests.catalog.hudi.compacting import compact, planned, verified
from tests.catalog.hudi.lake import HudiLake
from tests.judges.make_hudi_fixtures import unpack

JOB = "job"


@pytest.fixture(params=[6, 9])
def lake(tmp_path: Path, request: pytest.FixtureRequest) -> HudiLake:
    return HudiLake(tmp_path / "table", request.param)


@pytest.fixture
def logged(lake: HudiLake) -> str:
    """Make a base file with rows that are updated, deleted and come by logs."""
    path = lake.append(range(40))
    lake.update(path, range(30, 50), "late")
    lake.delete({path: [0, 1, 35]})
    return path


def announcement(plan: Plan, job_id: str = JOB) -> Announcement:
    assert plan.announced is not None
    groups = {one.group_id: one.files for one in plan.groups}
    return Announcement(job_id, plan.snapshot, plan.announced, groups)


def carried_out(lake: HudiLake, plan: Plan, job_id: str = JOB) -> Commit:
    """Announce a plan and write its files; return the commit that is left to be made."""
    files = lake.table.announce(announcement(plan, job_id))
    rewrites = []
    for group in plan.groups:
        done = rewrite_group(
            RewriteTask(
                table=files,
                partition_key=group.partition_key,
                files=group.files,
                attempt_id=f"{job_id}-{group.group_id}-1",
                target_file_size_bytes=plan.target_file_size_bytes,
                proof=Proof.FULL,
                splice=plan.splice,
                is_one_file=plan.folds_logs,
            )
        )
        rewrites.append(
            Rewrite(
                group.group_id,
                group.files,
                done.outputs,
                done.rows_dropped,
                rows_tail=done.rows_tail,
            )
        )
    properties = (("compactor.job", job_id),)
    return Commit(f"{job_id}-commit-1", plan.snapshot, tuple(rewrites), properties)


def test_logs_are_folded_and_no_row_changes(lake: HudiLake, logged: str, tmp_path: Path) -> None:
    before, base = lake.rows(), lake.table.snapshot()
    assert len(before) == 47

    report = compact(lake.table, tmp_path)

    assert (report.status, report.verified) == (JobState.SUCCEEDED, True)
    assert lake.rows() == before
    assert lake.rows(base.snapshot_id) == before
    assert verified(lake.table, base.snapshot_id).is_equal
    inventory = lake.table.inventory(lake.table.snapshot())
    assert (inventory.row_count, inventory.delete_files.num_rows) == (47, 0)
    assert not planned(lake.table).groups
    (file,) = inventory.slices()
    assert Path(file.path).name.partition("_")[0] == Path(logged).name.partition("_")[0]


def test_the_new_base_file_is_one_of_hudi(lake: HudiLake, logged: str, tmp_path: Path) -> None:
    compact(lake.table, tmp_path)

    (file,) = lake.table.inventory(lake.table.snapshot()).slices()
    rows = pq.ParquetFile(file.path).read()
    footer = pq.read_metadata(file.path).metadata
    assert set(rows[FILE_NAME].to_pylist()) == {Path(file.path).name}
    keys = rows[RECORD_KEY].to_pylist()
    assert footer[MIN_KEY.encode()].decode() <= min(keys)
    assert footer[MAX_KEY.encode()].decode() >= max(keys)
    known = KeyFilter.decode(
        footer[FILTER.encode()], FilterKind(footer[FILTER_KIND.encode()].decode())
    )
    assert known.may_have(rows[RECORD_KEY].combine_chunks()).all()


def test_rows_keep_when_they_were_written(lake: HudiLake, logged: str, tmp_path: Path) -> None:
    stored = pq.ParquetFile(logged).read().select(["id", "_hoodie_commit_time"]).to_pydict()
    times = dict(zip(*stored.values(), strict=True))

    compact(lake.table, tmp_path)

    (file,) = lake.table.inventory(lake.table.snapshot()).slices()
    found = pq.ParquetFile(file.path).read().select(["id", "_hoodie_commit_time"]).to_pydict()
    for number, at in zip(*found.values(), strict=True):
        if number < 30:
            assert at == times[number]
        else:
            assert at > times[0]


def test_the_timeline_tells_of_a_compaction(lake: HudiLake, logged: str, tmp_path: Path) -> None:
    compact(lake.table, tmp_path)

    source = lake.table.source()
    (instant,) = source.timeline.completed(Action.COMMIT)
    folder = Path(lake.root.path, source.config.timeline_path)
    names = {one.name for one in folder.glob(f"{instant.time}*")}
    assert {f"{instant.time}.compaction.{state}" for state in ("requested", "inflight")} < names
    requested = (folder / f"{instant.time}.compaction.requested").read_bytes()
    plan = AvroFile.parse("plan", requested).the_record()
    (operation,) = plan["operations"]
    assert operation["dataFilePath"] == Path(logged).name
    assert len(operation["deltaFilePaths"]) == 2
    data = (folder / instant.file_name).read_bytes()
    assert data.startswith(b"{") == (source.config.version == 6)
    details = read_commit(instant.file_name, data)
    (stat,) = details.write_stats
    assert (details.operation, details.is_compacted, stat.row_count) == ("COMPACT", True, 47)
    assert json.loads(details.schema)["fields"][0]["name"] == "id"
    assert not any(folder.parent.rglob(".heartbeat/*"))


def test_small_files_are_put_together(lake: HudiLake, tmp_path: Path) -> None:
    for first in range(0, 50, 10):
        lake.append(range(first, first + 10), "a")
    lake.append(range(100, 110), "b")
    before = lake.rows()

    report = compact(lake.table, tmp_path)

    assert (report.status, report.files_before, report.files_after) == (JobState.SUCCEEDED, 6, 2)
    assert report.verified
    assert lake.rows() == before
    source = lake.table.source()
    (instant,) = source.timeline.completed(Action.REPLACECOMMIT)
    details = read_details(source, instant)
    assert (details.operation, len(details.replaced["a"])) == ("CLUSTER", 5)
    assert not planned(lake.table).groups


def test_logs_first_then_files(lake: HudiLake, tmp_path: Path) -> None:
    """One command does both, each as a job of its own."""
    for first in range(0, 30, 10):
        path = lake.append(range(first, first + 10))
        lake.update(path, range(first, first + 5), "late")
    before = lake.rows()

    report = compact(lake.table, tmp_path)

    assert report.status is JobState.SUCCEEDED
    assert (report.files_after, report.rows_before, report.rows_after) == (1, 30, 30)
    assert lake.rows() == before
    timeline = lake.table.source().timeline
    assert len(timeline.completed(Action.COMMIT)) == 1
    assert len(timeline.completed(Action.REPLACECOMMIT)) == 1


def test_rows_that_come_while_a_compaction_runs_stay(lake: HudiLake, logged: str) -> None:
    commit = carried_out(lake, planned(lake.table))
    lake.update(logged, [2, 3, 200], "meanwhile")
    before = lake.rows()

    result = lake.table.commit(commit)

    assert result.conflicts == ()
    assert lake.rows() == before
    assert (200, "a", "meanwhile") in before
    assert lake.table.inventory(lake.table.snapshot()).delete_files.num_rows == 1


def test_a_replacement_of_files_that_got_logs_meanwhile_is_none(lake: HudiLake) -> None:
    paths = [lake.append(range(first, first + 10)) for first in (0, 10, 20)]
    commit = carried_out(lake, planned(lake.table))
    lake.update(paths[0], [5], "meanwhile")
    before = lake.rows()

    result = lake.table.commit(commit)

    assert (result.snapshot, result.committed) == (None, ())
    assert "were deleted by" in result.conflicts[0].reason
    assert lake.rows() == before
    assert lake.table.find_commit(commit) is None


def test_a_commit_happens_once(lake: HudiLake, logged: str) -> None:
    commit = carried_out(lake, planned(lake.table))
    assert lake.table.find_commit(commit) is None
    first = lake.table.commit(commit)
    lake.append(range(300, 310), "b")
    assert lake.table.commit(commit) == first == lake.table.find_commit(commit)
    assert first.snapshot is not None
    assert first.snapshot.parent_id == commit.base.snapshot_id


def test_work_is_announced_once(lake: HudiLake, logged: str) -> None:
    plan = planned(lake.table)
    first = lake.table.announce(announcement(plan))
    again = lake.table.announce(announcement(plan))
    assert first.outputs == again.outputs
    assert lake.table.announced(announcement(plan)) is not None
    assert lake.table.announced(announcement(plan, "other")) is None
    assert len(lake.table.source().timeline.pending()) == 1


def test_a_plan_of_others_is_carried_out_as_it_stands(
    lake: HudiLake, logged: str, tmp_path: Path
) -> None:
    """Its process died; meanwhile more came, which its plan does not name."""
    lake.table.announce(announcement(planned(lake.table), "theirs"))
    lake.update(logged, [7, 400], "meanwhile")
    other = lake.append(range(500, 510), "b")
    lake.update(other, range(500, 510), "late")
    before = lake.rows()

    plan = planned(lake.table)
    (pending,) = lake.table.source().timeline.pending(Action.COMPACTION)
    assert plan.announced == Announced(WorkKind.FOLD, pending.time)
    assert [len(next(one.files.slices()).deletes) for one in plan.groups] == [2]
    report = compact(lake.table, tmp_path)

    assert report.status is JobState.SUCCEEDED
    assert lake.rows() == before
    assert not lake.table.source().timeline.pending()


def test_nobody_touches_what_is_planned(lake: HudiLake, tmp_path: Path) -> None:
    for first in (0, 10, 20):
        lake.append(range(first, first + 10))
    lake.table.announce(announcement(planned(lake.table), "theirs"))
    plan = planned(lake.table)
    assert not plan.groups
    assert [one.reason for one in plan.skipped] == ["part of a plan that is not carried out yet"]


@pytest.mark.parametrize("is_folding", [True, False])
def test_nothing_is_planned_twice(lake: HudiLake, is_folding: bool) -> None:
    """Somebody else plans the same after our look at the table; Hudi refuses to read two plans."""
    for first in (0, 10, 20):
        path = lake.append(range(first, first + 10))
        if is_folding:
            lake.update(path, range(first, first + 10), "late")
    plan = planned(lake.table)
    lake.table.announce(announcement(plan, "theirs"))
    with pytest.raises(CommitConflictError, match="is part of the plan of"):
        lake.table.announce(announcement(plan))
    assert len(lake.table.source().timeline.pending()) == 1


@pytest.mark.parametrize("is_folding", [True, False])
def test_a_plan_that_slips_in_takes_the_request_back(
    lake: HudiLake, is_folding: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planner without the lock comes between the look at the table and the request."""
    for first in (0, 10, 20):
        path = lake.append(range(first, first + 10))
        if is_folding:
            lake.update(path, range(first, first + 10), "late")
    plan = planned(lake.table)

    def late(timeline: Timeline, config: TableConfig) -> str:
        monkeypatch.undo()
        (Path(lake.root.path) / ".hoodie" / "lock").unlink()
        theirs = lake.table.announce(announcement(plan, "theirs")).outputs
        assert theirs is not None
        return str(int(theirs.instant) + 1)

    monkeypatch.setattr(scheduling, "new_instant", late)
    with pytest.raises(CommitConflictError, match=r"is part of the plan of|came meanwhile"):
        lake.table.announce(announcement(plan))
    (kept,) = lake.table.source().timeline.pending()
    assert scheduling.pending_extra(lake.table.source(), kept)[scheduling.JOB] == "theirs"


def test_what_is_withdrawn_leaves_the_timeline(lake: HudiLake) -> None:
    for first in (0, 10, 20):
        lake.append(range(first, first + 10))
    told = announcement(planned(lake.table))
    lake.table.announce(told)
    lake.table.withdraw(told)
    assert not lake.table.source().timeline.pending()
    assert lake.table.announced(told) is None
    assert planned(lake.table).groups


def test_a_compaction_that_cannot_be_done_holds_up_nothing(tmp_path: Path) -> None:
    """Its log has what is not handled: that shows once it is read."""
    table = open_table(str(unpack("v9_mor_hfile_logs", tmp_path)))
    assert isinstance(table, HudiTable)
    report = compact(table, tmp_path)
    assert report.status is JobState.FAILED
    assert "hfile data" in report.reason
    assert not table.source().timeline.pending()
    assert not any((Path(table.root.path) / ".hoodie").rglob("*.marker.*"))


@pytest.mark.parametrize("state", [State.INFLIGHT, State.REQUESTED])
def test_what_a_restore_takes_back_is_a_conflict(
    lake: HudiLake, logged: str, tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table goes back to a savepoint while we work; the next round begins anew."""
    before, commit, restored = lake.rows(), HudiTable.commit, []

    def after_restore(table: HudiTable, made: Commit) -> CommitResult:
        if not restored:
            source = table.source()
            restored.extend(source.timeline.pending())
            InstantWriter(source.storage, source.root, source.config).remove(restored[0])
            if state is State.INFLIGHT:
                # Its files went first.
                for file in Path(lake.root.path).rglob(f"*_{restored[0].time}.parquet"):
                    file.unlink()
        return commit(table, made)

    monkeypatch.setattr(HudiTable, "commit", after_restore)
    assert compact(lake.table, tmp_path).status is JobState.SUCCEEDED
    assert lake.rows() == before
    assert not list(Path(lake.root.path).rglob(f"*_{restored[0].time}.parquet"))


def test_rows_of_a_write_that_is_rolled_back_meanwhile_do_not_come_back(
    lake: HudiLake, logged: str
) -> None:
    commit = carried_out(lake, planned(lake.table))
    source = lake.table.source()
    write, *_, last = source.timeline.completed(Action.DELTACOMMIT)
    folder = Path(timeline_folder(lake.root, source.config).path)
    for file in folder.glob(f"{last.time}*"):
        file.unlink()
    for file in Path(lake.root.path).rglob(f".*_{last.time}.log.*"):
        file.unlink()
    undone = {"instantToRollback": {"commitTime": last.time, "action": str(last.action)}}
    time = new_instant(lake.table.source().timeline, source.config)
    body = container(Kind.ROLLBACK_PLAN, [{**undone, "RollbackRequests": [], "version": 1}])
    (folder / f"{time}.rollback.requested").write_bytes(body)
    result = lake.table.commit(commit)
    assert not result.committed
    assert f"the write {last.time} was rolled back" in result.conflicts[0].reason
    assert write.time < last.time


def test_a_compaction_that_was_begun_anew_is_no_write_that_was_rolled_back(
    lake: HudiLake, logged: str
) -> None:
    """Spark takes the files of one back under a rollback of its own, and keeps its time."""
    commit = carried_out(lake, planned(lake.table))
    source = lake.table.source()
    undone = {"commitTime": source.timeline.first_write, "action": "compaction"}
    plan = {"instantToRollback": undone, "RollbackRequests": [], "version": 1}
    folder = Path(timeline_folder(lake.root, source.config).path)
    time = new_instant(source.timeline, source.config)
    (folder / f"{time}.rollback.requested").write_bytes(container(Kind.ROLLBACK_PLAN, [plan]))
    assert lake.table.commit(commit).committed


def test_a_write_that_was_rolled_back_before_is_none_of_a_compaction(
    lake: HudiLake, logged: str
) -> None:
    """Others clean up after a writer that failed long ago, and nobody writes since."""
    source = lake.table.source()
    undone = {"commitTime": source.timeline.first_write, "action": "deltacommit"}
    plan = {"instantToRollback": undone, "RollbackRequests": [], "version": 1}
    folder = Path(timeline_folder(lake.root, source.config).path)
    time = new_instant(source.timeline, source.config)
    (folder / f"{time}.rollback.requested").write_bytes(container(Kind.ROLLBACK_PLAN, [plan]))
    done = f"{time}.rollback" if source.config.layout == 1 else f"{time}_{time}.rollback"
    (folder / done).touch()
    commit = carried_out(lake, planned(lake.table))
    assert lake.table.commit(commit).committed


def test_what_became_of_a_commit_is_known_once_it_is_archived(
    lake: HudiLake, logged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = carried_out(lake, planned(lake.table))
    lake.table.commit(made)
    instant = lake.table.snapshot()
    details = {}
    for one in lake.table.source().timeline.completed(Action.COMMIT):
        details[one.time] = read_details(lake.table.source(), one)
    lake.append(range(900, 910))
    lake.expire()
    with pytest.raises(CommitUnknownError):
        lake.table.find_commit(made)
    monkeypatch.setattr(reading, "archived_commits", lambda *_: details)
    found = lake.table.find_commit(made)
    assert found is not None
    assert found.committed
    assert found.snapshot is not None
    assert found.snapshot.snapshot_id > instant.snapshot_id


def test_slices_that_changed_since_the_plan_are_not_announced(lake: HudiLake, logged: str) -> None:
    plan = planned(lake.table)
    lake.update(logged, [5], "meanwhile")
    with pytest.raises(CommitConflictError, match="were deleted by"):
        lake.table.announce(announcement(plan))
    assert not lake.table.source().timeline.pending()


@pytest.mark.parametrize("action", [Action.DELTACOMMIT, Action.ROLLBACK])
def test_in_layout_1_a_running_write_comes_first(tmp_path: Path, action: Action) -> None:
    lake = HudiLake(tmp_path / "table", 6)
    path = lake.append(range(10))
    lake.update(path, range(10), "late")
    source = lake.table.source()
    write = InstantWriter(source.storage, source.root, source.config)
    running = write.request(new_instant(source.timeline, source.config), action)
    write.begin(running)
    plan = planned(lake.table)
    with pytest.raises(CommitConflictError, match=f"the {action} .* is not completed"):
        lake.table.announce(announcement(plan))


def test_nothing_is_put_together_while_partitions_are_overwritten(lake: HudiLake) -> None:
    """What overwrites names the file groups that it saw when it began: ours would stay."""
    for first in (0, 10, 20):
        lake.append(range(first, first + 10))
    plan = planned(lake.table)
    commit = carried_out(lake, plan)
    source = lake.table.source()
    write = InstantWriter(source.storage, source.root, source.config)
    running = write.request(new_instant(source.timeline, source.config), Action.REPLACECOMMIT)
    result = lake.table.commit(commit)
    assert [one.reason for one in result.conflicts] == [
        f"the write {running.time} replaces file groups and is not completed"
    ]
    lake.table.withdraw(announcement(plan))
    with pytest.raises(CommitConflictError, match="replaces file groups"):
        lake.table.announce(announcement(plan, "another"))
    write.remove(running)
    assert lake.table.announce(announcement(plan, "another")).outputs is not None


def test_a_write_that_slips_in_takes_the_request_back(
    lake: HudiLake, logged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer without the lock completes between the look at the table and the request."""
    plan = planned(lake.table)

    def late(timeline: Timeline, config: TableConfig) -> str:
        del timeline
        lake.update(logged, [5], "meanwhile")
        return new_instant(lake.table.source().timeline, config)

    monkeypatch.setattr(scheduling, "new_instant", late)
    with pytest.raises(CommitConflictError, match="a write came meanwhile"):
        lake.table.announce(announcement(plan))
    assert not lake.table.source().timeline.pending(Action.COMPACTION)


def test_outputs_are_read_before_anything_is_completed(lake: HudiLake, logged: str) -> None:
    commit = carried_out(lake, planned(lake.table))
    (rewrite,) = commit.rewrites
    (output,) = rewrite.added
    false = OutputFile(output.path, output.size_bytes + 1, output.row_count)
    with pytest.raises(CorruptTableError):
        lake.table.commit(replace(commit, rewrites=(replace(rewrite, added=(false,)),)))
    Path(output.path).unlink()
    with pytest.raises(CorruptTableError, match="does not exist"):
        lake.table.commit(commit)
    (pending,) = lake.table.source().timeline.pending()
    assert pending.state is State.INFLIGHT


def test_a_slice_that_lost_all_rows_keeps_a_file(lake: HudiLake, tmp_path: Path) -> None:
    path = lake.append(range(5))
    lake.append(range(100, 105), "b")
    lake.delete({path: range(5)})
    compact(lake.table, tmp_path)
    assert lake.rows() == expected(range(100, 105), "b")
    assert not planned(lake.table).groups
    inventory = lake.table.inventory(lake.table.snapshot())
    assert sorted(inventory.files["row_count"].to_pylist()) == [0, 5]


def test_files_of_buckets_stay_where_they_are(lake: HudiLake, tmp_path: Path) -> None:
    for number in range(3):
        path = Path(lake.append(range(10 * number, 10 * number + 10)))
        assert path.exists()
        _rename_group(lake, path, f"{number:08d}")
    plan = planned(lake.table)
    assert not plan.groups
    assert [one.reason for one in plan.skipped] == ["bound to its place by an index of buckets"]
    assert lake.rows() == [(n, "a", text_of(n)) for n in range(30)]


def _rename_group(lake: HudiLake, path: Path, prefix: str) -> None:
    """Give a file group the id of a bucket, in its file and on the timeline."""
    old = path.name[:8]
    path.rename(path.with_name(prefix + path.name[8:]))
    source = lake.table.source()
    for one in Path(lake.root.path, source.config.timeline_path).glob("*commit"):
        one.write_bytes(one.read_bytes().replace(old.encode(), prefix.encode()))
