"""What stands before every call of the job API: a token, and an end to calls that take a thread.

A call that asks for its sender's token itself has been given a thread by then, and waits in it for
the request: who has no token gets no thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from compactor.service.auth import Authenticator, UnauthenticatedError, bearer
from compactor.service.rpc.failures import abort

REFLECTIONS_MAX = 2
PROBES_MAX = 2
"""Streams of reflection, and probes of health, at once: each takes a thread while it lasts."""

_PROBE = f"/{health.SERVICE_NAME}/Check"


# Its types say that it answers nothing.
_Base: Any = reflection.ReflectionServicer


class Gate(grpc.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs alone
    """Refuses calls without a token, but for probes of health."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator
        self._probes = threading.BoundedSemaphore(PROBES_MAX)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return what answers a call."""
        if handler_call_details.method == _PROBE:
            return self._probe(continuation(handler_call_details))
        sent = dict(handler_call_details.invocation_metadata or ())
        token = bearer(str(sent.get("authorization", "")))
        try:
            self._authenticator.authenticate(token, now_ms=time.time() * 1000)
        except UnauthenticatedError as error:
            return _refusal(error)
        return continuation(handler_call_details)

    def _probe(self, handler: Any) -> Any:
        def answer(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            with slot(self._probes, context):
                for request in requests:
                    yield handler.unary_unary(request, context)
                    return

        return _streaming(answer, handler)


class Reflection(_Base):  # type: ignore[misc]  # for its types, see `_Base`
    """Tells what there is, to a few at once."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(names)
        self._streams = threading.BoundedSemaphore(REFLECTIONS_MAX)

    def ServerReflectionInfo(  # noqa: N802
        self, request_iterator: Iterator[Any], context: grpc.ServicerContext
    ) -> Iterator[Any]:
        """See the protocol."""
        with slot(self._streams, context):
            yield from super().ServerReflectionInfo(request_iterator, context)


@contextmanager
def slot(places: threading.BoundedSemaphore, context: grpc.ServicerContext) -> Iterator[None]:
    """Take a place while the block runs; end the call when there is none."""
    if not places.acquire(blocking=False):
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many such calls at once")
    try:
        yield
    finally:
        places.release()


def _refusal(error: UnauthenticatedError) -> Any:
    def refuse(_: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        abort(context, error)

    # As a stream it is not given the request, and waits for none.
    return grpc.stream_stream_rpc_method_handler(refuse)


def _streaming(answer: Callable[..., Iterator[Any]], handler: Any) -> Any:
    return grpc.stream_stream_rpc_method_handler(
        answer,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
