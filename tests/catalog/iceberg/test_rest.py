"""What we send to a REST catalog and make of its answers, on a server that records requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pyiceberg.exceptions import ServiceUnavailableError

from catalog.errors import AccessDeniedError, StorageError
from catalog.iceberg import rest
from catalog.iceberg.catalogs import catalog_errors, open_catalog
from catalog.iceberg.credentials import CatalogLender, storage_of
from catalog.iceberg.rest import KEY_HEADER
from catalog.iceberg.retry_after import RETRY_AFTER_SECONDS_MAX, retry_after_seconds
from tests.catalog.iceberg.lakes import IcebergLake


@dataclass
class Server:
    """Answers the configuration, and whatever it is told to the rest."""

    config: dict[str, Any] = field(default_factory=dict)
    answers: list[tuple[int, dict[str, str], Any]] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    address: str = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], Any]:
        if path.partition("?")[0].endswith("/v1/config"):
            return 200, {}, {"defaults": {}, "overrides": {}, **self.config}
        return self.answers.pop(0)

    def keys(self) -> list[str | None]:
        return [headers.get(KEY_HEADER) for method, _, headers in self.requests if method == "POST"]


@pytest.fixture
def server() -> Iterator[Server]:
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        def answered(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            told.requests.append((self.command, self.path, dict(self.headers)))
            status, headers, body = told.answer(self.path)
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answered  # noqa: N815 - the names that the library calls

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        told.address = f"http://127.0.0.1:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield told
        listening.shutdown()
        thread.join()


def opened(server: Server, **settings: str) -> Any:
    return open_catalog("lake", {"type": "rest", "uri": server.address, **settings})


def error(kind: str, code: int) -> dict[str, Any]:
    return {"error": {"message": "no", "type": kind, "code": code}}


@pytest.mark.parametrize("status", [429, 503])
def test_reading_is_tried_again_when_the_server_says_so(
    server: Server, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "_PATIENCE", rest._PATIENCE.new(total=3, backoff_factor=0.001))
    catalog = opened(server)
    busy = (status, {"Retry-After": "0"}, error("Busy", status))
    server.answers = [busy, busy, (200, {}, {"namespaces": [["ns"]]})]
    assert catalog.list_namespaces() == [("ns",)]
    server.answers = [busy] * 20
    with (
        pytest.raises(StorageError, match="the catalog lake"),
        catalog_errors("the catalog lake"),
    ):
        catalog.list_namespaces()


def test_a_change_is_never_sent_again_by_itself(server: Server) -> None:
    catalog = opened(server)
    server.answers = [(503, {"Retry-After": "7"}, error("Busy", 503))]
    with pytest.raises(ServiceUnavailableError) as caught:
        catalog.create_namespace("ns")
    assert [method for method, _, _ in server.requests].count("POST") == 1
    assert retry_after_seconds(caught.value) == 7


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("", 0), ("soon", 0), ("3", 3), ("86400", RETRY_AFTER_SECONDS_MAX)],
)
def test_how_long_to_wait_is_believed_within_reason(
    server: Server, told: str, seconds: float
) -> None:
    catalog = opened(server)
    server.answers = [(503, {"Retry-After": told}, error("Busy", 503))]
    with pytest.raises(ServiceUnavailableError) as caught:
        catalog.create_namespace("ns")
    assert retry_after_seconds(caught.value) == seconds


@pytest.mark.parametrize("is_told_by_server", [False, True])
def test_a_table_is_loaded_with_all_its_snapshots(
    server: Server, tmp_path: Path, is_told_by_server: bool
) -> None:
    other = IcebergLake(tmp_path, 2).other
    metadata = json.loads(other.metadata.model_dump_json())
    answer = {"metadata-location": other.metadata_location, "metadata": metadata}
    server.answers = [(200, {}, answer)] * 2
    mode = {"snapshot-loading-mode": "refs"}
    if is_told_by_server:
        server.config = {"overrides": mode}
    catalog = opened(server, **({} if is_told_by_server else mode))
    for _ in range(2):
        catalog.load_table("ns.t")
    loads = [path for _, path, _ in server.requests if path.partition("?")[0].endswith("/t")]
    assert len(loads) == 2
    assert not any("snapshots=" in path for path in loads)


def test_changes_bear_keys_where_the_server_heeds_them(server: Server) -> None:
    made: tuple[int, dict[str, str], Any] = (200, {}, {"namespace": ["ns"], "properties": {}})
    server.config, server.answers = {"idempotency-key-lifetime": "PT30M"}, [made] * 3
    catalog = opened(server)
    for name in ("ns", "ns", "other"):
        catalog.create_namespace(name)
    first, again, other = server.keys()
    assert first is not None
    assert first == again != other
    assert UUID(first).version == 7


def test_changes_bear_no_keys_elsewhere(server: Server) -> None:
    server.answers = [(200, {}, {"namespace": ["ns"], "properties": {}})]
    opened(server).create_namespace("ns")
    assert server.keys() == [None]


def test_a_token_that_has_run_out_is_told_with_what_helps(server: Server) -> None:
    catalog = opened(server, token="old")
    server.answers = [(401, {}, error("NotAuthorized", 401))] * 4
    with (
        pytest.raises(AccessDeniedError, match="the catalog lake") as caught,
        catalog_errors("the catalog lake"),
    ):
        catalog.list_namespaces()
    assert "credential" in caught.value.hint


class TestLentCredentials:
    """Keys that come with a table are renewed by loading it again."""

    LENT = {  # noqa: RUF012 - read only
        "s3.access-key-id": "lent",
        "s3.secret-access-key": "s",
        "s3.session-token": "t",
        "s3.session-token-expires-at-ms": "1700000000000",
    }

    @pytest.fixture
    def table(self, server: Server, tmp_path: Path) -> Any:
        other = IcebergLake(tmp_path, 2).other
        metadata = json.loads(other.metadata.model_dump_json())
        answer = {"metadata-location": other.metadata_location, "metadata": metadata}
        server.answers = [
            (200, {}, {**answer, "config": self.LENT}),
            (200, {}, {**answer, "config": {**self.LENT, "s3.access-key-id": "renewed"}}),
            (200, {}, answer),
        ]
        return opened(server).load_table("ns.t")

    def test_they_are_lent_anew(self, table: Any) -> None:
        storage = storage_of(table.catalog, ("ns", "t"), table)
        assert storage.loan is not None
        assert storage.loan.expires_at_ms == 1700000000000
        renewed = storage.loan.lender()
        assert dict(renewed.properties)["s3.access-key-id"] == "renewed"
        with pytest.raises(AccessDeniedError, match=r"lends no credentials for lake\.ns\.t"):
            renewed.lender()

    def test_the_users_own_keys_are_no_loan(self, table: Any) -> None:
        table.catalog.properties.update(self.LENT)
        assert storage_of(table.catalog, ("ns", "t"), table).loan is None

    def test_nothing_of_them_is_shown(self, table: Any) -> None:
        loan = storage_of(table.catalog, ("ns", "t"), table).loan
        assert loan is not None
        assert isinstance(loan.lender, CatalogLender)
        assert "lent" not in repr(loan).replace("lender", "")
        assert table.catalog.uri not in repr(loan.lender)
