"""What every table does with a commit of changes: all of it or nothing, and once.

Subclass `Changing` and give it the fixture `lake`, as for the other half of the suite.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from catalog.commits import Commit, CommitKind, Rewrite, Watermark
from catalog.errors import CorruptTableError
from catalog.model import Inventory, Selection
from tests.catalog.changes import MARK, Change, change_commit, plan_change
from tests.catalog.conformance import Lake, LineageLake, expected, fill
from tests.catalog.groups import make_commit, outputs, paths, pick, plan_all, rewrite

# Updates in two partitions, a row that is new, and a delete.
CHANGE = Change(
    [(3, "a", "new"), (14, "b", "new"), (100, "a", "new"), (101, "b", "new")], deletes=[21, 7, 999]
)


def conflicts_as_a_whole(lake: Lake, commit: Commit) -> str:
    """Commit what must not be committed; return why it was not."""
    before, snapshot = lake.rows(), lake.table.snapshot()
    mark = lake.table.watermark("orders")
    result = lake.table.commit(commit)
    assert (result.snapshot, result.committed) == (None, ())
    assert [one.group_id for one in result.conflicts] == [one.group_id for one in commit.rewrites]
    assert lake.table.snapshot() == snapshot
    assert (lake.rows(), lake.table.watermark("orders")) == (before, mark)
    assert lake.table.find_commit(commit) is None
    lake.table.clean_commit(commit)
    return result.conflicts[0].reason if result.conflicts else ""


class Committed:
    """Changes that nobody interferes with."""

    def test_rows_are_as_a_dictionary_would_have_them(self, lake: Lake, marks: bool) -> None:
        files = fill(lake, files=2)
        before = lake.rows()
        commit = plan_change(lake.table, CHANGE, marks=marks)
        result = lake.table.commit(commit)
        assert result.conflicts == ()
        assert result.committed == tuple(one.group_id for one in commit.rewrites)
        assert result.snapshot == lake.table.snapshot()
        assert lake.rows() == CHANGE.apply(before)
        assert lake.rows(commit.base.snapshot_id) == before
        after = lake.table.inventory(lake.table.snapshot())
        assert files["b"][1] in paths(after)
        assert (files["a"][0] in paths(after)) == marks
        assert outputs(commit.rewrites) <= paths(after)

    def test_changes_follow_each_other(self, lake: Lake, marks: bool) -> None:
        fill(lake, files=2)
        rows = lake.rows()
        for number in range(2):
            change = Change([(number, "a", f"{number}"), (13, "b", f"{number}")], [20 + number, 5])
            assert lake.table.commit(plan_change(lake.table, change, marks=marks)).conflicts == ()
            rows = change.apply(rows)
            assert lake.rows() == rows

    def test_rows_that_were_deleted_before_stay_deleted(self, lake: Lake, marks: bool) -> None:
        if not lake.has_deletes:
            pytest.skip("this table has no delete files")
        files = fill(lake, files=2)
        lake.delete({files["a"][0]: [2, 4]})
        before = lake.rows()
        lake.table.commit(plan_change(lake.table, CHANGE, marks=marks))
        assert lake.rows() == CHANGE.apply(before)

    def test_a_change_is_compacted_like_anything_else(self, lake: Lake, marks: bool) -> None:
        fill(lake, files=2)
        lake.table.commit(plan_change(lake.table, CHANGE, marks=marks))
        before = lake.rows()
        assert lake.table.commit(plan_all(lake.table)).conflicts == ()
        assert lake.rows() == before
        assert lake.table.inventory(lake.table.snapshot()).delete_files.num_rows == 0

    def test_rows_that_are_new_come_into_an_empty_table(self, lake: Lake) -> None:
        change = Change([*expected(range(3)), *expected(range(3, 6), "b")])
        assert lake.table.commit(plan_change(lake.table, change)).conflicts == ()
        assert lake.rows() == change.apply([])
        lake.append(range(10, 20), "a")
        assert lake.rows() == [*change.apply([]), *expected(range(10, 20))]

    def test_all_rows_may_go(self, lake: Lake, marks: bool) -> None:
        fill(lake, parts="ab", files=1)
        lake.table.commit(plan_change(lake.table, Change(deletes=range(20)), marks=marks))
        assert lake.rows() == []

    def test_new_rows_are_younger_than_deletes_that_are_older(self, lake: Lake) -> None:
        """A row that comes in again after it was deleted stays."""
        fill(lake, files=2)
        for change in (Change(deletes=[3]), Change([(3, "a", "back")]), Change(deletes=[3])):
            before = lake.rows()
            lake.table.commit(plan_change(lake.table, change, marks=lake.table.can_mark))
            assert lake.rows() == change.apply(before)

    def test_what_marks_leave_of_a_file_can_be_marked_and_rewritten(self, lake: Lake) -> None:
        if not lake.table.can_mark:
            pytest.skip("this table has no marks")
        fill(lake, parts="a", files=1)
        for number, marks in enumerate((True, True, False)):
            before, change = lake.rows(), Change([(number, "a", "x")], [number + 4])
            lake.table.commit(plan_change(lake.table, change, marks=marks))
            assert lake.rows() == change.apply(before)


class Once:
    """Changes and their watermarks happen once."""

    def test_watermarks_are_recorded_with_the_change(self, lake: Lake) -> None:
        fill(lake, files=2)
        assert lake.table.watermark("orders") is None
        odd = Watermark("s3://bucket/prefix:ä=1", "2026/11/ä \"7'.parquet")
        commit = plan_change(lake.table, replace(CHANGE, watermarks=(MARK, odd)))
        lake.table.commit(commit)
        assert lake.table.watermark("orders") == "1"
        assert lake.table.watermark(odd.source) == odd.value
        assert lake.table.watermark("order") is None

    def test_watermarks_outlive_what_others_commit(self, lake: Lake) -> None:
        fill(lake, files=2)
        lake.table.commit(plan_change(lake.table, CHANGE))
        lake.append(range(200, 210))
        lake.table.commit(plan_all(lake.table))
        other = replace(CHANGE, watermarks=(Watermark("another", "5"),))
        lake.table.commit(plan_change(lake.table, other))
        lake.expire()
        assert lake.table.watermark("orders") == "1"
        assert lake.table.watermark("another") == "5"
        newer = replace(CHANGE, watermarks=(Watermark("orders", "2"),))
        lake.table.commit(plan_change(lake.table, newer))
        assert lake.table.watermark("orders") == "2"

    def test_a_change_that_finds_nothing_records_its_watermark(self, lake: Lake) -> None:
        fill(lake, files=2)
        before = lake.rows()
        commit = plan_change(lake.table, Change(deletes=[999]))
        assert commit.rewrites == ()
        result = lake.table.commit(commit)
        assert result.snapshot == lake.table.snapshot() != commit.base
        assert lake.table.watermark("orders") == "1"
        assert lake.rows() == before
        assert lake.table.find_commit(commit) == result
        assert lake.table.commit(commit) == result

    def test_a_group_without_files_and_rows_is_committed_with_the_watermark(
        self, lake: Lake
    ) -> None:
        fill(lake, files=1)
        before, snapshot = lake.rows(), lake.table.snapshot()
        commit = change_commit(snapshot, Rewrite("nothing", Inventory.empty(), (), 0))
        result = lake.table.commit(commit)
        assert (result.committed, result.snapshot) == (("nothing",), lake.table.snapshot())
        assert (lake.table.watermark("orders"), lake.rows()) == ("1", before)
        assert lake.table.find_commit(commit) == result
        late = change_commit(snapshot, *commit.rewrites)
        assert [one.group_id for one in lake.table.commit(late).conflicts] == ["nothing"]

    def test_a_change_of_nothing_makes_no_snapshot(self, lake: Lake) -> None:
        fill(lake, files=2)
        commit = change_commit(lake.table.snapshot(), watermarks=())
        assert lake.table.commit(commit).snapshot is None
        assert lake.table.snapshot() == commit.base

    def test_a_change_is_found_by_its_id_and_made_once(self, lake: Lake, marks: bool) -> None:
        fill(lake, files=2)
        before, commit = lake.rows(), plan_change(lake.table, CHANGE, marks=marks)
        assert lake.table.find_commit(commit) is None
        result = lake.table.commit(commit)
        lake.append(range(200, 210))
        assert lake.table.find_commit(commit) == result
        assert lake.table.commit(commit) == result
        lake.table.clean_commit(commit)
        assert lake.rows() == [*CHANGE.apply(before), *expected(range(200, 210))]

    def test_a_source_that_was_merged_meanwhile_conflicts(self, lake: Lake) -> None:
        fill(lake, files=2)
        first = plan_change(lake.table, Change(deletes=[3]))
        second = plan_change(lake.table, Change(deletes=[999]))
        third = plan_change(lake.table, Change(deletes=[14]))
        assert lake.table.commit(first).conflicts == ()
        assert conflicts_as_a_whole(lake, second) == ""
        assert "orders" in conflicts_as_a_whole(lake, third)

    def test_outputs_that_are_in_the_table_are_committed_already(self, lake: Lake) -> None:
        fill(lake, files=2)
        before, commit = lake.rows(), plan_change(lake.table, CHANGE)
        lake.table.commit(commit)
        again = lake.table.commit(replace(commit, commit_id="another"))
        assert (again.snapshot, again.conflicts) == (lake.table.snapshot(), ())
        assert lake.rows() == CHANGE.apply(before)


class Serialised:
    """What changes do when others have committed since their base."""

    def test_rewrites_of_other_files_are_walked_over(self, lake: Lake, marks: bool) -> None:
        files = fill(lake, files=2)
        commit = plan_change(lake.table, Change([(3, "a", "x")], [14]), marks=marks)
        for some in (files["a"][1:], files["b"][1:]):
            snapshot = lake.table.snapshot()
            group = pick(lake.table.inventory(snapshot), *some)
            lake.table.commit(make_commit(snapshot, rewrite(lake.table, snapshot, group)))
        before = lake.rows()
        assert lake.table.commit(commit).conflicts == ()
        assert lake.rows() == Change([(3, "a", "x")], [14]).apply(before)

    def test_a_rewrite_of_its_files_is_a_conflict(self, lake: Lake, marks: bool) -> None:
        files = fill(lake, files=2)
        commit = plan_change(lake.table, CHANGE, marks=marks)
        snapshot = lake.table.snapshot()
        group = pick(lake.table.inventory(snapshot), *files["a"][:2])
        lake.table.commit(make_commit(snapshot, rewrite(lake.table, snapshot, group)))
        assert "no longer" in conflicts_as_a_whole(lake, commit)

    def test_rows_that_others_remove_from_other_files_are_walked_over(self, lake: Lake) -> None:
        files = fill(lake, files=2)
        commit = plan_change(lake.table, Change([(3, "a", "x")], [14]))
        lake.remove(files["a"][1])
        before = lake.rows()
        assert lake.table.commit(commit).conflicts == ()
        assert lake.rows() == Change([(3, "a", "x")], [14]).apply(before)

    def test_rows_that_others_remove_from_its_files_are_a_conflict(
        self, lake: Lake, marks: bool
    ) -> None:
        files = fill(lake, files=2)
        commit = plan_change(lake.table, CHANGE, marks=marks)
        if lake.has_deletes:
            lake.delete({files["a"][0]: [9]})
        else:
            lake.remove(files["a"][0])
        conflicts_as_a_whole(lake, commit)

    def test_rows_that_others_add_are_a_conflict(self, lake: Lake, marks: bool) -> None:
        fill(lake, files=2)
        commits = [
            plan_change(lake.table, CHANGE, marks=marks),
            plan_change(lake.table, Change([(300, "a", "x")])),
            plan_change(lake.table, Change(deletes=[14]), marks=marks),
        ]
        lake.append(range(200, 210), "b")
        lake.table.commit(plan_all(lake.table))
        for commit in commits:
            conflicts_as_a_whole(lake, commit)

    def test_rows_that_a_rewrite_brings_of_files_that_were_added_are_a_conflict(
        self, lake: Lake
    ) -> None:
        commit = plan_change(lake.table, Change([(300, "a", "x")]))
        lake.append(range(10), "a")
        lake.table.commit(plan_all(lake.table))
        conflicts_as_a_whole(lake, commit)

    def test_two_changes_of_one_snapshot_are_not_both_made(self, lake: Lake, marks: bool) -> None:
        fill(lake, files=2)
        before = lake.rows()
        first, second = Change([(400, "a", "x")]), replace(CHANGE, watermarks=())
        commits = [plan_change(lake.table, one, marks=marks) for one in (first, second)]
        assert lake.table.commit(commits[0]).conflicts == ()
        conflicts_as_a_whole(lake, commits[1])
        assert lake.table.commit(plan_change(lake.table, second, marks=marks)).conflicts == ()
        assert lake.rows() == second.apply(first.apply(before))

    def test_a_rewrite_that_a_change_overtook_is_a_conflict_where_they_meet(
        self, lake: Lake, marks: bool
    ) -> None:
        fill(lake, files=2)
        compaction = plan_all(lake.table)
        change = Change([(3, "a", "x"), (100, "b", "x")], [4])
        before = lake.rows()
        lake.table.commit(plan_change(lake.table, change, marks=marks))
        result = lake.table.commit(compaction)
        assert (len(result.committed), len(result.conflicts)) == (1, 1)
        assert lake.rows() == change.apply(before)

    def test_a_base_that_was_expired_conflicts(self, lake: Lake) -> None:
        fill(lake, files=2)
        commit = plan_change(lake.table, CHANGE)
        lake.append(range(200, 210))
        lake.expire()
        conflicts_as_a_whole(lake, commit)


class Announced:
    """Changes that are not what they say: nothing is committed."""

    def refuses(self, lake: Lake, commit: Commit) -> None:
        before, snapshot = lake.rows(), lake.table.snapshot()
        with pytest.raises(CorruptTableError):
            lake.table.commit(commit)
        assert (lake.table.snapshot(), lake.rows()) == (snapshot, before)
        assert lake.table.find_commit(commit) is None

    def test_another_number_of_rows(self, lake: Lake) -> None:
        fill(lake, parts="a")
        commit = plan_change(lake.table, Change([(3, "a", "x")], [5]))
        (one, *_) = commit.rewrites
        for wrong in (
            replace(one, rows_added=one.rows_added + 1),
            replace(one, rows_dropped=one.rows_dropped + 1),
            replace(one, rows_dropped=-1, rows_added=one.rows_added - one.rows_dropped - 1),
        ):
            rest = commit.rewrites[1:]
            self.refuses(lake, replace(commit, rewrites=(wrong, *rest)))

    def test_a_rewrite_that_changes_rows(self, lake: Lake) -> None:
        fill(lake, files=2)
        commit = plan_change(lake.table, CHANGE)
        self.refuses(lake, replace(commit, kind=CommitKind.REWRITE, watermarks=()))

    def test_marks_on_rows_that_do_not_exist(self, lake: Lake) -> None:
        if not lake.table.can_mark:
            pytest.skip("this table has no marks")
        files = fill(lake, parts="a")
        commit = plan_change(lake.table, Change(deletes=[5]), marks=True)
        (one,) = commit.rewrites
        for path, rows in (
            (files["a"][0], [10]),
            (files["a"][0], [-1]),
            (files["a"][0], [5, 5]),
            (files["a"][0], []),
            (files["a"][1], [5]),
        ):
            marked = replace(one, marks={path: Selection(np.array(rows, np.int64))})
            self.refuses(lake, replace(commit, rewrites=(marked,)))


class ChangedLineage:
    """What a change does to ids and versions of rows."""

    @pytest.mark.parametrize("marks", [False, True], ids=["rewritten", "marked"])
    def test_rows_that_stay_keep_their_ids_and_new_ones_get_new_ones(
        self, lineage_lake: LineageLake, marks: bool
    ) -> None:
        fill(lineage_lake, files=2)
        before = lineage_lake.lineage()
        result = lineage_lake.table.commit(plan_change(lineage_lake.table, CHANGE, marks=marks))
        assert result.snapshot is not None
        after = lineage_lake.lineage()
        changed = CHANGE.ids
        assert {one: ids for one, ids in after.items() if one not in changed} == {
            one: ids for one, ids in before.items() if one not in changed
        }
        new = {one: ids for one, ids in after.items() if one in changed}
        assert {version for _, version in new.values()} == {result.snapshot.sequence_number}
        ids = [row_id for row_id, _ in after.values()]
        assert len(set(ids)) == len(ids)
        assert not {row_id for row_id, _ in new.values()} & {one for one, _ in before.values()}
        lineage_lake.table.commit(plan_all(lineage_lake.table))
        assert lineage_lake.lineage() == after


class Changing(Committed, Once, Serialised, Announced):
    """All of it, but for ids of rows."""

    @pytest.fixture(params=[False, True], ids=["rewritten", "marked"])
    def marks(self, lake: Lake, request: pytest.FixtureRequest) -> bool:
        if request.param and not lake.table.can_mark:
            pytest.skip("this table has no marks")
        return bool(request.param)
