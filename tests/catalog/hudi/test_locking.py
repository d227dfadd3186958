"""Locks of Hudi tables: one holder at a time, taken over from the dead, lost without harm."""

import json
import multiprocessing
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from catalog.errors import LockLostError, LockTimeoutError, UnsupportedTableError
from catalog.hudi.config import table_config
from catalog.hudi.file_lock import FileLock
from catalog.hudi.locking import LOCK_PROVIDER, NoLock, held, lock_of
from catalog.hudi.storage_lock import StorageLock
from catalog.location import Location
from catalog.storage import Storage

CONFIG = {"hoodie.table.name": "t", "hoodie.table.type": "MERGE_ON_READ"}
CONFIG |= {"hoodie.table.version": "9", "hoodie.timeline.layout.version": "2"}


@pytest.fixture
def root(tmp_path):
    (tmp_path / ".hoodie").mkdir()
    return Location.resolve(str(tmp_path))


def a_file_lock(root):
    return FileLock(root.child(".hoodie", "lock"))


def a_storage_lock(root):
    return StorageLock(Storage(), root.child(".hoodie", ".locks", "table_lock.json"))


@pytest.mark.parametrize("make", [a_file_lock, a_storage_lock])
class TestAnyLock:
    def test_one_holder(self, make, root):
        first, second = make(root), make(root)
        assert first.try_acquire()
        first.require()
        assert not second.try_acquire()
        assert second.describe_holder() != "nobody"
        first.release()
        assert second.try_acquire()
        second.require()
        second.release()

    def test_a_release_twice_harms_nobody(self, make, root):
        first, second = make(root), make(root)
        assert first.try_acquire()
        first.release()
        assert second.try_acquire()
        first.release()
        second.require()
        second.release()

    def test_waiting_in_vain_names_the_holder(self, make, root):
        first = make(root)
        assert first.try_acquire()
        holder = first.describe_holder()
        with (
            pytest.raises(LockTimeoutError, match="nothing was changed") as caught,
            held(make(root), root=root, timeout_seconds=0.0),
        ):
            pass
        assert holder in str(caught.value)
        first.release()

    def test_many_processes_count_without_losing_one(self, make, root, tmp_path):
        counter = tmp_path / "counter"
        counter.write_text("0")
        context = multiprocessing.get_context("fork")
        some = [context.Process(target=_count, args=(make, root, counter)) for _ in range(4)]
        for one in some:
            one.start()
        for one in some:
            one.join(60)
        assert [one.exitcode for one in some] == [0] * 4
        assert counter.read_text() == str(4 * 10)


def _count(make, root, counter):
    for _ in range(10):
        with held(make(root), root=root, timeout_seconds=50.0) as lock:
            number = int(counter.read_text())
            lock.require()
            counter.write_text(str(number + 1))


HOLDER = """
import sys, time
from catalog.hudi.file_lock import FileLock
from catalog.location import Location
lock = FileLock(Location.resolve(sys.argv[1]))
assert lock.try_acquire()
print("held", flush=True)
time.sleep(600)
"""


class TestFileLock:
    def test_what_a_killed_process_of_ours_held_is_taken_over(self, root):
        path = root.child(".hoodie", "lock")
        process = subprocess.Popen([sys.executable, "-c", HOLDER, path.path], stdout=-1, text=True)
        assert process.stdout.readline() == "held\n"
        lock = FileLock(path)
        assert not lock.try_acquire()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert lock.try_acquire()
        lock.require()
        lock.release()
        assert not Path(path.path).exists()

    @pytest.mark.parametrize("content", ["", '{"lockCreateTime":1}', "null"])
    def test_what_others_made_is_left(self, root, content):
        path = Path(root.child(".hoodie", "lock").path)
        path.write_text(content)
        lock = a_file_lock(root)
        assert not lock.try_acquire()
        assert path.read_text() == content
        path.unlink()
        assert lock.try_acquire()
        lock.release()

    def test_a_file_that_was_taken_away_is_noticed(self, root):
        path = Path(root.child(".hoodie", "lock").path)
        lock = a_file_lock(root)
        assert lock.try_acquire()
        path.unlink()
        path.write_text("")
        with pytest.raises(LockLostError):
            lock.require()
        lock.release()
        assert path.exists()

    def test_only_the_lock_is_left_beside_it(self, root):
        lock = a_file_lock(root)
        assert lock.try_acquire()
        assert not a_file_lock(root).try_acquire()
        assert [one.name for one in Path(root.child(".hoodie").path).iterdir()] == ["lock"]
        lock.release()


