"""Messages of SNS, signed with a certificate made here."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from compactor.service.outbound import OutboundFailedError, OutboundRefusedError
from compactor.service.webhooks.request import (
    WebhookMalformedError,
    WebhookRefusedError,
    WebhookUnverifiedError,
)
from compactor.service.webhooks.sns import FETCHES_MAX, SnsReceiver
from tests.compactor.service.webhooks.requests import NOW_MS, request

TOPIC = "arn:aws:sns:eu-west-1:123456789012:lake"
CERTIFICATE = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem"
CONFIRM = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=t"
RECORDS = {
    "Records": [
        {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {
                "bucket": {"name": "lake"},
                "object": {
                    "key": "sales/orders+new/metadata/00001-a.metadata.json",
                    "sequencer": "1",
                },
            },
        }
    ]
}
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def certificate():
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=3650))
        .sign(KEY, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


PEM = certificate()


def message(kind="Notification", key=KEY, **changes):
    moment = datetime.fromtimestamp(NOW_MS / 1000, UTC)
    fields = {
        "Type": kind,
        "MessageId": "m-1",
        "TopicArn": TOPIC,
        "Message": json.dumps(RECORDS),
        "Timestamp": moment.isoformat().replace("+00:00", "Z"),
        "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE,
    }
    if kind == "SubscriptionConfirmation":
        fields |= {"Token": "t", "SubscribeURL": CONFIRM}
    fields |= changes
    names = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn"]
    text = "".join(f"{name}\n{fields[name]}\n" for name in [*names, "Type"] if name in fields)
    signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return fields | {"Signature": base64.b64encode(signature).decode()}


class Web:
    def __init__(self):
        self.asked = []

    def __call__(self, url):
        self.asked.append(url)
        return PEM


@pytest.fixture
def web():
    return Web()


@pytest.fixture
def receiver(web):
    return SnsReceiver("sns", frozenset({TOPIC}), web)


def test_records_in_a_signed_notification_name_their_table(receiver, web):
    delivery = receiver.receive(request(message(Subject="Amazon S3 Notification")))
    assert [hint.location for hint in delivery.hints] == [
        "s3://lake/sales/orders new/metadata/00001-a.metadata.json"
    ]
    receiver.receive(request(message()))
    assert web.asked == [CERTIFICATE]


def test_records_that_come_again_in_another_message_are_the_same_delivery(receiver):
    first = receiver.receive(request(message()))
    assert receiver.receive(request(message(MessageId="m-2"))).delivery_id == first.delivery_id


def test_an_event_of_the_bus_may_come_through_a_topic(web):
    event = {
        "source": "aws.glue",
        "detail-type": "Glue Data Catalog Table State Change",
        "detail": {"databaseName": "sales", "tableName": "orders", "typeOfChange": "UpdateTable"},
    }
    receiver = SnsReceiver("sns", frozenset({TOPIC}), web, catalog="lake")
    delivery = receiver.receive(request(message(Message=json.dumps(event))))
    assert [hint.target for hint in delivery.hints] == ["lake.sales.orders"]


def test_a_subscription_of_a_listed_topic_is_confirmed(receiver, web):
    assert receiver.receive(request(message("SubscriptionConfirmation"))).hints == ()
    assert web.asked == [CERTIFICATE, CONFIRM]


@pytest.mark.parametrize(
    "changes",
    [
        {"TopicArn": "arn:aws:sns:eu-west-1:123456789012:other"},
        {"SignatureVersion": "1"},
        {"SigningCertURL": "https://sns.eu-west-1.amazonaws.com.evil.example/a.pem"},
        {"SigningCertURL": "http://sns.eu-west-1.amazonaws.com/a.pem"},
        {"SigningCertURL": "https://user@sns.eu-west-1.amazonaws.com/a.pem"},
        {"SigningCertURL": "https://sns.eu-west-1.amazonaws.com:8443/a.pem"},
        {"SigningCertURL": "https://[::1/a.pem"},
        {"Timestamp": "2020-01-01T00:00:00.000Z"},
        {"Timestamp": "yesterday"},
        {"MessageId": ""},
    ],
)
def test_what_is_signed_but_not_ours_is_refused_and_nothing_is_fetched(receiver, web, changes):
    with pytest.raises(WebhookUnverifiedError):
        receiver.receive(request(message(**changes)))
    assert web.asked == []


def test_a_confirmation_that_leads_elsewhere_is_not_followed(receiver, web):
    forged = message("SubscriptionConfirmation", SubscribeURL="https://169.254.169.254/latest")
    with pytest.raises(WebhookUnverifiedError):
        receiver.receive(request(forged))
    assert web.asked == [CERTIFICATE]


def test_another_key_is_refused(receiver):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(WebhookUnverifiedError, match="signature"):
        receiver.receive(request(message(key=other)))


def test_a_changed_message_is_refused(receiver):
    changed = message() | {"Message": "{}"}
    with pytest.raises(WebhookUnverifiedError, match="signature"):
        receiver.receive(request(changed))


def test_messages_of_other_types_are_malformed(receiver):
    with pytest.raises(WebhookMalformedError):
        receiver.receive(request(message("Other")))


@pytest.mark.parametrize(
    ("error", "status"), [(OutboundFailedError("away"), 503), (OutboundRefusedError("inside"), 401)]
)
def test_a_certificate_that_cannot_be_had_is_an_answer(error, status):
    def fetch(_):
        raise error

    receiver = SnsReceiver("sns", frozenset({TOPIC}), fetch)
    for _ in range(FETCHES_MAX + 1):
        with pytest.raises(WebhookRefusedError) as refused:
            receiver.receive(request(message()))
        assert refused.value.status == status


def test_few_certificates_are_fetched_at_once():
    codes = []

    def fetch(_):
        # Others come while this one is under way.
        with pytest.raises(WebhookRefusedError) as refused:
            receiver.receive(request(message()))
        codes.append(refused.value.code)
        return PEM

    receiver = SnsReceiver("sns", frozenset({TOPIC}), fetch)
    with pytest.raises(WebhookRefusedError):
        receiver.receive(request(message(Timestamp="yesterday")))
    for _ in range(FETCHES_MAX - 1):
        receiver._fetching.acquire()
    receiver.receive(request(message()))
    assert codes == ["webhook-busy"]
