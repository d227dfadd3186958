"""A copy of the store that is taken while a service works is a store to go on with."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from compactor.jobs.store import JobStore
from compactor.service.config import ServiceConfig
from compactor.service.registry import Registry
from compactor.service.store import open_service_store
from compactor.service.views import Views
from tests.compactor.service.rows import claimed, deliver, hint

DELIVERIES = 60


def by_the_shell(source: Path, copy: Path) -> None:
    """Do what `.backup` of its shell does."""
    with closing(sqlite3.connect(source)) as store, closing(sqlite3.connect(copy)) as target:
        store.backup(target, pages=5)


def into_a_file(source: Path, copy: Path) -> None:
    with closing(sqlite3.connect(source)) as store:
        store.execute("VACUUM INTO ?", (str(copy),))


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("back_up", [by_the_shell, into_a_file])
def test_a_copy_holds_all_that_was_answered_before_it(
    store: JobStore, registered: ServiceConfig, tmp_path: Path, back_up
) -> None:
    answered: list[str] = []
    may_copy, is_copied = threading.Event(), threading.Event()

    def deliver_all() -> None:
        for number in range(DELIVERIES):
            deliver(store, registered, hint("lake.a.one"), key=f"k{number}")
            answered.append(f"k{number}")
            if number == DELIVERIES // 3:
                may_copy.set()
        is_copied.wait(60)
        deliver(store, registered, hint("lake.b.two"), key="late")

    sender = threading.Thread(target=deliver_all)
    sender.start()
    assert may_copy.wait(60)
    before = list(answered)
    copy = tmp_path / "copy.db"
    back_up(tmp_path / "jobs.db", copy)
    is_copied.set()
    sender.join()

    with open_service_store(f"sqlite:///{copy}") as restored:
        with closing(sqlite3.connect(copy)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        views = Views(restored, registered.service, registered.budget)
        kept = {one.delivery_id for one in views.deliveries(limit=500)}
        assert set(before) <= kept
        assert "late" not in kept
        # It goes on where the copy was taken: replays are known, and what waited is worked on.
        assert deliver(restored, registered, hint("lake.a.one"), key="k0").kind == "duplicate"
        Registry(restored, registered).apply_configuration()
        held = claimed(restored, registered)
        assert held is not None
        assert held.target == "lake.a.one"