class TestStorageLock:
    """The format and the times are those of Hudi's provider."""

    def test_what_stands_in_the_object(self, root):
        path = Path(root.child(".hoodie", ".locks", "table_lock.json").path)
        lock = a_storage_lock(root)
        before_ms = time.time() * 1000
        assert lock.try_acquire()
        told = json.loads(path.read_text())
        assert set(told) == {"expired", "validUntil", "owner"}
        assert told["expired"] is False
        assert 299_000 < told["validUntil"] - before_ms < 302_000
        lock.release()
        assert json.loads(path.read_text()) == {**told, "expired": True}

    def test_a_claim_is_renewed_while_it_is_held(self, root):
        location = root.child(".hoodie", ".locks", "table_lock.json")
        times = {"validity_seconds": 1.0, "renewal_seconds": 0.05, "margin_seconds": 0.0}
        lock = StorageLock(Storage(), location, **times)
        assert lock.try_acquire()
        first = json.loads(Path(location.path).read_text())["validUntil"]
        _wait(lambda: json.loads(Path(location.path).read_text())["validUntil"] > first)
        lock.require()
        lock.release()

    @pytest.mark.parametrize(("ago_ms", "is_free"), [(-60_000, False), (100, False), (900, True)])
    def test_others_claims_run_out_after_the_drift_of_clocks(self, root, ago_ms, is_free):
        location = root.child(".hoodie", ".locks", "table_lock.json")
        until = int(time.time() * 1000) - ago_ms
        told = {"expired": False, "validUntil": until, "owner": "another"}
        Storage().write(location, json.dumps(told).encode())
        lock = a_storage_lock(root)
        assert lock.try_acquire() is is_free
        lock.release()

    def test_a_claim_that_another_took_is_noticed_by_the_renewal(self, root):
        location = root.child(".hoodie", ".locks", "table_lock.json")
        times = {"validity_seconds": 60.0, "renewal_seconds": 0.05, "margin_seconds": 0.0}
        lock = StorageLock(Storage(), location, **times)
        assert lock.try_acquire()
        until = int(time.time() * 1000) + 600_000
        told = json.dumps({"expired": False, "validUntil": until, "owner": "another"})
        Storage().write(location, told.encode())
        _wait_until_lost(lock)
        with pytest.raises(LockLostError):
            lock.require()
        lock.release()
        assert Path(location.path).read_text() == told

    def test_a_claim_that_runs_out_soon_is_not_relied_on(self, root):
        location = root.child(".hoodie", ".locks", "table_lock.json")
        lock = StorageLock(Storage(), location, validity_seconds=1.0, margin_seconds=30.0)
        assert lock.try_acquire()
        with pytest.raises(LockLostError):
            lock.require()
        lock.release()

    def test_what_is_damaged_is_named(self, root):
        location = root.child(".hoodie", ".locks", "table_lock.json")
        Storage().write(location, b"{")
        with pytest.raises(Exception, match="cannot be read"):
            a_storage_lock(root).try_acquire()


def _wait(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 30 s"
        time.sleep(0.01)


def _wait_until_lost(lock):
    def is_lost():
        try:
            lock.require()
        except LockLostError:
            return True
        return False

    _wait(is_lost)


class TestChoice:
    def test_by_scheme(self, root):
        config = table_config(CONFIG)
        assert isinstance(lock_of(Storage(), root, config, {}), FileLock)
        remote = Location.parse("s3://bucket/t")
        assert isinstance(lock_of(Storage(), remote, config, {}), StorageLock)

    def test_by_setting(self, root, monkeypatch):
        config = table_config(CONFIG)
        assert isinstance(lock_of(Storage(), root, config, {LOCK_PROVIDER: "none"}), NoLock)
        monkeypatch.setenv("HUDI_LOCK_PROVIDER", "storage")
        assert isinstance(lock_of(Storage(), root, config, {}), StorageLock)

    def test_by_what_the_table_says(self, root):
        told = "org.apache.hudi.client.transaction.lock.StorageBasedLockProvider"
        config = table_config({**CONFIG, "hoodie.write.lock.provider": told})
        assert isinstance(lock_of(Storage(), root, config, {}), StorageLock)

    def test_others_are_refused_by_name(self, root):
        told = "org.apache.hudi.client.transaction.lock.ZookeeperBasedLockProvider"
        config = table_config({**CONFIG, "hoodie.write.lock.provider": told})
        with pytest.raises(UnsupportedTableError, match="ZookeeperBasedLockProvider"):
            lock_of(Storage(), root, config, {})
        remote = Location.parse("s3://bucket/t")
        with pytest.raises(UnsupportedTableError, match="atomically"):
            lock_of(Storage(), remote, config, {LOCK_PROVIDER: "filesystem"})
