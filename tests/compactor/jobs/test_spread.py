"""Catalog work as tasks: order kept, errors of the catalog come as themselves."""

from __future__ import annotations

import pytest

from catalog.errors import UnsupportedTableError
from compactor.jobs.spread import ITEMS_MIN, spread
from runtime.connect import connect


def _double(number: int) -> int:
    if number < 0:
        raise UnsupportedTableError("negative", hint="use another")
    return number * 2


@pytest.mark.parametrize("count", [0, 1, ITEMS_MIN - 1, ITEMS_MIN, 100])
def test_results_come_in_the_order_of_the_items(count: int) -> None:
    with connect("inline") as runtime:
        assert list(spread(runtime)(_double, iter(range(count)))) == [2 * n for n in range(count)]


@pytest.mark.parametrize("count", [1, 100])
def test_an_error_of_the_catalog_comes_as_itself(count: int) -> None:
    with connect("inline") as runtime, pytest.raises(UnsupportedTableError) as caught:
        list(spread(runtime)(_double, [-1] * count))
    assert caught.value.hint == "use another"
