"""S3 when replies are lost, throttled, cut or refused."""

from __future__ import annotations

import os
import urllib.request

import pyarrow.parquet as pq
import pytest

from catalog.errors import (
    AccessDeniedError,
    CatalogError,
    ObjectExistsError,
    StorageError,
    StorageFullError,
)
from catalog.location import Location
from tests.catalog.storage.fault_proxy import Fault, faulty
from tests.catalog.storage.s3_server import QUICK_RETRY, new_bucket, s3_storage
from tests.catalog.storage.test_conformance import TABLE

ALWAYS = 10_000


@pytest.fixture
def root(s3_endpoint: str) -> Location:
    return new_bucket(s3_endpoint)


# A reset is reported as failed, a 503 is repeated and then reported as a conflict with our own
# first try; when every reply is hidden, it is reported as failed after the last repetition.
LOST_REPLIES = pytest.mark.parametrize(
    ("fault", "hits"),
    [
        (Fault.LOSE_REPLY, 1),
        (Fault.HIDE_REPLY, 1),
        (Fault.HIDE_REPLY, QUICK_RETRY.retries_max + 1),
    ],
)


@LOST_REPLIES
def test_a_lost_reply_to_a_put_is_no_conflict(
    s3_endpoint: str, root: Location, fault: Fault, hits: int
) -> None:
    location = root.child("metadata/v2.json")
    with faulty(s3_endpoint, "^PUT", fault, hits=hits) as proxy:
        s3_storage(proxy.endpoint).put_if_absent(location, b"commit 1")
        assert proxy.hits == 0
    assert s3_storage(s3_endpoint).read(location) == b"commit 1"


@LOST_REPLIES
def test_a_lost_reply_to_a_swap_is_no_conflict(
    s3_endpoint: str, root: Location, fault: Fault, hits: int
) -> None:
    location = root.child("hint")
    direct = s3_storage(s3_endpoint)
    direct.write(location, b"1")
    with faulty(s3_endpoint, "^PUT", fault, hits=hits) as proxy:
        s3_storage(proxy.endpoint).put_if_match(location, b"2", direct.head(location).etag)
        assert proxy.hits == 0
    assert direct.read(location) == b"2"


def test_a_lost_reply_to_a_lost_race_is_a_conflict(s3_endpoint: str, root: Location) -> None:
    location = root.child("metadata/v2.json")
    direct = s3_storage(s3_endpoint)
    direct.put_if_absent(location, b"theirs")
    with (
        faulty(s3_endpoint, "^PUT", Fault.LOSE_REPLY, hits=1) as proxy,
        pytest.raises(ObjectExistsError),
    ):
        s3_storage(proxy.endpoint).put_if_absent(location, b"ours")
    assert direct.read(location) == b"theirs"


def test_a_put_that_never_arrives_fails_in_bounded_tries(s3_endpoint: str, root: Location) -> None:
    location = root.child("metadata/v2.json")
    with faulty(s3_endpoint, "^PUT", Fault.RESET, hits=ALWAYS) as proxy:
        with pytest.raises(StorageError) as caught:
            s3_storage(proxy.endpoint).put_if_absent(location, b"ours")
        puts = [line for line in proxy.log if line.startswith("PUT")]
    assert len(puts) <= 3 * (QUICK_RETRY.retries_max + 1)
    assert str(location) in str(caught.value)
    assert list(s3_storage(s3_endpoint).list(root)) == []


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.RESET, Fault.CUT_BODY])
def test_passing_faults_of_reads_are_retried(
    s3_endpoint: str, root: Location, fault: Fault
) -> None:
    location = root.child("a.parquet")
    with s3_storage(s3_endpoint).open_output(location) as output:
        pq.write_table(TABLE, output)
    with faulty(s3_endpoint, "^(GET|HEAD)", fault, hits=2) as proxy:
        storage = s3_storage(proxy.endpoint)
        with storage.open_input(location) as source:
            assert pq.read_table(source).equals(TABLE)
        assert proxy.hits == 0


