"""Errors of ours on their way through gRPC: a status, with code and hint beside it."""

from __future__ import annotations

from typing import Any, NoReturn

import grpc

from catalog.errors import ExplainedError
from compactor.errors import CompactorError

NO_SUCH_JOB = "no-such-job"
_CODE, _HINT = "compact-code", "compact-hint-bin"
_STATUSES = {
    "table-not-found": grpc.StatusCode.NOT_FOUND,
    "settings-refused": grpc.StatusCode.INVALID_ARGUMENT,
    NO_SUCH_JOB: grpc.StatusCode.NOT_FOUND,
    "unauthenticated": grpc.StatusCode.UNAUTHENTICATED,
    "forbidden": grpc.StatusCode.PERMISSION_DENIED,
    "access-denied": grpc.StatusCode.FAILED_PRECONDITION,
    "busy": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "nothing-to-cancel": grpc.StatusCode.FAILED_PRECONDITION,
    "unsupported-table": grpc.StatusCode.FAILED_PRECONDITION,
}
_UNREACHABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class NoSuchJobError(CompactorError):
    """No job, or more than one, has an id that begins so."""

    code = NO_SUCH_JOB


class RemoteError(CompactorError):
    """What the service answered instead of a result.

    Attributes:
        code: that of the error where it happened.
    """

    def __init__(self, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


def abort(context: grpc.ServicerContext, error: ExplainedError) -> NoReturn:
    """End a call with an error."""
    retryable = grpc.StatusCode.UNAVAILABLE if error.retryable else grpc.StatusCode.INTERNAL
    context.set_trailing_metadata(((_CODE, error.code), (_HINT, error.hint.encode())))
    context.abort(_STATUSES.get(error.code, retryable), str(error))


def remote_error(error: grpc.RpcError, server: str) -> RemoteError:
    """Return what a failed call means to whoever made it."""
    trailing: Any = error.trailing_metadata() or ()
    sent: dict[str, str | bytes] = dict(trailing)
    details = error.details() or str(error.code())
    if _CODE in sent:
        return RemoteError(details, code=_text(sent[_CODE]), hint=_text(sent[_HINT]))
    if error.code() in _UNREACHABLE:
        message = f"the service at `{server}` does not answer: {details}"
        return RemoteError(message, code="server-unreachable", hint="is `compact serve` running?")
    return RemoteError(f"the service at `{server}` failed: {details}", code="server-failed")


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()
