"""Requests that the service makes itself: to public hosts, by HTTPS, to the address looked at.

A name is resolved once, every address that it has must be public, and the connection goes to one
of these: a name server that answers otherwise the second time gains nothing. No redirect is
followed.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import urllib3

from compactor.errors import CompactorError

TIMEOUT_SECONDS = 15.0
ANSWER_BYTES_MAX = 1 << 20
_HTTPS = 443
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
# Of old, or translated within a site: what is behind them is not told by the address.
_INSIDE = tuple(map(ipaddress.IPv6Network, ("::/96", "64:ff9b:1::/48", "fec0::/10")))


class OutboundRefusedError(CompactorError):
    """A request is not made, or its answer not taken: the address is not one to talk to."""

    code = "outbound-refused"


class OutboundFailedError(CompactorError):
    """The other side did not answer, or not with success."""

    code = "outbound-failed"
    retryable = True


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host as text."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[4][0]) for address in found]


@dataclass(frozen=True, slots=True)
class Outbound:
    """Makes requests to public addresses.

    Attributes:
        private_hosts: names whose addresses may be private, because the configuration says so.
        resolve: turns a name and a port into addresses.
        authorities: file of the certificates that are trusted; None for those of the system.
    """

    private_hosts: frozenset[str] = frozenset()
    resolve: Callable[[str, int], list[str]] = field(default=resolve, repr=False)
    authorities: str | None = None

    def get(self, url: str) -> bytes:
        """Return what a URL holds.

        Raises:
            OutboundRefusedError: it does not lead to a public host by HTTPS, or answers with more
                than `ANSWER_BYTES_MAX`.
            OutboundFailedError: no answer, or not 200.
        """
        answer = self.send("GET", url, headers={}, body=b"")
        if answer.status != 200:
            raise OutboundFailedError(f"{_shown(url)} answered {answer.status}")
        return answer.body

    def send(self, method: str, url: str, *, headers: Mapping[str, str], body: bytes) -> Answer:
        """Make one request and return its answer, whatever its status.

        Raises:
            OutboundRefusedError: as for `get`.
            OutboundFailedError: there was no answer in time.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "https" or not host or parts.username is not None:
            raise OutboundRefusedError(f"{_shown(url)} is no plain https address")
        try:
            port = parts.port or _HTTPS
        except ValueError as error:
            raise OutboundRefusedError(f"{_shown(url)} is no plain https address") from error
        address = self._address(host, port)
        target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        host_header = host if port == _HTTPS else f"{host}:{port}"
        with urllib3.HTTPSConnectionPool(
            address,
            port,
            timeout=TIMEOUT_SECONDS,
            server_hostname=host,
            assert_hostname=host,
            ca_certs=self.authorities,
        ) as pool:
            return _exchange(pool, method, target, {**headers, "Host": host_header}, body)

    def _address(self, host: str, port: int) -> str:
        try:
            found = self.resolve(host, port)
        except OSError as error:
            raise OutboundFailedError(f"`{host}` has no address: {error}") from error
        hidden = [one for one in found if not _is_public(one)]
        if not found or (hidden and host not in self.private_hosts):
            raise OutboundRefusedError(
                f"`{host}` leads to {', '.join(hidden) or 'nowhere'}, which is not public",
                hint="name the host in `private_hosts` if that is meant",
            )
        return found[0]


def _exchange(
    pool: urllib3.HTTPSConnectionPool,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
) -> Answer:
    try:
        reply = pool.urlopen(
            method,
            target,
            body=body or None,
            headers=dict(headers),
            redirect=False,
            retries=False,
            preload_content=False,
        )
        content = reply.read(ANSWER_BYTES_MAX + 1)
    except urllib3.exceptions.HTTPError as error:
        raise OutboundFailedError(f"no answer from {pool.host}: {error}") from error
    if len(content) > ANSWER_BYTES_MAX:
        raise OutboundRefusedError(f"{pool.host} answered with more than {ANSWER_BYTES_MAX} bytes")
    return Answer(reply.status, content)


def _is_public(address: str) -> bool:
    """Tell whether an address is one that anybody reaches; those in disguise are looked through."""
    parsed: ipaddress.IPv4Address | ipaddress.IPv6Address
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if any(parsed in one for one in _INSIDE):
            return False
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if parsed in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        parsed = inner or parsed
    return parsed.is_global and not parsed.is_multicast


def _shown(url: str) -> str:
    """Return a URL without what may be secret in it."""
    parts = urlsplit(url)
    return f"`{parts.scheme}://{parts.hostname or ''}{parts.path}`"
