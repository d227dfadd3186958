import logging
import math
from dataclasses import replace

import pytest

import runtime
from runtime import profiles
from runtime.api import Profile
from runtime.ledger import UNWRITTEN_MAX, Ledger, base_bytes
from runtime.predictor import BASE_BYTES, WAVE_ATTEMPTS_MAX, Prediction
from runtime.profiles import ProfileStore
from tests.runtime import tasks

MIB = 1 << 20
DONE = Profile(
    key=("orders", "rewrite"),
    attempt=1,
    outcome="done",
    base_bytes=100 * MIB,
    predicted_bytes=200 * MIB,
    granted_bytes=300 * MIB,
    anonymous_peak_bytes=150 * MIB,
    hwm_bytes=170 * MIB,
    input_bytes=10,
    output_bytes=20,
    cpu_seconds=0.5,
    duration_seconds=1.5,
)


class TestStore:
    def test_gives_back_what_it_was_given(self, tmp_path):
        store = ProfileStore(tmp_path / "deep" / "profiles.db")
        assert store.history("rewrite") == []
        store.append([DONE, replace(DONE, attempt=2), replace(DONE, key=("orders", "other"))])
        assert store.history("rewrite") == [DONE, replace(DONE, attempt=2)]

    def test_leaves_out_what_teaches_nothing(self, tmp_path):
        store = ProfileStore(tmp_path / "profiles.db")
        store.append([replace(DONE, key=None), replace(DONE, outcome="lost")])
        assert store.history("rewrite") == []

    def test_drops_the_oldest_of_an_operation(self, tmp_path, monkeypatch):
        monkeypatch.setattr(profiles, "KEPT_MAX", 3)
        store = ProfileStore(tmp_path / "profiles.db")
        store.append([replace(DONE, key=("orders", "other"))])
        for attempt in range(1, 6):
            store.append([replace(DONE, attempt=attempt)])
        assert [one.attempt for one in store.history("rewrite")] == [3, 4, 5]
        assert len(store.history("other")) == 1

    def test_reads_a_file_of_before_a_column_existed(self, tmp_path, monkeypatch):
        path = tmp_path / "profiles.db"
        store = ProfileStore(path)
        store.append([DONE])
        with store._open() as connection:
            connection.execute("ALTER TABLE profiles DROP COLUMN hwm_bytes")
        assert store.history("rewrite") == [replace(DONE, hwm_bytes=0)]
        store.append([DONE])
        assert store.history("rewrite")[1] == DONE


class TestLedger:
    def test_without_a_key_the_base_is_the_grant(self):
        assert Ledger(None, None).predict(None, 5) == Prediction(5, 5)
        assert base_bytes(None, 7) == BASE_BYTES + 7
        assert base_bytes(9, 7) == 9

    def test_learns_from_the_store(self, tmp_path):
        ledger = Ledger(None, tmp_path / "profiles.db")
        for _ in range(WAVE_ATTEMPTS_MAX + 1):
            ledger.record(DONE)
        learned = ledger.predict(DONE.key, 100 * MIB)
        assert learned.predicted_bytes == pytest.approx(150 * MIB, rel=0.05)
        ledger.flush()
        assert Ledger(None, tmp_path / "profiles.db").predict(DONE.key, 100 * MIB) == learned

    def test_writes_in_batches(self, tmp_path):
        store = ProfileStore(tmp_path / "profiles.db")
        ledger = Ledger(None, tmp_path / "profiles.db")
        for _ in range(UNWRITTEN_MAX - 1):
            ledger.record(DONE)
        assert store.history("rewrite") == []
        ledger.record(DONE)
        assert len(store.history("rewrite")) == UNWRITTEN_MAX
        ledger.flush()
        assert len(store.history("rewrite")) == UNWRITTEN_MAX

    def test_failed_attempts_teach_nothing(self):
        ledger = Ledger(None, None)
        before = ledger.predict(DONE.key, MIB)
        ledger.record(replace(DONE, outcome="out-of-memory", anonymous_peak_bytes=1))
        assert ledger.predict(DONE.key, MIB) == before

    def test_a_broken_sink_or_store_costs_no_task(self, tmp_path, caplog):
        (tmp_path / "profiles.db").write_text("not a database, and long enough to be read as one")

        def broken(profile):
            raise ValueError("broken sink")

        ledger = Ledger(broken, tmp_path / "profiles.db")
        with caplog.at_level(logging.ERROR):
            ledger.record(DONE)
            ledger.flush()
        assert "broken sink" in caplog.text
        assert "not a database" in caplog.text


@pytest.mark.parametrize("address", ["inline", "local"])
def test_the_next_runtime_knows_what_this_one_learned(address, tmp_path):
    grants = []
    for _ in range(2):
        with runtime.connect(address, profiles=tmp_path / "profiles.db", workers=1) as rt:
            refs = [
                rt.submit(tasks.allocate, 50 * MIB, memory=40 * MIB, key=("t", "allocate"))
                for _ in range(4)
            ]
            rt.get(refs)
            grants.append(rt.profile(refs[0]).granted_bytes)
    assert grants[1] != grants[0]
    assert math.isclose(grants[1], 100 * MIB, rel_tol=0.8)


def test_attempts_of_all_operations_come_in_their_order(tmp_path):
    store = ProfileStore(tmp_path / "profiles.db")
    assert store.attempts() == []
    operations = ["merge", "rewrite", "merge"]
    store.append(Profile(("t", name), 1, "done", 1, 1, 1, n) for n, name in enumerate(operations))
    store.append([Profile(("t", "merge"), 1, "failed", 1, 1, 1, 9)])
    assert [each.key[1] for each in store.attempts()] == operations
