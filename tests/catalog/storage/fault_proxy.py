"""A loopback proxy that forwards HTTP requests to a server and breaks chosen ones on purpose."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from typing import Self


class Fault(Enum):
    """What happens to a request."""

    LOSE_REPLY = "forward the request, then reset the connection instead of answering"
    HIDE_REPLY = "forward the request, then answer 503 instead"
    FORGET_UPLOAD = "forward the request, then answer that there is no such upload"
    RESET = "reset the connection without forwarding"
    CUT_BODY = "answer with half of the body, then reset"
    UNAVAILABLE = "answer 503 without forwarding"
    FORBIDDEN = "answer 403 without forwarding"
    QUOTA = "answer 403 QuotaExceeded without forwarding"
    ERROR_IN_200 = "answer 200 with an error in the body, without forwarding"
    UNKNOWN_REQUEST = "answer 501 without forwarding"
    EMPTY_200 = "answer 200 without a body, without forwarding"
    HOLD = "forward the request when `released` is set, whether or not the sender still waits"


_ANSWERS = {
    Fault.UNAVAILABLE: (503, "SlowDown"),
    Fault.HIDE_REPLY: (503, "SlowDown"),
    Fault.FORGET_UPLOAD: (404, "NoSuchUpload"),
    Fault.FORBIDDEN: (403, "AccessDenied"),
    Fault.QUOTA: (403, "QuotaExceeded"),
    Fault.ERROR_IN_200: (200, "InternalError"),
    Fault.UNKNOWN_REQUEST: (501, "NotImplemented"),
    Fault.EMPTY_200: (200, ""),
}

_REFUSALS = {
    Fault.UNAVAILABLE,
    Fault.FORBIDDEN,
    Fault.QUOTA,
    Fault.ERROR_IN_200,
    Fault.UNKNOWN_REQUEST,
    Fault.EMPTY_200,
}


@dataclass
class FaultProxy:
    """Forwards to the upstream; `fault` hits the first `hits` requests that match.

    What is matched is the method and the path, and ` copying` behind it where a part is copied.

    Attributes:
        log: the requests.
        bytes_sent: what clients have sent.
        bytes_answered: what the upstream has answered.
        statuses: what the upstream answered to those that it got, of each request line.
        held: set when a request is being held.
        released: lets the held ones go.
    """

    upstream: tuple[str, int]
    match: re.Pattern[str]
    fault: Fault
    hits: int
    log: list[str] = field(default_factory=list)
    bytes_sent: int = 0
    bytes_answered: int = 0
    statuses: list[tuple[str, int]] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Serve one request per connection: it keeps the framing simple."""
        with client, suppress(OSError):
            request = _receive_request(client)
            if not request:
                return None
            with self._lock:
                self.bytes_sent += len(request)
            method, path, _ = request.split(b"\r\n", 1)[0].decode().split(" ")
            line = f"{method} {path}"
            is_copying = b"x-amz-copy-source:" in request.partition(b"\r\n\r\n")[0].lower()
            fault = self._fault(line, f"{line} copying" if is_copying else line)
            if fault is Fault.RESET:
                return _reset(client)
            if fault is Fault.HOLD:
                self.held.set()
                self.released.wait()
            reply = b"" if fault in _REFUSALS else self._forward(request, line)
            if fault in _ANSWERS:
                return client.sendall(_answer(*_ANSWERS[fault]))
            if fault is Fault.LOSE_REPLY:
                return _reset(client)
            if fault is Fault.CUT_BODY:
                client.sendall(reply[: (reply.index(b"\r\n\r\n") + len(reply)) // 2])
                return _reset(client)
            return client.sendall(reply)
        return None

    def _fault(self, line: str, told: str) -> Fault | None:
        with self._lock:
            is_hit = self.hits > 0 and self.match.search(told) is not None
            self.hits -= is_hit
            self.log.append(line)
        return self.fault if is_hit else None

    def _forward(self, request: bytes, line: str) -> bytes:
        with socket.create_connection(self.upstream) as server:
            server.sendall(_closing(request))
            reply = b"".join(iter(lambda: server.recv(1 << 16), b""))
        with self._lock:
            self.bytes_answered += len(reply)
        if reply:
            self.statuses.append((line, int(reply.split(b" ", 2)[1])))
        return _closing(reply)


@contextmanager
def faulty(endpoint: str, match: str, fault: Fault, *, hits: int) -> Iterator[FaultProxy]:
    """Run a proxy before the store at this endpoint."""
    host, port = endpoint.removeprefix("http://").split(":")
    with FaultProxy((host, int(port)), re.compile(match), fault, hits) as proxy:
        yield proxy


def _receive_request(client: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        part = client.recv(1 << 16)
        if not part:
            return b""
        data += part
    head = data.index(b"\r\n\r\n") + 4
    length = re.search(rb"(?im)^content-length: *(\d+)", data[:head])
    while len(data) < head + (int(length[1]) if length else 0):
        data += client.recv(1 << 16)
    return data


def _closing(message: bytes) -> bytes:
    """Ask for one message per connection."""
    head, _, body = message.partition(b"\r\n\r\n")
    head = re.sub(rb"(?im)^connection:[^\r]*(\r\n)?", b"", head).rstrip(b"\r\n")
    return head + b"\r\nConnection: close\r\n\r\n" + body


def _answer(status: int, code: str) -> bytes:
    text = f"<Error><Code>{code}</Code><Message>injected</Message></Error>" if code else ""
    body = text.encode()
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/xml\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
