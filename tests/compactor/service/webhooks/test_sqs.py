"""The poller against moto's server of SQS."""

import json
import threading

import botocore.session
import pytest
from moto.server import ThreadedMotoServer

from compactor.errors import JobFailedError
from compactor.service.webhooks.request import WebhookMalformedError
from compactor.service.webhooks.sqs import Poller, Queue, read_message
from tests.compactor.service.webhooks.test_receivers import COMMIT, record
from tests.compactor.service.webhooks.test_sns import message

QUEUE = Queue("queue", "https://queue", "eu-west-1", catalog="lake")
RECORDS = json.dumps({"Records": [record()]})


@pytest.mark.parametrize(
    "body",
    [
        RECORDS,
        json.dumps(message(Message=RECORDS)),
        json.dumps(
            {
                "source": "aws.s3",
                "detail-type": "Object Created",
                "detail": {"bucket": {"name": "lake"}, "object": {"key": COMMIT}},
            }
        ),
    ],
)
def test_all_three_ways_into_a_queue(body):
    (hint,) = read_message(QUEUE, body).hints
    assert hint.location == f"s3://lake/{COMMIT}"


def test_other_messages_are_malformed():
    with pytest.raises(WebhookMalformedError):
        read_message(QUEUE, "hello")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_a_message_is_removed_once_it_is_taken_in_and_not_before(server):
    session = botocore.session.get_session()
    client = session.create_client("sqs", region_name="eu-west-1", endpoint_url=server)
    attributes = {"VisibilityTimeout": "0"}
    url = client.create_queue(QueueName="q", Attributes=attributes)["QueueUrl"]
    for body in (RECORDS, "hello"):
        client.send_message(QueueUrl=url, MessageBody=body)
    attempts, taken = [], threading.Event()

    def accept(delivery):
        attempts.append(delivery)
        if len(attempts) == 1:
            raise JobFailedError("the store is away")
        taken.set()

    poller = Poller(Queue("queue", url, "eu-west-1", server), accept)
    poller.start()
    assert taken.wait(30)
    assert attempts[0] == attempts[1]
    poller.stop()
    assert poller.join(30)
    left = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    assert [one["Body"] for one in left] == ["hello"]
