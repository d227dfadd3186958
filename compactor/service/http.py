"""The face of the service to HTTP: hooks, health, metrics; pages are mounted beside them.

A hook is answered once its delivery is durable, and never later than its transaction takes: no
table is looked at. What a sender is told does not depend on what it must not know.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from compactor import __version__
from compactor.errors import CompactorError, JobFailedError
from compactor.service.auth import (
    Authenticator,
    ForbiddenError,
    Scope,
    UnauthenticatedError,
    bearer,
)
from compactor.service.hints import Acceptance, AcceptanceKind, Delivery
from compactor.service.intake import Intake, IntakeFullError
from compactor.service.limits import RateLimit
from compactor.service.metrics import exposition
from compactor.service.scheduler import Scheduler
from compactor.service.views import Views
from compactor.service.webhooks.hudi import HudiReceiver
from compactor.service.webhooks.request import Receiver, WebhookRefusedError, WebhookRequest
from compactor.service.webhooks.standard import StandardReceiver

BODY_BYTES_MAX = 1 << 20
# Hudi tells of every file that a commit wrote, in one request.
BODY_BYTES_MAX_OF_HUDI = 16 << 20
FORM_BYTES_MAX = 64 << 10
_STATUS = {AcceptanceKind.ACCEPTED: 202, AcceptanceKind.IGNORED: 202, AcceptanceKind.DUPLICATE: 200}
_RETRY_SECONDS = 5
_READY_SECONDS = 3.0
# A request for an unknown source costs what one with a wrong signature does.
_DECOY = StandardReceiver("unknown", (b"\0" * 32,))
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class Hooks:
    """Takes in requests of the configured sources.

    Attributes:
        receivers: by the name of the source.
        intake: makes deliveries durable.
        rate: bounds what one source may send.
        refused: requests refused since the start, by source and code.
    """

    receivers: Mapping[str, Receiver]
    intake: Intake
    rate: RateLimit
    refused: dict[tuple[str, str], int] = field(default_factory=dict)

    async def take(self, source: str, request: Request) -> Response:
        """Answer a request: 202 taken in, 200 a duplicate, and else why not."""
        receiver = self.receivers.get(source)
        known = source if receiver is not None else _DECOY.source
        if not self.rate.admits(known, now_seconds=time.monotonic()):
            return self._refuse(known, 429, "rate-limited", "too many requests of this source")
        is_hudi = isinstance(receiver, HudiReceiver)
        body = await _body(request, BODY_BYTES_MAX_OF_HUDI if is_hudi else BODY_BYTES_MAX)
        if body is None:
            return self._refuse(known, 413, "too-large", "the body is too large")
        received = WebhookRequest(
            path=request.scope["raw_path"].decode("latin-1"),
            headers=_headers(request),
            body=body,
            received_at_ms=time.time_ns() // 1_000_000,
        )
        try:
            delivery = await _received(receiver or _DECOY, received)
            if receiver is None:
                return self._refuse(known, 404, "unknown-source", "no such source")
            return _answer(await self.intake.accept(delivery))
        except WebhookRefusedError as error:
            if receiver is None:
                return self._refuse(known, 404, "unknown-source", "no such source")
            return self._refuse(known, error.status, error.code, str(error))
        except (IntakeFullError, JobFailedError) as error:
            return self._refuse(known, 503, error.code, "it cannot be kept now: send it again")

    @property
    def received(self) -> Mapping[tuple[str, str], int]:
        """Requests that were answered since the start, by source and result."""
        taken = {(key[0], key[1].value): count for key, count in self.intake.received.items()}
        return {**taken, **self.refused}

    def _refuse(self, source: str, status: int, code: str, told: str) -> Response:
        key = (source, code)
        self.refused[key] = self.refused.get(key, 0) + 1
        return problem(status, code, told)


class HooksFirst:
    """Answers hooks itself and hands on everything else: a framework's way there takes as long.

    The protocols of some senders append paths of their own below that of their source.
    """

    def __init__(self, app: ASGIApp, hooks: Hooks) -> None:
        self._app = app
        self._hooks = hooks

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        try:
            source = _source_of(scope)
            if source:
                response = await self._hooks.take(source, Request(scope, receive))
                await response(scope, receive, send)
            else:
                await self._app(scope, receive, send)
        except ClientDisconnect:
            _LOG.debug("a request was not sent to its end")


@dataclass(frozen=True, slots=True)
class Face:
    """What HTTP shows.

    Attributes:
        hooks: takes in hooks.
        views: what can be told.
        scheduler: what must live.
        authenticator: who may read metrics.
    """

    hooks: Hooks
    views: Views
    scheduler: Scheduler
    authenticator: Authenticator


class SmallBodies:
    """Ends requests whose bodies are longer than any form of a page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        left = FORM_BYTES_MAX

        async def received() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            # Whoever sends more is cut off: nobody with a page of ours does.
            return message if left >= 0 else {"type": "http.disconnect"}

        await self._app(scope, received if scope["type"] == "http" else receive, send)


