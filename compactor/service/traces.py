"""Jobs as traces of OpenTelemetry: `compact.job` over its plan, its rewrites and its commits.

Spans are made from what the job store has recorded, when a try has ended: a trace costs a job
nothing while it runs. Sent by OTLP over HTTP, and only where the environment names an endpoint.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from compactor import __version__
from compactor.jobs.store import JobDetail
from compactor.service.queue import Claim, Outcome

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
Attribute = str | int | float | bool
_SERVICE_NAME = "compact"
_NANOSECONDS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Try:
    """A try at a job.

    Attributes:
        claim: of the row of the queue.
        began_ms: by the clock of the database, as are all times here.
        ended_ms: when it ended.
        outcome: how it ended.
    """

    claim: Claim
    began_ms: int
    ended_ms: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of work with its time."""

    name: str
    began_ms: int
    ended_ms: int
    attributes: Mapping[str, Attribute]
    error: str = ""


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Tell whether the environment names an endpoint for traces."""
    return any(environment.get(name) for name in ENDPOINTS)


def job_span(tried: Try, detail: JobDetail | None) -> Span:
    """Return the span of a try."""
    attributes: dict[str, Attribute] = {
        "compact.table": tried.claim.target,
        "compact.trigger.id": tried.claim.trigger_id,
        "compact.attempt": tried.claim.attempt,
        "compact.status": tried.outcome.status,
    }
    if detail is not None:
        attributes |= {
            "compact.job.id": detail.job.job,
            "compact.table.format": detail.job.format,
            "compact.groups": detail.job.groups,
            "compact.input_bytes": detail.job.input_bytes,
        }
    error = tried.outcome.reason if tried.outcome.error_class else ""
    return Span("compact.job", tried.began_ms, tried.ended_ms, attributes, error)


def parts_of(tried: Try, detail: JobDetail) -> Iterator[Span]:
    """Yield the spans of what a try did; what tries before it did is in traces of their own."""
    job: dict[str, Attribute] = {
        "compact.job.id": detail.job.job,
        "compact.table": tried.claim.target,
    }
    planned_ms = detail.job.created_at_ms
    if planned_ms >= tried.began_ms:
        yield Span("compact.plan", tried.began_ms, planned_ms, job)
    for attempt in detail.attempts:
        if attempt.started_at_ms < tried.began_ms:
            continue
        attributes: dict[str, Attribute] = {
            **job,
            "compact.group.id": attempt.group_id,
            "compact.state": attempt.state,
            "compact.cpu_seconds": attempt.cpu_seconds,
            "compact.memory.predicted_bytes": attempt.predicted_bytes,
            "compact.memory.granted_bytes": attempt.granted_bytes,
            "compact.memory.peak_bytes": attempt.peak_memory_bytes,
        }
        end_ms = attempt.finished_at_ms or tried.ended_ms
        yield Span(
            "compact.rewrite_group", attempt.started_at_ms, end_ms, attributes, attempt.error
        )
    for batch in detail.batches:
        if batch.started_at_ms < tried.began_ms:
            continue
        attributes = {
            **job,
            "compact.batch.id": batch.batch_id,
            "compact.groups": batch.groups,
            "compact.state": batch.state,
            "compact.snapshot.id": batch.snapshot_id,
        }
        end_ms = batch.finished_at_ms or tried.ended_ms
        error = "" if batch.state == "settled" else batch.reason or batch.state
        yield Span("compact.commit", batch.started_at_ms, end_ms, attributes, error)


def export(tried: Try, detail: JobDetail | None, *, shown: Callable[[str], str]) -> None:
    """Send the trace of a try; an endpoint that does not answer costs seconds, and is logged.

    Args:
        tried: the try.
        detail: the job that it worked on; None when there is none.
        shown: takes secrets out of what errors say.
    """
    # Here, because it takes a third of a second and 10 MiB that most jobs have no use for.
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME", _SERVICE_NAME)
    resource = Resource.create({"service.name": name, "service.version": __version__})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracer = provider.get_tracer(_SERVICE_NAME, __version__)

    def record(span: Span, parent: trace.Span | None) -> trace.Span:
        made = tracer.start_span(
            span.name,
            context=trace.set_span_in_context(parent) if parent else None,
            attributes={**span.attributes},
            start_time=span.began_ms * _NANOSECONDS_PER_MS,
        )
        if span.error:
            made.set_status(trace.Status(trace.StatusCode.ERROR, shown(span.error)))
        return made

    try:
        whole = record(job_span(tried, detail), None)
        for span in parts_of(tried, detail) if detail is not None else ():
            record(span, whole).end(span.ended_ms * _NANOSECONDS_PER_MS)
        whole.end(tried.ended_ms * _NANOSECONDS_PER_MS)
    finally:
        provider.shutdown()
