"""What other writers of a Hudi table do while a merge runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from catalog.announcing import Announced, Announcement, WorkKind
from catalog.errors import CommitConflictError
from catalog.hudi.archiver import Archive
from catalog.hudi.avro_schemas import Kind
from catalog.hudi.avro_writing import container
from catalog.hudi.heartbeats import is_beating
from catalog.hudi.instants import InstantWriter
from catalog.hudi.scheduling import schedule
from catalog.hudi.table import HudiTable
from catalog.hudi.timeline import Action
from catalog.upkeep import UpkeepOrder
from compactor.jobs import merge as merging
from compactor.jobs.merge_rounds import ChangeRounds
from compactor.jobs.state import JobState
from tests.catalog.hudi.compacting import compact
from tests.catalog.hudi.lake import COLUMNS
from tests.compactor.jobs.hudi_merges import (
    Merges,
)


class TestOthers:
    """What others do meanwhile sends a merge back to matching, and never gets lost."""

    @pytest.fixture
    def before_work(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
        """Have something happen once the changes are matched and nothing is announced."""

        def arrange(happen: Callable[[], None]) -> None:
            waiting = [happen]
            plan = merging.plan_changes

            def planned(*arguments: Any, **options: Any) -> Any:
                found = plan(*arguments, **options)
                for one in waiting:
                    one()
                waiting.clear()
                return found

            monkeypatch.setattr(merging, "plan_changes", planned)

        return arrange

    @pytest.fixture
    def before_commit(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[Callable[[], None]], None]:
        """Have something happen once all files are written."""

        def arrange(happen: Callable[[], None]) -> None:
            waiting = [happen]
            commit = HudiTable.commit

            def committed(table: HudiTable, one: Any) -> Any:
                for other in waiting[:]:
                    waiting.clear()
                    other()
                return commit(table, one)

            monkeypatch.setattr(HudiTable, "commit", committed)

        return arrange

    @pytest.fixture(params=[pytest.param("before_work", marks=pytest.mark.slow), "before_commit"])
    def meanwhile(
        self, request: pytest.FixtureRequest
    ) -> Iterator[Callable[[Callable[[], None]], None]]:
        return request.getfixturevalue(request.param)

    def test_rows_that_came_in_are_found(
        self, merges: Merges, meanwhile: Callable[[Callable[[], None]], None]
    ) -> None:
        lake = merges.lake
        lake.append(range(5), "a")
        meanwhile(lambda: lake.append([7], "a") and None)
        merges.merge((3, "a", "new", "U"), (7, "a", "newer", "U"))
        assert len(lake.rows()) == 6
        assert (7, "a", "newer") in lake.rows()
        assert not lake.table.source().timeline.pending()

    def test_updates_of_its_slices_are_not_lost(
        self, newest: Merges, meanwhile: Callable[[Callable[[], None]], None]
    ) -> None:
        lake = newest.lake
        path = lake.append(range(5), "a")
        meanwhile(lambda: lake.update(path, [1, 3], "logged"))
        newest.merge((3, "a", "new", "U"))
        assert {row[0]: row[2] for row in lake.rows() if row[0] in (1, 3)} == {
            1: "logged",
            3: "new",
        }

    def test_a_write_that_began_meanwhile_and_ends_later_is_not_lost(
        self,
        tmp_path: Path,
        before_commit: Callable[[Callable[[], None]], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """In version 6 its log is one of the slice that it saw, whatever came since."""
        merges = Merges(tmp_path, 6, merges_on_read=True)
        lake = merges.lake
        file = lake.slice_of(lake.append(range(5), "a"))
        begin = lake.writer._begin

        def begun() -> None:
            write = begin("deltacommit")
            monkeypatch.setattr(lake.writer, "_begin", lambda _: write)

        before_commit(begun)
        report = merges.merge((3, "a", "new", "U"))
        assert "is not completed" in str(report.problems)
        lake.writer.update(file, pa.table([[1], ["a"], ["late"]], COLUMNS))
        assert merges.merge().problems == ()
        assert {(1, "a", "late"), (3, "a", "new")} < set(lake.rows())

    def test_a_write_that_ends_while_changes_are_read_is_seen(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In version 6 a state is named as before when a write ends that was requested earlier."""
        merges = Merges(tmp_path, 6, merges_on_read=False)
        lake = merges.lake
        write = lake.writer._begin("commit")
        lake.append(range(5), "a")
        monkeypatch.setattr(lake.writer, "_begin", lambda _: write)
        read = ChangeRounds.read

        def ending(rounds: ChangeRounds, *arguments: Any) -> Any:
            if not write_is_ended:
                write_is_ended.append(lake.append([7], "a"))
            return read(rounds, *arguments)

        write_is_ended: list[str] = []
        monkeypatch.setattr(ChangeRounds, "read", ending)
        merges.merge((7, "a", "newer", "U"))
        assert [row for row in lake.rows() if row[0] == 7] == [(7, "a", "newer")]

    def test_a_long_write_that_ends_meanwhile_and_is_archived_at_once_is_seen(
        self,
        tmp_path: Path,
        meanwhile: Callable[[Callable[[], None]], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """It is the oldest: whoever archives after it takes it off the timeline first."""
        merges = Merges(tmp_path, 9, merges_on_read=False)
        lake = merges.lake
        path = Path(lake.root.path, ".hoodie", "hoodie.properties")
        kept = "hoodie.keep.min.commits=2\nhoodie.keep.max.commits=3\n"
        path.write_text(path.read_text() + kept)
        begin = lake.writer._begin
        write = begin("commit")
        for number in range(5):
            lake.append([10 + number], "a")

        def ended() -> None:
            monkeypatch.setattr(lake.writer, "_begin", lambda _: write)
            lake.append([7], "a")
            Archive(lake.table).run(UpkeepOrder())
            assert lake.table.source().timeline.find(write.time) is None

        meanwhile(ended)
        merges.merge((7, "a", "newer", "U"))
        assert [row for row in lake.rows() if row[0] == 7] == [(7, "a", "newer")]

    @pytest.mark.parametrize("action", ["rollback", "restore"])
    def test_what_is_being_taken_back_is_not_completed(
        self,
        action: str,
        newest: Merges,
        before_commit: Callable[[Callable[[], None]], None],
    ) -> None:
        """Its files are being deleted; its markers go last. Whoever began that is to end it."""
        lake = newest.lake
        lake.append(range(5), "a")
        before, timeline = lake.rows(), Path(lake.root.path, ".hoodie", "timeline")

        def undo() -> None:
            (ours,) = lake.table.source().timeline.pending()
            undone = {"commitTime": ours.time, "action": str(ours.action)}
            plan = {"instantToRollback": undone, "RollbackRequests": [], "version": 1}
            body = container(Kind.ROLLBACK_PLAN, [plan]) if action == "rollback" else b""
            name = f"{int(ours.time) + 1}.{action}"
            (timeline / f"{name}.requested").write_bytes(body)
            (timeline / f"{name}.inflight").touch()

        before_commit(undo)
        report = newest.merge((3, "a", "new", "U"))
        assert report.status is not JobState.SUCCEEDED
        assert lake.rows() == before
        source = lake.table.source()
        (ours,) = source.timeline.pending(Action.COMMIT, Action.DELTACOMMIT)
        assert not is_beating(source.storage, source.root, ours.time, now=datetime.now(UTC))
        InstantWriter(source.storage, source.root, source.config).remove(ours)
        for path in timeline.glob(f"*.{action}.*"):
            path.unlink()
        assert newest.merge().problems == ()
        assert (3, "a", "new") in lake.rows()
        assert len(lake.rows()) == len(before)

    def test_it_shows_life_from_before_it_is_there_until_it_is_gone(
        self,
        newest: Merges,
        before_commit: Callable[[Callable[[], None]], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Others would roll it back at the same time otherwise, and fail over what is missing."""
        lake = newest.lake
        lake.append(range(5), "a")
        seen: list[tuple[str, bool]] = []

        def watch(name: str) -> None:
            done = getattr(InstantWriter, name)

            def watched(writer: InstantWriter, *arguments: Any) -> Any:
                told = arguments[0]
                time = told if isinstance(told, str) else told.time
                now = datetime.now(UTC)
                seen.append((name, is_beating(writer.storage, writer.root, time, now=now)))
                return done(writer, *arguments)

            monkeypatch.setattr(InstantWriter, name, watched)

        for one in ("request", "begin", "remove"):
            watch(one)

        def interfere() -> None:
            ours = seen.copy()
            lake.append([7], "a")
            seen[:] = ours

        before_commit(interfere)
        assert newest.merge((3, "a", "new", "U"), (7, "a", "newer", "U")).problems == ()
        names = [name for name, _ in seen]
        assert names == ["request", "begin", "remove", "request", "begin"]
        assert all(is_alive for _, is_alive in seen)
        assert not list(Path(lake.root.path, ".hoodie", ".heartbeat").iterdir())

    def test_what_a_process_matched_that_is_gone_is_matched_again(
        self,
        newest: Merges,
        before_work: Callable[[Callable[[], None]], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Nobody knows which writes ran then; they may have ended, and left the timeline."""
        table = newest.lake.table
        newest.lake.append(range(5), "a")
        refused = []
        announce = HudiTable.announce

        def announced(*arguments: Any) -> Any:
            try:
                return announce(*arguments)
            except CommitConflictError as error:
                refused.append(str(error))
                raise

        monkeypatch.setattr(HudiTable, "announce", announced)
        monkeypatch.setattr(type(newest.lake), "table", table)
        before_work(lambda: monkeypatch.setattr(table, "_seen", None))
        assert newest.merge((3, "a", "new", "U")).status is JobState.SUCCEEDED
        assert (3, "a", "new") in newest.lake.rows()
        assert ["a process that is gone" in one for one in refused] == [True]

    def test_a_compaction_that_was_planned_comes_first(
        self, newest: Merges, before_commit: Callable[[Callable[[], None]], None]
    ) -> None:
        lake = newest.lake
        path = lake.append(range(5), "a")
        lake.update(path, [1], "logged")

        def plan() -> None:
            table = lake.table
            snapshot, source = table.snapshot(), table.source()
            inventory = table.inventory(snapshot)
            folding = Announcement("other", snapshot, Announced(WorkKind.FOLD), {"1": inventory})
            schedule(source, inventory, folding, target_bytes=1 << 20)

        before_commit(plan)
        report = newest.merge((3, "a", "new", "U"))
        assert report.status is not JobState.SUCCEEDED
        assert "is planned and has a file group" in str(report.problems)
        assert lake.table.source().timeline.pending(Action.DELTACOMMIT) == ()
        # It is carried out although the merge has lost groups on the table.
        assert compact(lake.table, newest.directory).groups.committed == 1
        assert newest.merge().problems == ()
        assert {row[0]: row[2] for row in lake.rows() if row[0] in (1, 3)} == {
            1: "logged",
            3: "new",
        }
