"""Which instants are archived, and what is left of a table whose timeline was shortened."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from catalog.errors import CorruptTableError, StorageError
from catalog.hudi import archiver
from catalog.hudi.archive_writers import archived_already
from catalog.hudi.archived import archive_files
from catalog.hudi.archived_commits import archived_commits
from catalog.hudi.archived_logs import archive_logs, archived_entries, is_completed
from catalog.hudi.archiver import Archive
from catalog.hudi.archiving import ArchiveRules, archivable, commits_to_keep
from catalog.hudi.cleaner import Clean
from catalog.hudi.timeline import Action, Instant, State, Timeline, timeline_folder, timeline_of
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

    def test_what_a_table_tells_of_stays_on_the_timeline_of_its_metadata(self):
        assert chosen(timeline(), replace(RULES, told_since="004")) == [0, 1, 2, 3]

    def test_the_old_layout_counts_cleanings_by_themselves(self):
        cleans = [instant(one, Action.CLEAN) for one in range(10, 17)]
        found = replace(timeline(*cleans, commits=range(3)), layout=1)
        assert chosen(found) == [10, 11, 12, 13]
        bounds = replace(RULES, has_metadata=True, folded_until="013")
        assert chosen(found, bounds) == [10, 11, 12]
        assert chosen(found, replace(RULES, told_since="011")) == [10]
        assert chosen(replace(timeline(*cleans[:5]), layout=1)) == list(range(7))

    def test_commits_that_cleaning_keeps_stay(self):
        assert commits_to_keep(timeline(), None, least=3) == 3
        assert commits_to_keep(timeline(), "008", least=3) == 3
        assert commits_to_keep(timeline(), "002", least=3) == 9


@pytest.fixture(params=[6, 9])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> HudiLake:
    """Make a table of few commits that keeps fewer."""
    made = HudiLake(tmp_path / "table", request.param)
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
    assert archived_already(before, gone) == set(gone)
    told_then = {one.time: read_details_of(before, one, lake) for one in gone}
    assert told_then == {one.time: True for one in gone}
    assert lake.rows() == rows
    assert archived(lake).files == 0
    folder = Path(timeline_folder(lake.root, after.config).path)
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
    assert len(files_of(lake)) == 2
    assert [one for one in lake.rows() if one[0] < 20] == rows


def files_of(lake: HudiLake) -> list[str]:
    """Return the files of the archive that count."""
    source = lake.table.source()
    folder = source.root.child(source.config.history_path)
    if source.config.layout == 1:
        return [one.name for _, one in archive_logs(source.storage, folder)]
    return list(archive_files(source.storage, folder))


def mentions(lake: HudiLake) -> Counter[str]:
    """Return how often the archive of layout 1 says that an instant was completed."""
    source = lake.table.source()
    folder = source.root.child(source.config.history_path)
    return Counter(
        entry["commitTime"]
        for _, location in archive_logs(source.storage, folder)
        for entry in archived_entries(source.storage, location)
        if is_completed(entry)
    )


class DyingStorage:
    """Counts what changes the storage, and dies before one of the changes."""

    CHANGES = ("write", "put_if_absent", "delete")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = -1
        for name in self.CHANGES:
            monkeypatch.setattr(Storage, name, self.counted(getattr(Storage, name)))

    def counted(self, change):
        def counting(storage: Storage, *given):
            # The lock is a file, too.
            if not any(str(one).endswith("/lock") for one in given):
                self.left -= 1
                if self.left == 0:
                    raise StorageError("out of order")
            return change(storage, *given)

        return counting


def test_an_archiving_that_died_is_finished(lake: HudiLake, monkeypatch) -> None:
    rows, before = lake.rows(), lake.table.source()
    gone = {one.time for one in before.timeline.instants[:5]}
    dying = DyingStorage(monkeypatch)
    saved = lake.root.path + ".saved"
    shutil.copytree(lake.root.path, saved)
    for step in itertools.count(1):
        dying.left = step
        try:
            archived(lake)
            break
        except StorageError:
            dying.left = -1
        assert lake.rows() == rows
        # An instant that is archived has left the timeline, or has its end on it.
        assert not lake.table.source().timeline.pending()

        archived(lake)

        assert names(lake) == [one.file_name for one in before.timeline.instants[5:]]
        told = archived_commits(before.storage, before.root, before.config, gone)
        assert set(told) == gone
        if before.config.layout == 1:
            assert mentions(lake) == dict.fromkeys(gone, 1)
        shutil.rmtree(lake.root.path)
        shutil.copytree(saved, lake.root.path)
    assert step > 10


def test_a_long_timeline_is_archived_piece_by_piece(lake: HudiLake, monkeypatch) -> None:
    rows, before = lake.rows(), lake.table.source()
    monkeypatch.setattr(archiver, "_PORTION_BYTES", 1)
    assert archived(lake).files == 5
    assert len(files_of(lake)) == 5
    gone = {one.time for one in before.timeline.instants[:5]}
    told = archived_commits(before.storage, before.root, before.config, gone)
    assert set(told) == gone
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


def test_files_that_a_cleaning_left_are_not_read_again(lake: HudiLake) -> None:
    """One that could not be deleted, or was replaced while the cleaning was planned."""
    path = Path(lake.append([50], "c"))
    kept = path.read_bytes()
    lake.remove(str(path))
    for turn in range(60, 66):
        lake.append([turn])
    Clean(lake.table).run(UpkeepOrder())
    assert not path.exists()
    path.write_bytes(kept)
    rows = lake.rows()

    archived(lake)

    assert lake.rows() == rows
    assert lake.table.source().timeline.completed(Action.REPLACECOMMIT)
    Clean(lake.table).run(UpkeepOrder())
    archived(lake)
    assert not path.exists()
    assert not lake.table.source().timeline.completed(Action.REPLACECOMMIT)
    assert lake.rows() == rows


def test_one_commit_stays_whatever_a_table_says(lake: HudiLake) -> None:
    say(lake, "hoodie.keep.min.commits=0", "hoodie.clean.policy=KEEP_LATEST_FILE_VERSIONS")
    rows = lake.rows()
    archived(lake)
    assert len(names(lake)) == 1
    assert lake.rows() == rows
    say(lake, "hoodie.keep.min.commits=few")
    with pytest.raises(CorruptTableError, match=r"no number for hoodie\.keep\.min\.commits"):
        archived(lake)


def say(lake: HudiLake, *lines: str) -> None:
    settings = Path(lake.root.child(".hoodie", "hoodie.properties").path)
    settings.write_text("\n".join([settings.read_text(), *lines]))


def test_archived_logs_stay_in_their_slices_whatever_else_is_active(lake: HudiLake) -> None:
    path = lake.append([70, 71], "c")
    lake.update(path, [70], "logged")
    lake.table.commit(carried_out(lake, planned(lake.table)))
    for turn in range(80, 86):
        lake.append([turn])
    # Savepoints and the building of indexes stay on the timeline, however old they are.
    folder = timeline_folder(lake.root, lake.table.config())
    old = ("20200101000000000.indexing", "20200101000000000_20200101000000001.indexing")
    Path(folder.child(old[lake.table.config().layout - 1]).path).touch()
    rows = lake.rows()
    archived(lake)
    assert not lake.table.source().timeline.completed(Action.COMMIT)
    assert lake.table.inventory(lake.table.snapshot()).delete_files.num_rows == 0
    assert lake.rows() == rows
