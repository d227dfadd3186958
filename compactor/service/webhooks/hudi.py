"""Hudi's HTTP callback after a commit.

https://hudi.apache.org/docs/platform_services_post_commit_callback
It is sent once, with no id and no retry: a lost one is found by the sweep.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from compactor.service.hints import Delivery, Hint
from compactor.service.webhooks.request import (
    WebhookMalformedError,
    WebhookRequest,
    WebhookUnverifiedError,
    decode,
    identity,
)
from compactor.service.webhooks.secret_values import is_any_of

BODY_BYTES_MAX = 16 << 20
"""The body names every file that was written."""

DEFAULT_KEY = b"hudi_write_commit_http_callback"
"""What Hudi sends if nobody sets a key: it proves nothing."""


@dataclass(frozen=True, slots=True)
class HudiReceiver:
    """Takes callbacks whose key was set (`hoodie.write.commit.callback.http.api.key`).

    Attributes:
        source: the name under `[webhooks]`.
        tokens: any of them proves the sender.
    """

    source: str
    tokens: tuple[bytes, ...]

    def receive(self, request: WebhookRequest) -> Delivery:
        """See `Receiver`."""
        presented = request.headers.get("hudi-callback-key", "").encode()
        if presented == DEFAULT_KEY or not is_any_of([presented], self.tokens):
            raise WebhookUnverifiedError("`HUDI-CALLBACK-KEY` is missing or is not the source's")
        message = decode(request.body, _Callback)
        if not message.base_path or not message.commit_time:
            raise WebhookMalformedError("`basePath` or `commitTime` is empty")
        hint = Hint(
            target=None,
            location=message.base_path,
            snapshot_id=message.commit_time,
            operation=message.action or None,
            job_id=None,
            reason=f"instant {message.commit_time} was reported",
        )
        return Delivery(self.source, identity(message.base_path, message.commit_time), (hint,))


class _Callback(msgspec.Struct, frozen=True):
    commit_time: str = msgspec.field(name="commitTime")
    base_path: str = msgspec.field(name="basePath")
    action: str = msgspec.field(default="", name="commitActionType")
