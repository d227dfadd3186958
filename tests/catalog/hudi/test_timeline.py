"""Instants are told by the names of their files; what they make visible follows."""

import datetime as dt

import pytest

from catalog.hudi.config import table_config
from catalog.hudi.timeline import (
    Action,
    Instant,
    State,
    instant_of,
    instant_time,
    read_instant,
    read_timeline,
    timeline_of,
)
from catalog.location import Location
from catalog.storage import Storage


def config(version=9, **more):
    found = {"hoodie.table.version": str(version), "hoodie.table.timeline.timezone": "UTC"}
    return table_config(found | more)


@pytest.mark.parametrize(
    ("name", "layout", "expected"),
    [
        ("17.commit", 1, ("17", Action.COMMIT, State.COMPLETED, None)),
        ("17.inflight", 1, ("17", Action.COMMIT, State.INFLIGHT, None)),
        ("17.deltacommit.requested", 1, ("17", Action.DELTACOMMIT, State.REQUESTED, None)),
        ("17.inflight", 2, ("17", Action.COMMIT, State.INFLIGHT, None)),
        ("17_19.commit", 2, ("17", Action.COMMIT, State.COMPLETED, "19")),
        ("17.clustering.inflight", 2, ("17", Action.CLUSTERING, State.INFLIGHT, None)),
    ],
)
def test_names_tell_instants(name, layout, expected):
    found = instant_of(name, layout=layout)
    assert (found.time, found.action, found.state, found.completion_time) == expected
    assert found.file_name == name


@pytest.mark.parametrize(
    "name",
    [
        "hoodie.properties",
        "17_19.commit.requested",
        "17.party",
        "17.commit.requested.tmp",
        "x.commit",
    ],
)
def test_other_names_tell_none(name):
    assert instant_of(name, layout=2) is None


def test_completion_times_are_no_names_of_layout_1():
    assert instant_of("17_19.commit", layout=1) is None


def instants(*names, layout=2):
    return timeline_of((instant_of(name, layout=layout) for name in names), layout=layout)


def test_an_instant_is_in_its_latest_state():
    found = instants("3.compaction.requested", "3.compaction.inflight", "3_5.commit", "2.inflight")
    assert [(one.time, one.action, one.state) for one in found.instants] == [
        ("2", Action.COMMIT, State.INFLIGHT),
        ("3", Action.COMMIT, State.COMPLETED),
    ]
    assert found.find("3").completion_time == "5"
    assert found.find("9") is None
    assert found.latest.time == "3"
    assert [one.time for one in found.pending()] == ["2"]
    assert [one.time for one in found.completed(Action.DELTACOMMIT)] == []


def test_earlier_states_have_names():
    clustering = instant_of("4.clustering.inflight", layout=2)
    assert clustering.named(State.REQUESTED) == "4.clustering.requested"
    assert instant_of("4_5.commit", layout=2).named(State.INFLIGHT) == "4.inflight"


def test_a_timeline_may_be_cut():
    found = instants("1_2.deltacommit", "3_4.deltacommit", "5.compaction.requested")
    assert found.until("3").latest.time == "3"
    assert found.until("0").latest is None


def test_visible_are_completed_writes_and_compactions():
    found = instants(
        "2_3.clean", "3.deltacommit.inflight", "4_9.deltacommit", "6.compaction.requested"
    )
    assert found.visible == {"4", "6"}
    assert [found.is_slice_visible(time) for time in ("1", "3", "4", "5", "6")] == [
        True, False, True, False, True,
    ]  # fmt: skip
    # A log of an instant that runs is not seen, however early it began.
    assert [found.is_log_visible(time) for time in ("1", "2", "3", "4", "6")] == [
        True, True, False, True, False,
    ]  # fmt: skip
    assert found.completion_times == {"2": "3", "4": "9"}


def test_in_layout_1_blocks_count_if_their_writes_did_not_fail():
    found = instants("3.deltacommit", "4.deltacommit.inflight", "5.deltacommit", layout=1)
    assert [found.is_block_valid(time) for time in "12345678"] == [
        True, True, True, False, True, False, False, False,
    ]  # fmt: skip


def test_a_write_that_runs_before_all_others_does_not_count():
    found = instants("2.deltacommit.inflight", "5.deltacommit", layout=1)
    assert [found.is_block_valid(time) for time in "125"] == [True, False, True]


def test_timelines_are_read_from_their_folder(tmp_path):
    folder = tmp_path / ".hoodie" / "timeline"
    (folder / "history").mkdir(parents=True)
    for name in ("7_9.commit", "8.commit.requested", "history/1_2.commit"):
        (folder / name).write_bytes(name.encode())
    root = Location.parse(str(tmp_path))
    found = read_timeline(Storage(), root, config())
    assert [one.file_name for one in found.instants] == ["7_9.commit", "8.commit.requested"]
    assert read_instant(Storage(), root, config(), "7_9.commit") == b"7_9.commit"


def test_commits_of_old_releases_were_completed_when_they_were_written(tmp_path):
    folder = tmp_path / ".hoodie" / "timeline"
    folder.mkdir(parents=True)
    (folder / "20200101000000000.commit").touch()
    (found,) = read_timeline(Storage(), Location.parse(str(tmp_path)), config()).instants
    assert found.completion_time > found.time


def test_instants_are_named_by_the_clock_of_the_table():
    moment = dt.datetime(2026, 11, 23, 4, 5, 6, 789_999, tzinfo=dt.UTC)
    assert instant_time(moment, config()) == "20261123040506789"
    local = table_config({"hoodie.table.version": "9"})
    assert instant_time(moment, local) == f"{moment.astimezone():%Y%m%d%H%M%S}789"


def test_instants_are_values():
    one = Instant("1", Action.CLEAN, State.COMPLETED, "2", "1_2.clean")
    assert one.is_completed
    assert timeline_of([one], layout=2).latest is None
