"""Amazon SQS: notifications are fetched from a queue, and removed once they are taken in."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from compactor.errors import CompactorError
from compactor.service.hints import Delivery
from compactor.service.webhooks.eventbridge import read_event
from compactor.service.webhooks.request import WebhookMalformedError, decode
from compactor.service.webhooks.s3_records import read_records

MESSAGES_MAX = 10
"""The most that one request returns."""

WAIT_SECONDS = 20
"""The longest that one request waits for a message."""

PAUSE_SECONDS, PAUSE_SECONDS_MAX = 1.0, 60.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue that notifications of S3, of SNS or of EventBridge arrive in.

    Attributes:
        source: the name under `[webhooks]`.
        url: of the queue.
        region: where it is.
        endpoint: address of the service; None for Amazon's own.
        catalog: see `EventBridgeReceiver`.
    """

    source: str
    url: str
    region: str
    endpoint: str | None = None
    catalog: str = ""


class _Envelope(msgspec.Struct, frozen=True):
    message: str = msgspec.field(default="", name="Message")
    topic: str = msgspec.field(default="", name="TopicArn")
    detail_type: str = msgspec.field(default="", name="detail-type")


def read_message(queue: Queue, body: str) -> Delivery:
    """Read a message: records, an event of the bus, or one of both in an envelope of SNS.

    Whoever may write to the queue is trusted: that is what its policy is for.

    Raises:
        WebhookMalformedError: it is none of these.
    """
    envelope = decode(body, _Envelope)
    if envelope.topic:
        body, envelope = envelope.message, decode(envelope.message, _Envelope)
    if envelope.detail_type:
        return read_event(queue.source, body, catalog=queue.catalog)
    return read_records(queue.source, body)


class Poller:
    """Fetches messages in a thread until it is stopped.

    A message that cannot be read stays in the queue, whose own rules say after how many attempts
    it goes where somebody looks at it.

    Args:
        queue: what is polled.
        accept: takes a delivery in; durable when it returns. An error leaves the message.
    """

    def __init__(self, queue: Queue, accept: Callable[[Delivery], object]) -> None:
        self._queue = queue
        self._accept = accept
        self._stopping = threading.Event()
        name = f"sqs-{queue.source}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for no more messages; the request under way may take until its end."""
        self._stopping.set()

    def join(self, timeout_seconds: float) -> bool:
        """Wait for the end; tell whether it came in time."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError  # lazy: see `_client`

        client = _client(self._queue)
        pause_seconds = PAUSE_SECONDS
        while not self._stopping.is_set():
            try:
                self._round(client)
            except (BotoCoreError, ClientError, CompactorError) as error:
                # The queue or the store is away, and comes back.
                _LOG.warning("queue of `%s`: %s", self._queue.source, error)
                self._stopping.wait(pause_seconds)
                pause_seconds = min(2 * pause_seconds, PAUSE_SECONDS_MAX)
            else:
                pause_seconds = PAUSE_SECONDS

    def _round(self, client: Any) -> None:
        answer = client.receive_message(
            QueueUrl=self._queue.url, MaxNumberOfMessages=MESSAGES_MAX, WaitTimeSeconds=WAIT_SECONDS
        )
        taken = [message for message in answer.get("Messages", ()) if self._take(message)]
        if taken:
            client.delete_message_batch(
                QueueUrl=self._queue.url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                    for number, message in enumerate(taken)
                ],
            )

    def _take(self, message: Mapping[str, Any]) -> bool:
        try:
            delivery = read_message(self._queue, message["Body"])
        except WebhookMalformedError as error:
            _LOG.warning("queue of `%s`: message left there: %s", self._queue.source, error)
            return False
        self._accept(delivery)
        return True


def _client(queue: Queue) -> Any:
    import botocore.session  # lazy: only those who poll pay for it

    session = botocore.session.get_session()
    return session.create_client("sqs", region_name=queue.region, endpoint_url=queue.endpoint)
