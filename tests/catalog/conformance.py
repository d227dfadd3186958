"""The one suite that every implementation of `Table` passes.

A format takes part by a `Lake`: a table of it, with another writer at its side, and rows read back
by something that is not ours. Subclass `TableConformance` and give it the fixture `lake`.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pytest

from catalog.commits import Commit, OutputFile
from catalog.errors import CorruptTableError, SnapshotNotFoundError
from catalog.model import Inventory
from catalog.table import Table
from tests.catalog.groups import (
    make_commit,
    outputs,
    partitions,
    paths,
    pick,
    plan_all,
    read_group,
    rewrite,
    write_output,
)

Row = tuple[int, str, str]


class Lake(Protocol):
    """A table with the columns `id`, `part` and `text`, partitioned by `part`, and its writers.

    Attributes:
        has_deletes: whether rows can be deleted from files.
        has_sequence_numbers: whether files carry the sequence number of a snapshot.
        first_snapshot_id: the id of the state without data.
    """

    has_deletes: bool
    has_sequence_numbers: bool
    first_snapshot_id: str

    @property
    def table(self) -> Table:
        """A handle of its own at each access, as another process would have it."""

    def append(self, ids: Sequence[int], part: str = "a") -> str:
        """Append one data file; return its path."""

    def delete(self, positions: Mapping[str, Sequence[int]]) -> None:
        """Delete rows of data files of one partition by position, together."""

    def remove(self, path: str) -> None:
        """Remove a data file with its rows."""

    def expire(self) -> None:
        """Expire every snapshot but the current one."""

    def rows(self, snapshot_id: str | None = None) -> list[Row]:
        """Read all rows, sorted."""


def text_of(identity: int) -> str:
    """Return what the column `text` holds beside an id: no row can pass for another."""
    return f"text {identity * 7919 % 100_003}"


def expected(ids: Sequence[int], part: str = "a") -> list[Row]:
    return [(identity, part, text_of(identity)) for identity in ids]


def needs_deletes(lake: Lake) -> None:
    if not lake.has_deletes:
        pytest.skip("this format version has no delete files")


def fill(lake: Lake, parts: str = "ab", files: int = 3, size: int = 10) -> dict[str, list[str]]:
    """Append small files of rows to each partition; return their paths by partition."""
    found: dict[str, list[str]] = {part: [] for part in parts}
    for number in range(files):
        for offset, part in enumerate(parts):
            first = (number * len(parts) + offset) * size
            found[part].append(lake.append(range(first, first + size), part))
    return found


def group_of(commit: Commit, path: str) -> str:
    return next(one.group_id for one in commit.rewrites if path in paths(one.files))


class Reading:
    """What holds before anything is committed."""

    def test_a_table_without_data_has_an_empty_inventory(self, lake: Lake) -> None:
        snapshot = lake.table.snapshot()
        assert snapshot.snapshot_id == lake.first_snapshot_id
        assert lake.table.inventory(snapshot).file_count == 0

    def test_every_appended_file_is_in_the_inventory(self, lake: Lake) -> None:
        files = fill(lake)
        inventory = lake.table.inventory(lake.table.snapshot())
        assert paths(inventory) == {path for some in files.values() for path in some}
        assert inventory.row_count == 60
        assert {len(paths(group)) for group in partitions(inventory).values()} == {3}
        for one in inventory.slices():
            location = lake.table.files(lake.table.snapshot()).locate(one.path)
            assert Path(location.path).stat().st_size == one.size_bytes

    def test_an_older_snapshot_keeps_its_inventory(self, lake: Lake) -> None:
        first = lake.append(range(10))
        before = lake.table.snapshot()
        lake.append(range(10, 20))
        assert paths(lake.table.inventory(before)) == {first}
        assert lake.table.snapshot(before.snapshot_id) == before
        assert lake.table.snapshot().sequence_number >= before.sequence_number

    def test_an_expired_snapshot_is_not_found(self, lake: Lake) -> None:
        lake.append(range(10))
        before = lake.table.snapshot()
        lake.append(range(10, 20))
        lake.expire()
        with pytest.raises(SnapshotNotFoundError):
            lake.table.snapshot(before.snapshot_id)

    def test_deletes_are_attached_to_the_files_they_drop_rows_of(self, lake: Lake) -> None:
        needs_deletes(lake)
        files = fill(lake)
        lake.delete({files["a"][1]: [0, 9]})
        slices = list(lake.table.inventory(lake.table.snapshot()).slices())
        with_deletes = [one for one in slices if one.deletes]
        assert [one.path for one in with_deletes] == [files["a"][1]]
        assert sum(delete.row_count for delete in with_deletes[0].deletes) == 2

    def test_selections_name_exactly_the_deleted_rows(self, lake: Lake) -> None:
        needs_deletes(lake)
        files = fill(lake)["a"]
        lake.delete({files[0]: [3, 1], files[2]: [0]})
        lake.delete({files[0]: [1, 7]})
        side = lake.table.files(lake.table.snapshot())
        side = pickle.loads(pickle.dumps(side))
        selections = side.selections(lake.table.inventory(lake.table.snapshot()))
        found = {path: one.dropped.tolist() for path, one in selections.items() if len(one.dropped)}
        assert found == {files[0]: [1, 3, 7], files[2]: [0]}

    def test_new_locations_are_stable_and_within_the_table(self, lake: Lake) -> None:
        lake.append(range(10))
        side = lake.table.files(lake.table.snapshot())
        key = lake.table.inventory(lake.table.snapshot()).files["partition_key"][0].as_py()
        location = side.new_location(key, "one.parquet")
        assert location == side.new_location(key, "one.parquet")
        assert location != side.new_location(key, "two.parquet")
        assert side.locate(str(location)) == location


class Committing:
    """What a commit does when nobody interferes."""

    def test_a_commit_replaces_files_and_keeps_the_content(self, lake: Lake) -> None:
        fill(lake)
        before = lake.rows()
        commit = plan_all(lake.table)
        result = lake.table.commit(commit)
        assert result.conflicts == ()
        assert set(result.committed) == {one.group_id for one in commit.rewrites}
        assert result.snapshot == lake.table.snapshot()
        assert result.snapshot is not None
        assert result.snapshot.parent_id == commit.base.snapshot_id
        assert lake.rows() == before
        assert paths(lake.table.inventory(result.snapshot)) == outputs(commit.rewrites)

    def test_the_snapshot_before_stays_readable(self, lake: Lake) -> None:
        fill(lake)
        commit = plan_all(lake.table)
        before = lake.rows()
        lake.table.commit(commit)
        assert lake.rows(commit.base.snapshot_id) == before
        assert lake.table.inventory(commit.base).file_count == 6

    def test_a_part_of_a_partition_may_be_rewritten(self, lake: Lake) -> None:
        files = fill(lake)
        before, snapshot = lake.rows(), lake.table.snapshot()
        group = pick(lake.table.inventory(snapshot), *files["a"][:2])
        commit = make_commit(snapshot, rewrite(lake.table, snapshot, group))
        assert lake.table.commit(commit).committed == ("g",)
        kept = {files["a"][2], *files["b"]}
        assert paths(lake.table.inventory(lake.table.snapshot())) == outputs(commit.rewrites) | kept
        assert lake.rows() == before

    def test_outputs_keep_partition_and_the_sequence_number_of_the_base(self, lake: Lake) -> None:
        fill(lake)
        commit = plan_all(lake.table)
        lake.table.commit(commit)
        after = lake.table.inventory(lake.table.snapshot())
        planned = {rewrite.files.files["partition_key"][0].as_py() for rewrite in commit.rewrites}
        assert set(after.files["partition_key"].to_pylist()) == planned
        if lake.has_sequence_numbers:
            assert set(after.files["sequence_number"].to_pylist()) == {commit.base.sequence_number}

    def test_deletes_are_applied_and_their_files_leave(self, lake: Lake) -> None:
        needs_deletes(lake)
        files = fill(lake)
        lake.delete({files["a"][0]: [0, 1], files["a"][1]: [9]})
        lake.delete({files["b"][0]: [5]})
        before = lake.rows()
        assert lake.table.commit(plan_all(lake.table)).conflicts == ()
        after = lake.table.inventory(lake.table.snapshot())
        assert (after.row_count, after.delete_files.num_rows) == (56, 0)
        assert lake.rows() == before

    def test_a_delete_file_stays_while_a_live_file_needs_it(self, lake: Lake) -> None:
        needs_deletes(lake)
        files = fill(lake, parts="a")["a"]
        lake.delete({files[0]: [0], files[1]: [1]})
        before, snapshot = lake.rows(), lake.table.snapshot()
        group = pick(lake.table.inventory(snapshot), files[0])
        lake.table.commit(make_commit(snapshot, rewrite(lake.table, snapshot, group)))
        assert lake.rows() == before
        after = lake.table.snapshot()
        selections = lake.table.files(after).selections(lake.table.inventory(after))
        assert selections[files[1]].dropped.tolist() == [1]
        assert lake.table.commit(plan_all(lake.table)).conflicts == ()
        assert lake.table.inventory(lake.table.snapshot()).delete_files.num_rows == 0
        assert lake.rows() == before

    def test_a_group_without_surviving_rows_leaves_nothing(self, lake: Lake) -> None:
        needs_deletes(lake)
        files = fill(lake, parts="ab", files=1)
        lake.delete({files["a"][0]: list(range(10))})
        commit = plan_all(lake.table)
        result = lake.table.commit(commit)
        assert set(result.committed) == {one.group_id for one in commit.rewrites}
        assert lake.rows() == expected(range(10, 20), "b")
        assert lake.table.find_commit(commit) is not None
        assert set(lake.table.find_commit(commit).committed) == set(result.committed)

    def test_rewriting_again_changes_nothing_of_the_inventory_but_names(self, lake: Lake) -> None:
        def shape(inventory: Inventory) -> list[object]:
            return sorted(
                inventory.files.select(["row_count", "partition_key"]).to_pylist(), key=str
            )

        fill(lake)
        lake.table.commit(plan_all(lake.table))
        first = shape(lake.table.inventory(lake.table.snapshot()))
        lake.table.commit(plan_all(lake.table))
        assert shape(lake.table.inventory(lake.table.snapshot())) == first

    def test_a_commit_is_found_by_its_id(self, lake: Lake) -> None:
        fill(lake)
        commit = plan_all(lake.table)
        assert lake.table.find_commit(commit) is None
        result = lake.table.commit(commit)
        lake.append(range(100, 110))
        assert lake.table.find_commit(commit) == result

    def test_a_second_commit_with_the_same_id_does_nothing(self, lake: Lake) -> None:
        fill(lake)
        before = lake.rows()
        commit = plan_all(lake.table)
        result = lake.table.commit(commit)
        assert lake.table.commit(commit) == result
        assert lake.table.snapshot() == result.snapshot
        assert lake.rows() == before

    def test_an_empty_commit_makes_no_snapshot(self, lake: Lake) -> None:
        fill(lake)
        snapshot = lake.table.snapshot()
        assert lake.table.commit(make_commit(snapshot)).snapshot is None
        assert lake.table.snapshot() == snapshot

    def test_cleaning_a_commit_that_landed_changes_nothing(self, lake: Lake) -> None:
        fill(lake)
        before, commit = lake.rows(), plan_all(lake.table)
        lake.table.commit(commit)
        lake.table.clean_commit(commit)
        assert lake.rows() == before
        assert lake.rows(commit.base.snapshot_id) == before


class Conflicting:
    """What a commit does when others have committed since the plan."""

    def test_appends_never_conflict(self, lake: Lake) -> None:
        fill(lake)
        commit = plan_all(lake.table)
        late = [lake.append(range(100 + 10 * one, 110 + 10 * one), "ab"[one]) for one in range(2)]
        before = lake.rows()
        result = lake.table.commit(commit)
        assert result.conflicts == ()
        assert lake.rows() == before
        expected_paths = outputs(commit.rewrites) | set(late)
        assert paths(lake.table.inventory(lake.table.snapshot())) == expected_paths

    def test_a_removed_file_drops_only_its_group(self, lake: Lake) -> None:
        files = fill(lake)
        commit = plan_all(lake.table)
        lake.remove(files["a"][1])
        before = lake.rows()
        result = lake.table.commit(commit)
        assert [one.group_id for one in result.conflicts] == [group_of(commit, files["a"][1])]
        assert files["a"][1] in result.conflicts[0].reason
        assert result.committed == (group_of(commit, files["b"][0]),)
        assert lake.rows() == before
        assert lake.table.find_commit(commit).committed == result.committed

    def test_new_deletes_on_a_replaced_file_drop_only_its_group(self, lake: Lake) -> None:
        needs_deletes(lake)
        files = fill(lake)
        commit = plan_all(lake.table)
        lake.delete({files["b"][0]: [4]})
        before = lake.rows()
        result = lake.table.commit(commit)
        assert [one.group_id for one in result.conflicts] == [group_of(commit, files["b"][0])]
        assert result.committed == (group_of(commit, files["a"][0]),)
        assert lake.rows() == before

    def test_new_deletes_are_seen_through_any_number_of_later_commits(self, lake: Lake) -> None:
        needs_deletes(lake)
        files = fill(lake)
        commit = plan_all(lake.table)
        lake.delete({files["a"][0]: [0, 1, 2]})
        lake.append(range(100, 110), "a")
        lake.append(range(110, 120), "b")
        before = lake.rows()
        result = lake.table.commit(commit)
        assert [one.group_id for one in result.conflicts] == [group_of(commit, files["a"][0])]
        assert lake.rows() == before

    def test_deletes_on_a_file_that_stays_do_not_conflict(self, lake: Lake) -> None:
        needs_deletes(lake)
        files = fill(lake, parts="a")["a"]
        snapshot = lake.table.snapshot()
        group = pick(lake.table.inventory(snapshot), *files[:2])
        commit = make_commit(snapshot, rewrite(lake.table, snapshot, group))
        lake.delete({files[2]: [0]})
        before = lake.rows()
        assert lake.table.commit(commit).conflicts == ()
        assert lake.rows() == before

    def test_of_two_rewrites_of_the_same_files_one_wins(self, lake: Lake) -> None:
        fill(lake)
        before = lake.rows()
        first, second = plan_all(lake.table), plan_all(lake.table)
        assert lake.table.commit(first).conflicts == ()
        winner = lake.table.snapshot()
        result = lake.table.commit(second)
        assert (result.snapshot, result.committed, len(result.conflicts)) == (None, (), 2)
        assert lake.table.snapshot() == winner
        assert lake.table.find_commit(second) is None
        assert lake.rows() == before

    def test_outputs_that_are_in_the_table_are_committed_and_never_a_conflict(
        self, lake: Lake
    ) -> None:
        files = fill(lake)
        before, commit = lake.rows(), plan_all(lake.table)
        first = replace(commit, commit_id="first", rewrites=commit.rewrites[:1])
        lake.table.commit(first)
        again = lake.table.commit(replace(first, commit_id="second"))
        assert (again.committed, again.conflicts) == (lake.table.find_commit(first).committed, ())
        assert again.snapshot == lake.table.snapshot()
        lake.append(range(100, 110), "a")
        both = replace(commit, commit_id="third")
        result = lake.table.commit(both)
        assert result.conflicts == ()
        assert set(result.committed) == {group_of(commit, files[part][0]) for part in "ab"}
        assert set(lake.table.find_commit(both).committed) == set(result.committed)
        assert lake.rows() == [*before, *expected(range(100, 110))]

    def test_two_groups_cannot_replace_one_file(self, lake: Lake) -> None:
        files = fill(lake, parts="a")["a"]
        before, snapshot = lake.rows(), lake.table.snapshot()
        inventory = lake.table.inventory(snapshot)
        commit = make_commit(
            snapshot,
            rewrite(lake.table, snapshot, pick(inventory, *files[:2]), "first"),
            rewrite(lake.table, snapshot, pick(inventory, *files[1:]), "second"),
        )
        result = lake.table.commit(commit)
        assert (result.committed, result.conflicts[0].group_id) == (("first",), "second")
        assert lake.rows() == before

    def test_a_base_that_was_expired_conflicts_as_a_whole(self, lake: Lake) -> None:
        fill(lake)
        commit = plan_all(lake.table)
        lake.append(range(100, 110))
        lake.expire()
        before, snapshot = lake.rows(), lake.table.snapshot()
        result = lake.table.commit(commit)
        assert (result.snapshot, result.committed, len(result.conflicts)) == (None, (), 2)
        assert lake.table.snapshot() == snapshot
        assert lake.rows() == before


class Refusing:
    """Outputs that are not what the workers said: nothing is committed."""

    def refuses(self, lake: Lake, commit: Commit) -> None:
        before, snapshot = lake.rows(), lake.table.snapshot()
        with pytest.raises(CorruptTableError):
            lake.table.commit(commit)
        assert lake.table.snapshot() == snapshot
        assert lake.rows() == before
        assert lake.table.find_commit(commit) is None

    def announce(self, commit: Commit, output: OutputFile) -> Commit:
        return replace(commit, rewrites=(replace(commit.rewrites[0], added=(output,)),))

    def one_group(self, lake: Lake) -> tuple[Commit, OutputFile, Path]:
        fill(lake, parts="a")
        commit = plan_all(lake.table)
        output = commit.rewrites[0].added[0]
        return commit, output, Path(lake.table.files(commit.base).locate(output.path).path)

    def test_a_missing_output(self, lake: Lake) -> None:
        commit, _, place = self.one_group(lake)
        place.unlink()
        self.refuses(lake, commit)

    def test_a_short_output(self, lake: Lake) -> None:
        commit, _, place = self.one_group(lake)
        place.write_bytes(place.read_bytes()[:-7])
        self.refuses(lake, commit)

    def test_an_output_that_is_short_and_announced_so(self, lake: Lake) -> None:
        commit, output, place = self.one_group(lake)
        place.write_bytes(place.read_bytes()[:-7])
        self.refuses(lake, self.announce(commit, replace(output, size_bytes=place.stat().st_size)))

    def test_another_number_of_rows_in_the_file(self, lake: Lake) -> None:
        commit, output, _ = self.one_group(lake)
        self.refuses(lake, self.announce(commit, replace(output, row_count=output.row_count + 1)))

    def test_rows_lost_on_the_way(self, lake: Lake) -> None:
        commit, output, _ = self.one_group(lake)
        files = lake.table.files(commit.base)
        group = commit.rewrites[0].files
        rows, _ = read_group(files, group)
        key = group.files["partition_key"][0].as_py()
        short = write_output(files, key, rows.slice(1))
        assert short.row_count == output.row_count - 1
        self.refuses(lake, self.announce(commit, short))

    def test_a_column_of_another_type(self, lake: Lake) -> None:
        commit, _, _ = self.one_group(lake)
        files = lake.table.files(commit.base)
        group = commit.rewrites[0].files
        rows, _ = read_group(files, group)
        field = rows.schema.field("id")
        shorter = rows.set_column(0, field.with_type(pa.int32()), rows["id"].cast(pa.int32()))
        key = group.files["partition_key"][0].as_py()
        self.refuses(lake, self.announce(commit, write_output(files, key, shorter)))

    def test_a_column_short(self, lake: Lake) -> None:
        commit, _, _ = self.one_group(lake)
        files = lake.table.files(commit.base)
        group = commit.rewrites[0].files
        rows, _ = read_group(files, group)
        key = group.files["partition_key"][0].as_py()
        self.refuses(lake, self.announce(commit, write_output(files, key, rows.drop(["text"]))))


class LineageLake(Lake, Protocol):
    """A lake whose rows have ids and versions, which its files need not store."""

    def lineage(self, snapshot_id: str | None = None) -> dict[int, tuple[int, int]]:
        """Read id and version of each row, by the column `id`."""

    def update(self, path: str, positions: Sequence[int], text: str) -> str:
        """Write a file anew with another `text` in some rows, as an engine that keeps row ids.

        The rows that are changed have null as their version, those that are not keep theirs.
        """


class RowLineage:
    """What readers are told of a row besides its columns: rewriting must not change it."""

    def test_new_rows_have_ids_of_their_own(self, lineage_lake: LineageLake) -> None:
        fill(lineage_lake)
        ids = [row_id for row_id, _ in lineage_lake.lineage().values()]
        assert len(set(ids)) == len(ids) == 60

    def test_a_rewrite_keeps_ids_and_versions(self, lineage_lake: LineageLake) -> None:
        files = fill(lineage_lake)
        if lineage_lake.has_deletes:
            lineage_lake.delete({files["a"][1]: [0, 9, 4]})
        before = lineage_lake.lineage()
        for _ in range(2):
            assert lineage_lake.table.commit(plan_all(lineage_lake.table)).conflicts == ()
            assert lineage_lake.lineage() == before
        lineage_lake.append(range(100, 110))
        after = lineage_lake.lineage()
        assert {identity: after[identity] for identity in before} == before
        assert len({row_id for row_id, _ in after.values()}) == len(after)

    def test_stored_ids_win_and_nulls_follow_from_the_file(self, lineage_lake: LineageLake) -> None:
        files = fill(lineage_lake)
        before = lineage_lake.lineage()
        lineage_lake.update(files["a"][0], [2, 3], "changed")
        found = lineage_lake.lineage()
        assert {identity: row_id for identity, (row_id, _) in found.items()} == {
            identity: row_id for identity, (row_id, _) in before.items()
        }
        assert {identity for identity in before if found[identity] != before[identity]} == {2, 3}
        assert lineage_lake.table.commit(plan_all(lineage_lake.table)).conflicts == ()
        assert lineage_lake.lineage() == found


class TableConformance(Reading, Committing, Conflicting, Refusing):
    """All of it."""
