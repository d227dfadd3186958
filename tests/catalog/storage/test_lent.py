"""Credentials that run out are had anew in time, and their lack is told for what it is."""

from __future__ import annotations

import pickle
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from catalog.errors import StorageError
from catalog.location import Location
from catalog.storage import Storage
from catalog.storage.lent import GCSPurse, Loan, S3Purse, purse
from tests.catalog.storage.s3_server import new_bucket, s3_properties

PLACE = Location.parse("s3://lent/x")


@dataclass(frozen=True)
class Desk:
    """Lends keys from a file of lines, one after the other; a line `no` is a refusal."""

    file: str
    life_seconds: float

    def __call__(self) -> Loan:
        line, *others = Path(self.file).read_text().split("\n")
        Path(self.file).write_text("\n".join(others))
        if line == "no":
            raise StorageError("the desk is closed")
        return loan(self, line, self.life_seconds)


def loan(desk: Desk, key: str, life_seconds: float) -> Loan:
    properties = (
        ("gcs.oauth2.token", key),
        ("s3.access-key-id", key),
        ("s3.secret-access-key", "s"),
        ("s3.session-token", "t"),
    )
    return Loan(properties, int((time.time() + life_seconds) * 1000), desk)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "lines").write_text("second\nno\nno\nthird")
    return Desk(str(tmp_path / "lines"), 1000)


def test_they_are_kept_while_they_hold(desk: Desk) -> None:
    held = S3Purse(loan(desk, "first", 1000))
    found = held()
    assert (found["access_key_id"], found["secret_access_key"]) == ("first", "s")
    assert found["token"] == "t"
    assert found["expires_at"] is not None
    assert found["expires_at"].timestamp() < time.time() + 900  # asked for again before the end
    assert held()["access_key_id"] == "first"


def test_they_are_renewed_before_they_run_out(desk: Desk) -> None:
    held = S3Purse(loan(desk, "first", -1))
    assert held()["access_key_id"] == "second"
    assert held()["access_key_id"] == "second"
    assert held.properties()["s3.access-key-id"] == "second"


def test_while_they_hold_a_refusal_is_borne(desk: Desk) -> None:
    held = GCSPurse(loan(desk, "first", -1))
    assert held()["token"] == "second"
    held._due_at = 0.0
    assert held()["token"] == "second"
    expires_at = held()["expires_at"]
    assert expires_at is not None
    assert expires_at.timestamp() < time.time() + 2  # and soon asked for again
    assert held()["token"] == "third"


def test_a_lender_is_asked_by_whoever_it_was_sent_to(desk: Desk) -> None:
    sent = pickle.loads(pickle.dumps(loan(desk, "first", -1)))
    assert sent.lender().properties[0] == ("gcs.oauth2.token", "second")
    assert "first" not in repr(sent)
    assert purse(S3Purse, sent) is purse(S3Purse, loan(desk, "first", 5))


def test_a_store_is_read_and_written_by_lent_keys(desk: Desk, s3_endpoint: str) -> None:
    storage = Storage.from_properties(s3_properties(s3_endpoint))
    storage = replace(storage, loan=loan(desk, "first", 1000))
    place = new_bucket(s3_endpoint).child("lent")
    storage.write(place, b"rows")
    assert storage.read(place) == b"rows"
    copy = place.parent.child("copy")
    storage.copy(place, copy)
    assert storage.read(copy) == b"rows"


def test_when_none_are_to_be_had_it_may_pass(desk: Desk, s3_endpoint: str) -> None:
    Path(desk.file).write_text("\n".join(["no"] * 100))
    storage = Storage.from_properties(s3_properties(s3_endpoint))
    storage = replace(storage, loan=loan(desk, "run out", -1))
    with pytest.raises(StorageError, match="could not be renewed: the desk is closed"):
        storage.read(PLACE)
