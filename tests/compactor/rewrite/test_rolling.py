"""Files near the target, no small tail, row groups within their limit: whatever the ratios are."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compactor.planner.policy import Policy
from compactor.rewrite.rolling import (
    SHARE_MAX,
    SHARE_MIN,
    Progress,
    file_count,
    is_file_full,
    is_full_before,
    row_group_bytes,
)

MIB = 1 << 20


def simulate(
    stored: float, *, target: int, written_per_stored: float, decoded_per_stored: float, limit: int
) -> tuple[list[float], list[float]]:
    """Return the file sizes and decoded row group sizes of a rewrite with constant ratios."""
    progress = Progress(unread_bytes=stored)
    files: list[float] = []
    groups: list[float] = []
    while progress.unread_bytes > 1:
        decoded = row_group_bytes(
            progress, target, limit_bytes=limit, decoded_per_stored=decoded_per_stored
        )
        taken = min(decoded / decoded_per_stored, progress.unread_bytes)
        groups.append(taken * decoded_per_stored)
        progress = progress.after(
            stored_bytes=taken,
            decoded_bytes=round(taken * decoded_per_stored),
            written_bytes=round(taken * written_per_stored),
        )
        if is_file_full(progress, target):
            files.append(progress.open_bytes)
            progress = progress.with_new_file()
    if progress.open_bytes:
        files.append(progress.open_bytes)
    return files, groups


@settings(max_examples=300, deadline=None)
@given(
    targets=st.floats(0.01, 40),
    written_per_stored=st.floats(0.3, 1.6),
    decoded_per_stored=st.floats(1, 20),
    limit=st.sampled_from([16 * MIB, 128 * MIB, 160 * MIB]),
    target=st.sampled_from([1 * MIB, 32 * MIB, 512 * MIB]),
)
def test_files_are_near_the_target_and_none_is_small(
    targets: float, written_per_stored: float, decoded_per_stored: float, limit: int, target: int
) -> None:
    files, groups = simulate(
        targets * target,
        target=target,
        written_per_stored=written_per_stored,
        decoded_per_stored=decoded_per_stored,
        limit=limit,
    )
    assert max(groups) <= limit * 1.001
    assert sum(files) == pytest.approx(targets * target * written_per_stored, rel=1e-3, abs=10)
    if sum(files) > SHARE_MAX * target:
        assert min(files) >= 0.8 * target
        assert max(files) <= SHARE_MAX * target * 1.001
    else:
        assert len(files) <= 2


@given(st.floats(0.05, 20))
def test_row_groups_are_as_large_as_can_be_and_none_is_tiny(row_groups: float) -> None:
    limit = 128 * MIB
    stored = row_groups * limit / 4
    _, groups = simulate(
        stored, target=1 << 40, written_per_stored=1.0, decoded_per_stored=4.0, limit=limit
    )
    assert max(groups) >= min(row_groups, 0.874) * limit
    assert min(groups) >= min(row_groups, 0.124) * limit


@given(st.floats(SHARE_MAX, 10_000))
def test_even_files_are_within_the_share(targets: float) -> None:
    count = file_count(targets * MIB, MIB)
    assert SHARE_MIN - 1e-9 <= targets / count <= SHARE_MAX + 1e-9


@pytest.mark.parametrize(
    ("targets", "count"), [(0.0, 1), (0.5, 1), (1.0, 1), (1.8, 1), (1.85, 2), (2.0, 2), (10.4, 10)]
)
def test_file_count(targets: float, count: int) -> None:
    assert file_count(targets * MIB, MIB) == count


def test_the_last_file_takes_all_that_is_left() -> None:
    progress = Progress(unread_bytes=0.2 * MIB, read_bytes=MIB, written_bytes=MIB, open_bytes=MIB)
    assert not is_file_full(progress, MIB)


def test_a_full_file_is_ended() -> None:
    progress = Progress(unread_bytes=9 * MIB, read_bytes=MIB, written_bytes=MIB, open_bytes=MIB)
    assert is_file_full(progress, MIB)


def rolled_copies(row_groups: list[int], target_bytes: int) -> list[int]:
    """Return the sizes of the files that row groups are copied into, as the writer ends them."""
    progress = Progress(unread_bytes=0, uncopied_bytes=sum(row_groups))
    files = []
    for size in row_groups:
        if is_full_before(progress, target_bytes, copied_bytes=size):
            files.append(progress.open_bytes)
            progress = progress.with_new_file()
        progress = progress.after_copy(size)
        if is_file_full(progress, target_bytes):
            files.append(progress.open_bytes)
            progress = progress.with_new_file()
    return [*files, progress.open_bytes] if progress.open_bytes else files


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([0.1, 0.5, 0.75, 0.8]), st.data())
def test_files_of_copied_row_groups_are_no_candidates_again(
    small_file_ratio: float, data: st.DataObject
) -> None:
    target = 10_000
    sizes = Policy(small_file_ratio=small_file_ratio).file_sizes(target)
    largest = min(sizes.row_group_bytes_max, target)
    drawn = st.lists(st.integers(1, largest), min_size=1, max_size=120)
    row_groups = data.draw(drawn)
    files = rolled_copies(row_groups, target)
    assert sum(files) == sum(row_groups)
    if sum(row_groups) >= 0.9 * target:
        assert all(sizes.small_below_bytes <= size <= 2.0 * target for size in files), files
