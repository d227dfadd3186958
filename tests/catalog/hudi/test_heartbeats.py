"""Signs of life of instants that are being carried out."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from catalog.hudi.heartbeats import TOLERATED_SECONDS, beating, is_beating
from catalog.location import Location
from catalog.storage import Storage

INSTANT = "20261123000000000"


def test_an_instant_beats_while_it_is_carried_out(tmp_path):
    root, storage = Location.resolve(str(tmp_path)), Storage()
    path = tmp_path / ".hoodie" / ".heartbeat" / INSTANT
    assert not is_beating(storage, root, INSTANT, now=datetime.now(UTC))
    with beating(storage, root, INSTANT, beat_seconds=0.01):
        assert path.read_bytes() == b""
        first = path.stat().st_mtime_ns
        deadline = time.monotonic() + 30
        while path.stat().st_mtime_ns == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert is_beating(storage, root, INSTANT, now=datetime.now(UTC))
    assert not path.exists()


def test_an_instant_that_missed_its_beats_is_dead(tmp_path):
    root, storage = Location.resolve(str(tmp_path)), Storage()
    path = Path(root.child(".hoodie", ".heartbeat", INSTANT).path)
    path.parent.mkdir(parents=True)
    path.touch()
    now = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    assert is_beating(storage, root, INSTANT, now=now + timedelta(seconds=TOLERATED_SECONDS - 1))
    assert not is_beating(storage, root, INSTANT, now=now + timedelta(seconds=TOLERATED_SECONDS))
