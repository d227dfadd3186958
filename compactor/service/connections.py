"""Connections of HTTP whose senders get neither more time nor more headers than a request needs.

The server itself waits for a request without end, and keeps all headers of one.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

REQUEST_SECONDS_MAX = 30.0
"""From the first byte, or the beginning of the connection, to the last byte of the body."""

HEAD_BYTES_MAX = 64 << 10
HEADERS_MAX = 200
CONNECTIONS_MAX = 900
"""What comes beyond is answered 503: a process has a thousand open files at most, as a rule."""


class BoundedConnection(HttpToolsProtocol):
    """One connection."""

    _deadline: asyncio.TimerHandle | None = None
    _is_in_head = True
    _head_bytes = 0

    def connection_made(  # type: ignore[override]  # narrower, as in the class that it extends
        self, transport: asyncio.Transport
    ) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_awaiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; a head that does not end is refused."""
        if self.cycle is None or self.cycle.response_complete:
            self._await_request()
        if self._is_in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        is_endless = self._is_in_head and self._head_bytes > HEAD_BYTES_MAX
        if is_endless and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header.

        Raises:
            ValueError: there are more than a request needs; the parser ends the connection.
        """
        super().on_header(name, value)
        if len(self.headers) > HEADERS_MAX:
            raise ValueError(f"more than {HEADERS_MAX} headers")

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._is_in_head, self._head_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the request is whole."""
        self._is_in_head = True
        self._stop_awaiting()
        super().on_message_complete()

    def _await_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECONDS_MAX, self._end)

    def _stop_awaiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self) -> None:
        self._deadline = None
        # Whoever is so slow would take as long to say goodbye.
        self.transport.abort()
