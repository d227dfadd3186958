"""The claim on a table: one process at a time, taken over from the dead, never from the living."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, text, update

from compactor.errors import JobFailedError, SettingsError, TableBusyError
from compactor.jobs import lease as leases
from compactor.jobs.journal import Journal
from compactor.jobs.lease import claim, new_job_id
from compactor.jobs.owner import Owner
from compactor.jobs.schema import LEASES
from compactor.jobs.store import JobStore, now_ms, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with open_store(f"sqlite:///{tmp_path}/state/jobs.db") as opened:
        yield opened


def change_holder(store: JobStore, **values: object) -> None:
    with store.transaction() as connection:
        connection.execute(update(LEASES).values(values))


def test_a_table_is_held_by_one_at_a_time(store: JobStore) -> None:
    with claim(store, "lake.t") as held:
        with pytest.raises(TableBusyError, match=held.job_id) as caught, claim(store, "lake.t"):
            pass
        assert str(os.getpid()) in str(caught.value)
        with claim(store, "lake.other"):
            pass
    with claim(store, "lake.t") as again:
        assert again.fence == held.fence + 1
        assert not again.is_resumable


def test_a_dead_owner_is_replaced_at_once(store: JobStore) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with claim(store, "lake.t"):
        change_holder(store, pid=child.pid)
        with claim(store, "lake.t"):
            pass


def test_a_reused_process_number_is_not_the_owner(store: JobStore) -> None:
    with claim(store, "lake.t"):
        change_holder(store, process_started_at=1.0)
        with claim(store, "lake.t"):
            pass


def test_an_owner_elsewhere_is_replaced_only_when_its_lease_expires(store: JobStore) -> None:
    with claim(store, "lake.t"):
        change_holder(store, host="another-machine", pid=1)
        with pytest.raises(TableBusyError, match="another-machine"), claim(store, "lake.t"):
            pass
        change_holder(store, expires_at_ms=0)
        with claim(store, "lake.t"):
            pass


def test_a_lease_is_renewed(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "TTL_SECONDS", 6.0)
    monkeypatch.setattr(leases, "RENEWALS_PER_TTL", 60)
    with claim(store, "lake.t") as held:
        change_holder(store, expires_at_ms=1)
        for _ in range(50):
            held._ended.wait(0.1)
            with store.transaction() as connection:
                expires_at_ms = connection.execute(select(LEASES.c.expires_at_ms)).scalar_one()
                if expires_at_ms > now_ms(connection):
                    return
    pytest.fail("the lease was not renewed")


def test_owners_are_told_apart() -> None:
    mine = Owner.current()
    assert not mine.is_known_dead()
    assert Owner(mine.host, mine.pid, mine.started_at - 60).is_known_dead()
    assert not Owner("elsewhere", mine.pid, 0.0).is_known_dead()


def test_job_ids_differ_and_sort_by_time() -> None:
    ids = [new_job_id() for _ in range(100)]
    assert len(set(ids)) == len(ids)
    assert [one[:11] for one in ids] == sorted(one[:11] for one in ids)


def test_the_store_is_durable_and_private(tmp_path: Path, store: JobStore) -> None:
    with store.transaction() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2
    assert (tmp_path / "state" / "jobs.db").stat().st_mode & 0o077 == 0


def test_who_lost_a_table_takes_no_further_step(store: JobStore) -> None:
    with claim(store, "lake.t") as held:
        late = Journal(store, held.job_id, fence=held.fence)
        late.discarded("an attempt")
        change_holder(store, expires_at_ms=0)
        with claim(store, "lake.t") as other:
            change_holder(store, job_id=held.job_id)
            with pytest.raises(JobFailedError, match="took over"):
                late.discarded("an attempt")
            held.release()
            Journal(store, held.job_id, fence=other.fence).discarded("an attempt")
        with pytest.raises(JobFailedError, match="lost the claim"):
            late.discarded("an attempt")


def test_a_refused_claim_leaves_the_fence(store: JobStore) -> None:
    with claim(store, "lake.t") as held:
        for _ in range(3):
            with pytest.raises(TableBusyError), claim(store, "lake.t"):
                pass
    with claim(store, "lake.t") as again:
        assert again.fence == held.fence + 1


def test_a_damaged_store_is_to_be_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    path.write_bytes(b"no database, but a text that is long enough to be looked at" * 20)
    with pytest.raises(SettingsError, match="file is not a database") as refused:
        open_store(f"sqlite:///{path}")
    assert refused.value.hint.startswith("move the file away")


def test_passwords_of_stores_are_not_told() -> None:
    with pytest.raises(SettingsError) as refused:
        open_store("nosuch://me:secret@host/db")
    assert "`nosuch://me:***@host/db`" in str(refused.value)


def test_a_store_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot open the job store"):
        open_store(f"sqlite:///{tmp_path}/file/jobs.db")
