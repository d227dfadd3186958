"""Whole files: what a process leaves that is killed in the middle of placing one."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from catalog.storage import durable
from catalog.storage.durable import place, place_new

PLACERS = [place, place_new]


def placed_by_the_dying(placer: Callable[[Path, bytes], None], path: Path) -> None:
    """Die once everything is written and nothing has its name."""

    def dying(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    os.link = dying
    Path.replace = dying  # type: ignore[assignment, method-assign]  # only this process dies
    placer(path, b"new")


def killed(placer: Callable[[Path, bytes], None], path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=placed_by_the_dying, args=(placer, path)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def has_unnamed_files(directory: Path) -> bool:
    try:
        os.close(os.open(directory, os.O_TMPFILE | os.O_WRONLY))
    except OSError:
        return False
    return True


def test_a_new_file_that_its_writer_does_not_live_to_name_leaves_nothing(tmp_path: Path) -> None:
    if not has_unnamed_files(tmp_path):
        pytest.skip("this file system has no unnamed files")
    killed(place_new, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_what_it_was_if_its_writer_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    killed(place, path)
    assert path.read_bytes() == b"old"
    place(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.fixture(params=[True, False], ids=["unnamed", "staged"])
def unnamed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(durable, "_CAN_BE_UNNAMED", request.param)
    return bool(request.param)


@pytest.mark.usefixtures("unnamed")
def test_a_taken_name_is_refused_and_nothing_else_appears(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a"
    place_new(path, b"first")
    with pytest.raises(FileExistsError):
        place_new(path, b"second")
    assert [(one, one.read_bytes()) for one in path.parent.iterdir()] == [(path, b"first")]


@pytest.mark.usefixtures("unnamed")
def test_a_new_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    place_new(tmp_path / "new", b"x")
    (tmp_path / "other").touch()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_file_system_without_unnamed_files_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.open

    def refusing(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "Operation not supported", str(path))
        return really(path, flags, mode)

    monkeypatch.setattr(os, "open", refusing)
    place_new(tmp_path / "new", b"x")
    assert [one.name for one in tmp_path.iterdir()] == ["new"]
