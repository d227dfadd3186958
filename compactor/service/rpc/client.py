"""The job API as the command line uses it: what the service answers, as the values known here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import grpc
import msgspec

from compactor.errors import SettingsError
from compactor.jobs.store import JobDetail, JobRecord
from compactor.planner.health import Health
from compactor.planner.plan import Plan
from compactor.planner.planfile import decode_plan
from compactor.service.auth import is_loopback
from compactor.service.rpc import api_pb2, api_pb2_grpc
from compactor.service.rpc.failures import NO_SUCH_JOB, RemoteError, remote_error
from compactor.service.rpc.messages import job_detail, job_record

CALL_SECONDS_MAX = 60.0
PLAN_SECONDS_MAX = 600.0
MESSAGE_BYTES_MAX = 256 << 20
"""A plan of a million files has tens of megabytes."""

_PORT = 8461
_Reply = TypeVar("_Reply")


@dataclass(frozen=True, slots=True)
class Progress:
    """A row of the queue at a moment, with the job of its last try."""

    trigger: api_pb2.Trigger
    job: JobDetail | None


class ServiceClient:
    """A connection to a service.

    Args:
        server: `https://HOST[:PORT]`, or `http://HOST[:PORT]` for a service of this machine.
        token: presented with every call; empty for none.
        authorities: file (PEM) of the certificates that the service's is trusted by; empty for
            those that are trusted by everybody.

    Raises:
        SettingsError: that is no address, or one that a token would travel to unprotected.
    """

    def __init__(self, server: str, token: str = "", *, authorities: str = "") -> None:
        self.server = server
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._channel = _channel(server, _trusted(authorities))
        make_stub: Any = api_pb2_grpc.CompactorStub  # generated without types
        self._stub = make_stub(self._channel)

    def __enter__(self) -> ServiceClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()

    def jobs(self, *, table: str | None, limit: int) -> tuple[JobRecord, ...]:
        """Return the newest jobs, as `JobStore.jobs` does."""
        request = api_pb2.ListJobsRequest(table=table or "", limit=limit)
        return tuple(job_record(one) for one in self._call(self._stub.ListJobs, request).jobs)

    def job(self, job: str) -> JobDetail | None:
        """Return one job, as `JobStore.job` does."""
        try:
            return job_detail(self._call(self._stub.GetJob, api_pb2.GetJobRequest(job=job)))
        except RemoteError as error:
            if error.code == NO_SUCH_JOB:
                return None
            raise

    def plan(self, target: str, policy: Mapping[str, str]) -> tuple[Plan, Health]:
        """Return the plan and the health of a table; `policy` overrides settings, as text."""
        request = api_pb2.PlanRequest(target=target, policy=policy)
        reply = self._call(self._stub.Plan, request, seconds=PLAN_SECONDS_MAX)
        return decode_plan(reply.plan), msgspec.json.decode(reply.health, type=Health)

    def targets(self, matching: str) -> Iterator[str]:
        """Yield the names of registered tables that hold a text."""
        cursor = ""
        while True:
            request = api_pb2.ListTablesRequest(matching=matching, cursor=cursor)
            reply = self._call(self._stub.ListTables, request)
            yield from (one.target for one in reply.tables)
            cursor = reply.next_cursor
            if not cursor:
                return

    def submit(self, target: str, *, cause: str) -> api_pb2.Trigger:
        """Have a job done."""
        request = api_pb2.SubmitRequest(target=target, cause=cause)
        trigger: api_pb2.Trigger = self._call(self._stub.Submit, request)
        return trigger

    def cancel(self, detail: JobDetail, *, reason: str) -> None:
        """Ask for the end of a job."""
        self._cancel(api_pb2.CancelRequest(job=detail.job.job, reason=reason))

    def cancel_trigger(self, trigger_id: int, *, reason: str) -> api_pb2.Trigger:
        """Ask for the end of a row of the queue."""
        request = api_pb2.CancelRequest(trigger_id=trigger_id, reason=reason)
        return self._cancel(request)

    def watch(self, trigger_id: int) -> Iterator[Progress]:
        """Yield what changes until a row of the queue has ended."""
        request = api_pb2.GetTriggerRequest(trigger_id=trigger_id)
        try:
            for one in self._stub.Watch(request, metadata=self._metadata):
                yield Progress(one.trigger, job_detail(one.job) if one.HasField("job") else None)
        except grpc.RpcError as error:
            raise remote_error(error, self.server) from None

    def _cancel(self, request: api_pb2.CancelRequest) -> api_pb2.Trigger:
        trigger: api_pb2.Trigger = self._call(self._stub.Cancel, request)
        return trigger

    def _call(
        self, method: Callable[..., _Reply], request: Any, *, seconds: float = CALL_SECONDS_MAX
    ) -> _Reply:
        try:
            return method(request, timeout=seconds, metadata=self._metadata)
        except grpc.RpcError as error:
            raise remote_error(error, self.server) from None


def _trusted(authorities: str) -> bytes | None:
    try:
        return Path(authorities).read_bytes() if authorities else None
    except OSError as error:
        raise SettingsError(f"the authorities `{authorities}` cannot be read: {error}") from error


def _channel(server: str, trusted: bytes | None) -> grpc.Channel:
    parts = urlsplit(server if "://" in server else f"http://{server}")
    try:
        host, port = parts.hostname or "", parts.port or _PORT
    except ValueError:
        host, port = "", 0
    if parts.scheme not in ("http", "https") or not host or parts.path.strip("/"):
        raise SettingsError(
            f"`{server}` is no address of a service", hint="write https://HOST:PORT"
        )
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    options = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)]
    if parts.scheme == "https":
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(trusted), options)
    if not is_loopback(host):
        raise SettingsError(
            f"`{server}` would be talked to without encryption", hint="write https://"
        )
    return grpc.insecure_channel(address, options)
