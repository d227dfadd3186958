"""Traces of jobs, as a collector receives them: over HTTP, as protobuf."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from compactor.service import traces
from compactor.service.queue import Claim, ErrorClass, Outcome
from tests.compactor.service.rpc.serving import make_table, served


class Collector(ThreadingHTTPServer):
    """Takes traces in, and remembers them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, ExportTraceServiceRequest]] = []

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for _, request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.requests.append((self.path, ExportTraceServiceRequest.FromString(body)))
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        yield server
        server.shutdown()
        thread.join()


def attributes(span: Any) -> dict[str, Any]:
    values = {one.key: one.value for one in span.attributes}
    return {key: getattr(one, one.WhichOneof("value")) for key, one in values.items()}


def test_a_job_is_one_trace(collector: Collector, tmp_path: Path) -> None:
    target = make_table(tmp_path / "orders")
    with served(tmp_path, [target]) as api:
        trigger_id = api.parts.operations.submit(target, cause="", actor="ada")
        api.work()
        trigger = api.parts.views.trigger(trigger_id)
    assert trigger is not None
    assert trigger.state == "done"
    [(path, request)] = collector.requests
    resource = {
        one.key: one.value.string_value for one in request.resource_spans[0].resource.attributes
    }
    assert (path, resource["service.name"]) == ("/v1/traces", "compact")
    whole, plan, rewrite, commit = sorted(
        collector.spans, key=lambda one: (bool(one.parent_span_id), one.start_time_unix_nano)
    )
    assert [one.name for one in (whole, plan, rewrite, commit)] == [
        "compact.job",
        "compact.plan",
        "compact.rewrite_group",
        "compact.commit",
    ]
    for one in (plan, rewrite, commit):
        assert (one.trace_id, one.parent_span_id) == (whole.trace_id, whole.span_id)
        assert whole.start_time_unix_nano <= one.start_time_unix_nano
        assert one.start_time_unix_nano <= one.end_time_unix_nano <= whole.end_time_unix_nano
        assert attributes(one)["compact.job.id"] == trigger.job_id
    assert attributes(whole) | {"compact.input_bytes": 0} == {
        "compact.table": target,
        "compact.trigger.id": trigger_id,
        "compact.attempt": 1,
        "compact.status": "succeeded",
        "compact.job.id": trigger.job_id,
        "compact.table.format": "delta v1/2",
        "compact.groups": 1,
        "compact.input_bytes": 0,
    }
    assert attributes(rewrite)["compact.state"] == "written"
    assert attributes(commit)["compact.snapshot.id"] == "6"


def test_a_job_that_fails_says_so_without_secrets(collector: Collector) -> None:
    claim = Claim(trigger_id=7, table_id=1, target="lake.a.one", fence=1, attempt=2)
    outcome = Outcome("failed", ErrorClass.FATAL, "no entry with hidden-word")
    tried = traces.Try(claim, 1_000, 3_000, outcome)
    traces.export(tried, None, shown=lambda text: text.replace("hidden-word", "***"))
    [span] = collector.spans
    assert (span.status.code, span.status.message) == (2, "no entry with ***")
    assert span.end_time_unix_nano - span.start_time_unix_nano == 2_000_000_000


@pytest.mark.parametrize(
    ("environment", "is_wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
    ],
)
def test_nothing_is_sent_that_nobody_asked_for(
    environment: dict[str, str], is_wanted: bool
) -> None:
    assert traces.is_wanted(environment) is is_wanted
