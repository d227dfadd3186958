"""Which files of a log make up a version: against a model that knows what each file holds."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.delta.log import LogFile, LogSegment, select_segment
from catalog.errors import (
    CatalogError,
    CorruptTableError,
    SnapshotNotFoundError,
    TableNotFoundError,
)
from catalog.location import Location

LOG = Location.parse("/lake/orders/_delta_log")


def commits(*versions: int) -> list[str]:
    return [f"{version:020}.json" for version in versions]


def parts(version: int, count: int, *present: int) -> list[str]:
    return [f"{version:020}.checkpoint.{part:010}.{count:010}.parquet" for part in present]


def classic(version: int) -> str:
    return f"{version:020}.checkpoint.parquet"


def segment_of(names: Iterable[str], version: int | None = None) -> LogSegment:
    return select_segment(LOG, [LogFile(name, 1, 1) for name in names], version)


def names_in(segment: LogSegment) -> list[str]:
    checkpoint = segment.checkpoint.parts if segment.checkpoint else ()
    return [one.name for one in (*checkpoint, *(one.file for one in segment.commits))]


def test_commits_alone() -> None:
    segment = segment_of(commits(2, 0, 1))

    assert (segment.version, segment.checkpoint) == (2, None)
    assert names_in(segment) == commits(0, 1, 2)
    assert segment.head is not None
    assert segment.head.name == commits(2)[0]


def test_a_checkpoint_replaces_what_came_before() -> None:
    names = [*commits(0, 1, 2, 3), classic(2)]

    assert names_in(segment_of(names)) == [classic(2), *commits(3)]
    assert names_in(segment_of(names, 2)) == [classic(2)]
    assert names_in(segment_of(names, 1)) == commits(0, 1)


def test_a_version_whose_commit_is_gone_stands_in_its_checkpoint() -> None:
    segment = segment_of([classic(7)])

    assert (segment.version, segment.head, segment.commits) == (7, None, ())
    assert segment.written_ms == 1


def test_parts_count_when_all_are_there() -> None:
    names = [*commits(0, 1, 2), *parts(1, 3, 1, 2, 3)]
    assert names_in(segment_of(names)) == [*parts(1, 3, 1, 2, 3), *commits(2)]

    for missing in (1, 2, 3):
        less = [name for name in names if name != parts(1, 3, missing)[0]]
        assert names_in(segment_of(less)) == commits(0, 1, 2)


def test_parts_of_two_checkpoints_are_not_mixed() -> None:
    names = [*commits(0, 1), *parts(1, 3, 1, 3), *parts(1, 2, 1)]

    assert names_in(segment_of(names)) == commits(0, 1)
    assert names_in(segment_of([*names, *parts(1, 2, 2)])) == parts(1, 2, 1, 2)


def test_missing_parts_are_named_where_they_are_missed() -> None:
    with pytest.raises(CorruptTableError, match="checkpoint 5 has only 1 of 2 parts"):
        segment_of([*commits(5, 6), *parts(5, 2, 2)])


def test_a_checkpoint_in_one_file_is_preferred() -> None:
    names = [*commits(0, 1), *parts(1, 2, 1, 2), classic(1)]
    assert names_in(segment_of(names)) == [classic(1)]


@pytest.mark.parametrize("form", ["json", "parquet"])
def test_checkpoints_named_by_an_id(form: str) -> None:
    name = f"{1:020}.checkpoint.3a0d65cd-4056-49b8-937b-95f9e3ee90e5.{form}"
    assert names_in(segment_of([*commits(0, 1, 2), name])) == [name, *commits(2)]


def test_a_gap_is_an_error() -> None:
    with pytest.raises(CorruptTableError, match="commit of version 2"):
        segment_of(commits(0, 1, 3))
    assert names_in(segment_of(commits(0, 1, 3), 1)) == commits(0, 1)


def test_versions_that_were_cleaned_or_are_yet_to_come() -> None:
    names = [*commits(3, 4, 5, 6), classic(5)]

    with pytest.raises(SnapshotNotFoundError) as cleaned:
        segment_of(names, 4)
    assert "oldest that can is 5" in cleaned.value.hint
    for absent in (7, 10**30, -1):
        with pytest.raises(SnapshotNotFoundError) as caught:
            segment_of(names, absent)
        assert "newest is 6" in caught.value.hint


@pytest.mark.parametrize("names", [[], ["_last_checkpoint"], ["0.json"], [f"{0:020}.crc"]])
def test_no_log(names: list[str]) -> None:
    with pytest.raises(TableNotFoundError):
        segment_of(names)


def test_other_files_are_left_aside() -> None:
    odd = [
        "_last_checkpoint",
        f"{1:020}.crc",
        f"{2:020}.json.tmp",
        f".{2:020}.json.7f",
        f"{9:020}.checkpoint.json",
        f"{9:019}.json",
        f"{9:021}.json",
        f"{9:020}.checkpoint.{1:010}.parquet.tmp",
        "\u0660" * 20 + ".json",
    ]
    assert names_in(segment_of([*commits(0, 1), *odd])) == commits(0, 1)


def test_absurd_numbers_end_at_once() -> None:
    with pytest.raises(CorruptTableError, match="commit of version 1,"):
        segment_of([*commits(0), f"{10**20 - 1}.json"])
    huge = parts(10**20 - 1, 10**10 - 1, 1)
    assert names_in(segment_of([*commits(0), *huge])) == commits(0)
    ends = [f"{1:020}.{10**20 - 1}.compacted.json", f"{1:020}.{0:020}.compacted.json"]
    assert names_in(segment_of([*commits(0, 1), *ends])) == commits(0, 1)


def test_compacted_commits_take_the_place_of_many() -> None:
    wide, narrow = f"{1:020}.{4:020}.compacted.json", f"{1:020}.{2:020}.compacted.json"
    names = [*commits(*range(7)), wide, narrow]

    assert names_in(segment_of(names)) == [*commits(0), wide, *commits(5, 6)]
    assert names_in(segment_of(names, 3)) == [*commits(0), narrow, *commits(3)]
    assert names_in(segment_of([*names, classic(2)])) == [classic(2), *commits(3, 4, 5, 6)]
    head = segment_of([*names[:5], *names[-2:]]).head
    assert head is not None
    assert head.name == commits(4)[0]


def test_an_empty_compacted_commit_is_left_aside() -> None:
    files = [LogFile(name, 1, 1) for name in commits(0, 1, 2)]
    empty = LogFile(f"{1:020}.{2:020}.compacted.json", 0, 1)

    assert names_in(select_segment(LOG, [*files, empty])) == commits(0, 1, 2)


VERSIONS = st.integers(0, 9)


@given(
    present=st.sets(VERSIONS, min_size=1),
    checkpoints=st.sets(VERSIONS),
    compacted=st.sets(st.tuples(VERSIONS, VERSIONS)),
    wanted=st.none() | VERSIONS,
)
def test_a_version_is_exactly_its_history(
    present: set[int],
    checkpoints: set[int],
    compacted: set[tuple[int, int]],
    wanted: int | None,
) -> None:
    names = [
        *commits(*present),
        *map(classic, checkpoints),
        *(f"{first:020}.{last:020}.compacted.json" for first, last in compacted),
    ]
    version = max(present | checkpoints) if wanted is None else wanted
    starts = [-1, *(one for one in checkpoints if one <= version)]
    newest = max(starts)
    is_complete = set(range(newest + 1, version + 1)) <= present
    is_known = version <= max(present | checkpoints)
    try:
        segment = segment_of(names, wanted)
    except CatalogError:
        assert not (is_complete and is_known)
        return
    assert is_complete
    assert is_known
    assert segment.version == version
    covered = [number for one in segment.commits for number in range(one.first, one.last + 1)]
    assert covered == list(range(newest + 1, version + 1))
    assert (segment.checkpoint.version if segment.checkpoint else -1) == newest
