"""A Hudi table as it is opened: by its path, with what it does not take."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from catalog.commits import ChangeScope
from catalog.errors import SnapshotNotFoundError, TableNotFoundError, UnsupportedTableError
from catalog.hudi import inventory as reading_inventory
from catalog.hudi.partitions import is_named
from catalog.hudi.reading import Source
from catalog.hudi.slices import Slices
from catalog.hudi.table import HudiTable
from catalog.open import open_table
from catalog.table import AnnouncingTable
from compactor.jobs.state import JobState
from tests.catalog.hudi.compacting import compact
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


@pytest.mark.parametrize("version", [6, 9])
def test_partitions_whose_names_are_no_paths_are_left_alone(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A metadata table may name what no listing of the storage would be taken from."""
    lake = HudiLake(tmp_path / "lake", version)
    paths = [lake.append([number], "a") for number in range(2)]
    listing = HudiTable.listing

    def with_another(self: HudiTable, source: Source) -> pa.Table:
        found = listing(self, source)
        others = [pa.array(["b\x01c"] * found.num_rows), found["name"], found["size_bytes"]]
        return pa.concat_tables([found, pa.table(others, schema=found.schema)])

    stats = reading_inventory._stats

    def told(source: Source, slices: Slices) -> Any:
        """Commits tell of them, too."""
        found = stats(source, slices)
        return found | {("b\x01c", name): one for (_, name), one in found.items()}

    monkeypatch.setattr(HudiTable, "listing", with_another)
    monkeypatch.setattr(reading_inventory, "_stats", told)
    assert lake.table.inventory(lake.table.snapshot()).file_count == 4
    assert compact(lake.table, tmp_path).status is JobState.SUCCEEDED
    left = lake.table.inventory(lake.table.snapshot()).files["path"].to_pylist()
    assert not {*paths} & {*left}
    assert sum("\x01" in path for path in left) >= 2


def test_places_are_told_by_their_names() -> None:
    names = ["/t/a b%é?#", "s3://b/t/a=1", "s3://b/t/a?", "s3://b/t/#", "/t/a\x7f", "/t/a\x80"]
    assert is_named(pa.chunked_array([names])).to_pylist() == [True, True] + [False] * 4
