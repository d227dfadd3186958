"""Standard Webhooks, judged by the library of its authors as the sender."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from compactor.service.webhooks.request import WebhookMalformedError, WebhookUnverifiedError
from compactor.service.webhooks.standard import StandardReceiver, decode_secret
from tests.compactor.service.webhooks.requests import NOW_MS, request

SECRET, OLDER = b"s" * 32, b"o" * 24
RECEIVER = StandardReceiver("hooks", (SECRET, OLDER))
EVENT = '{"type": "table.committed", "data": {"table": "lake.sales.orders", "snapshot_id": 7}}'


def text(secret):
    return f"whsec_{base64.b64encode(secret).decode()}"


def signed(body=EVENT, secret=SECRET, message="msg_1", at_ms=NOW_MS):
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return request(
        body.encode(),
        webhook_id=message,
        webhook_timestamp=str(at_ms // 1000),
        webhook_signature=Webhook(text(secret)).sign(message, moment, body),
    )


def test_what_the_library_signs_is_taken():
    delivery = RECEIVER.receive(signed())
    assert (delivery.source, delivery.delivery_id) == ("hooks", "msg_1")
    assert [(hint.target, hint.snapshot_id) for hint in delivery.hints] == [
        ("lake.sales.orders", "7")
    ]


def test_either_secret_signs_while_keys_are_rotated():
    assert RECEIVER.receive(signed(secret=OLDER))
    with pytest.raises(WebhookUnverifiedError):
        RECEIVER.receive(signed(secret=b"x" * 32))


def test_one_of_several_signatures_is_enough():
    good = signed()
    wrong = base64.b64encode(b"x" * 32).decode()
    header = f"v1,{wrong} v2,{wrong} v1,!! {good.headers['webhook-signature']}"
    headers = {**good.headers, "webhook-signature": header}
    assert RECEIVER.receive(type(good)(good.path, headers, good.body, NOW_MS))


@pytest.mark.parametrize("minutes", [-6, 6])
def test_an_old_or_future_message_is_refused_though_it_is_signed(minutes):
    with pytest.raises(WebhookUnverifiedError, match="too far from now"):
        RECEIVER.receive(signed(at_ms=NOW_MS + minutes * 60_000))


@pytest.mark.parametrize("header", ["webhook_id", "webhook_timestamp", "webhook_signature"])
@pytest.mark.parametrize("value", [None, "", "-1", "1e9", "\u0661", "x" * 300])
def test_headers_that_are_missing_or_odd_are_refused(header, value):
    good = signed()
    headers = dict(good.headers)
    headers.pop(header.replace("_", "-"))
    if value is not None:
        headers[header.replace("_", "-")] = value
    with pytest.raises(WebhookUnverifiedError):
        RECEIVER.receive(type(good)(good.path, headers, good.body, NOW_MS))


@given(st.data())
def test_no_changed_byte_goes_unnoticed(data):
    good = signed()
    place = data.draw(st.integers(0, len(good.body) - 1))
    flip = data.draw(st.integers(1, 255))
    body = bytearray(good.body)
    body[place] ^= flip
    with pytest.raises(WebhookUnverifiedError):
        RECEIVER.receive(type(good)(good.path, good.headers, bytes(body), NOW_MS))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "nonsense",
        "[]",
        "[" * 100_000,
        '{"data": ' * 5_000 + "1" + "}" * 5_000,
        '{"type": "x"}',
        '{"data": {}}',
        '{"data": {"table": 7}}',
        '{"data": {"table": "a.b.c", "location": "s3://b/t"}}',
        '{"data": {"table": "\\ud800"}}',
    ],
)
def test_a_signed_body_that_says_nothing_is_malformed(body):
    with pytest.raises(WebhookMalformedError):
        RECEIVER.receive(signed(body=body))


@pytest.mark.parametrize("secret", ["abc", "whsec_!", text(b"short"), text(b"x" * 65)])
def test_a_weak_or_odd_secret_is_refused(secret):
    with pytest.raises(ValueError, match=r"it|what"):
        decode_secret(secret)


def test_a_secret_is_read_as_the_library_reads_it():
    assert decode_secret(text(SECRET)) == SECRET
