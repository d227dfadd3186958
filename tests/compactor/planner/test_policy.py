"""Policies refuse what makes no sense, and sizes roll as the rewriter rolls them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compactor.errors import SettingsError
from compactor.planner.policy import ROLLED_RATIO_MAX, ROLLED_RATIO_MIN, FileSizes, Policy
from compactor.rewrite.rolling import file_count

TARGET = 1000
SIZES = FileSizes(TARGET, 750, 2000)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("target_file_size_bytes", 0, "must be at least 1"),
        ("small_file_ratio", 0.0, "above 0 and at most 0.8"),
        ("small_file_ratio", 0.9, "above 0 and at most 0.8"),
        ("small_file_ratio", float("nan"), "above 0 and at most 0.8"),
        ("large_file_ratio", 1.2, "must be at least 1.8"),
        ("large_file_ratio", float("inf"), "must be at least 1.8"),
        ("min_input_files", 1, "must be at least 2"),
        ("delete_ratio", 1.5, "between 0 and 1"),
        ("delete_ratio", -0.1, "between 0 and 1"),
        ("delete_files_min", 0, "must be at least 1"),
        ("max_group_bytes", 0, "must be at least 1"),
        ("max_job_bytes", -5, "must be at least 1"),
        ("min_age_seconds", -1.0, "must not be negative"),
        ("min_age_seconds", float("nan"), "must not be negative"),
    ],
)
def test_values_that_make_no_sense_are_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=f"{field} is {value}: .*{message}"):
        replace(Policy(), **{field: value})


def test_sizes_follow_the_target() -> None:
    assert Policy().file_sizes(TARGET) == SIZES
    own = Policy(target_file_size_bytes=200, small_file_ratio=0.5).file_sizes(TARGET)
    assert own == FileSizes(200, 100, 400)


@given(st.floats(1, 1e9))
def test_rolled_files_are_neither_small_nor_large(size_bytes: float) -> None:
    files = SIZES.rolled_files(size_bytes)
    if size_bytes >= ROLLED_RATIO_MIN * TARGET:
        share = size_bytes / files / TARGET
        assert ROLLED_RATIO_MIN * 0.999999 <= share <= ROLLED_RATIO_MAX
    else:
        assert files == 1


def test_nothing_rolls_into_no_file() -> None:
    assert SIZES.rolled_files(0) == 0


@given(st.integers(1, 10**9), st.integers(1, 10**6))
def test_planner_and_rewriter_roll_alike(size_bytes: int, target_bytes: int) -> None:
    sizes = FileSizes(target_bytes, 0.75 * target_bytes, 2.0 * target_bytes)
    assert sizes.rolled_files(size_bytes) == file_count(size_bytes, target_bytes)
