"""A Hudi table as it is opened: by its path, with what it does not take."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from catalog.commits import ChangeScope
from catalog.errors import SnapshotNotFoundError, TableNotFoundError, UnsupportedTableError
from catalog.hudi.table import HudiTable
from catalog.open import open_table
from catalog.table import AnnouncingTable
from tests.catalog.hudi.lake import HudiLake


@pytest.fixture
def lake(tmp_path: Path) -> HudiLake:
    lake = HudiLake(tmp_path / "table", 9)
    lake.append(range(3))
    return lake


@pytest.mark.parametrize("prefix", ["", "hudi:"])
def test_a_table_is_opened_by_its_path(lake: HudiLake, prefix: str) -> None:
    table = open_table(f"{prefix}{lake.root.path}")
    assert isinstance(table, HudiTable)
    assert isinstance(table, AnnouncingTable)
    assert (table.name, table.format) == (lake.root.path, "hudi v9 merge-on-read")
    assert pickle.loads(pickle.dumps(table.files(table.snapshot()))).schema.arrow.names[5:] == [
        "id",
        "part",
        "text",
    ]


def test_while_properties_are_rewritten_their_copy_is_read(lake: HudiLake) -> None:
    meta = Path(lake.root.path, ".hoodie")
    (meta / "hoodie.properties").rename(meta / "hoodie.properties.backup")
    assert lake.table.config().version == 9


def test_no_table_and_no_snapshot_are_told(lake: HudiLake, tmp_path: Path) -> None:
    with pytest.raises(TableNotFoundError):
        open_table(f"hudi:{tmp_path}/nothing")
    with pytest.raises(SnapshotNotFoundError, match="no snapshot '123'"):
        lake.table.snapshot("123")


@pytest.mark.parametrize(
    ("key", "reason"),
    [((), "appended whatever"), (("text",), "the key is text"), (("id", "text"), "that of the")],
)
def test_changes_by_another_key_are_refused(
    lake: HudiLake, key: tuple[str, ...], reason: str
) -> None:
    lake.append(range(3))
    with pytest.raises(UnsupportedTableError, match=reason):
        lake.table.check_change(ChangeScope(adds_rows=True, removes_rows=False, key=key))
    lake.table.check_change(ChangeScope(adds_rows=True, removes_rows=True, key=("id", "part")))
