"""An OAuth2 server that gives out signed tokens of a short life for client credentials."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "compact", "a-secret-of-the-tests"


@dataclass
class IdentityProvider:
    """What the server knows.

    Attributes:
        life_seconds: how long a token lasts.
        issued: times of the tokens that were given out.
    """

    life_seconds: int
    address: str = ""
    issued: list[float] = field(default_factory=list)
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "1"}))

    def token(self) -> str:
        """Sign a token."""
        now = int(time.time())
        self.issued.append(now)
        claims = {
            "iss": self.address,
            "sub": CLIENT,
            "iat": now,
            "exp": now + self.life_seconds,
            "aud": "catalog",
        }
        return jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.key)


@contextmanager
def identity_provider(life_seconds: int) -> Iterator[IdentityProvider]:
    """Run a server on loopback."""
    provider = IdentityProvider(life_seconds)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith("/openid-configuration"):
                return _answer(
                    self,
                    200,
                    {
                        "issuer": provider.address,
                        "jwks_uri": f"{provider.address}/jwks",
                        "token_endpoint": f"{provider.address}/token",
                        "authorization_endpoint": f"{provider.address}/authorize",
                    },
                )
            return _answer(self, 200, {"keys": [provider.key.as_dict(private=False)]})

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            form = parse_qs(self.rfile.read(length).decode())
            if _credentials(self, form) != (CLIENT, SECRET):
                return _answer(self, 401, {"error": "invalid_client"})
            token = provider.token()
            told = {"access_token": token, "token_type": "bearer"}
            return _answer(self, 200, {**told, "expires_in": provider.life_seconds})

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()


def _credentials(request: BaseHTTPRequestHandler, form: dict[str, list[str]]) -> tuple[str, str]:
    """Return who asks: in the body, or in the header that OAuth2 prefers."""
    kind, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if kind == "Basic":
        name, _, secret = base64.b64decode(encoded).decode().partition(":")
        return name, secret
    return form.get("client_id", [""])[0], form.get("client_secret", [""])[0]


def _answer(request: BaseHTTPRequestHandler, status: int, body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)
