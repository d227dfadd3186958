"""What a clustered table says of itself, and what marks its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from catalog.delta.checkpoint import write_checkpoint
from catalog.delta.clustering import cube_marks, order_parameters, wanted_order
from catalog.delta.row_delta import delete_rows
from catalog.errors import CorruptTableError
from catalog.layout import Curve, SortField
from tests.catalog.delta.liquid import CUBE, STORED, LiquidLake, domain

WANTED = (SortField(1, ("col-1",)), SortField(3, ("col-2", "col-3")))


@pytest.fixture
def lake(tmp_path: Path) -> LiquidLake:
    return LiquidLake(tmp_path)


def test_the_order_is_named_physically_and_its_marks_logically(lake: LiquidLake) -> None:
    state = lake.table.load()[1]
    assert wanted_order(state, STORED) == WANTED
    names = '["id","`my place`.zip"]'
    curve = Curve("hilbert", WANTED)
    assert cube_marks(state, curve, cube_id="x") == {
        "tags": {"ZCUBE_ID": "x", "ZCUBE_ZORDER_BY": names, "ZCUBE_ZORDER_CURVE": "hilbert"},
        "clusteringProvider": "liquid",
    }
    assert order_parameters(state, curve) == {"zOrderBy": "[]", "clusterBy": names}


def test_only_the_very_columns_of_the_table_are_marked(lake: LiquidLake) -> None:
    state = lake.table.load()[1]
    turned = Curve("zorder", WANTED[::-1])
    assert cube_marks(state, turned, cube_id="x") == {}
    assert order_parameters(state, turned)["zOrderBy"] == '["my place.zip","id"]'
    assert cube_marks(state, None, cube_id="x") == {}


def test_the_domain_counts_only_where_the_table_has_the_feature(lake: LiquidLake) -> None:
    state = lake.table.load()[1]
    plain = replace(state.protocol, writer_features=frozenset({"domainMetadata"}))
    assert wanted_order(replace(state, protocol=plain), STORED) == ()


def test_a_column_that_is_not_there_is_left_to_whoever_orders_by_it(lake: LiquidLake) -> None:
    lake.commit(domain([["col-9", "x"], ["col-1", "y"]]))
    found = wanted_order(lake.table.load()[1], STORED)
    assert found == (SortField(0, ("col-9", "x")), SortField(0, ("col-1", "y")))


def test_what_is_clustered_is_known_from_checkpoints_too(lake: LiquidLake) -> None:
    cube, plain = lake.append(0, **CUBE), lake.append(1)
    write_checkpoint(lake.table, *lake.table.load())
    for commit in (lake.directory / "_delta_log").glob("*[0-9].json"):
        commit.unlink()
    files = lake.table.inventory(lake.table.snapshot()).files
    found = dict(zip(files["path"].to_pylist(), files["is_clustered"].to_pylist(), strict=True))
    assert found == {cube: True, plain: False}


def test_deletes_of_ours_keep_the_marks_of_a_clustered_file(lake: LiquidLake) -> None:
    path = lake.append(0, **CUBE)
    delete_rows(lake.table, {path: np.arange(3)})
    (added,) = lake.last("add")
    assert {name: added[name] for name in CUBE} == CUBE
    assert lake.table.inventory(lake.table.snapshot()).files["is_clustered"].to_pylist() == [True]


@pytest.mark.parametrize("columns", ["[1]", '["id"]', '[[""], 7]', "[[]]", "{", '[["id", 3]]'])
def test_columns_that_cannot_be_read_are_refused(tmp_path: Path, columns: str) -> None:
    lake = LiquidLake(tmp_path)
    found = domain([])
    found["domainMetadata"]["configuration"] = f'{{"clusteringColumns": {columns}}}'
    lake.commit(found)
    with pytest.raises(CorruptTableError, match=r"delta\.clustering"):
        lake.table.inventory(lake.table.snapshot())
