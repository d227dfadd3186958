"""Who looks at a page, and whether a form comes from one of ours.

A browser keeps the token in a cookie that no script sees and no other site's request carries.
Every form holds a value that only our pages know: derived from the token and a secret of the
process. Without tokens only this machine gets here, by a name of its own: a page elsewhere that
has its name lead here is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field

from fastapi import Request

from compactor.service.auth import (
    Authenticator,
    ForbiddenError,
    Principal,
    UnauthenticatedError,
    bearer,
)

COOKIE = "compact_token"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who looks at a page.

    Attributes:
        principal: who it is.
        form_key: what the forms of their pages hold.
    """

    principal: Principal
    form_key: str


@dataclass(frozen=True, slots=True)
class Door:
    """Lets visitors in.

    Attributes:
        authenticator: knows the tokens.
        secret: of this process: forms do not outlive it.
    """

    authenticator: Authenticator
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def visitor(self, request: Request) -> Visitor:
        """Return who asks for a page.

        Raises:
            UnauthenticatedError: nobody known.
            ForbiddenError: the page was asked for by a name that is not this machine's.
        """
        self.authenticator.check_host(request.url.hostname or "")
        token = request.cookies.get(COOKIE, "") or bearer(request.headers.get("authorization", ""))
        principal = self.authenticator.authenticate(token, now_ms=time.time() * 1000)
        key = hmac.new(self.secret, token.encode(errors="surrogatepass"), hashlib.sha256)
        return Visitor(principal, key.hexdigest())

    def check_form(self, visitor: Visitor, presented: str) -> None:
        """Make sure that a form was sent from a page of this visitor.

        Raises:
            ForbiddenError: it was not, or the service has been started again since.
        """
        sent = presented.encode(errors="surrogatepass")
        if not hmac.compare_digest(sent, visitor.form_key.encode()):
            raise ForbiddenError("the form is not from this page", hint="load the page again")

    def check_token(self, token: str) -> Principal:
        """Return whose token it is.

        Raises:
            UnauthenticatedError: nobody's.
        """
        if self.authenticator.is_open:
            raise UnauthenticatedError("this service has no tokens")
        return self.authenticator.authenticate(token, now_ms=time.time() * 1000)
