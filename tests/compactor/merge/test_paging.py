"""Where a file has an index of its pages, few pages are read and no row is missed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.errors import CorruptTableError
from catalog.schema import TableSchema
from compactor.merge import finding, paging
from compactor.merge.changes import Source, change_set
from compactor.merge.deletes import keyed_deletes
from compactor.merge.finding import Found, find_hits
from compactor.merge.latest import latest
from compactor.merge.matching import Matcher
from compactor.merge.rules import MergeRules
from compactor.parquet import scan
from compactor.parquet.pages import read_pages
from compactor.parquet.reading import read_footer
from tests.compactor.merge import drawn, model
from tests.compactor.rewrite.tables import LocalTable, inventory, with_ids, write_file

SCHEMA = with_ids(pa.schema([("id", pa.int64()), ("text", pa.string()), ("v", pa.float64())]))


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by pages whatever it costs."""
    monkeypatch.setattr(paging, "ROWS_MIN", 0)
    monkeypatch.setattr(paging, "_ROWS_PER_CHUNK", 0)
    monkeypatch.setattr(paging, "_SHARE_MAX", 1.0)
    monkeypatch.setattr(finding, "_ROWS_PER_KEY_MIN", 0)


@pytest.mark.usefixtures("eager")
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_row_with_a_changed_key_is_found_by_pages(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    schema = data.draw(drawn.schemas())
    key = drawn.key_of(schema)
    stored = pa.Table.from_pylist(
        data.draw(st.lists(drawn.rows(schema), min_size=1, max_size=12)), schema
    )
    given_rows = data.draw(st.lists(drawn.rows(schema), max_size=3))
    wanted = pa.Table.from_pylist(given_rows, schema)
    directory = tmp_path_factory.mktemp("table")
    path = write_file(
        directory / "a.parquet",
        stored,
        write_page_index=True,
        row_group_size=data.draw(st.integers(4, 12)),
        data_page_size=1,
        write_batch_size=data.draw(st.integers(1, 3)),
        use_dictionary=data.draw(st.booleans()),
        data_page_version=data.draw(st.sampled_from(["1.0", "2.0"])),
        compression=data.draw(st.sampled_from(["none", "snappy", "zstd"])),
    )
    dropped = sorted(data.draw(st.sets(st.integers(0, stored.num_rows - 1), max_size=2)))
    table = LocalTable(str(directory), TableSchema(schema)).dropping(path, dropped)
    rules = MergeRules(key)
    changes = latest(change_set(Source(wanted, "changes"), schema, rules), rules, schema)
    by_value = data.draw(st.booleans())
    deletes = [keyed_deletes(Source(wanted.slice(0, 1), "deletes"), schema, ("v",), rules)]
    found = find_hits(
        table, inventory([path]), Matcher(changes, deletes if by_value else [], rules)
    )
    expected = [
        at
        for at, row in enumerate(stored.to_pylist())
        if at not in dropped
        and (
            any(model.same(row, one, key) for one in given_rows)
            or (by_value and any(model.same(row, one, ["v"]) for one in given_rows[:1]))
        )
    ]
    hits = found.hits.get(path)
    assert ([] if hits is None else hits.positions.tolist()) == expected


def rows_of(count: int) -> pa.Table:
    ids = np.arange(count)
    texts = [f"{one:08}" for one in ids]
    return pa.table([pa.array(ids), pa.array(texts), pa.array(ids / 2)], schema=SCHEMA)


def search(directory: Path, rows: pa.Table, wanted: pa.Table, key: tuple[str, ...]) -> Found:
    path = write_file(directory / "a.parquet", rows, write_page_index=True, data_page_size=16 << 10)
    return look(directory, path, wanted, key)


def look(directory: Path, path: str, wanted: pa.Table, key: tuple[str, ...]) -> Found:
    rules = MergeRules(key)
    changes = latest(change_set(Source(wanted, "changes"), SCHEMA, rules), rules, SCHEMA)
    table = LocalTable(str(directory), TableSchema(SCHEMA))
    return find_hits(table, inventory([path]), Matcher(changes, [], rules))


@pytest.mark.parametrize("key", [("id",), ("text",), ("text", "id"), ("id", "v", "text")])
def test_few_keys_of_a_sorted_file_read_few_pages(key: tuple[str, ...], tmp_path: Path) -> None:
    rows = rows_of(100_000)
    wanted = pa.concat_tables([rows.slice(500, 10), rows.slice(77_777, 1)])
    found = search(tmp_path, rows, wanted, key)
    (hits,) = found.hits.values()
    assert hits.positions.tolist() == [*range(500, 510), 77_777]
    assert found.spared.row_groups == 1
    assert found.spared.rows > 80_000


def test_where_pages_do_not_pay_row_groups_are_read(tmp_path: Path) -> None:
    rows = rows_of(100_000)
    for step in (10, 25):
        every = rows.take(pa.array(range(0, 100_000, step)))
        found = search(tmp_path, rows, every, ("id",))
        assert (found.spared.row_groups, found.hit.rows) == (0, 100_000 // step)
    small = search(tmp_path, rows_of(1000), rows_of(1), ("id",))
    assert (small.spared.row_groups, small.hit.rows) == (0, 1)


def test_a_damaged_page_is_told(tmp_path: Path) -> None:
    rows = rows_of(100_000)
    found = search(tmp_path, rows, rows.slice(5, 1), ("id",))
    assert found.spared.row_groups == 1
    path = tmp_path / "a.parquet"
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(bytes(content))
    with pytest.raises(CorruptTableError, match=r"a\.parquet"):
        look(tmp_path, str(path), rows.slice(5, 1), ("id",))


def test_an_index_that_contradicts_itself_is_told(tmp_path: Path) -> None:
    rows = rows_of(100_000)
    search(tmp_path, rows, rows.slice(5, 1), ("id",))
    table = LocalTable(str(tmp_path), TableSchema(SCHEMA))
    path = tmp_path / "a.parquet"
    location = table.locate(str(path))
    footer = read_footer(table.storage, location, path.stat().st_size)
    pages = read_pages(table.storage, footer, 0, 0)
    assert pages is not None
    assert pages.first_rows[-1] == 100_000
    assert len(pages.places) == len(pages.minima) > 10
    start = footer.chunks[scan.OFFSET_INDEX]
    content = bytearray(path.read_bytes())
    for length in range(2, 40):
        damaged = content.copy()
        damaged[start : start + length] = bytes([0x19] * length)
        path.write_bytes(bytes(damaged))
        with pytest.raises(CorruptTableError):
            read_pages(table.storage, footer, 0, 0)
