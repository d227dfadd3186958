"""Senders that mean harm, or are broken beyond what any sender of ours is."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import uvicorn

from compactor.jobs.store import JobStore
from compactor.service import connections
from compactor.service.config import ServiceConfig
from compactor.service.connections import HEAD_BYTES_MAX, HEADERS_MAX, BoundedConnection
from compactor.service.places import enclosing_places
from compactor.service.queue import ErrorClass, Outcome
from compactor.service.webhooks.iceberg_metrics import IcebergMetricsReceiver
from compactor.service.webhooks.request import EVENTS_MAX, WebhookMalformedError
from compactor.service.webhooks.s3_records import read_records
from tests.compactor.service.rows import claimed, deliver, ended, hint, row_of, trigger
from tests.compactor.service.webhooks.requests import TOKEN, request

Connect = Callable[[], socket.socket]
HEAD = b"POST /x HTTP/1.1\r\nHost: localhost\r\n"


@contextmanager
def bounded_server() -> Iterator[Connect]:
    """Serve an application that reads bodies and says how long they were."""

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        length, more = 0, True
        while more:
            message = await receive()
            length += len(message.get("body", b""))
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(length).encode()})

    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=BoundedConnection, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield lambda: socket.create_connection(listener.getsockname(), timeout=60)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def answer(connection: socket.socket, *parts: bytes) -> bytes:
    """Send parts and return all that comes until the other side ends."""
    found = b""
    with connection, suppress(ConnectionError):
        for part in parts:
            connection.sendall(part)
        while piece := connection.recv(4096):
            found += piece
    return found


def test_a_request_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with bounded_server() as connect:
        last = b"Content-Length: 3\r\nConnection: close\r\n\r\nabc"
        assert answer(connect(), HEAD, last).endswith(b"\r\n3\r\n0\r\n\r\n")
        many = b"".join(b"X-%d: a\r\n" % number for number in range(HEADERS_MAX + 1))
        assert answer(connect(), HEAD + many + last).startswith(b"HTTP/1.1 400")
        monkeypatch.setattr(connections, "REQUEST_SECONDS_MAX", 0.05)
        assert answer(connect()) == b""
        assert answer(connect(), HEAD) == b""
        assert answer(connect(), HEAD + b"Content-Length: 3\r\n\r\na") == b""


def test_a_header_without_end_is_refused() -> None:
    with bounded_server() as connect:
        endless = b"X: " + b"a" * (HEAD_BYTES_MAX + 1)
        # What it says is lost where more was sent than it has read.
        assert answer(connect(), HEAD, endless)[:12] in (b"HTTP/1.1 400", b"")


def test_no_table_lies_as_deep_as_a_name_can_be() -> None:
    assert list(enclosing_places("s3://bucket/" + "a/" * 400_000)) == []
    deep = list(enclosing_places("s3://bucket/" + "a/" * 500 + "b"))
    assert len(deep) == 64
    assert deep[-1] == "s3://bucket/a"


def test_a_delivery_of_ever_so_many_names_is_kept(
    store: JobStore, registered: ServiceConfig
) -> None:
    places = (hint(location=f"s3://b/{n}/" + f"{n}/" * 40) for n in range(EVENTS_MAX))
    kept = deliver(store, registered, *places, hint("lake.a.one"))
    assert len(kept.trigger_ids) == 1


@pytest.mark.parametrize("text", ["\0", "x\0y", "x" * 500_000])
def test_names_that_no_table_has_are_kept_in_short(
    store: JobStore, registered: ServiceConfig, text: str
) -> None:
    unknown = deliver(store, registered, hint(text), hint("lake.b.one", job_id=text))
    assert unknown.reason.startswith("no registered table: ")
    assert len(unknown.reason) < 300
    assert "\0" not in unknown.reason
    assert len(unknown.trigger_ids) == 1


def test_a_cause_is_kept_in_short(store: JobStore, registered: ServiceConfig) -> None:
    told = hint("lake.a.one")
    odd = type(told)("lake.a.one", None, None, None, None, reason="a\0" * 100_000)
    row = row_of(store, deliver(store, registered, odd).trigger_ids[0])
    assert len(row.cause) < 300
    assert "\0" not in row.cause


def test_an_error_that_quotes_anything_ends_its_row(
    store: JobStore, registered: ServiceConfig
) -> None:
    trigger_id = trigger(store, registered, "lake.a.one")
    held = claimed(store, registered)
    assert held is not None
    outcome = Outcome("failed", ErrorClass.FATAL, "the magic is \0\0 and not PAR1")
    assert ended(store, registered, held, outcome)
    assert row_of(store, trigger_id).state == "failed"


def test_a_message_tells_of_so_many_objects_and_no_more() -> None:
    record = {"eventName": "x", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}
    body = json.dumps({"Records": [record] * (EVENTS_MAX + 1)})
    with pytest.raises(WebhookMalformedError, match="length"):
        read_records("s3", body)


def test_bytes_that_are_no_text_are_no_defect() -> None:
    receiver = IcebergMetricsReceiver("iceberg", (TOKEN,), "lake")
    sent = request(
        b'{"report-type": "scan-report", "x": "\xff"}',
        path="/webhooks/iceberg/v1/namespaces/a/tables/t/metrics",
        authorization=f"Bearer {TOKEN.decode()}",
    )
    assert receiver.receive(sent).hints == ()
