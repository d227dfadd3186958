"""Who may do what: tokens of which only the digest is known, each with a scope and tables.

Without any token the service listens on loopback alone, and whoever can reach it there is trusted
as the person who started it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import IntEnum
from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import Annotated, Any

import msgspec

from compactor.errors import CompactorError, SettingsError

TOKEN_BYTES = 32
_PREFIX = "cpt_"
_DIGEST_CHARACTERS = 64
_EVERYTHING = ("*",)
_WILD = frozenset("*?[")


class Scope(IntEnum):
    """What a token allows; each includes those before it."""

    READ = 1
    OPERATE = 2
    ADMIN = 3


class UnauthenticatedError(CompactorError):
    """Nobody known is asking."""

    code = "unauthenticated"


class ForbiddenError(CompactorError):
    """Somebody known asks for what is not theirs to do."""

    code = "forbidden"


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who asks.

    Attributes:
        name: for the audit log.
        scope: what they may do.
        tables: patterns of the targets that they may do it to, and see.
    """

    name: str
    scope: Scope
    tables: tuple[str, ...] = _EVERYTHING

    @property
    def sees_everything(self) -> bool:
        """Whether no table is hidden from them."""
        return "*" in self.tables

    def may_see(self, target: str) -> bool:
        """Tell whether a table is one of theirs."""
        return any(fnmatchcase(target, pattern) for pattern in self.tables)

    def check_scope(self, scope: Scope) -> None:
        """Make sure that they may do something to tables that are theirs.

        Raises:
            ForbiddenError: they may not.
        """
        if self.scope < scope:
            raise ForbiddenError(
                f"`{self.name}` may {self.scope.name.lower()}, and this needs {scope.name.lower()}",
                hint="ask for a token with that scope",
            )

    def check(self, scope: Scope, target: str | None = None) -> None:
        """Make sure that they may do something.

        Args:
            scope: what it needs.
            target: the table it is done to; None for all of them.

        Raises:
            ForbiddenError: they may not.
        """
        self.check_scope(scope)
        if not self.sees_everything and (target is None or not self.may_see(target)):
            what = "every table" if target is None else f"`{target}`"
            raise ForbiddenError(f"`{self.name}` has no right to {what}")

    def check_pattern(self, scope: Scope, pattern: str) -> None:
        """Make sure that they may do something to all tables that fit a pattern.

        Raises:
            ForbiddenError: they may not, or it is not plain to see that they may.
        """
        self.check_scope(scope)
        is_one = not _WILD & set(pattern)
        may = self.may_see(pattern) if is_one else any(_holds(one, pattern) for one in self.tables)
        if not may:
            raise ForbiddenError(f"`{self.name}` has no right to all of `{pattern}`")


def _holds(wide: str, narrow: str) -> bool:
    """Tell whether one pattern fits whatever another fits, as far as that is easy to tell."""
    begin = wide.removesuffix("*")
    is_prefix = wide.endswith("*") and not _WILD & set(begin)
    return wide == narrow or (is_prefix and narrow.startswith(begin))


LOCAL = Principal("local", Scope.ADMIN)
"""Whoever reaches a service that has no tokens: only processes of its machine do."""


class _Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    sha256: Annotated[str, msgspec.Meta(pattern=f"^[0-9a-f]{{{_DIGEST_CHARACTERS}}}$")]
    scope: str = "read"
    tables: tuple[str, ...] = _EVERYTHING
    expires: Any = None


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tokens: tuple[_Token, ...] = ()


@dataclass(frozen=True, slots=True)
class _Known:
    digest: bytes
    principal: Principal
    expires_at_ms: float | None


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Knows the tokens.

    Attributes:
        known: one entry per token.
    """

    known: tuple[_Known, ...] = ()

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> Authenticator:
        """Read the section `[auth]`.

        Raises:
            SettingsError: a setting is unknown or not what it must be, or two tokens are equal.
        """
        try:
            said = msgspec.convert(dict(section), _Section)
            known = tuple(_known(token) for token in said.tokens)
        except (msgspec.ValidationError, KeyError, ValueError) as error:
            raise SettingsError(
                f"[auth] is refused: {error}", hint="`compact serve --new-token NAME` prints one"
            ) from error
        for what in ("name", "digest"):
            values = [one.principal.name if what == "name" else one.digest for one in known]
            if len(set(values)) != len(values):
                raise SettingsError(f"two tokens of [auth] have the same {what}")
        return cls(known)

    @property
    def is_open(self) -> bool:
        """Whether there is no token, and so nobody has to show one."""
        return not self.known

    def check_host(self, host: str) -> None:
        """Make sure that a browser was not led here by a name of somebody else's.

        Raises:
            ForbiddenError: there are no tokens, and the name is not this machine's.
        """
        if self.is_open and not is_loopback(host):
            raise ForbiddenError(
                f"`{host}` is no name of this machine",
                hint="without tokens the service is for http://127.0.0.1 and http://localhost",
            )

    def authenticate(self, token: str, *, now_ms: float) -> Principal:
        """Return who presents a token.

        Args:
            token: as it was presented; empty when none was.
            now_ms: milliseconds since the epoch.

        Raises:
            UnauthenticatedError: nobody known, or not any more.
        """
        if self.is_open:
            return LOCAL
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        # All are compared, so that the time tells nothing of which one is close.
        found = [one for one in self.known if hmac.compare_digest(one.digest, digest)]
        if not found:
            raise UnauthenticatedError(
                "the token is unknown" if token else "a token is needed",
                hint="send `Authorization: Bearer TOKEN`",
            )
        expires_at_ms = found[0].expires_at_ms
        if expires_at_ms is not None and expires_at_ms <= now_ms:
            raise UnauthenticatedError(f"the token of `{found[0].principal.name}` has expired")
        return found[0].principal


def is_loopback(host: str) -> bool:
    """Tell whether only processes of this machine reach a host."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def new_token() -> tuple[str, str]:
    """Return a new token, and its digest as the configuration wants it."""
    random = base64.urlsafe_b64encode(secrets.token_bytes(TOKEN_BYTES)).decode().rstrip("=")
    token = _PREFIX + random
    return token, hashlib.sha256(token.encode()).hexdigest()


def bearer(header: str) -> str:
    """Return the token of a header `Authorization`; empty when it holds none."""
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _known(token: _Token) -> _Known:
    principal = Principal(token.name, Scope[token.scope.upper()], token.tables)
    return _Known(bytes.fromhex(token.sha256), principal, _end_of(token.expires))


def _end_of(expires: object) -> float | None:
    """Return when a token ends; a day ends it as it begins, by the clock of this machine.

    Raises:
        ValueError: it is no date and no time.
    """
    if expires is None:
        return None
    if not isinstance(expires, date):
        raise ValueError("`expires` is no date, such as 2027-01-31 without quotes")
    if not isinstance(expires, datetime):
        expires = datetime(expires.year, expires.month, expires.day)
    return expires.timestamp() * 1000
