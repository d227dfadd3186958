"""Metadata that we write for a catalog keeps what another engine put into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.table import Table

from catalog.iceberg.metadata_json import merged, write_metadata_with_every_field
from tests.catalog.conformance import fill
from tests.catalog.groups import plan_all
from tests.catalog.iceberg.lakes import IcebergLake
from tests.catalog.iceberg.version3 import Version3Lake

UNKNOWN = {"later": [1, {"x": None}], "encryption-keys": [{"key-id": "k", "more": 1.5}]}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from("abcdef"), VALUES)


def _document(table: Table) -> Any:
    return json.loads(Path(table.metadata_location.removeprefix("file://")).read_text())


def _edit(table: Table) -> Any:
    """Add what nobody here knows in all places; return the document."""
    document = _document(table)
    document.update(UNKNOWN)
    for one in (*document["snapshots"], *document["schemas"], *document["partition-specs"]):
        one["unknown-here"] = one.get("snapshot-id", "s")
    document["schemas"][0]["fields"][0]["unknown-field"] = "f"
    Path(table.metadata_location.removeprefix("file://")).write_text(json.dumps(document))
    return document


@given(before=DOCUMENTS, unknown=DOCUMENTS, new=DOCUMENTS)
def test_what_is_not_known_stays_and_what_is_new_is_there(
    before: dict[str, Any], unknown: dict[str, Any], new: dict[str, Any]
) -> None:
    extra = {f"_{key}": value for key, value in unknown.items()}
    found = merged({**before, **extra}, before, new)
    assert found == {**extra, **new}


@given(before=VALUES, new=VALUES)
def test_without_anything_unknown_the_new_one_stands(before: Any, new: Any) -> None:
    assert merged(before, before, new) == new


def test_members_of_lists_are_known_by_their_ids() -> None:
    before = [{"snapshot-id": 1, "a": 1, "u": "one"}, {"snapshot-id": 2, "a": 2, "u": "two"}]
    known = [{"snapshot-id": 1, "a": 1}, {"snapshot-id": 2, "a": 2}]
    new = [{"snapshot-id": 2, "a": 5}, {"snapshot-id": 3, "a": 3}]
    assert merged(before, known, new) == [{"snapshot-id": 2, "a": 5, "u": "two"}, new[1]]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_commit_keeps_every_field(tmp_path: Path, version: int) -> None:
    lake = Version3Lake(tmp_path) if version == 3 else IcebergLake(tmp_path, version)
    write_metadata_with_every_field(lake.catalog)
    fill(lake, parts="a", files=2)
    before = _edit(lake.other)
    assert lake.table.commit(plan_all(lake.table)).conflicts == ()
    after = _document(lake.other)
    assert {key: after[key] for key in UNKNOWN} == UNKNOWN
    *old, new = after["snapshots"]
    assert old == before["snapshots"]
    assert "unknown-here" not in new
    assert (after["schemas"], after["partition-specs"]) == (
        before["schemas"],
        before["partition-specs"],
    )
    assert after.get("next-row-id") == (40 if version == 3 else None)
    assert lake.catalog.load_table("ns.t").metadata.current_snapshot_id == new["snapshot-id"]
