"""A proxy for any protocol that stops at one message: before the server gets it, or its answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum

_BYTES = 1 << 16


class Stop(Enum):
    """Where a message is stopped."""

    REQUEST = "before the server gets it"
    REPLY = "after the server has answered it, before the client hears of it"


@dataclass
class Wire:
    """Forwards connections; the first message that holds the sign is stopped, once.

    Attributes:
        dial: connects to the server.
        sign: bytes of the message, within one packet of the client.
        stop: where it is stopped.
        held: set when it is.
        released: lets it go on.
        is_cut: whether the client is hung up on instead when it is released.
    """

    dial: Callable[[], socket.socket]
    sign: bytes
    stop: Stop
    held: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Event = field(default_factory=threading.Event)
    is_cut: bool = False

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._lock = threading.Lock()
        self._is_spent = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def close(self) -> None:
        """Take no more connections."""
        self.released.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), self.dial() as server:
            is_stopped = threading.Event()
            back = threading.Thread(
                target=self._answer, args=(server, client, is_stopped), daemon=True
            )
            back.start()
            with suppress(OSError):
                while data := client.recv(_BYTES):
                    if self._is_hit(data):
                        is_stopped.set()
                        if self.stop is Stop.REQUEST:
                            self.held.set()
                            self.released.wait()
                    server.sendall(data)
            with suppress(OSError):
                server.shutdown(socket.SHUT_WR)
            back.join()

    def _is_hit(self, data: bytes) -> bool:
        with self._lock:
            is_hit = self.sign in data and not self._is_spent
            self._is_spent |= is_hit
        return is_hit

    def _answer(
        self, server: socket.socket, client: socket.socket, is_stopped: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := server.recv(_BYTES):
                if is_stopped.is_set():
                    self.arrived.set()
                    if self.stop is Stop.REPLY:
                        self.held.set()
                        self.released.wait()
                        if self.is_cut:
                            break
                client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR if self.is_cut else socket.SHUT_WR)


@contextmanager
def wire(dial: Callable[[], socket.socket], sign: bytes, stop: Stop) -> Iterator[Wire]:
    """Run a proxy before a server."""
    made = Wire(dial, sign, stop)
    try:
        yield made
    finally:
        made.close()


def to_port(port: int) -> Callable[[], socket.socket]:
    """Return what connects to a port of this machine."""
    return lambda: socket.create_connection(("127.0.0.1", port))


def to_unix(path: str) -> Callable[[], socket.socket]:
    """Return what connects to a socket in the file system."""

    def dial() -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.connect(path)
        return made

    return dial
