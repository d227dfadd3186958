"""Files that lose rows are written anew or have deletes recorded, whichever costs less in all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import UnsupportedTableError
from compactor.merge.choice import Touched, WriteMode, marked, prices

MIB = 1 << 20


def file_of(
    size_mib: int, *, row_groups: int, hit: int, rows: int = 1_000_000, dead: int = 0
) -> Touched:
    """A file of so many row groups of one size, some of which are hit."""
    return Touched(
        row_groups=hit,
        row_groups_all=row_groups,
        rows=rows * hit // row_groups,
        stored_bytes=size_mib * MIB * hit // row_groups,
        stored_bytes_all=size_mib * MIB,
        rows_all=rows,
        rows_dead=dead,
    )


CASES = {
    "scattered over a large file": (file_of(128, row_groups=10, hit=10), 110_000, True),
    "a few rows all over": (file_of(128, row_groups=10, hit=10), 10, True),
    "a few rows of one row group": (file_of(512, row_groups=10, hit=1), 10, True),
    "most of one row group": (file_of(128, row_groups=50, hit=1), 18_000, False),
    "most rows": (file_of(128, row_groups=10, hit=10), 800_000, False),
    "a small file": (file_of(1, row_groups=1, hit=1), 10, False),
    "few more in a file half dead": (
        file_of(128, row_groups=10, hit=10, dead=500_000),
        10_000,
        False,
    ),
    "all that is left": (file_of(128, row_groups=10, hit=10, dead=100_000), 900_000, False),
}


@pytest.mark.parametrize("case", CASES)
def test_each_file_goes_the_cheaper_way(case: str) -> None:
    touched, rows, expected = CASES[case]
    found = marked({"f": (touched, rows)}, WriteMode.AUTO, can_mark=True)
    assert (found == {"f"}) is expected


@given(
    size=st.integers(1, 1000),
    groups=st.integers(1, 20),
    hit=st.integers(1, 20),
    rows=st.integers(1, 1000),
    is_sorted=st.booleans(),
)
def test_modes_and_prices(size: int, groups: int, hit: int, rows: int, is_sorted: bool) -> None:
    touched = file_of(size, row_groups=groups, hit=min(hit, groups), rows=20_000)
    price = prices(touched, rows=rows, is_sorted=is_sorted)
    assert 0 < price.copy_on_write < 100
    assert 0 < price.merge_on_read < 100
    given_hits = {"f": (touched, rows)}
    found = marked(given_hits, WriteMode.AUTO, can_mark=True, is_sorted=is_sorted)
    is_emptied = rows >= 20_000
    assert ("f" in found) is (price.merge_on_read < price.copy_on_write and not is_emptied)
    assert marked(given_hits, WriteMode.COPY_ON_WRITE, can_mark=True) == frozenset()
    assert marked(given_hits, WriteMode.MERGE_ON_READ, can_mark=True) == {"f"}
    assert marked(given_hits, WriteMode.AUTO, can_mark=False) == frozenset()


def test_sorting_makes_writing_anew_dearer() -> None:
    touched = file_of(128, row_groups=50, hit=1)
    assert (
        prices(touched, rows=10, is_sorted=True).copy_on_write
        > 10 * prices(touched, rows=10).copy_on_write
    )


def test_a_table_without_deletes_refuses_merge_on_read() -> None:
    with pytest.raises(UnsupportedTableError, match="cannot record deletes"):
        marked({}, WriteMode.MERGE_ON_READ, can_mark=False)