def make_app(
    face: Face, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]]
) -> FastAPI:
    """Return the application."""
    app = FastAPI(
        title="compact", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )

    app.add_middleware(SmallBodies)
    app.add_middleware(HooksFirst, hooks=face.hooks)

    @app.post("/webhooks/{source}", status_code=202, responses=_RESPONSES)
    async def webhook(source: str, request: Request) -> Response:
        """Take in a delivery of a configured source."""
        # Stands here for those who read what there is: `HooksFirst` comes before.
        return await face.hooks.take(source, request)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Tell that the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", responses={503: {"description": "It cannot work now."}})
    async def readyz() -> Response:
        """Tell whether jobs are begun: the database answers, and the scheduler ticks."""
        trouble = await _trouble(face)
        status = {"status": "unready", "reason": trouble} if trouble else {"status": "ready"}
        return _json(503 if trouble else 200, status)

    @app.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses={401: {"description": "A token is needed."}},
    )
    async def metrics(request: Request) -> Response:
        """Tell all figures in the text format of Prometheus."""
        try:
            authorize(face.authenticator, request, Scope.READ)
            text = await run_in_threadpool(exposition, face.views, face.hooks.received)
        except (UnauthenticatedError, ForbiddenError) as error:
            return problem_of(error)
        except JobFailedError as error:
            return problem(503, error.code, "the store does not answer")
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    return app


_RESPONSES: dict[int | str, dict[str, object]] = {
    200: {"description": "Seen before: the answer of then."},
    202: {"description": "Taken in, or of no concern."},
    400: {"description": "It cannot be read."},
    401: {"description": "It does not prove who sent it."},
    404: {"description": "No such source."},
    413: {"description": "The body is too large."},
    429: {"description": "Too many requests of this source."},
    503: {"description": "It cannot be kept now."},
}


def authorize(authenticator: Authenticator, request: Request, scope: Scope) -> None:
    """Make sure that whoever asks may.

    Raises:
        UnauthenticatedError: nobody known asks.
        ForbiddenError: they may not.
    """
    authenticator.check_host(request.url.hostname or "")
    token = bearer(request.headers.get("authorization", ""))
    authenticator.authenticate(token, now_ms=time.time() * 1000).check(scope)


def problem(status: int, code: str, told: str) -> Response:
    """Return an error as RFC 9457 has it."""
    document = {"type": f"urn:compactor:problem:{code}", "status": status, "code": code}
    headers = {"Retry-After": str(_RETRY_SECONDS)} if status in (429, 503) else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = msgspec.json.encode({**document, "title": told})
    return Response(body, status, headers, media_type="application/problem+json")


def problem_of(error: CompactorError) -> Response:
    """Return the answer to somebody who may not do what they ask for."""
    return problem(401 if isinstance(error, UnauthenticatedError) else 403, error.code, str(error))


def _source_of(scope: AsgiScope) -> str:
    """Return the source that a request is a hook of; empty for other requests."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return ""
    parts = scope["path"].split("/")
    return str(parts[2]) if len(parts) > 2 and parts[:2] == ["", "webhooks"] else ""


async def _received(receiver: Receiver, request: WebhookRequest) -> Delivery:
    if isinstance(receiver, StandardReceiver):
        return receiver.receive(request)
    # Some fetch a certificate first.
    return await run_in_threadpool(receiver.receive, request)


async def _trouble(face: Face) -> str:
    try:
        async with asyncio.timeout(_READY_SECONDS):
            await run_in_threadpool(face.views.is_answering)
    except (JobFailedError, TimeoutError):
        return "the database does not answer"
    return face.scheduler.trouble


async def _body(request: Request, bytes_max: int) -> bytes | None:
    """Read a body; None for one that is longer than it may be."""
    announced = request.headers.get("content-length", "0")
    if not announced.isdigit() or int(announced) > bytes_max:
        return None
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > bytes_max:
            return None
    return bytes(body)


def _headers(request: Request) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers.raw}


def _answer(acceptance: Acceptance) -> Response:
    told = {"result": acceptance.kind.value, "triggers": acceptance.trigger_ids}
    return _json(_STATUS[acceptance.kind], told)


def _json(status: int, document: object) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")
