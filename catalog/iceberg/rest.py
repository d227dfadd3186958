"""The REST catalog as its specification wants its clients: patient, and sure of each request.

Reading is tried again when the server says that it is busy (429, 503), after as long as it asks
for. A change is never sent again by itself: who sent it has to look what became of it first. Where
the server announces that it remembers requests, each change bears a key of its own, so that copies
of it which are made on the way are carried out once.

Specification: https://iceberg.apache.org/rest-catalog-spec/
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from uuid import UUID

from pyiceberg.catalog.rest import SIGV4, SNAPSHOT_LOADING_MODE
from pyiceberg.catalog.rest import RestCatalog as PyIcebergRestCatalog
from pyiceberg.catalog.rest.auth import AuthManager, AuthManagerAdapter
from pyiceberg.table import Table
from pyiceberg.typedef import Identifier
from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from urllib3 import BaseHTTPResponse, Retry

from catalog.iceberg.retry_after import RETRY_AFTER_SECONDS_MAX

KEY_HEADER = "Idempotency-Key"
_LIFETIME = "idempotency-key-lifetime"
_BUSY = (429, 503)
_TRIES_MAX = 5
_PATIENCE = Retry(
    total=_TRIES_MAX,
    read=2,
    connect=2,
    status_forcelist=_BUSY,
    allowed_methods=("GET", "HEAD"),
    backoff_factor=0.2,
    backoff_jitter=0.2,
    raise_on_status=False,
    retry_after_max=RETRY_AFTER_SECONDS_MAX,
)


class RestCatalog(PyIcebergRestCatalog):
    """PyIceberg's REST catalog over connections of ours."""

    # Made with the first of its sessions, which is before anything else of it is.
    _keys: _Keys | None = None

    def load_table(self, identifier: str | Identifier) -> Table:
        """Load a table with all its snapshots, whatever is configured, the server's defaults too.

        With those alone that are referred to by name, files of the others would be orphans, and no
        commit would be known to follow its base.
        """
        self.properties.pop(SNAPSHOT_LOADING_MODE, None)
        found: Table = super().load_table(identifier)
        return found

    def _create_session(self) -> Session:
        session = super()._create_session()
        keys = self._keys = self._keys or _Keys()
        if isinstance(session.auth, AuthManagerAdapter):
            session.auth = _KeyedAuth(session.auth.auth_manager, keys)
        if str(self.properties.get(SIGV4, "")).lower() != "true":  # that has an adapter of its own
            for scheme in ("http://", "https://"):
                session.mount(scheme, _Adapter(keys))
        return session


class _Keys:
    """The keys of changes, once the server has announced that it heeds them."""

    def __init__(self) -> None:
        self.are_heeded = False
        # A request that is sent again as it was bears the key that it had.
        self._last: tuple[bytes, str] = (b"", "")

    def of(self, body: bytes) -> str:
        digest = sha256(body).digest()
        if digest != self._last[0]:
            self._last = (digest, str(_uuid7()))
        return self._last[1]


class _KeyedAuth(AuthManagerAdapter):
    """Adds the key of a change where the token is added: to each request before it is sent."""

    def __init__(self, auth_manager: AuthManager, keys: _Keys) -> None:
        super().__init__(auth_manager)
        self._keys = keys

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request = super().__call__(request)
        if self._keys.are_heeded and request.method == "POST" and _is_change(request):
            body: Any = request.body
            content = body.encode() if isinstance(body, str) else bytes(body or b"")
            request.headers[KEY_HEADER] = self._keys.of(content)
        return request


class _Adapter(HTTPAdapter):
    def __init__(self, keys: _Keys) -> None:
        super().__init__(max_retries=_PATIENCE)
        self._keys = keys

    def build_response(self, req: PreparedRequest, resp: BaseHTTPResponse) -> Response:
        response = super().build_response(req, resp)
        if _path(req).endswith("/v1/config") and response.ok:
            self._keys.are_heeded = _announces_keys(response)
        return response


def _announces_keys(response: Response) -> bool:
    try:
        config = response.json()
    except ValueError:
        return False  # told by who reads it as a configuration
    return isinstance(config, Mapping) and bool(config.get(_LIFETIME))


def _is_change(request: PreparedRequest) -> bool:
    return "/namespaces" in _path(request) or "/tables" in _path(request)


def _path(request: PreparedRequest) -> str:
    return str(request.url).partition("?")[0]


def _uuid7() -> UUID:
    """Return a UUID of version 7, which the standard library does not make before 3.14."""
    number = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10))
    number = number & ~(0xF << 76) | 0x7 << 76
    return UUID(int=number & ~(0x3 << 62) | 0x2 << 62)