def test_passing_faults_of_an_upload_are_retried(s3_endpoint: str, root: Location) -> None:
    location = root.child("a.parquet")
    with faulty(s3_endpoint, "^(PUT|POST)", Fault.UNAVAILABLE, hits=3) as proxy:
        with s3_storage(proxy.endpoint).open_output(location) as output:
            pq.write_table(TABLE, output)
        assert proxy.hits == 0
    assert pq.read_table(s3_storage(s3_endpoint).open_input(location)).equals(TABLE)


def test_a_failed_upload_leaves_nothing(s3_endpoint: str, root: Location) -> None:
    with faulty(s3_endpoint, "^PUT", Fault.RESET, hits=ALWAYS) as proxy:
        storage = s3_storage(proxy.endpoint)
        with pytest.raises(StorageError), storage.open_output(root.child("a")) as output:
            pq.write_table(TABLE, output)
    assert list(s3_storage(s3_endpoint).list(root)) == []
    assert unfinished_uploads(s3_endpoint, root) == 0


@pytest.mark.parametrize("fault", [Fault.LOSE_REPLY, Fault.HIDE_REPLY, Fault.FORGET_UPLOAD])
def test_a_lost_reply_to_a_completed_upload_is_no_failure(
    s3_endpoint: str, root: Location, fault: Fault
) -> None:
    location = root.child("a.parquet")
    with faulty(s3_endpoint, r"^POST .*uploadId", fault, hits=1) as proxy:
        with s3_storage(proxy.endpoint).open_output(location) as output:
            pq.write_table(TABLE, output)
        assert proxy.hits == 0
    assert pq.read_table(s3_storage(s3_endpoint).open_input(location)).equals(TABLE)
    assert unfinished_uploads(s3_endpoint, root) == 0


def test_an_upload_that_cannot_be_completed_leaves_nothing(
    s3_endpoint: str, root: Location
) -> None:
    with faulty(s3_endpoint, r"^POST .*uploadId", Fault.RESET, hits=ALWAYS) as proxy:
        output = s3_storage(proxy.endpoint).open_output(root.child("a"))
        pq.write_table(TABLE, output)
        with pytest.raises(StorageError):
            output.close()
    assert list(s3_storage(s3_endpoint).list(root)) == []
    assert unfinished_uploads(s3_endpoint, root) == 0


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault.FORBIDDEN, AccessDeniedError),
        (Fault.QUOTA, StorageFullError),
        (Fault.UNAVAILABLE, StorageError),
    ],
)
def test_refusals_have_their_own_errors(
    s3_endpoint: str, root: Location, fault: Fault, kind: type[CatalogError]
) -> None:
    location = root.child("a")
    s3_storage(s3_endpoint).write(location, b"x")
    with faulty(s3_endpoint, ".", fault, hits=ALWAYS) as proxy:
        storage = s3_storage(proxy.endpoint)
        for use in (
            lambda: storage.read(location),
            lambda: storage.read_range(location, 0, 1),
            lambda: storage.write(location, b"y"),
            lambda: storage.put_if_absent(location, b"y"),
            lambda: list(storage.list(root)),
            lambda: storage.delete([location]),
        ):
            with pytest.raises(kind) as caught:
                use()
            assert str(root) in str(caught.value)
            assert "test-secret" not in str(caught.value)


def test_forbidden_is_not_retried(s3_endpoint: str, root: Location) -> None:
    with faulty(s3_endpoint, ".", Fault.FORBIDDEN, hits=ALWAYS) as proxy:
        with pytest.raises(AccessDeniedError):
            s3_storage(proxy.endpoint).put_if_absent(root.child("a"), b"x")
        assert len(proxy.log) == 1


def test_nobody_listening_is_a_passing_fault(root: Location) -> None:
    with pytest.raises(StorageError) as caught:
        s3_storage("http://127.0.0.1:1").read(root.child("a"))
    assert caught.value.retryable


def unfinished_uploads(endpoint: str, bucket: Location) -> int:
    with urllib.request.urlopen(f"{endpoint}/{bucket.authority}?uploads") as reply:
        return int(reply.read().count(b"<UploadId>"))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_is_refused_instead_of_hanging(s3_endpoint: str, root: Location) -> None:
    storage = s3_storage(s3_endpoint)
    storage.write(root.child("a"), b"x")
    child = os.fork()
    if child == 0:
        try:
            storage.read(root.child("a"))
        except RuntimeError:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
