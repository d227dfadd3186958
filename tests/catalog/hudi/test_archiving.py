"""Which instants are archived, and what is left of a table whose timeline was shortened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from catalog.errors import StorageError, UnsupportedTableError
from catalog.hudi.archived import archive_files, completion_times
from catalog.hudi.archived_commits import archived_commits
from catalog.hudi.archiver import Archive
from catalog.hudi.archiving import ArchiveRules, archivable, commits_to_keep
from catalog.hudi.cleaner import Clean
from catalog.hudi.timeline import Action, Instant, State, Timeline, timeline_folder, timeline_of
from catalog.location import Location
from catalog.storage import Storage
from catalog.upkeep import UpkeepOrder
from tests.catalog.hudi.lake import HudiLake
from tests.catalog.hudi.test_compaction import carried_out, planned

RULES = ArchiveRules(
    commits_min=3,
    commits_max=5,
    deltacommits=2,
    cleaned_until=None,
    folded_until=None,
    has_metadata=False,
    is_merge_on_read=False,
)


def instant(time: int, action: Action = Action.COMMIT, state: State = State.COMPLETED) -> Instant:
    ended = f"{time:03d}5" if state is State.COMPLETED else None
    return Instant(f"{time:03d}", action, state, ended, f"{time:03d}.{action}")


def timeline(*instants: Instant, commits: range = range(10)) -> Timeline:
    others = {one.time for one in instants}
    plain = [one for one in map(instant, commits) if one.time not in others]
    return timeline_of([*plain, *instants], layout=2)


def chosen(found: Timeline, rules: ArchiveRules = RULES) -> list[int]:
    return [int(one.time) for one in archivable(found, rules)]


class TestChoice:
    def test_all_but_the_newest_commits(self):
        assert chosen(timeline()) == list(range(7))

    def test_nothing_while_there_are_few(self):
        assert chosen(timeline(commits=range(5))) == []
        assert chosen(timeline(commits=range(6))) == [0, 1, 2]

    def test_cleanings_go_with_the_commits_around_them(self):
        found = timeline(instant(2, Action.CLEAN), instant(8, Action.CLEAN))
        assert chosen(found) == [0, 1, 2, 3, 4, 5]

    @pytest.mark.parametrize("action", [Action.DELTACOMMIT, Action.COMPACTION, Action.CLUSTERING])
    def test_not_beyond_what_is_pending(self, action):
        assert chosen(timeline(instant(4, action, State.INFLIGHT))) == [0, 1, 2]
        assert chosen(timeline(instant(0, action, State.REQUESTED))) == []

    def test_not_beyond_a_savepoint(self):
        assert chosen(timeline(instant(4), replace(instant(4, Action.SAVEPOINT)))) == [0, 1, 2, 3]

    def test_deltacommits_since_the_last_compaction_stay(self):
        rules = replace(RULES, is_merge_on_read=True)
        deltas = [instant(one, Action.DELTACOMMIT) for one in range(10)]
        assert chosen(timeline_of(deltas, layout=2), rules) == list(range(7))
        compacted = timeline_of([*deltas[:4], instant(4), *deltas[5:]], layout=2)
        assert chosen(compacted, replace(rules, deltacommits=9)) == [0, 1, 2, 3]

    def test_replacements_stay_until_their_files_are_cleaned(self):
        found = timeline(instant(3, Action.REPLACECOMMIT))
        assert chosen(found) == [0, 1, 2]
        assert chosen(found, replace(RULES, cleaned_until="003")) == [0, 1, 2]
        assert chosen(found, replace(RULES, cleaned_until="004")) == list(range(7))

    def test_what_the_metadata_table_has_not_folded_stays(self):
        rules = replace(RULES, has_metadata=True)
        assert chosen(timeline(), rules) == []
        assert chosen(timeline(), replace(rules, folded_until="003")) == [0, 1, 2]
        assert chosen(timeline(), replace(rules, folded_until="0037")) == [0, 1, 2, 3]

    def test_commits_that_cleaning_keeps_stay(self):
        assert commits_to_keep(timeline(), None, least=3) == 3
        assert commits_to_keep(timeline(), "008", least=3) == 3
        assert commits_to_keep(timeline(), "002", least=3) == 9


@pytest.fixture
def lake(tmp_path: Path) -> HudiLake:
    """Make a table of few commits that keeps fewer."""
    made = HudiLake(tmp_path / "table", 9)
    settings = Path(made.root.child(".hoodie", "hoodie.properties").path)
    kept = "hoodie.keep.min.commits=4\nhoodie.keep.max.commits=5\nhoodie.clean.commits.retained=1\n"
    settings.write_text(settings.read_text() + kept + "hoodie.compact.inline.max.delta.commits=1\n")
    for turn in range(9):
        made.append([turn], "ab"[turn % 2])
    return made


def archived(lake: HudiLake, **order: object):
    return Archive(lake.table).run(UpkeepOrder(**order))


def names(lake: HudiLake) -> list[str]:
    return [one.file_name for one in lake.table.source().timeline.instants]


def test_old_instants_leave_the_timeline(lake: HudiLake) -> None:
    rows, before = lake.rows(), lake.table.source()
    told = archived(lake, is_dry_run=True)
    assert lake.table.source().timeline == before.timeline

    result = archived(lake)

    assert (result.files, result.examples) == (told.files, told.examples)
    after = lake.table.source()
    gone = before.timeline.instants[: result.files]
    assert after.timeline.instants == before.timeline.instants[result.files :]
    assert (result.files, len(after.timeline.completed())) == (5, 4)
    known = completion_times(before.storage, before.root, before.config, {one.time for one in gone})
    assert known == {one.time: one.completion_time for one in gone}
    told_then = {one.time: read_details_of(before, one, lake) for one in gone}
    assert told_then == {one.time: True for one in gone}
    assert lake.rows() == rows
    assert archived(lake).files == 0
    folder = Path(lake.root.child(".hoodie", "timeline").path)
    assert not [one for one in folder.iterdir() if one.name[:17] in {g.time for g in gone}]


def read_details_of(before, one: Instant, lake: HudiLake) -> bool:
    """Whether the archive tells of a commit; its own file is gone."""
    found = archived_commits(before.storage, before.root, before.config, {one.time})
    return bool(found[one.time].write_stats)


def test_the_next_archiving_adds_a_file(lake: HudiLake) -> None:
    rows = lake.rows()
    archived(lake)
    for turn in range(20, 24):
        lake.append([turn])
    assert archived(lake).files == 4
    source = lake.table.source()
    folder = source.root.child(source.config.history_path)
    assert len(list(archive_files(source.storage, folder))) == 2
    assert [one for one in lake.rows() if one[0] < 20] == rows


@pytest.mark.parametrize("place", ["manifest_", "_version_", "timeline"])
def test_an_archiving_that_died_is_finished(lake: HudiLake, place: str, monkeypatch) -> None:
    rows, before = lake.rows(), names(lake)
    write, delete = Storage.write, Storage.delete

    def fail_write(self: Storage, location: Location, data: bytes) -> None:
        if location.name.startswith(place):
            raise StorageError("out of order")
        write(self, location, data)

    def fail_delete(self: Storage, locations: object) -> None:
        some = list(locations)
        if place == "timeline" and any(one.name == before[2] for one in some):
            raise StorageError("out of order")
        delete(self, some)

    with monkeypatch.context() as patched:
        patched.setattr(Storage, "write", fail_write)
        patched.setattr(Storage, "delete", fail_delete)
        with pytest.raises(StorageError):
            archived(lake)
    assert lake.rows() == rows

    archived(lake)

    assert names(lake) == before[5:]
    source = lake.table.source()
    folder = source.root.child(source.config.history_path)
    assert len(list(archive_files(source.storage, folder))) == 1
    assert lake.rows() == rows


def test_replaced_files_are_cleaned_first(lake: HudiLake) -> None:
    lake.remove(lake.append([50], "c"))
    rows = lake.rows()
    for turn in range(60, 66):
        lake.append([turn])
    archived(lake)
    assert lake.table.source().timeline.completed(Action.REPLACECOMMIT)

    Clean(lake.table).run(UpkeepOrder())
    archived(lake)

    assert not lake.table.source().timeline.completed(Action.REPLACECOMMIT)
    assert [one for one in lake.rows() if one[0] < 60] == rows


def test_archived_logs_stay_in_their_slices_whatever_else_is_active(lake: HudiLake) -> None:
    path = lake.append([70, 71], "c")
    lake.update(path, [70], "logged")
    lake.table.commit(carried_out(lake, planned(lake.table)))
    for turn in range(80, 86):
        lake.append([turn])
    # Savepoints and the building of indexes stay on the timeline, however old they are.
    folder = timeline_folder(lake.root, lake.table.config())
    Path(folder.child("20200101000000000_20200101000000001.indexing").path).touch()
    rows = lake.rows()
    archived(lake)
    assert not lake.table.source().timeline.completed(Action.COMMIT)
    assert lake.table.inventory(lake.table.snapshot()).delete_files.num_rows == 0
    assert lake.rows() == rows


def test_the_old_layout_is_left_to_writers(tmp_path: Path) -> None:
    table = HudiLake(tmp_path / "table", 6).table
    assert not Archive(table).is_usual
    with pytest.raises(UnsupportedTableError, match="version 6"):
        Archive(table).check(UpkeepOrder())
