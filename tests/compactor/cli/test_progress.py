"""What is told while a job runs: warnings always, progress when it is wanted."""

from __future__ import annotations

import time

import pytest

from compactor.cli import progress
from compactor.cli.progress import told_progress
from compactor.jobs.events import (
    AttemptFailed,
    BatchCommitted,
    Event,
    GroupDropped,
    GroupFailed,
    GroupFinished,
    JobPlanned,
    JobStarted,
    JobStopping,
)
from tests.compactor.cli.test_render import PLAN

MIB = 1 << 20
STORY: list[Event] = [
    JobPlanned("j", PLAN),
    JobStarted("j", "lake.t", groups=40, input_bytes=40 * MIB),
    *(GroupFinished("j", f"g{n}", "", MIB, MIB, 1) for n in range(37)),
    AttemptFailed("j", "g38", 1, "a reset", is_retried=True),
    GroupFailed("j", "g38", "day=1", "a flipped byte"),
    GroupDropped("j", "g3", "day=1", "a newer delete"),
    JobStopping("j", "interrupted"),
    AttemptFailed("j", "g39", 1, "cancelled", is_retried=True),
    BatchCommitted("j", ("g1", "g2"), "77"),
]
WARNINGS = [
    "Planned 3 groups: 4,932 data files → 99, 48.2 GiB",
    "warning: attempt 1 at group g38 failed and is tried again: a reset",
    "warning: group g38 in `day=1` failed: a flipped byte",
    "warning: group g3 in `day=1` was lost: a newer delete",
    "warning: stopping: interrupted; what is written is still committed",
    "Committed 2 groups in snapshot 77",
]


def told(capsys: pytest.CaptureFixture[str], **options: bool) -> list[str]:
    with told_progress(**options) as watcher:
        for event in STORY:
            watcher(event)
    assert watcher.plan is PLAN
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_off_a_terminal_there_is_a_line_per_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, shows_progress=True)
    shares = [line.split()[0] for line in lines if "/40 groups" in line]
    assert shares == ["10%", "20%", "30%", "40%", "50%", "60%", "70%", "80%", "90%"]
    assert [line for line in lines if "/40 groups" not in line] == WARNINGS


def test_without_progress_there_are_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, shows_progress=False) == WARNINGS


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, shows_progress=False, is_quiet=True) == []


def test_silence_is_broken_after_a_while(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_SECONDS", 0.05)
    with told_progress(shows_progress=True) as watcher:
        watcher(JobStarted("j", "lake.t", groups=40, input_bytes=40 * MIB))
        time.sleep(1.2)
    assert capsys.readouterr().err.startswith("0%  0/40 groups  0 B of 40.0 MiB")
