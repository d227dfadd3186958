"""Which logs are folded: enough of them, those that others planned first, and a bounded number."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from catalog.announcing import Announced, Standing, WorkKind
from catalog.layout import FileLayout
from catalog.model import DATA_FILES, DELETE_FILES, Inventory, Snapshot
from compactor.planner.plan import Plan
from compactor.planner.planfile import decode_plan, encode_plan
from compactor.planner.planning import TableState, make_plan
from compactor.planner.policy import Policy

MIB = 1 << 20
LAYOUT = FileLayout(
    target_file_size_bytes=128 * MIB,
    row_group_size_bytes=128 * MIB,
    row_group_rows_max=MIB,
    page_size_bytes=MIB,
    dictionary_page_size_bytes=MIB,
    codec="zstd",
    codec_level=None,
)
# Size of a slice's data file in MiB, and sizes and rows of its logs; each file has a row per KiB.
Slice = tuple[int, list[tuple[int, int]]]


def inventory(slices: list[Slice]) -> Inventory:
    files, logs = [], []
    for number, (size, some) in enumerate(slices):
        path = f"/t/{number:03d}.parquet"
        rows = range(len(logs), len(logs) + len(some))
        files.append(
            {
                "path": path,
                "size_bytes": size * MIB,
                "row_count": size * 1024,
                "partition_key": "p",
                "partition": "p",
                "sequence_number": 1,
                "deletes": list(rows),
            }
        )
        logs += [
            {
                "path": f"/t/.{number:03d}.log.{at}",
                "size_bytes": log_bytes,
                "row_count": count,
                "sequence_number": 2,
                "target": path,
                "equality_ids": [3],
            }
            for at, (log_bytes, count) in enumerate(some)
        ]
    return Inventory(
        pa.Table.from_pylist(files, DATA_FILES), pa.Table.from_pylist(logs, DELETE_FILES)
    )


def plan(slices: list[Slice], standing: Standing, policy: Policy | None = None) -> Plan:
    state = TableState(
        name="t",
        format="hudi",
        snapshot=Snapshot("1", 1, 0, None, "commit"),
        inventory=inventory(slices),
        layout=LAYOUT,
        leaf_columns=8,
        standing=standing,
    )
    return make_plan(state, policy or Policy(), now_ms=0)


def chosen(found: Plan) -> list[int]:
    paths = [path for one in found.groups for path in one.files.files["path"].to_pylist()]
    return sorted(int(path[3:6]) for path in paths)


@pytest.mark.parametrize(
    ("size", "logs", "is_due"),
    [
        (100, [(1, 1)], False),
        (100, [(1, 1)] * 5, True),
        (100, [(11 * MIB, 1)], True),
        (100, [(1, 11 * 1024)], True),
        (0, [(1, 1)], True),
        (100, [], False),
    ],
)
def test_many_logs_or_large_ones_are_due(
    size: int, logs: list[tuple[int, int]], is_due: bool
) -> None:
    found = plan([(size, logs), (120, [])], Standing())
    assert chosen(found) == ([0] if is_due else [])
    kind = WorkKind.FOLD if is_due else WorkKind.REPLACE
    assert found.announced == Announced(kind)
    assert decode_plan(encode_plan(found)).announced == found.announced


def test_each_slice_is_a_group_and_files_wait() -> None:
    small: list[Slice] = [(1, [])] * 10
    found = plan([(100, [(1, 1)] * 5), (1, [(1, 1)] * 6), *small], Standing())
    assert [one.files.file_count for one in found.groups] == [1, 1]
    assert all(one.reason == "1 with logs" for one in found.groups)
    assert found.folds_logs
    assert plan(small, Standing()).groups[0].files.file_count == 10


def test_an_announcement_is_bounded_and_takes_the_largest_logs() -> None:
    slices: list[Slice] = [(10, [(number * MIB, 1)] * 5) for number in range(1, 6)]
    found = plan(slices, Standing(slices_max=2))
    assert chosen(found) == [3, 4]
    assert [(one.files, one.reason) for one in found.skipped] == [
        (3, "left to the next plan: this one is as large as may be announced")
    ]


def test_what_others_planned_comes_first_whatever_it_costs() -> None:
    slices: list[Slice] = [(10, [(MIB, 1)] * 5)] * 3
    every = inventory(slices)
    standing = Standing("20", every.take(np.array([1])), frozenset(("/t/001.parquet",)))
    found = plan(slices, standing, Policy(max_job_bytes=1, partitions=("none",)))
    assert chosen(found) == [1]
    assert found.announced == Announced(WorkKind.FOLD, "20")
    assert found.kept_files == 2


def test_what_is_planned_or_bound_is_left_alone() -> None:
    slices: list[Slice] = [(10, [(MIB, 1)] * 5), *[(1, [])] * 6]
    planned = frozenset(("/t/000.parquet", "/t/001.parquet"))
    found = plan(slices, Standing(planned=planned))
    assert chosen(found) == [2, 3, 4, 5, 6]
    every = frozenset(f"/t/{number:03d}.parquet" for number in range(7))
    bound = plan(slices, Standing(bound=every))
    assert chosen(bound) == [0]
    assert not plan([(1, [])] * 6, Standing(bound=every)).groups
