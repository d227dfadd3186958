"""Metrics reports of Iceberg's REST protocol: what a catalog's clients post after each commit.

`ReportMetricsRequest` in open-api/rest-catalog-open-api.yaml of https://github.com/apache/iceberg.
A gateway before the catalog, or the client itself, sends them to the very path of the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

import msgspec

from compactor.service.hints import Delivery, Hint
from compactor.service.webhooks.request import (
    WebhookMalformedError,
    WebhookRequest,
    decode,
    identity,
)
from compactor.service.webhooks.secret_values import check_token

_NAMESPACE_SEPARATOR = "\x1f"
_COMMIT = "commit-report"


@dataclass(frozen=True, slots=True)
class IcebergMetricsReceiver:
    """Takes `POST …/v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics`.

    Attributes:
        source: the name under `[webhooks]`.
        tokens: any of them proves the sender.
        catalog: what the tables' targets begin with. The report names the client's own word for
            the catalog, so the table is taken from the path.
    """

    source: str
    tokens: tuple[bytes, ...]
    catalog: str

    def receive(self, request: WebhookRequest) -> Delivery:
        """See `Receiver`."""
        check_token(request.headers, self.tokens)
        target = f"{self.catalog}.{_table_of(request.path)}"
        report = decode(request.body, _Report)
        if report.kind != _COMMIT:
            said = request.body.decode(errors="replace")
            return Delivery(self.source, identity(target, said), ())
        if report.snapshot_id is None:
            raise WebhookMalformedError("a report of a commit names no `snapshot-id`")
        hint = Hint(
            target=target,
            location=None,
            snapshot_id=str(report.snapshot_id),
            operation=report.operation or None,
            job_id=report.metadata.get("compact.job-id"),
            reason=f"a commit ({report.operation or 'unknown operation'}) was reported",
        )
        return Delivery(self.source, identity(target, str(report.snapshot_id)), (hint,))


class _Report(msgspec.Struct, frozen=True):
    kind: str = msgspec.field(name="report-type")
    snapshot_id: int | None = msgspec.field(default=None, name="snapshot-id")
    operation: str = ""
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


def _table_of(path: str) -> str:
    parts = path.strip("/").split("/")
    try:
        begin = len(parts) - 5
        names, namespace, tables, table, metrics = parts[begin:] if begin >= 0 else parts
    except ValueError as error:
        raise WebhookMalformedError("the path names no table") from error
    if (names, tables, metrics) != ("namespaces", "tables", "metrics"):
        raise WebhookMalformedError("the path names no table")
    levels = unquote(namespace).split(_NAMESPACE_SEPARATOR)
    return ".".join([*levels, unquote(table)])
