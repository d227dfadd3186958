"""Instants come on the timeline in order, each once, with times that only grow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from catalog.errors import ObjectExistsError
from catalog.hudi.config import TableConfig, table_config
from catalog.hudi.instants import InstantWriter, new_instant
from catalog.hudi.timeline import (
    Action,
    Instant,
    State,
    Timeline,
    instant_time,
    read_timeline,
)
from catalog.location import Location
from catalog.storage import Storage

NOW = datetime(2026, 11, 23, 7, 8, 9, 123_456, UTC)


def config(version: int) -> TableConfig:
    pairs = {"hoodie.table.version": str(version), "hoodie.table.name": "t"}
    return table_config({**pairs, "hoodie.table.timeline.timezone": "UTC"})


def writer(tmp_path: Path, version: int) -> InstantWriter:
    return InstantWriter(Storage(), Location.parse(str(tmp_path)), config(version))


def on(time: str, completion_time: str | None = None) -> Timeline:
    state = State.COMPLETED if completion_time else State.REQUESTED
    return Timeline((Instant(time, Action.COMMIT, state, completion_time, ""),), 2)


@pytest.mark.parametrize(
    ("timeline", "expected"),
    [
        (Timeline((), 2), "20261123070809123"),
        (on("20261123070809122"), "20261123070809123"),
        (on("20261123070809123"), "20261123070809124"),
        # A clock is behind: what is there already is later.
        (on("20261123070809000", "20261231235959999"), "20270101000000000"),
        (on("20261231235959999001"), "20270101000000000"),
        (on("99999999999999998"), "99999999999999999"),
    ],
)
def test_times_grow(timeline: Timeline, expected: str) -> None:
    assert new_instant(timeline, config(9), now=NOW) == expected


@pytest.mark.parametrize("hours", [0, 5])
def test_a_clock_that_is_ahead_of_other_writers_is_not_followed(tmp_path: Path, hours: int) -> None:
    """A writer in a time zone to the west goes on behind our instant, not before it."""
    write = writer(tmp_path, 9)
    theirs = datetime.now(UTC) - timedelta(hours=hours)
    time = instant_time(theirs, write.config)
    write.request(time, Action.DELTACOMMIT)
    timeline = read_timeline(write.storage, write.root, write.config)
    assert timeline.is_clock_ahead is bool(hours)
    ours = new_instant(timeline, write.config, now=datetime.now(UTC) + timedelta(seconds=1))
    assert time < ours
    is_before_theirs = ours < instant_time(theirs + timedelta(seconds=1), write.config)
    assert is_before_theirs is bool(hours)


@pytest.mark.parametrize(
    ("version", "action", "names"),
    [
        (6, Action.COMPACTION, ["7.commit", "7.compaction.inflight", "7.compaction.requested"]),
        (6, Action.COMMIT, ["7.commit", "7.commit.requested", "7.inflight"]),
        (
            6,
            Action.REPLACECOMMIT,
            ["7.replacecommit", "7.replacecommit.inflight", "7.replacecommit.requested"],
        ),
        (9, Action.COMPACTION, ["7.compaction.inflight", "7.compaction.requested", "7_*.commit"]),
        (
            9,
            Action.CLUSTERING,
            ["7.clustering.inflight", "7.clustering.requested", "7_*.replacecommit"],
        ),
    ],
)
def test_states_are_files(tmp_path: Path, version: int, action: Action, names: list[str]) -> None:
    write = writer(tmp_path, version)
    instant = write.request("7", action, b"plan")
    assert write.begin(write.begin(instant)).state is State.INFLIGHT
    timeline = read_timeline(write.storage, write.root, write.config)
    done = write.complete(instant, b"done", timeline)

    folder = tmp_path / write.config.timeline_path
    stems = [name.replace("*", done.completion_time or "") for name in names]
    assert sorted(one.name for one in folder.iterdir()) == sorted(stems)
    after = read_timeline(write.storage, write.root, write.config)
    assert after.find("7") == done
    assert (folder / instant.file_name).read_bytes() == b"plan"


def test_a_request_is_made_once(tmp_path: Path) -> None:
    write = writer(tmp_path, 9)
    write.request("7", Action.COMPACTION, b"plan")
    write.request("7", Action.COMPACTION, b"plan")
    with pytest.raises(ObjectExistsError):
        write.request("7", Action.COMPACTION, b"another")


def test_an_instant_can_be_taken_back(tmp_path: Path) -> None:
    write = writer(tmp_path, 9)
    write.remove(write.begin(write.request("7", Action.CLUSTERING)))
    assert not read_timeline(write.storage, write.root, write.config).instants
