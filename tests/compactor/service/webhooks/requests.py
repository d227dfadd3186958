"""Requests as senders make them, for the tests of receivers."""

import json

from compactor.service.webhooks.request import WebhookRequest

NOW_MS = 1_780_000_000_000
TOKEN = b"a token of enough characters"


def request(body, path="/webhooks/source", **headers):
    """Make a request; header names are written with underscores."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return WebhookRequest(path, named, raw, NOW_MS)


def with_token(body, token=TOKEN, **headers):
    """Make a request that presents a token."""
    return request(body, authorization=f"Bearer {token.decode()}", **headers)
