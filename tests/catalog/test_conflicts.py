"""The rule of conflicts over its input space: a rewrite stands if and only if nothing changed."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from catalog.commits import Rewrite
from catalog.conflicts import LiveFile, all_conflict, split
from catalog.model import DATA_FILES, DELETE_FILES, Inventory

PATHS = [f"file-{number}" for number in range(6)]
FILES = st.dictionaries(
    st.sampled_from(PATHS),
    st.builds(
        LiveFile,
        size_bytes=st.integers(1, 2),
        row_count=st.integers(1, 2),
        sequence_number=st.integers(1, 2),
        delete_paths=st.frozensets(st.sampled_from(["d1", "d2"])),
    ),
)


def rewrite_of(group_id: str, files: dict[str, LiveFile]) -> Rewrite:
    deletes = sorted({path for one in files.values() for path in one.delete_paths})
    rows = [
        {
            "path": path,
            "size_bytes": one.size_bytes,
            "row_count": one.row_count,
            "partition_key": "p",
            "partition": "p",
            "sequence_number": one.sequence_number,
            "written_at_ms": None,
            "deletes": [deletes.index(delete) for delete in one.delete_paths],
        }
        for path, one in files.items()
    ]
    delete_rows = [
        {"path": path, "size_bytes": 1, "row_count": 1, "sequence_number": 1, "target": None}
        for path in deletes
    ]
    inventory = Inventory(
        pa.Table.from_pylist(rows, schema=DATA_FILES),
        pa.Table.from_pylist(delete_rows, schema=DELETE_FILES),
    )
    return Rewrite(group_id, inventory, (), 0)


@given(FILES, FILES)
def test_a_rewrite_stands_if_its_files_are_live_as_planned(
    planned: dict[str, LiveFile], live: dict[str, LiveFile]
) -> None:
    standing, conflicts = split([rewrite_of("g", planned)], live)
    is_unchanged = all(live.get(path) == one for path, one in planned.items())
    assert (len(standing), len(conflicts)) == ((1, 0) if is_unchanged else (0, 1))
    assert all(any(path in one.reason for path in planned) for one in conflicts)


@given(FILES, st.data())
def test_what_happens_to_other_files_does_not_matter(
    live: dict[str, LiveFile], data: st.DataObject
) -> None:
    chosen = data.draw(st.sets(st.sampled_from(PATHS)))
    planned = {path: one for path, one in live.items() if path in chosen}
    others = data.draw(FILES)
    moved = {**others, **planned}
    standing, conflicts = split([rewrite_of("g", planned)], moved)
    assert (len(standing), conflicts) == (1, ())


def test_a_group_that_conflicts_reserves_nothing() -> None:
    one = LiveFile(1, 1, 1, frozenset())
    lost = rewrite_of("lost", {"a": one, "gone": one})
    other = rewrite_of("other", {"a": one})
    standing, conflicts = split([lost, other], {"a": one})
    assert [rewrite.group_id for rewrite in standing] == ["other"]
    assert [conflict.group_id for conflict in conflicts] == ["lost"]


def test_a_reason_for_all_names_every_group() -> None:
    one = rewrite_of("a", {})
    found = all_conflict([one, replace(one, group_id="b")], "why")
    assert [(conflict.group_id, conflict.reason) for conflict in found] == [
        ("a", "why"),
        ("b", "why"),
    ]
