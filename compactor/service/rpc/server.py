"""The job API over gRPC: who asks is looked up first, what is asked for is done by `operations`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import grpc
import msgspec
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from catalog.errors import ExplainedError
from compactor.errors import SettingsError
from compactor.service.auth import Principal, Scope, bearer
from compactor.service.operations import not_registered
from compactor.service.parts import Parts
from compactor.service.queue import RowState
from compactor.service.rpc import api_pb2, api_pb2_grpc
from compactor.service.rpc.failures import NoSuchJobError, abort
from compactor.service.rpc.gate import Gate, Reflection, slot
from compactor.service.rpc.messages import to_job_detail, to_message
from compactor.service.seen import seen_page
from compactor.service.views import TableView, TriggerView

THREADS = 16
CALLS_MAX = 64
"""Under way and waiting for a thread: those beyond are refused."""

WATCHERS_MAX = 8
"""Watching takes a thread each: some are left for everybody else."""

WATCH_SECONDS = 0.5
LIMIT_DEFAULT, LIMIT_MAX = 100, 500
GRACE_SECONDS = 5.0
_SERVICE = api_pb2.DESCRIPTOR.services_by_name["Compactor"].full_name
_ENDED = frozenset({"done", "failed", "dead", "cancelled"})
_Reply = TypeVar("_Reply")
_Method = Callable[[Any, Any, grpc.ServicerContext], _Reply]


def serve(
    address: str, parts: Parts, *, certificate: Path | None = None, key: Path | None = None
) -> tuple[grpc.Server, int]:
    """Start to serve; returns the server and its port.

    Args:
        address: host and port; port 0 takes a free one.
        parts: what the API stands on.
        certificate: PEM file; without one, connections are not encrypted.
        key: PEM file.

    Raises:
        SettingsError: the address cannot be listened at, or a file not be read.
    """
    # Else two services could share an address, and each would answer some of the calls.
    options = [("grpc.so_reuseport", 0)]
    server = grpc.server(
        ThreadPoolExecutor(THREADS, thread_name_prefix="grpc"),
        interceptors=[Gate(parts.authenticator)],
        options=options,
        maximum_concurrent_rpcs=CALLS_MAX,
    )
    register: Any = api_pb2_grpc.add_CompactorServicer_to_server  # generated without types
    register(JobApi(parts), server)
    status = health.HealthServicer()
    for name in ("", _SERVICE):
        status.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    names = (_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(Reflection(names), server)
    try:
        if certificate is None or key is None:
            port = server.add_insecure_port(address)
        else:
            pair = key.read_bytes(), certificate.read_bytes()
            port = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    except (RuntimeError, OSError) as error:
        raise SettingsError(
            f"the job API cannot listen at {address}: {error}", hint="set `service.grpc_listen`"
        ) from error
    server.start()
    return server, port


def _asked(scope: Scope) -> Callable[[_Method[_Reply]], _Method[_Reply]]:
    """Return a decorator: whoever asks is known and has the scope; errors become statuses."""

    def decorate(method: _Method[_Reply]) -> _Method[_Reply]:
        @wraps(method)
        def answer(self: JobApi, request: Any, context: grpc.ServicerContext) -> _Reply:
            try:
                self.identify(context).check_scope(scope)
                return method(self, request, context)
            except ExplainedError as error:
                return abort(context, error)

        return answer

    return decorate


class JobApi(api_pb2_grpc.CompactorServicer):
    """The methods of the API; their names are those of the protocol."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._views = parts.views
        self._watchers = threading.BoundedSemaphore(WATCHERS_MAX)

    def identify(self, context: grpc.ServicerContext) -> Principal:
        """Return who asks.

        Raises:
            UnauthenticatedError: nobody known.
        """
        sent = dict(context.invocation_metadata())
        token = bearer(str(sent.get("authorization", "")))
        return self._parts.authenticator.authenticate(token, now_ms=time.time() * 1000)

    @_asked(Scope.READ)
    def ListTables(  # noqa: N802
        self, request: api_pb2.ListTablesRequest, context: grpc.ServicerContext
    ) -> api_pb2.ListTablesReply:
        """See the protocol."""
        principal = self.identify(context)
        below = request.health_below if request.HasField("health_below") else None

        def read(after: str, limit: int) -> tuple[TableView, ...]:
            return self._views.tables(
                after=after, matching=request.matching, health_below=below, limit=limit
            )

        page, cursor = seen_page(
            principal,
            read,
            after=str(request.cursor),
            key=lambda one: one.target,
            limit=_limit(request.limit),
        )
        tables = [to_message(api_pb2.Table, one) for one in page]
        return api_pb2.ListTablesReply(tables=tables, next_cursor=cursor or "")

    @_asked(Scope.READ)
    def GetTable(  # noqa: N802
        self, request: api_pb2.GetTableRequest, context: grpc.ServicerContext
    ) -> api_pb2.Table:
        """See the protocol."""
        self.identify(context).check(Scope.READ, request.target)
        return self._table(request.target)

    @_asked(Scope.READ)
    def Plan(  # noqa: N802
        self, request: api_pb2.PlanRequest, context: grpc.ServicerContext
    ) -> api_pb2.PlanReply:
        """See the protocol."""
        self.identify(context).check(Scope.READ, request.target)
        # Else a reader could have the service open whatever it can reach.
        self._table(request.target)
        planned = self._parts.operations.plan(request.target, _values(request.policy))
        return api_pb2.PlanReply(plan=planned.plan, health=planned.health)

    @_asked(Scope.OPERATE)
    def Submit(  # noqa: N802
        self, request: api_pb2.SubmitRequest, context: grpc.ServicerContext
    ) -> api_pb2.Trigger:
        """See the protocol."""
        principal = self.identify(context)
        principal.check(Scope.OPERATE, request.target)
        number = self._parts.operations.submit(
            request.target, cause=request.cause, actor=principal.name
        )
        return to_message(api_pb2.Trigger, self._trigger(number, principal))

    @_asked(Scope.READ)
    def GetTrigger(  # noqa: N802
        self, request: api_pb2.GetTriggerRequest, context: grpc.ServicerContext
    ) -> api_pb2.Trigger:
        """See the protocol."""
        return to_message(
            api_pb2.Trigger, self._trigger(request.trigger_id, self.identify(context))
        )

    @_asked(Scope.READ)
    def ListTriggers(  # noqa: N802
        self, request: api_pb2.ListTriggersRequest, context: grpc.ServicerContext
    ) -> api_pb2.ListTriggersReply:
        """See the protocol."""
        principal = self.identify(context)
        states = tuple(state for state in RowState if state.value in request.states)
        if request.states and not states:
            return api_pb2.ListTriggersReply()

        def read(before: int, limit: int) -> tuple[TriggerView, ...]:
            return self._views.triggers(
                target=request.target or None, states=states, before=before or None, limit=limit
            )

        page, _ = seen_page(
            principal,
            read,
            after=int(request.before),
            key=lambda one: one.trigger_id,
            limit=_limit(request.limit),
        )
        return api_pb2.ListTriggersReply(
            triggers=[to_message(api_pb2.Trigger, one) for one in page]
        )

    @_asked(Scope.OPERATE)
    def Cancel(  # noqa: N802
        self, request: api_pb2.CancelRequest, context: grpc.ServicerContext
    ) -> api_pb2.Trigger:
        """See the protocol."""
        principal = self.identify(context)
        trigger = (
            self._of_job(request.job, principal)
            if request.HasField("job")
            else self._trigger(request.trigger_id, principal)
        )
        principal.check(Scope.OPERATE, trigger.target)
        self._parts.operations.cancel(
            trigger.trigger_id, reason=request.reason, actor=principal.name
        )
        return to_message(api_pb2.Trigger, self._trigger(trigger.trigger_id, principal))

    def Watch(  # noqa: N802
        self, request: api_pb2.GetTriggerRequest, context: grpc.ServicerContext
    ) -> Iterator[api_pb2.Progress]:
        """See the protocol."""
        try:
            principal = self.identify(context)
            principal.check_scope(Scope.READ)
            with slot(self._watchers, context):
                yield from self._changes(request.trigger_id, principal, context)
        except ExplainedError as error:
            abort(context, error)

    @_asked(Scope.READ)
    def ListJobs(  # noqa: N802
        self, request: api_pb2.ListJobsRequest, context: grpc.ServicerContext
    ) -> api_pb2.ListJobsReply:
        """See the protocol."""
        principal = self.identify(context)
        found = self._parts.store.jobs(table=request.table or None, limit=_limit(request.limit))
        seen = (one for one in found if principal.may_see(one.table))
        return api_pb2.ListJobsReply(jobs=[to_message(api_pb2.Job, one) for one in seen])

    @_asked(Scope.READ)
    def GetJob(  # noqa: N802
        self, request: api_pb2.GetJobRequest, context: grpc.ServicerContext
    ) -> api_pb2.JobDetail:
        """See the protocol."""
        detail = self._views.job(request.job)
        if detail is None or not self.identify(context).may_see(detail.job.table):
            raise NoSuchJobError(f"no single job `{request.job}`")
        return to_job_detail(detail)

    @_asked(Scope.READ)
    def GetPolicy(  # noqa: N802
        self, request: api_pb2.GetPolicyRequest, context: grpc.ServicerContext
    ) -> api_pb2.Policy:
        """See the protocol."""
        self.identify(context).check(Scope.READ, request.target)
        return self._policy(request.target)

    @_asked(Scope.ADMIN)
    def SetPolicy(  # noqa: N802
        self, request: api_pb2.SetPolicyRequest, context: grpc.ServicerContext
    ) -> api_pb2.Policy:
        """See the protocol."""
        principal = self.identify(context)
        principal.check_pattern(Scope.ADMIN, request.pattern)
        self._parts.registry.set_policy(
            request.pattern,
            policy=_values(request.policy),
            care=_values(request.care),
            actor=principal.name,
        )
        return self._policy(request.pattern)

    @_asked(Scope.ADMIN)
    def UnsetPolicy(  # noqa: N802
        self, request: api_pb2.UnsetPolicyRequest, context: grpc.ServicerContext
    ) -> api_pb2.Policy:
        """See the protocol."""
        principal = self.identify(context)
        principal.check_pattern(Scope.ADMIN, request.pattern)
        self._parts.registry.unset_policy(request.pattern, actor=principal.name)
        return self._policy(request.pattern)

    @_asked(Scope.OPERATE)
    def PauseTable(  # noqa: N802
        self, request: api_pb2.PauseTableRequest, context: grpc.ServicerContext
    ) -> api_pb2.Table:
        """See the protocol."""
        principal = self.identify(context)
        principal.check(Scope.OPERATE, request.target)
        self._parts.operations.pause(
            request.target, is_paused=request.is_paused, actor=principal.name
        )
        return self._table(request.target)

    def _changes(
        self, number: int, principal: Principal, context: grpc.ServicerContext
    ) -> Iterator[api_pb2.Progress]:
        told = None
        while context.is_active():
            trigger = self._trigger(number, principal)
            detail = self._views.job(trigger.job_id) if trigger.job_id else None
            now = api_pb2.Progress(
                trigger=to_message(api_pb2.Trigger, trigger),
                job=None if detail is None else to_job_detail(detail),
            )
            if now != told:
                yield now
                told = now
            if trigger.state in _ENDED:
                return
            time.sleep(WATCH_SECONDS)

    def _table(self, target: str) -> api_pb2.Table:
        found = self._views.table(target)
        if found is None:
            raise not_registered(target)
        return to_message(api_pb2.Table, found)

    def _trigger(self, number: int, principal: Principal) -> TriggerView:
        found = self._views.trigger(number)
        if found is None or not principal.may_see(found.target):
            raise NoSuchJobError(f"no trigger {number}")
        return found

    def _of_job(self, job: str, principal: Principal) -> TriggerView:
        detail = self._views.job(job)
        found = None if detail is None else self._views.trigger_of_job(detail.job.job)
        if found is None or not principal.may_see(found.target):
            raise NoSuchJobError(f"no job `{job}` of this service")
        return found

    def _policy(self, target: str) -> api_pb2.Policy:
        values = self._parts.registry.rules().explain(target)
        return api_pb2.Policy(
            target=target, settings=[to_message(api_pb2.Setting, one) for one in values]
        )


def _limit(asked: int) -> int:
    return min(asked, LIMIT_MAX) if asked > 0 else LIMIT_DEFAULT


def _values(sent: Mapping[str, str]) -> dict[str, Any]:
    """Read values as JSON, and what is none as the text that it is."""
    return {name: _value(text) for name, text in sent.items()}


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
