"""CloudEvents over HTTP, in all three modes, read leniently.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
Catalogs send extension names that the specification forbids, so no library that enforces it reads
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from compactor.service.hints import Delivery, Hint
from compactor.service.webhooks.request import (
    EVENTS_MAX,
    WebhookMalformedError,
    WebhookRequest,
    decode,
    identity,
)
from compactor.service.webhooks.secret_values import check_token

_BATCH = "application/cloudevents-batch"
_STRUCTURED = "application/cloudevents"
_PREFIX = "ce-"
_Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CloudEventsReceiver:
    """Takes events that name a table.

    The table is the first of: `table` or `location` in the data; `namespace` and `name` among the
    attributes, as Lakekeeper sends them; the subject.

    Attributes:
        source: the name under `[webhooks]`.
        tokens: any of them proves the sender.
        catalog: what the targets of tables begin with that an event names without a catalog.
    """

    source: str
    tokens: tuple[bytes, ...]
    catalog: str = ""

    def receive(self, request: WebhookRequest) -> Delivery:
        """See `Receiver`."""
        check_token(request.headers, self.tokens)
        events = list(_events(request))
        names = [str(event[name]) for event in events for name in ("source", "id")]
        hints = (self._hint(event) for event in events)
        found = tuple(hint for hint in hints if hint is not None)
        return Delivery(self.source, identity(*names), found)

    def _hint(self, event: _Event) -> Hint | None:
        data = event.get("data")
        said = data if isinstance(data, Mapping) else {}
        location = said.get("location")
        target = None if location else said.get("table") or self._named(event)
        if not target and not location:
            return None
        return Hint(
            target=_text(target),
            location=_text(location),
            snapshot_id=_text(said.get("snapshot_id")),
            operation=_text(said.get("operation")),
            job_id=_text(said.get("job_id")),
            reason=f"event {event.get('type', 'without a type')}",
        )

    def _named(self, event: _Event) -> str | None:
        namespace, name = event.get("namespace"), event.get("name")
        table = f"{namespace}.{name}" if namespace and name else event.get("subject")
        if not table:
            return None
        return f"{self.catalog}.{table}" if self.catalog else str(table)


def _events(request: WebhookRequest) -> Iterable[_Event]:
    """Yield the events of a request, each with an id and a source.

    Raises:
        WebhookMalformedError: there is none, one of them lacks these, or they are too many.
    """
    media_type = request.headers.get("content-type", "").lower()
    found: list[dict[str, Any]]
    if media_type.startswith(_BATCH):
        found = decode(request.body, list[dict[str, Any]])
    elif media_type.startswith(_STRUCTURED):
        found = [decode(request.body, dict[str, Any])]
    else:
        found = [_binary(request)]
    if len(found) > EVENTS_MAX:
        raise WebhookMalformedError(f"a batch of {len(found)} events is longer than {EVENTS_MAX}")
    for event in found:
        if not event.get("id") or not event.get("source"):
            raise WebhookMalformedError("an event has no `id` or no `source`")
    return found


def _binary(request: WebhookRequest) -> dict[str, Any]:
    event: dict[str, Any] = {
        name.removeprefix(_PREFIX): unquote(value)
        for name, value in request.headers.items()
        if name.startswith(_PREFIX)
    }
    if request.body:
        event["data"] = decode(request.body, Any)
    return event


def _text(value: object) -> str | None:
    """Return a value as text; null, empty and anything with parts are not said."""
    is_said = isinstance(value, str | int) and not isinstance(value, bool) and value != ""
    return str(value) if is_said else None
