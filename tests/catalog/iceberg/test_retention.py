"""Retention keeps what the specification says, and nothing else: held against a slow model."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from catalog.iceberg.retention import MAIN, Reference, Retention, Version, expiry

NOW_MS = 1000


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Version], list[Reference]]:
    count = draw(st.integers(1, 12))
    versions = []
    for number in range(1, count + 1):
        parents = st.none() | st.integers(1, number - 1) if number > 1 else st.none()
        parent = draw(parents)
        versions.append(Version(number, parent, draw(st.integers(0, NOW_MS))))
    limit = st.none() | st.integers(1, NOW_MS)
    names = draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=4))
    references = [
        Reference(
            name,
            draw(st.integers(1, count)),
            is_branch=draw(st.booleans()) or name == MAIN,
            snapshots_min=draw(st.none() | st.integers(1, 4)),
            age_ms_max=draw(limit),
            own_age_ms_max=draw(limit),
        )
        for name in [MAIN, *names]
    ]
    return versions, references


retentions = st.builds(
    Retention,
    st.integers(0, NOW_MS),
    st.integers(1, 4),
    st.none() | st.integers(1, NOW_MS),
)


def lineage(versions: list[Version], start: int) -> list[Version]:
    by_id = {one.snapshot_id: one for one in versions}
    found = [by_id[start]]
    while found[-1].parent_id is not None:
        found.append(by_id[found[-1].parent_id])
    return found


def is_kept(one: Version, branch: list[Version], least: int, oldest_ms: int) -> bool:
    newer = branch[: branch.index(one) + 1]
    return len(newer) <= least or all(
        version.timestamp_ms >= oldest_ms for version in newer[least:]
    )


@given(histories(), retentions, st.sets(st.integers(1, 12), max_size=2))
def test_retention_is_that_of_a_model(
    history: tuple[list[Version], list[Reference]], retention: Retention, wanted: set[int]
) -> None:
    versions, references = history
    anchors = wanted & {one.snapshot_id for one in versions}
    found = expiry(versions, references, retention=retention, anchors=anchors, now_ms=NOW_MS)
    kept, reached = set(anchors), set(anchors)
    for reference in references:
        whole = lineage(versions, reference.snapshot_id)
        age_ms_max = reference.own_age_ms_max or retention.own_age_ms_max
        is_old = age_ms_max is not None and NOW_MS - whole[0].timestamp_ms > age_ms_max
        assert (reference.name in found.references) == (is_old and reference.name != MAIN)
        if reference.name in found.references:
            continue
        branch = whole if reference.is_branch else whole[:1]
        reached |= {one.snapshot_id for one in branch}
        oldest_ms = NOW_MS - (reference.age_ms_max or retention.age_ms_max)
        least = reference.snapshots_min or retention.snapshots_min
        for at, one in enumerate(branch):
            follows_anchor = any(older.snapshot_id in anchors for older in branch[at:])
            if follows_anchor or is_kept(one, branch, least, oldest_ms):
                kept.add(one.snapshot_id)
    for one in versions:
        is_young = one.timestamp_ms >= NOW_MS - retention.age_ms_max
        stays = one.snapshot_id in kept or (one.snapshot_id not in reached and is_young)
        assert (one.snapshot_id not in found.snapshot_ids) == stays
    times = {one.snapshot_id: one.timestamp_ms for one in versions}
    assert [times[one] for one in found.snapshot_ids] == sorted(map(times.get, found.snapshot_ids))


@given(histories(), retentions)
def test_what_goes_is_gone_the_second_time(
    history: tuple[list[Version], list[Reference]], retention: Retention
) -> None:
    versions, references = history
    found = expiry(versions, references, retention=retention, anchors=(), now_ms=NOW_MS)
    known = {one.snapshot_id for one in versions} - set(found.snapshot_ids)
    left = [
        replace(one, parent_id=one.parent_id if one.parent_id in known else None)
        for one in versions
        if one.snapshot_id in known
    ]
    references = [one for one in references if one.name not in found.references]
    again = expiry(left, references, retention=retention, anchors=(), now_ms=NOW_MS)
    assert not again.snapshot_ids
    assert not again.references


def test_a_loop_of_parents_ends() -> None:
    versions = [Version(1, 2, 0), Version(2, 1, 0)]
    found = expiry(
        versions, [Reference(MAIN, 1)], retention=Retention(0), anchors=(), now_ms=NOW_MS
    )
    assert found.snapshot_ids == (2,)
