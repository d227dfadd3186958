"""Rows that others delete while their files are rewritten are deleted from the outputs as well."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.commits import Commit, OutputFile, Rewrite
from catalog.delta.carrying import vector_file, vectors_of
from catalog.delta.deletion_vectors import read_vectors
from catalog.location import Confinement, Location
from catalog.model import Snapshot
from catalog.storage import Storage
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.task import Proof, RewriteTask
from compactor.splicing import SpliceLimits
from tests.catalog.conformance import fill
from tests.catalog.delta.lakes import DeltaLake, commits, rows_of
from tests.catalog.delta.tracked import TrackedLake
from tests.catalog.groups import make_commit, paths, pick, plan_all, read_group, write_output


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    return DeltaLake(tmp_path)


def in_order(
    lake: DeltaLake, snapshot: Snapshot, files: Sequence[str], *, cuts: Sequence[int] = ()
) -> Rewrite:
    """Rewrite files into outputs that are cut at some rows."""
    side = lake.table.files(snapshot)
    group = pick(lake.table.inventory(snapshot), *files)
    rows, dropped = read_group(side, group)
    key = group.files["partition_key"][0].as_py()
    places = [0, *sorted(cut for cut in cuts if 0 < cut < rows.num_rows), rows.num_rows]
    added: list[OutputFile] = [
        write_output(side, key, rows.slice(start, end - start))
        for start, end in itertools.pairwise(places)
        if end > start
    ]
    return Rewrite("g", group, tuple(added), dropped, keeps_order=True)


def ordered(commit: Commit) -> Commit:
    return replace(
        commit, rewrites=tuple(replace(one, keeps_order=True) for one in commit.rewrites)
    )


def adds(lake: DeltaLake) -> list[dict[str, Any]]:
    return [one["add"] for one in commits(lake.directory)[-1] if "add" in one]


def test_deletes_on_an_input_are_carried_over(lake: DeltaLake) -> None:
    files = fill(lake)
    lake.delete({files["a"][0]: [0, 1]})
    commit = ordered(plan_all(lake.table))
    lake.delete({files["a"][0]: [2, 9], files["a"][2]: [5]})
    lake.delete({files["a"][2]: [6]})
    before = lake.rows()
    result = lake.table.commit(commit)
    assert result.conflicts == ()
    assert lake.rows() == before
    vectors = [add["deletionVector"] for add in adds(lake) if "deletionVector" in add]
    assert [one["cardinality"] for one in vectors] == [4]
    assert paths(lake.table.inventory(lake.table.snapshot())) == {
        output.path for one in commit.rewrites for output in one.added
    }
    assert lake.table.commit(plan_all(lake.table)).conflicts == ()
    assert lake.rows() == before


def test_removes_carry_the_vector_that_the_winner_gave(lake: DeltaLake) -> None:
    files = fill(lake, parts="a")["a"]
    commit = ordered(plan_all(lake.table))
    lake.delete({files[1]: [3]})
    given_vector = lake.add_of(files[1])["deletionVector"]
    lake.table.commit(commit)
    removes = [one["remove"] for one in commits(lake.directory)[-1] if "remove" in one]
    assert [one["deletionVector"] for one in removes if "deletionVector" in one] == [given_vector]


def test_bounds_of_such_outputs_are_wide_and_rows_counted_before_deletes(lake: DeltaLake) -> None:
    files = fill(lake, parts="a")["a"]
    commit = ordered(plan_all(lake.table))
    lake.delete({files[1]: [3]})
    lake.table.commit(commit)
    stats = json.loads(adds(lake)[0]["stats"])
    assert (stats["tightBounds"], stats["numRecords"]) == (False, 30)


def test_an_output_without_new_deletes_has_no_vector(lake: DeltaLake) -> None:
    files = fill(lake, parts="a")["a"]
    snapshot = lake.table.snapshot()
    commit = make_commit(snapshot, in_order(lake, snapshot, files, cuts=[10, 20]))
    lake.delete({files[1]: [3]})
    before = lake.rows()
    assert lake.table.commit(commit).conflicts == ()
    found = adds(lake)
    assert ["deletionVector" in add for add in found] == [False, True, False]
    assert [json.loads(add["stats"])["tightBounds"] for add in found] == [True, False, True]
    assert lake.rows() == before


def test_rows_in_another_order_conflict(lake: DeltaLake) -> None:
    files = fill(lake, parts="a")["a"]
    commit = plan_all(lake.table)
    lake.delete({files[1]: [3]})
    before = lake.rows()
    assert len(lake.table.commit(commit).conflicts) == 1
    assert lake.rows() == before


def test_a_table_without_vectors_gets_none(lake: DeltaLake) -> None:
    """The property was taken away after the plan: that is a change of the table."""
    files = fill(lake, parts="a")["a"]
    lake.delete({files[0]: [0]})
    metadata = next(one["metaData"] for one in commits(lake.directory)[0] if "metaData" in one)
    lake.commit([{"metaData": {**metadata, "configuration": {}}}])
    commit = ordered(plan_all(lake.table))
    lake.delete({files[1]: [3]})
    before = lake.rows()
    assert len(lake.table.commit(commit).conflicts) == 1
    assert lake.rows() == before


def test_rows_of_a_replaced_input_are_deleted_from_the_outputs(lake: DeltaLake) -> None:
    files = fill(lake)
    lake.delete({files["a"][0]: [7]})
    commit = ordered(plan_all(lake.table))
    lake.peer.delete("part = 'a' and id = 1")  # copy on write
    lake.delete({files["a"][2]: [4], files["b"][0]: [1]})
    before = lake.rows()
    result = lake.table.commit(commit)
    assert (len(result.conflicts), len(result.committed)) == (0, 2)
    vectors = [add["deletionVector"]["cardinality"] for add in adds(lake)]
    assert sorted(vectors) == [1, 9 + 1]
    removed = [one["remove"]["path"] for one in commits(lake.directory)[-1] if "remove" in one]
    assert len(removed) == 2 + 3
    assert lake.rows() == before
    assert lake.table.find_commit(commit) == result
    lake.table.commit(plan_all(lake.table))
    assert lake.rows() == before


@pytest.mark.parametrize(("replaced", "conflicts"), [(1, 0), (2, 1), (3, 1)])
def test_a_group_that_others_have_mostly_done_conflicts(
    lake: DeltaLake, replaced: int, conflicts: int
) -> None:
    files = fill(lake, parts="a")["a"]
    snapshot = lake.table.snapshot()
    mine, theirs = (
        make_commit(snapshot, in_order(lake, snapshot, some)) for some in (files, files[:replaced])
    )
    assert lake.table.commit(theirs).conflicts == ()
    before = lake.rows()
    result = lake.table.commit(mine)
    assert len(result.conflicts) == conflicts
    assert lake.rows() == before
    assert lake.table.commit(mine).conflicts == result.conflicts
    assert lake.rows() == before


def test_a_replaced_input_of_which_rows_were_deleted_again(lake: DeltaLake) -> None:
    """The vector that the plan knew of may be gone by now: it is not asked for."""
    files = fill(lake, parts="a")["a"]
    lake.delete({files[1]: [2, 3]})
    commit = ordered(plan_all(lake.table))
    lake.delete({files[1]: [5]})
    lake.peer.delete("id = 11")
    for path in lake.directory.glob("deletion_vector_*.bin"):
        path.unlink()
    before = lake.rows()
    assert lake.table.commit(commit).conflicts == ()
    assert lake.rows() == before


def test_row_ids_survive_beside_a_replaced_input(tmp_path: Path) -> None:
    lake = TrackedLake(tmp_path)
    files = fill(lake, parts="a")["a"]
    snapshot = lake.table.snapshot()
    mine, theirs = (
        make_commit(snapshot, in_order(lake, snapshot, some)) for some in (files, files[1:2])
    )
    assert lake.table.commit(theirs).conflicts == ()
    before = lake.lineage()
    assert lake.table.commit(mine).conflicts == ()
    assert lake.lineage() == before
    assert len(before) == 30


def test_rows_that_came_back_conflict(lake: DeltaLake) -> None:
    files = fill(lake, parts="a")["a"]
    plain = lake.add_of(files[0])
    lake.delete({files[0]: [0, 1]})
    commit = ordered(plan_all(lake.table))
    # Restored, and then other rows deleted: as many as before, but not the same.
    lake.commit([{"remove": lake.remove_of(files[0])}, {"add": plain}])
    lake.delete({files[0]: [1, 2, 3]})
    before = lake.rows()
    result = lake.table.commit(commit)
    assert "are back" in result.conflicts[0].reason
    assert lake.rows() == before


def test_many_rows_go_into_a_file_and_attempts_that_lost_leave_none(lake: DeltaLake) -> None:
    lake.append(range(20_000))
    lake.append(range(20_000, 40_000))
    snapshot = lake.table.snapshot()
    files = sorted(lake.paths())
    commit = make_commit(snapshot, in_order(lake, snapshot, files, cuts=[30_000]))
    generator = np.random.default_rng(7)
    lake.delete({path: generator.choice(20_000, 5_000, replace=False).tolist() for path in files})
    before, live = lake.rows(), set(lake.directory.glob("*.bin"))
    assert lake.table.commit(commit).conflicts == ()
    (new,) = set(lake.directory.glob("*.bin")) - live
    version = int(lake.table.snapshot().snapshot_id)
    assert new == Path(vector_file(lake.root, commit.commit_id, version).path)
    assert len(lake.rows()) == 30_000
    assert lake.rows() == before
    lake.table.clean_commit(commit)
    assert new.exists()
    assert lake.rows() == before


def test_what_a_dead_process_staged_is_removed_by_name(lake: DeltaLake) -> None:
    fill(lake, parts="a")
    commit = plan_all(lake.table)
    version = int(lake.table.snapshot().snapshot_id) + 1
    staged = Path(vector_file(lake.root, commit.commit_id, version).path)
    other = Path(vector_file(lake.root, "another", version).path)
    for path in (staged, other):
        path.write_bytes(b"\x01")
    lake.table.clean_commit(commit)
    assert (staged.exists(), other.exists()) == (False, True)


def test_vectors_are_the_same_for_the_same_arguments(tmp_path: Path) -> None:
    root = Location.parse(str(tmp_path))
    positions = {"x": np.arange(3), "y": np.arange(0, 90_000, 7), "z": np.arange(1, 80_000, 5)}
    first, again = (vectors_of(positions, root, commit_id="c", version=3) for _ in range(2))
    assert first == again
    assert first != vectors_of(positions, root, commit_id="c", version=4)
    assert first.location is not None
    Storage().write(first.location, first.content)
    found = read_vectors(
        Storage(), first.by_path.values(), table=root, confinement=Confinement((root,))
    )
    for path, vector in first.by_path.items():
        assert found[vector].tolist() == positions[path].tolist()


def deletes(draw: st.DrawFn, count: int) -> dict[int, list[int]]:
    return draw(
        st.dictionaries(
            st.integers(0, count - 1),
            st.lists(st.integers(0, 9), min_size=1, unique=True),
            max_size=3,
        )
    )


@st.composite
def histories(
    draw: st.DrawFn,
) -> tuple[int, list[dict[int, list[int]]], list[dict[int, list[int]]], list[int]]:
    """Draw a number of files, deletes before and after the plan, and where outputs are cut."""
    count = draw(st.integers(1, 4))
    before = [deletes(draw, count) for _ in range(draw(st.integers(0, 2)))]
    after = [deletes(draw, count) for _ in range(draw(st.integers(1, 3)))]
    return count, before, after, draw(st.lists(st.integers(1, 39), max_size=3))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories())
def test_readers_see_the_same_rows_whatever_was_deleted_when(
    history: tuple[int, list[dict[int, list[int]]], list[dict[int, list[int]]], list[int]],
) -> None:
    count, earlier, later, cuts = history
    with tempfile.TemporaryDirectory() as directory:
        lake = DeltaLake(Path(directory))
        files = [lake.append(range(10 * one, 10 * one + 10)) for one in range(count)]

        def delete(some: Mapping[int, list[int]]) -> None:
            if some:
                lake.delete({files[number]: rows for number, rows in some.items()})

        for some in earlier:
            delete(some)
        snapshot = lake.table.snapshot()
        commit = make_commit(snapshot, in_order(lake, snapshot, files, cuts=cuts))
        for some in later:
            delete(some)
        before = lake.rows()
        result = lake.table.commit(commit)
        assert lake.rows() == before
        # Nothing to carry rows over to when none was written: then nothing may have changed, too.
        assert (result.conflicts == ()) or not commit.rewrites[0].added


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), history=histories())
def test_readers_see_the_same_rows_whatever_was_replaced_and_deleted(
    data: st.DataObject,
    history: tuple[int, list[dict[int, list[int]]], list[dict[int, list[int]]], list[int]],
) -> None:
    count, earlier, later, cuts = history
    replaced = data.draw(st.sets(st.integers(0, count), max_size=count))
    with tempfile.TemporaryDirectory() as directory:
        lake = DeltaLake(Path(directory))
        files = [lake.append(range(10 * one, 10 * one + 10)) for one in range(count + 1)]
        for some in earlier:
            if some:
                lake.delete({files[number]: rows for number, rows in some.items()})
        snapshot = lake.table.snapshot()
        commit = make_commit(snapshot, in_order(lake, snapshot, files, cuts=cuts))
        for number in replaced:
            theirs = in_order(lake, lake.table.snapshot(), [files[number]])
            lake.table.commit(make_commit(lake.table.snapshot(), theirs))
        for some in later:
            if left := some.keys() - replaced:
                lake.delete({files[number]: some[number] for number in left})
        before = lake.rows()
        lake.table.commit(commit)
        assert lake.rows() == before


def test_the_real_rewriter_keeps_the_order_that_this_depends_on(lake: DeltaLake) -> None:
    files = [lake.append(range(1000 * one, 1000 * one + 1000)) for one in range(5)]
    lake.delete({files[0]: list(range(0, 1000, 3)), files[3]: [0, 999]})
    snapshot = lake.table.snapshot()
    group = pick(lake.table.inventory(snapshot), *files)
    key = group.files["partition_key"][0].as_py()
    answer = rewrite_group(
        RewriteTask(
            table=lake.table.files(snapshot),
            partition_key=key,
            files=group,
            attempt_id="attempt",
            target_file_size_bytes=8_000,
            proof=Proof.FULL,
        )
    )
    assert len(answer.outputs) > 1
    done = Rewrite("g", group, answer.outputs, answer.rows_dropped, keeps_order=True)
    generator = np.random.default_rng(11)
    for path in files:
        lake.delete({path: generator.choice(1000, 100, replace=False).tolist()})
    before = lake.rows()
    assert lake.table.commit(make_commit(snapshot, done)).conflicts == ()
    assert lake.rows() == before


def test_row_ids_survive_a_carried_delete(tmp_path: Path) -> None:
    lake = TrackedLake(tmp_path)
    files = fill(lake, parts="a")["a"]
    commit = ordered(plan_all(lake.table))
    lake.delete({files[1]: [3, 4]})
    before = lake.lineage()
    assert lake.table.commit(commit).conflicts == ()
    assert lake.lineage() == before
    assert len(before) == 28


def append_row_groups(lake: DeltaLake, first: int, *, rows: int, per_group: int) -> str:
    """Commit a file of several row groups."""
    path = lake.directory / "part=a" / f"groups-{first}.parquet"
    path.parent.mkdir(exist_ok=True)
    content = rows_of(range(first, first + rows), "a").drop(["part"])
    pq.write_table(content, path, row_group_size=per_group)
    add = {
        "path": f"part=a/{path.name}",
        "partitionValues": {"part": "a"},
        "size": path.stat().st_size,
        "modificationTime": 1,
        "dataChange": True,
        "stats": json.dumps({"numRecords": rows}),
    }
    lake.commit([{"add": add}])
    return str(path)


@pytest.mark.parametrize("target_bytes", [6_000, 20_000, 1 << 30])
@pytest.mark.parametrize("least_bytes", [0, 1_200])
def test_order_is_kept_where_row_groups_are_copied_among_others(
    lake: DeltaLake, target_bytes: int, least_bytes: int
) -> None:
    generator = np.random.default_rng(target_bytes + least_bytes)
    files = [
        append_row_groups(lake, 1000 * one, rows=900, per_group=int(generator.integers(60, 400)))
        for one in range(6)
    ]
    for path in files[::2]:
        lake.delete({path: generator.choice(300, 5, replace=False).tolist()})
    snapshot = lake.table.snapshot()
    group = pick(lake.table.inventory(snapshot), *files)
    side = lake.table.files(snapshot)
    limits = SpliceLimits(least_bytes, 0, 1 << 40, 1000, 1 << 30, keeps_layout=False)
    key = group.files["partition_key"][0].as_py()
    answer = rewrite_group(
        RewriteTask(side, key, group, "attempt", target_bytes, Proof.COUNTS, splice=limits)
    )
    assert answer.splice.row_groups > 0
    kept = read_group(side, group)[0]["id"].to_pylist()
    written = [
        one
        for output in answer.outputs
        for one in pq.ParquetFile(output.path).read(columns=["id"])["id"].to_pylist()
    ]
    assert written == kept
    done = Rewrite("g", group, answer.outputs, answer.rows_dropped, keeps_order=True)
    for path in files:
        lake.delete({path: generator.choice(900, 30, replace=False).tolist()})
    before = lake.rows()
    assert lake.table.commit(make_commit(snapshot, done)).conflicts == ()
    assert lake.rows() == before
