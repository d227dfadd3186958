"""A plan survives its file, and a file that is not a plan of the table is refused by name."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from catalog.model import Inventory
from compactor.errors import PlanFileError, PlanStaleError
from compactor.planner import planfile, planrows
from compactor.planner.plan import Plan
from compactor.planner.planfile import decode_plan, encode_plan, load_plan
from compactor.planner.policy import Policy
from tests.compactor.planner.inventories import (
    Delete,
    File,
    inventories,
    inventory_of,
    permuted,
    plan_of,
    policies,
    read_files,
)

FILES = [File(10, deletes=("d0",))] * 5 + [File(20, partition="p=1")] * 6
DELETES = [Delete("d0", 7)]


def saved() -> tuple[Inventory, Plan, dict[str, Any]]:
    inventory = inventory_of(FILES, DELETES)
    plan = plan_of(inventory)
    return inventory, plan, json.loads(encode_plan(plan))


AS_JSON, AS_PARQUET = planfile.JSON_FILES_MAX, -1
FORMS = pytest.mark.parametrize("files_max", [AS_JSON, AS_PARQUET], ids=["json", "parquet"])


def encoded(plan: Plan, files_max: int) -> bytes:
    """Encode a plan in one of its forms."""
    with patch.object(planfile, "JSON_FILES_MAX", files_max):
        return encode_plan(plan)


@FORMS
@settings(max_examples=50, deadline=None)
@given(inventory=inventories(), policy=policies(), seed=st.integers(0, 2**32))
@example(inventory=Inventory.empty(), policy=Policy(), seed=0)
def test_a_plan_survives_its_file(
    files_max: int, inventory: Inventory, policy: Policy, seed: int
) -> None:
    plan = plan_of(inventory, policy)
    content = encoded(plan, files_max)
    assert decode_plan(content) == plan
    assert load_plan(content, permuted(inventory, seed)) == plan


def test_a_large_plan_is_rows_of_parquet_that_anyone_can_read(tmp_path: Path) -> None:
    plan = plan_of(inventory_of([File(10)] * 30 + [File(10, partition="p=1")] * 40, []))
    saved = tmp_path / "plan.parquet"
    saved.write_bytes(encoded(plan, 69))
    rows = pq.read_table(saved)
    assert rows.num_rows == plan.totals().files == 70
    assert decode_plan(saved.read_bytes()) == plan
    assert encoded(decode_plan(saved.read_bytes()), 69) == saved.read_bytes()


def test_groups_are_cut_out_of_rows_wherever_row_groups_end() -> None:
    groups = [plan_of(inventory_of([File(10)] * count, [])).groups[0] for count in (9, 5, 30)]
    with patch.object(planrows, "RUN_ROWS", 10):
        content = planrows.encode_rows(b"{}", [group.files for group in groups])
    places = [(group.partition_key, group.partition) for group in groups]
    assert list(planrows.decode_rows(content, places)) == [group.files for group in groups]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_damaged_file_of_rows_is_refused_or_of_no_effect(data: st.DataObject) -> None:
    inventory = inventory_of(FILES, DELETES)
    plan = plan_of(inventory)
    content = bytearray(encoded(plan, AS_PARQUET))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(PlanFileError, PlanStaleError):
        for group in load_plan(bytes(content), inventory).groups:
            assert set(group.files.files["path"].to_pylist()) <= set(
                inventory.files["path"].to_pylist()
            )


@pytest.mark.parametrize("name", ["group", "is_delete", "size_bytes", "path", "deletes"])
def test_rows_that_lack_a_value_are_refused(name: str) -> None:
    inventory = inventory_of(FILES, DELETES)
    content = encoded(plan_of(inventory), AS_PARQUET)
    rows = pq.read_table(pa.BufferReader(content))
    values = pa.array([None, *rows[name].to_pylist()[1:]], rows.schema.field(name).type)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, rows.schema.remove_metadata(), store_schema=False) as writer:
        writer.write_table(rows.set_column(rows.column_names.index(name), name, values))
        writer.add_key_value_metadata({"compact.plan": planrows.read_header(content)})
    with pytest.raises(PlanFileError, match="damaged plan file"):
        load_plan(sink.getvalue().to_pybytes(), inventory)


def test_a_column_whose_name_was_damaged_is_missed() -> None:
    inventory = inventory_of(FILES, DELETES)
    content = encoded(plan_of(inventory), AS_PARQUET)
    name = content.index(b"deletes")  # in the schema, which is the first to name it
    with pytest.raises(PlanFileError, match="its columns"):
        load_plan(content[:name] + b"delete_" + content[name + 7 :], inventory)


def test_the_file_names_table_snapshot_files_and_deletes() -> None:
    _, _, document = saved()
    assert (document["kind"], document["version"]) == ("compact-plan", 1)
    assert document["table"] == "lake.db.t"
    assert document["snapshot"]["snapshot_id"] == "s1"
    by_partition = {group["partition"]: group for group in document["groups"]}
    assert by_partition["p=0"]["files"]["path"] == [f"f{number:05d}" for number in range(5)]
    assert by_partition["p=0"]["delete_files"]["path"] == ["d0"]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_truncated_file_is_refused(data: st.DataObject) -> None:
    inventory, _, document = saved()
    text = json.dumps(document)
    with pytest.raises(PlanFileError):
        load_plan(text[: data.draw(st.integers(0, len(text) - 1))], inventory)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_flipped_byte_is_refused_or_harmless(data: st.DataObject) -> None:
    inventory, plan, _ = saved()
    content = bytearray(encode_plan(plan))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(PlanFileError, PlanStaleError):
        for group in load_plan(bytes(content), inventory).groups:
            assert [known.files for known in plan.groups].count(group.files) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2"),
        ({"kind": "plan"}, "its kind is `plan`"),
        ({"groups": None}, "damaged"),
        ({"snapshot": {"snapshot_id": 5}}, "damaged"),
        ({"kept_files": "many"}, "damaged"),
    ],
)
def test_what_is_no_plan_of_ours_is_refused(change: dict[str, Any], message: str) -> None:
    inventory, _, document = saved()
    with pytest.raises(PlanFileError, match=message):
        load_plan(json.dumps(document | change), inventory)


@pytest.mark.parametrize("text", ["", "[]", "{}", "PAR1", '"compact-plan"', b"\xff\xfe"])
def test_other_files_are_refused(text: str | bytes) -> None:
    with pytest.raises(PlanFileError, match="damaged plan file"):
        decode_plan(text)


def test_a_file_in_two_groups_is_refused() -> None:
    inventory, _, document = saved()
    document["groups"].append(document["groups"][0] | {"group_id": "0009"})
    with pytest.raises(PlanFileError, match="occurs twice"):
        load_plan(json.dumps(document), inventory)


@pytest.mark.parametrize("number", [-1, 1, 2**40])
def test_a_delete_file_that_is_not_there_is_refused(number: int) -> None:
    inventory, _, document = saved()
    group = next(group for group in document["groups"] if group["delete_files"]["path"])
    group["files"]["deletes"][0] = [number]
    with pytest.raises(PlanFileError, match="damaged plan file"):
        load_plan(json.dumps(document), inventory)


def test_columns_of_unequal_length_are_refused() -> None:
    inventory, _, document = saved()
    document["groups"][0]["files"]["size_bytes"].pop()
    with pytest.raises(PlanFileError, match="damaged plan file"):
        load_plan(json.dumps(document), inventory)


def test_a_plan_of_files_that_are_gone_is_stale() -> None:
    inventory, plan, _ = saved()
    files, deletes = read_files(inventory)
    with pytest.raises(PlanStaleError, match="1 of its data files are not in the snapshot"):
        load_plan(encode_plan(plan), inventory_of(files[1:], deletes))


def test_a_plan_of_files_with_other_deletes_is_stale() -> None:
    inventory, plan, _ = saved()
    files, deletes = read_files(inventory)
    files[0] = replace(files[0], deletes=("d0", "d1"))
    with pytest.raises(PlanStaleError, match="not as planned"):
        load_plan(encode_plan(plan), inventory_of(files, [*deletes, Delete("d1", 1)]))


def test_an_expired_commit_time_does_not_make_a_plan_stale() -> None:
    files = [replace(file, written_at_ms=5) for file in FILES]
    plan = plan_of(inventory_of(files, DELETES))
    loaded = load_plan(encode_plan(plan), inventory_of(FILES, DELETES))
    assert [group.group_id for group in loaded.groups] == [group.group_id for group in plan.groups]


def test_a_target_of_a_subclass_of_int_is_saved_as_a_number() -> None:
    class Size(int):
        pass

    inventory, _, _ = saved()
    plan = plan_of(inventory, Policy(target_file_size_bytes=Size(500)))
    assert load_plan(encode_plan(plan), inventory) == plan
