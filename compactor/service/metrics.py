"""Figures for Prometheus: read from the store when they are asked for, so that none can drift.

No figure has a label for the table: there may be a hundred thousand of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from compactor import __version__
from compactor.service.views import Overview, Views

Received = Mapping[tuple[str, str], int]
_JOB_LABELS = ("state", "trigger")

# Name in the store -> name here, what it tells, and its labels, which the store keeps in one text.
_TOTALS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "jobs": ("jobs", "Tries at jobs by how they ended and what asked for them.", _JOB_LABELS),
    "first_tries": ("first_tries", "First tries at jobs by how they ended.", ("state",)),
    "errors": ("job_errors", "Errors by what they mean for the next try.", ("class",)),
    "groups": ("groups", "File groups by what became of them.", ("result",)),
    "bytes_read": ("read_bytes", "Bytes that jobs read.", ()),
    "bytes_written": ("written_bytes", "Bytes that jobs wrote.", ()),
    "bytes_copied": ("copied_bytes", "Bytes that jobs wrote without decoding them.", ()),
    "files_removed": ("removed_data_files", "Data files that tables have fewer by jobs.", ()),
    "memory": ("job_memory_bytes", "Memory of attempts, granted and taken.", ("amount",)),
    "cpu_seconds": ("job_cpu_seconds", "CPU time of jobs.", ()),
}


class ServiceCollector:
    """Collects the figures of one instance and of the store that all instances share."""

    def __init__(self, views: Views, received: Received) -> None:
        self._views = views
        self._received = received

    def collect(self) -> Iterator[Metric]:
        """Yield all figures."""
        yield _labelled("build_info", "Version that runs.", "version", {__version__: 1})
        yield _received(self._received)
        overview = self._views.overview()
        yield from _totals(overview)
        yield from _gauges(overview)


def exposition(views: Views, received: Received) -> bytes:
    """Return the figures in the text format of Prometheus.

    Args:
        views: the store.
        received: requests that this instance has answered, by source and result.

    Raises:
        JobFailedError: the store cannot be read.
    """
    registry = CollectorRegistry()
    registry.register(ServiceCollector(views, received))
    return generate_latest(registry)


def _gauges(overview: Overview) -> Iterator[Metric]:
    yield _labelled("tables", "Registered tables by health.", "health", overview.tables)
    queue = {state: overview.queue.get(state, 0) for state in ("pending", "running")}
    yield _labelled("jobs_queued", "Rows of the queue by state.", "state", queue)
    yield _gauge(
        "queue_oldest_age_seconds",
        "How long the row that waits longest has waited.",
        overview.oldest_waiting_ms / 1000,
    )
    yield _gauge("data_files", "Data files of all tables.", overview.files)
    yield _gauge("small_data_files", "Those below the wanted size.", overview.small_files)
    yield _gauge("data_bytes", "Bytes of all data files.", overview.size_bytes)
    yield _gauge("jobs_running_max", "Jobs that may run at once.", overview.jobs_max)
    if overview.budget_bytes_left is not None:
        left = overview.budget_bytes_left
        yield _gauge("budget_bytes_remaining", "Bytes that may be moved until midnight.", left)


def _totals(overview: Overview) -> Iterator[Metric]:
    for name, (shown, told, labels) in _TOTALS.items():
        found = {key[1]: value for key, value in overview.totals.items() if key[0] == name}
        family = CounterMetricFamily(f"compactor_{shown}", told, labels=labels or None)
        for text, value in (found or ({} if labels else {"": 0.0})).items():
            family.add_metric(text.split(" ", len(labels) - 1) if labels else [], value)
        yield family
    tries = sum(value for key, value in overview.totals.items() if key[0] == "jobs")
    yield SummaryMetricFamily(
        "compactor_job_duration_seconds",
        "Time that tries at jobs took.",
        count_value=int(tries),
        sum_value=overview.totals.get(("job_seconds", ""), 0.0),
    )


def _received(received: Received) -> Metric:
    family = CounterMetricFamily(
        "compactor_webhook_received",
        "Deliveries that this instance has answered.",
        labels=["source", "result"],
    )
    for (source, result), count in received.items():
        family.add_metric([source, result], count)
    return family


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(f"compactor_{name}", told, value=value)


def _labelled(name: str, told: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(f"compactor_{name}", told, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
