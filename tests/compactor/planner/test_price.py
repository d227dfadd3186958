"""Prices grow with the work, and the document says what the plan says."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
from hypothesis import given, settings

from catalog.model import Inventory
from compactor.planner.document import plan_document
from compactor.planner.policy import GIB, MIB, Policy
from compactor.planner.price import GroupSize, price_group
from compactor.planner.width import RowWidth, row_width
from tests.compactor.planner.inventories import (
    LAYOUT,
    Delete,
    File,
    inventories,
    inventory_of,
    plan_of,
    policies,
)

REAL_LAYOUT = replace(LAYOUT, row_group_size_bytes=128 * MIB, row_group_rows_max=1 << 20)
SIZE = GroupSize(
    400, GIB, 0, 0, 0, GIB, 2, kept_rows=10**6, stretch_rows=10**6, encoded_file_bytes=3 * MIB
)


def test_a_gibibyte_costs_about_what_was_measured() -> None:
    price = price_group(SIZE, REAL_LAYOUT)
    assert 40 <= price.cpu_seconds_estimate < 44
    assert 170 * MIB < price.memory_bytes_estimate < 220 * MIB
    assert price.requests_estimate > 3 * 400


def test_memory_follows_the_row_group_and_not_the_group() -> None:
    price = price_group(SIZE, REAL_LAYOUT)
    larger = price_group(replace(SIZE, input_bytes=100 * GIB), REAL_LAYOUT)
    few = replace(SIZE, input_bytes=MIB, output_bytes=MIB, kept_rows=1000, stretch_rows=1000)
    smaller = price_group(few, REAL_LAYOUT)
    assert larger.memory_bytes_estimate == price.memory_bytes_estimate
    assert smaller.memory_bytes_estimate < 60 * MIB


def test_memory_follows_the_rows_where_types_fix_their_width() -> None:
    width = row_width(pa.schema([("a", pa.int64()), ("b", pa.float32()), ("c", pa.decimal128(9))]))
    assert width == RowWidth(28.375, 0)
    rows = replace(SIZE, encoded_file_bytes=GIB)
    many, few = (replace(REAL_LAYOUT, row_group_rows_max=rows) for rows in (10**7, 10**3))
    price = price_group(rows, many, width)
    assert price.memory_bytes_estimate == int(52 * MIB + 28.375 * 10**6)
    assert price_group(rows, few, width).memory_bytes_estimate < 53 * MIB
    halved = price_group(replace(rows, stretch_rows=10**6 // 2), many, width)
    assert halved.memory_bytes_estimate == int(52 * MIB + 28.375 * 10**6 / 2)
    copied = price_group(replace(rows, stretch_rows=0, encoded_file_bytes=0), many, width)
    assert copied.memory_bytes_estimate == 44 * MIB


def test_texts_are_as_wide_as_storage_lets_expect() -> None:
    kinds = [("a", pa.string()), ("b", pa.list_(pa.int64())), ("c", pa.int32())]
    width = row_width(pa.schema(kinds))
    assert width.varying_columns == 2
    assert width.of(1.0) == 33 / 8 + 2 * 12
    assert width.of(1000.0) == 33 / 8 + 8 * (1000 - 33 / 8)
    assert RowWidth(500.0, 3).of(300.0) == 500 + 3 * 12


def test_deletes_cost_memory_and_reads() -> None:
    price = price_group(SIZE, REAL_LAYOUT)
    with_deletes = replace(SIZE, delete_files=10, delete_bytes=MIB, delete_rows=10**6)
    dearer = price_group(with_deletes, REAL_LAYOUT)
    assert dearer.memory_bytes_estimate > price.memory_bytes_estimate
    assert dearer.cpu_seconds_estimate > price.cpu_seconds_estimate
    assert dearer.requests_estimate > price.requests_estimate
    assert dearer.delete_bytes == MIB


def test_the_document_keeps_its_contract() -> None:
    files = [File(10, deletes=("d0",))] * 5 + [File(900, partition="p=1")]
    files += [File(10, partition="p=2")] * 2
    document = plan_document(plan_of(inventory_of(files, [Delete("d0", 100)])))
    (group,) = document["groups"]
    assert {
        "id": "0001",
        "partition": "p=0",
        "rung": "transcode",
        "files": 5,
        "deletes": 1,
        "input_bytes": 50,
        "output_bytes_estimate": 40,
        "reason": "5 small, 5 with deleted rows",
    }.items() <= group.items()
    assert group["memory_estimate"] > 44 * MIB
    assert document["table"] == "lake.db.t"
    assert document["format"] == "iceberg v2"
    assert document["snapshot"] == "s1"
    assert document["kept"] == {"files": 3, "bytes": 920}
    assert document["skipped"] == [
        {"partition": "p=2", "files": 2, "bytes": 20, "reason": "fewer than 5 small files"}
    ]
    assert document["totals"]["files"] == 5
    assert document["totals"]["deletes"] == 1


@settings(max_examples=100, deadline=None)
@given(inventories(), policies())
def test_the_document_is_json_and_adds_up(inventory: Inventory, policy: Policy) -> None:
    plan = plan_of(inventory, policy)
    document = json.loads(json.dumps(plan_document(plan)))
    for key in ("files", "input_bytes", "output_bytes_estimate", "requests_estimate"):
        assert document["totals"][key] == sum(group[key] for group in document["groups"])
    deletes = [g.files.delete_files["path"].chunks for g in plan.groups]
    unique = pa.chunked_array([c for chunks in deletes for c in chunks], pa.string()).unique()
    assert document["totals"]["deletes"] == len(unique)
