"""Objects that S3 composes of ranges of others: whole or not at all, whatever goes wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from catalog.errors import (
    AccessDeniedError,
    CatalogError,
    CorruptTableError,
    NotComposableError,
    ObjectNotFoundError,
    StorageError,
    StorageFullError,
)
from catalog.location import Location
from catalog.storage import Storage
from catalog.storage.composition import _composer
from catalog.storage.parts import (
    PARTS_MAX,
    CopiedPart,
    NewPiece,
    Part,
    Source,
    StoredPiece,
    UploadedPart,
    plan_parts,
)
from tests.catalog.storage.fault_proxy import Fault, FaultProxy, faulty
from tests.catalog.storage.s3_server import (
    QUICK_RETRY,
    new_bucket,
    s3_properties,
    s3_storage,
)
from tests.catalog.storage.test_s3_faults import unfinished_uploads

# The server and we agree on shorter parts here: it keeps these many tests quick.
UNIT = 1 << 14
MIB = 1 << 20
ALWAYS = 10_000
COPY = "^PUT .*partNumber=1&"
LONG = os.urandom(6 * UNIT)
LONGER = os.urandom(11 * UNIT)
SHORT = os.urandom(UNIT)


@pytest.fixture(autouse=True)
def _short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 5 * UNIT)
    monkeypatch.setattr("catalog.storage.parts.PART_BYTES_MIN", 5 * UNIT)


@pytest.fixture
def bucket(s3_endpoint: str) -> Location:
    _composer.cache_clear()
    return new_bucket(s3_endpoint)


def stored(storage: Storage, location: Location, data: bytes) -> Source:
    """Store an object and return it as it is now."""
    storage.write(location, data)
    info = storage.head(location)
    return Source(location, info.size_bytes, info.etag)


def whole(source: Source) -> StoredPiece:
    return StoredPiece(source, 0, source.size_bytes)


def sample(endpoint: str, bucket: Location) -> tuple[Location, list[Part], bytes]:
    """Return a target, its parts and its bytes: two long sources, a short one, a new end."""
    storage = s3_storage(endpoint)
    data = {"a b/ts=1%3A2": LONG, "short": SHORT, "ü'(z)!~": LONGER}
    pieces = [whole(stored(storage, bucket.child(name), one)) for name, one in data.items()]
    expected = b"".join(data.values()) + b"the end"
    parts = plan_parts([*pieces, NewPiece(b"the end")])
    assert [type(part) for part in parts] == [CopiedPart, UploadedPart] * 2
    return bucket.child("out/x=ü 1.parquet"), parts, expected


def test_an_object_is_composed(s3_endpoint: str, bucket: Location) -> None:
    target, parts, expected = sample(s3_endpoint, bucket)
    storage = s3_storage(s3_endpoint)
    storage.compose(target, parts)
    assert storage.tally().bytes_copied == sum(
        part.length for part in parts if isinstance(part, CopiedPart)
    )
    assert storage.tally().bytes_written == storage.tally().bytes_read + len(b"the end")
    assert storage.read(target) == expected
    assert unfinished_uploads(s3_endpoint, bucket) == 0


def test_sources_may_be_in_other_buckets_and_on_this_machine(
    s3_endpoint: str, bucket: Location, tmp_path: Path
) -> None:
    storage = s3_storage(s3_endpoint)
    remote = stored(storage, new_bucket(s3_endpoint).child("a"), LONGER)
    local = stored(storage, Location.parse(str(tmp_path / "b")), SHORT)
    parts = plan_parts(
        [StoredPiece(local, 5, 100), StoredPiece(remote, UNIT, 10 * UNIT), whole(local)]
    )
    storage.compose(bucket.child("c"), parts)
    assert storage.read(bucket.child("c")) == SHORT[5:105] + LONGER[UNIT:] + SHORT


@pytest.mark.parametrize(
    ("request_line", "fault", "hits"),
    [
        ("^POST .*uploads=", Fault.LOSE_REPLY, 2),
        ("^POST .*uploads=", Fault.UNAVAILABLE, QUICK_RETRY.retries_max),
        (COPY, Fault.ERROR_IN_200, 2),
        (COPY, Fault.RESET, 2),
        (COPY, Fault.LOSE_REPLY, 2),
        (COPY, Fault.CUT_BODY, 1),
        ("^POST .*uploadId=", Fault.UNAVAILABLE, QUICK_RETRY.retries_max),
        ("^POST .*uploadId=", Fault.ERROR_IN_200, 2),
        ("^POST .*uploadId=", Fault.LOSE_REPLY, 2),
        ("^POST .*uploadId=", Fault.HIDE_REPLY, 2),
    ],
)
def test_what_passes_is_tried_again(
    s3_endpoint: str, bucket: Location, fault: Fault, hits: int, request_line: str
) -> None:
    target, parts, expected = sample(s3_endpoint, bucket)
    with faulty(s3_endpoint, request_line, fault, hits=hits) as proxy:
        s3_storage(proxy.endpoint).compose(target, parts)
        assert proxy.hits == 0
    assert s3_storage(s3_endpoint).read(target) == expected
    assert unfinished_uploads(s3_endpoint, bucket) == 0


def test_a_storm_of_slow_downs_passes(s3_endpoint: str, bucket: Location) -> None:
    target, parts, expected = sample(s3_endpoint, bucket)
    with faulty(s3_endpoint, "^PUT .*uploadId=", Fault.UNAVAILABLE, hits=9) as proxy:
        s3_storage(proxy.endpoint).compose(target, parts)
        assert proxy.hits == 0
    assert s3_storage(s3_endpoint).read(target) == expected


@pytest.mark.parametrize(
    ("request_line", "fault", "kind"),
    [
        (COPY, Fault.RESET, StorageError),
        (COPY, Fault.UNAVAILABLE, StorageError),
        (COPY, Fault.ERROR_IN_200, StorageError),
        (COPY, Fault.QUOTA, StorageFullError),
        ("^PUT .*partNumber=4", Fault.FORBIDDEN, AccessDeniedError),
        ("^POST .*uploads=", Fault.QUOTA, StorageFullError),
        ("^POST .*uploadId=", Fault.FORBIDDEN, AccessDeniedError),
        ("^POST .*uploadId=", Fault.ERROR_IN_200, StorageError),
        ("^POST .*uploadId=", Fault.RESET, StorageError),
    ],
)
def test_a_failure_leaves_nothing(
    s3_endpoint: str, bucket: Location, request_line: str, fault: Fault, kind: type[CatalogError]
) -> None:
    target, parts, _ = sample(s3_endpoint, bucket)
    with faulty(s3_endpoint, request_line, fault, hits=ALWAYS) as proxy:
        with pytest.raises(kind) as caught:
            s3_storage(proxy.endpoint).compose(target, parts)
        assert not isinstance(caught.value, NotComposableError)
        tries = ALWAYS - proxy.hits
    assert "test-secret" not in str(caught.value)
    assert str(bucket) in str(caught.value)
    assert tries <= QUICK_RETRY.retries_max + 1
    assert unfinished_uploads(s3_endpoint, bucket) == 0
    with pytest.raises(ObjectNotFoundError):
        s3_storage(s3_endpoint).head(target)


@pytest.mark.parametrize(
    ("fault", "is_remembered"),
    [(Fault.UNKNOWN_REQUEST, True), (Fault.EMPTY_200, True), (Fault.FORBIDDEN, False)],
)
def test_a_store_that_does_not_copy_parts_is_told(
    s3_endpoint: str, bucket: Location, fault: Fault, is_remembered: bool
) -> None:
    target, parts, _ = sample(s3_endpoint, bucket)
    with faulty(s3_endpoint, COPY, fault, hits=ALWAYS) as proxy:
        storage = s3_storage(proxy.endpoint)
        for _ in range(2):
            with pytest.raises(NotComposableError, match="copy"):
                storage.compose(target, parts)
        # The second time it is not asked again.
        assert sum("uploads=" in line for line in proxy.log) == (1 if is_remembered else 2)
    assert unfinished_uploads(s3_endpoint, bucket) == 0


@pytest.mark.parametrize(
    ("fault", "reason"), [(Fault.FORBIDDEN, "AccessDenied"), (Fault.RESET, "no answer")]
)
def test_where_obstore_may_be_let_in_and_we_are_not(
    s3_endpoint: str, bucket: Location, fault: Fault, reason: str
) -> None:
    target, parts, _ = sample(s3_endpoint, bucket)
    with (
        faulty(s3_endpoint, "^POST .*uploads=", fault, hits=ALWAYS) as proxy,
        pytest.raises(NotComposableError, match=reason),
    ):
        s3_storage(proxy.endpoint).compose(target, parts)
    assert unfinished_uploads(s3_endpoint, bucket) == 0


@pytest.mark.parametrize("replacement", [LONGER[::-1], LONGER[:-1], LONGER + b"x"])
def test_a_replaced_source_is_refused_by_name(
    s3_endpoint: str, bucket: Location, replacement: bytes
) -> None:
    target, parts, _ = sample(s3_endpoint, bucket)
    storage = s3_storage(s3_endpoint)
    # The server does not look at the condition: this is what we find out ourselves.
    stored(storage, bucket.child("ü'(z)!~"), replacement)
    with pytest.raises((CorruptTableError, NotComposableError)) as caught:
        storage.compose(target, parts)
    assert isinstance(caught.value, NotComposableError) or "ü'(z)!~" in str(caught.value)
    assert unfinished_uploads(s3_endpoint, bucket) == 0
    with pytest.raises(ObjectNotFoundError):
        storage.head(target)


def test_a_source_replaced_while_it_is_copied_is_refused_by_name(
    s3_endpoint: str, bucket: Location
) -> None:
    target, parts, _ = sample(s3_endpoint, bucket)
    direct = s3_storage(s3_endpoint)
    with faulty(s3_endpoint, "^PUT .*partNumber=4", Fault.HOLD, hits=1) as proxy:
        replace_when_held(proxy, lambda: direct.write(bucket.child("a b/ts=1%3A2"), LONG[::-1]))
        with pytest.raises(CorruptTableError, match="ts=1%3A2 was replaced"):
            s3_storage(proxy.endpoint).compose(target, parts)
    assert unfinished_uploads(s3_endpoint, bucket) == 0


def replace_when_held(proxy: FaultProxy, action: Callable[[], None]) -> None:
    """Act once a request is held, then let it go."""
    import threading

    def act() -> None:
        proxy.held.wait(30)
        action()
        proxy.released.set()

    threading.Thread(target=act, daemon=True).start()


@pytest.mark.parametrize("name", ["a b/ts=1%3A2", "short"])
def test_a_deleted_source_is_named(s3_endpoint: str, bucket: Location, name: str) -> None:
    target, parts, _ = sample(s3_endpoint, bucket)
    storage = s3_storage(s3_endpoint)
    storage.delete([bucket.child(name)])
    with pytest.raises(ObjectNotFoundError) as caught:
        storage.compose(target, parts)
    assert name in str(caught.value)
    assert unfinished_uploads(s3_endpoint, bucket) == 0


def test_the_condition_is_sent_and_its_failure_names_the_source(
    s3_endpoint: str, bucket: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    from catalog.storage import composition
    from catalog.storage.s3_requests import S3RefusalError

    target, parts, _ = sample(s3_endpoint, bucket)
    conditions = []
    send = composition.Sender.send

    def checking(self, request, **options):
        conditions.append(request.headers.get("x-amz-copy-source-if-match"))
        if conditions[-1]:
            raise S3RefusalError(412, "PreconditionFailed", "")
        return send(self, request, **options)

    monkeypatch.setattr(composition.Sender, "send", checking)
    with pytest.raises(CorruptTableError, match="was replaced"):
        s3_storage(s3_endpoint).compose(target, parts)
    first = parts[0]
    assert isinstance(first, CopiedPart)
    assert first.piece.source.etag in conditions


def nothing_to_copy(bucket: Location) -> Sequence[Part]:
    return [UploadedPart((NewPiece(b"x"),))]


def too_many(bucket: Location) -> Sequence[Part]:
    source = Source(bucket.child("a"), 1 << 40, "etag")
    return [CopiedPart(StoredPiece(source, 0, 5 * UNIT))] * (PARTS_MAX + 1)


@pytest.mark.parametrize(
    ("parts", "reason"), [(nothing_to_copy, "long enough"), (too_many, "10001 parts")]
)
def test_what_cannot_be_composed_is_told_before_anything_is_asked(
    parts: Callable[[Location], Sequence[Part]], reason: str
) -> None:
    bucket = Location.parse("s3://bucket")
    storage = s3_storage("http://127.0.0.1:1")
    with pytest.raises(NotComposableError, match=reason):
        storage.compose(bucket.child("x"), parts(bucket))


@pytest.mark.parametrize("text", ["/tmp/x", "memory://m/x", "gs://bucket/x"])
def test_only_s3_composes(text: str) -> None:
    with pytest.raises(NotComposableError, match="no copying of ranges"):
        Storage().compose(Location.parse(text), [])
    assert Storage().composed_bytes_min(Location.parse(text)) is None
    assert Storage().abort_uploads(Location.parse(text)) == 0


@pytest.mark.parametrize(
    ("extra", "reason"),
    [({"s3.anonymous": "true"}, "anonymous"), ({"s3.role-arn": "arn:x"}, "assumed role")],
)
def test_without_credentials_of_our_own_nothing_is_composed(
    s3_endpoint: str, bucket: Location, extra: dict[str, str], reason: str
) -> None:
    target, parts, _ = sample(s3_endpoint, bucket)
    storage = Storage.from_properties({**s3_properties(s3_endpoint), **extra})
    with pytest.raises(NotComposableError, match=reason):
        storage.compose(target, parts)


def test_credentials_come_from_the_environment(
    s3_endpoint: str, bucket: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, parts, expected = sample(s3_endpoint, bucket)
    given = {"ENDPOINT_URL": s3_endpoint, "REGION": "eu-west-1", "SESSION_TOKEN": "token"}
    given |= {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"}
    for name, value in given.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    storage = Storage(retry=QUICK_RETRY)
    storage.compose(target, parts)
    assert storage.read(target) == expected


def test_unfinished_uploads_of_an_object_are_aborted(s3_endpoint: str, bucket: Location) -> None:
    storage = s3_storage(s3_endpoint)
    for name in ("x=1&y <ü>/job-0000.parquet", "x=1&y <ü>/job-0000.parquet.other"):
        output = storage.open_output(bucket.child(name))
        output.write(bytes(20 * MIB))
    assert unfinished_uploads(s3_endpoint, bucket) == 2
    assert storage.abort_uploads(bucket.child("x=1&y <ü>/job-0000.parquet")) == 1
    assert storage.abort_uploads(bucket.child("x=1&y <ü>/job-0000.parquet")) == 0
    assert unfinished_uploads(s3_endpoint, bucket) == 1


def test_looking_for_uploads_without_permission(s3_endpoint: str, bucket: Location) -> None:
    with (
        faulty(s3_endpoint, "^GET .*uploads=", Fault.FORBIDDEN, hits=1) as proxy,
        pytest.raises(AccessDeniedError, match="list the uploads"),
    ):
        s3_storage(proxy.endpoint).abort_uploads(bucket.child("x"))


def test_servers_are_told_apart(s3_endpoint: str, bucket: Location) -> None:
    """What one endpoint does not do says nothing of another."""
    target, parts, expected = sample(s3_endpoint, bucket)
    with (
        faulty(s3_endpoint, COPY, Fault.UNKNOWN_REQUEST, hits=1) as proxy,
        pytest.raises(NotComposableError),
    ):
        s3_storage(proxy.endpoint).compose(target, parts)
    s3_storage(s3_endpoint).compose(target, parts)
    assert s3_storage(s3_endpoint).read(target) == expected
