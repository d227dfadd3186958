"""Requests to S3 that obstore does not send: signed by botocore, sent by urllib3, tried again here.

S3 may answer 200 and an error in the body to the requests that copy and complete: such an answer
is taken for the failure that it is.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import unescape
from threading import Event
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from urllib3.exceptions import HTTPError

if TYPE_CHECKING:
    from catalog.storage.s3_identity import Address
    from catalog.storage.values import RetryPolicy

# Connections that are kept; more than any composition has parts in flight.
_CONNECTIONS_MAX = 16
_PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
# Codes that may come with a status that does not say so.
_PASSING_CODES = frozenset(
    {"InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown"}
)
_OK = range(200, 300)


class S3RefusalError(Exception):
    """What the store answered to a request, once trying again is of no use.

    Attributes:
        status: of HTTP; 0 when there was no answer.
        code: S3's name of the error, empty when it gave none.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(" ".join(filter(None, (str(status or ""), code, message))))
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """A request before it is signed.

    Attributes:
        method: of HTTP.
        address: of the object or bucket.
        query: its parameters.
        headers: its own headers.
        body: what is sent.
    """

    method: str
    address: Address
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is no error.

    Attributes:
        headers: by name, in any case of letters.
        body: as text.
        tries: how often the request was sent for it.
    """

    headers: Mapping[str, str]
    body: str
    tries: int

    def value(self, tag: str) -> str:
        """Return the text of the first element of this name in the body, or nothing."""
        return element(self.body, tag)


def element(text: str, tag: str) -> str:
    """Return the text of the first element of this name: replies are flat and small."""
    found = re.search(rf"<{tag}>([^<]*)</{tag}>", text)
    return unescape(found[1]) if found else ""


class Sender:
    """Sends requests under one set of credentials; shared by threads."""

    def __init__(
        self, credentials: Callable[[], Any], *, retry: RetryPolicy, proxy_url: str | None
    ) -> None:
        self._credentials = credentials
        self._retry = retry
        timeout = urllib3.Timeout(
            connect=retry.connect_timeout_seconds, read=retry.request_timeout_seconds
        )
        options: dict[str, Any] = {"maxsize": _CONNECTIONS_MAX, "retries": False}
        options["timeout"] = timeout
        self._pool: urllib3.PoolManager = (
            urllib3.ProxyManager(proxy_url, **options)
            if proxy_url
            else urllib3.PoolManager(**options)
        )

    def send(self, request: Request, *, given_up: Event | None = None) -> Reply:
        """Send until there is an answer, a refusal, or the retries are used up.

        Args:
            request: what to send.
            given_up: ends the pauses between tries when it is set.

        Raises:
            S3RefusalError: the last answer was an error, or there was none.
        """
        started = time.monotonic()
        for tried in range(1, self._retry.retries_max + 2):
            status, headers, body = self._once(request)
            code = element(body, "Code") if status not in _OK or "<Error>" in body else ""
            if status in _OK and "<Error>" not in body:
                return Reply(headers, body, tried)
            is_passing = status == 0 or status in _PASSING_STATUSES or code in _PASSING_CODES
            is_late = time.monotonic() - started > self._retry.timeout_seconds
            if not is_passing or is_late or tried > self._retry.retries_max:
                break
            if (given_up or Event()).wait(self._pause_seconds(tried)):
                break
        message = element(body, "Message") if status else body
        raise S3RefusalError(status, code, message)

    def _once(self, request: Request) -> tuple[int, Mapping[str, str], str]:
        """Send once; status 0 and the reason when there is no answer."""
        query = urlencode(dict(sorted(request.query.items())), quote_via=quote, safe="-_.~")
        signed = AWSRequest(
            method=request.method,
            url=f"{request.address.url}?{query}" if query else request.address.url,
            headers=dict(request.headers),
            data=request.body,
        )
        try:
            S3SigV4Auth(self._credentials(), "s3", request.address.region).add_auth(signed)
            answer = self._pool.request(
                request.method, signed.url, body=request.body, headers=dict(signed.headers.items())
            )
        except (HTTPError, OSError) as error:
            return 0, {}, str(error).partition("\n")[0]
        return answer.status, answer.headers, answer.data.decode("utf-8", "replace")

    def _pause_seconds(self, tried: int) -> float:
        longest = self._retry.backoff_initial_seconds * 2.0 ** (tried - 1)
        return random.uniform(0.5, 1) * min(longest, self._retry.backoff_max_seconds)
