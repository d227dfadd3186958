"""Whatever happens between the matching of a change and its commit, it is as if nothing had.

Histories are drawn at random: changes are matched at one time and committed at another, with
appends, deletes, removals, compactions and other changes in between. A commit either changes
nothing, or does to the rows that are there at that time what a dictionary would do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.commits import Commit
from catalog.memory import Features
from tests.catalog.changes import Change, plan_change
from tests.catalog.conformance import Lake, fill
from tests.catalog.delta.lakes import DeltaLake
from tests.catalog.groups import plan_all
from tests.catalog.iceberg.lakes import IcebergLake
from tests.catalog.test_memory import MemoryLake

# Keys of the first rows, and keys that come in by appends or by changes.
_OLD, _NEW = range(20), range(1000, 1012)
_KEYS = st.sampled_from([*_OLD, *_NEW])


@dataclass
class History:
    """A lake, and what was matched and not committed yet."""

    lake: Lake
    changes: list[tuple[Commit, Change]] = field(default_factory=list)
    compactions: list[Commit] = field(default_factory=list)
    made: int = 0

    def match(self, keys: Sequence[int], upserts: int, marks: bool) -> None:
        number = len(self.changes)
        change = Change(
            [(key, "ab"[key % 2], f"change {number}") for key in keys[:upserts]],
            deletes=keys[upserts:],
            watermarks=(),
        )
        self.changes.append((plan_change(self.lake.table, change, marks=marks), change))

    def commit(self, which: int) -> None:
        if not self.changes:
            return
        commit, change = self.changes.pop(which % len(self.changes))
        before = self.lake.rows()
        result = self.lake.table.commit(commit)
        made = result.snapshot is not None
        assert self.lake.rows() == (change.apply(before) if made else before)
        assert (self.lake.table.find_commit(commit) is not None) == made
        self.made += made

    def plan_compaction(self) -> None:
        self.compactions.append(plan_all(self.lake.table))

    def compact(self, which: int) -> None:
        if self.compactions:
            before = self.lake.rows()
            self.lake.table.commit(self.compactions.pop(which % len(self.compactions)))
            assert self.lake.rows() == before

    def append(self, part: str) -> None:
        known = {row[0] for row in self.lake.rows()}
        fresh = [key for key in _NEW if key not in known][:2]
        if fresh:
            self.lake.append(fresh, part)

    def delete(self, which: int) -> None:
        """Delete the first live row of a file."""
        table = self.lake.table
        inventory = table.inventory(table.snapshot())
        if self.lake.has_deletes and inventory.file_count:
            path = inventory.files["path"][which % inventory.file_count].as_py()
            gone = table.files(table.snapshot()).selections(inventory)
            dropped = set(gone[path].dropped.tolist()) if path in gone else set()
            rows = inventory.files["row_count"].to_pylist()[which % inventory.file_count]
            if live := sorted(set(range(rows)) - dropped):
                self.lake.delete({path: live[:1]})

    def remove(self, which: int) -> None:
        table = self.lake.table
        files = table.inventory(table.snapshot()).files
        if files.num_rows:
            self.lake.remove(files["path"][which % files.num_rows].as_py())


_WHICH = st.integers(0, 7)
_STEPS = st.one_of(
    st.builds(
        lambda keys, upserts, marks: lambda one: one.match(keys, upserts, marks),
        st.lists(_KEYS, min_size=1, max_size=5, unique=True),
        st.integers(0, 5),
        st.booleans(),
    ),
    st.builds(lambda which: lambda one: one.commit(which), _WHICH),
    st.builds(lambda which: lambda one: one.commit(which), _WHICH),
    st.builds(lambda part: lambda one: one.append(part), st.sampled_from("ab")),
    st.builds(lambda which: lambda one: one.delete(which), _WHICH),
    st.builds(lambda which: lambda one: one.remove(which), _WHICH),
    st.just(lambda one: one.plan_compaction()),
    st.builds(lambda which: lambda one: one.compact(which), _WHICH),
)
Steps = Sequence[Callable[[History], None]]


def follow(lake: Lake, steps: Steps) -> None:
    """Let a history happen, and commit what is left at its end."""
    fill(lake, files=1)
    history = History(lake)
    for step in (*steps, *[lambda one: one.commit(0)] * 3):
        step(history)


def histories(size: int) -> st.SearchStrategy[Steps]:
    return st.lists(_STEPS, min_size=3, max_size=size)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=histories(12))
def test_changes_in_memory_are_serialisable(steps: Steps) -> None:
    with TemporaryDirectory() as directory:
        features = Features(partition_columns=frozenset({"part"}), has_row_lineage=True)
        follow(MemoryLake(Path(directory), features), steps)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=histories(12))
def test_changes_of_delta_tables_are_serialisable(steps: Steps) -> None:
    with TemporaryDirectory() as directory:
        follow(DeltaLake(Path(directory)), steps)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=histories(12))
def test_changes_of_iceberg_tables_are_serialisable(steps: Steps) -> None:
    with TemporaryDirectory() as directory:
        follow(IcebergLake(Path(directory), 2), steps)
