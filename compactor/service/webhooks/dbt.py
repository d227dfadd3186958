"""Webhooks of dbt: a job ended, and the tables that it builds are known by configuration.

https://docs.getdbt.com/docs/deploy/webhooks
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from compactor.service.hints import Delivery, Hint
from compactor.service.webhooks.request import (
    WebhookRequest,
    WebhookUnverifiedError,
    decode,
    identity,
)
from compactor.service.webhooks.secret_values import is_any_of, signatures


@dataclass(frozen=True, slots=True)
class DbtReceiver:
    """Takes the end of jobs. The signature holds no time: a run is taken once, whenever it comes.

    Attributes:
        source: the name under `[webhooks]`.
        secrets: any of them may have signed.
        tables: targets by the id of the job that builds them.
    """

    source: str
    secrets: tuple[bytes, ...]
    tables: Mapping[str, tuple[str, ...]]

    def receive(self, request: WebhookRequest) -> Delivery:
        """See `Receiver`."""
        presented = request.headers.get("authorization", "").lower().encode()
        right = (one.hex().encode() for one in signatures(self.secrets, request.body))
        if not is_any_of([presented], right):
            raise WebhookUnverifiedError("`Authorization` is not the signature of the body")
        run = decode(request.body, _Event).data
        is_done = run.status.lower() == "success"
        targets = self.tables.get(run.job_id, ()) if is_done else ()
        hints = tuple(
            Hint(
                target=target,
                location=None,
                snapshot_id=None,
                operation=None,
                job_id=None,
                reason=f"run {run.run_id} of dbt's job {run.job_id} ended",
            )
            for target in targets
        )
        return Delivery(self.source, identity(run.run_id, run.status), hints)


class _Run(msgspec.Struct, frozen=True):
    run_id: str = msgspec.field(name="runId")
    job_id: str = msgspec.field(name="jobId")
    status: str = msgspec.field(default="", name="runStatus")


class _Event(msgspec.Struct, frozen=True):
    data: _Run
