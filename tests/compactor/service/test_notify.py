"""Messages to others: found once, signed, sent again until they are taken, and given up at last."""

import base64
import threading
from http.server import BaseHTTPRequestHandler

import pytest
from sqlalchemy import insert, select, update
from standardwebhooks import Webhook

from compactor.errors import SettingsError
from compactor.jobs.store import now_ms
from compactor.service.config import Section
from compactor.service.notify import (
    DELAYS_SECONDS,
    EVENTS,
    JOB_FAILED,
    TABLE_UNHEALTHY,
    Notifier,
    make_endpoint,
)
from compactor.service.outbound import Outbound
from compactor.service.schema import HEALTH, NOTIFICATIONS, TABLES, TRIGGERS
from compactor.service.store import open_service_store
from tests.compactor.service.tls_server import HOST, tls_server

SECRETS = [f"whsec_{base64.b64encode(one * 32).decode()}" for one in (b"a", b"b")]
TARGET = "lake.sales.orders"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.seen.append((dict(self.headers), body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def receiver(tmp_path):
    with tls_server(tmp_path / "both.pem", Handler) as server:
        server.status = 204
        yield server


@pytest.fixture
def store(tmp_path):
    with open_service_store(f"sqlite:///{tmp_path}/jobs.db") as store:
        with store.transaction() as connection:
            table = {"target": TARGET, "namespace": "lake.sales", "priority": 5, "table_id": 1}
            times = {"debounce_ms": 0, "debounce_max_ms": 0, "registered_at_ms": 0}
            connection.execute(insert(TABLES).values(**table, **times))
        yield store


def endpoint(receiver, tmp_path, **changes):
    url = f"https://{HOST}:{receiver.server_port}/told"
    values = {"url": url, "secrets": SECRETS, "private_hosts": [HOST], **changes}
    made = make_endpoint(Section("ops", values, "[notifications.ops]"))
    outbound = Outbound(
        frozenset({HOST}), lambda host, port: ["127.0.0.1"], str(tmp_path / "both.pem")
    )
    return type(made)(made.name, made.url, made.secrets, made.events, made.tables, outbound)


def fail_a_job(store, number=1):
    with store.transaction() as connection:
        now = now_ms(connection)
        zeros = dict.fromkeys(("rank_ms", "not_before_ms", "latest_ms", "last_at_ms"), 0)
        values = {"trigger_id": number, "table_id": 1, "state": "dead", "priority": 5}
        told = {"source": "schedule", "reason": "no memory", "attempts": 5, "first_at_ms": 0}
        connection.execute(insert(TRIGGERS).values(**values, **zeros, **told, finished_at_ms=now))


def see_health(store, *scores):
    with store.transaction() as connection:
        now = now_ms(connection)
        figures = dict.fromkeys(("files", "small_files", "delete_files", "size_bytes"), 1)
        for back, score in enumerate(reversed(scores)):
            point = {"table_id": 1, "at_ms": now - back, "score": score}
            connection.execute(insert(HEALTH).values(**point, **figures))


def outbox(store):
    with store.reading() as connection:
        return connection.execute(select(NOTIFICATIONS)).all()


def make_due(store):
    with store.transaction() as connection:
        connection.execute(update(NOTIFICATIONS).values(next_at_ms=0))


def test_a_failed_job_is_told_once_and_signed_with_every_secret(store, receiver, tmp_path):
    notifier = Notifier(store, [endpoint(receiver, tmp_path)])
    fail_a_job(store)
    assert (notifier.collect(), notifier.collect()) == (1, 0)
    assert (notifier.send(), notifier.send()) == (1, 0)
    ((headers, body),) = receiver.seen
    for secret in SECRETS:
        event = Webhook(secret).verify(body, headers)
    assert (event["type"], event["subject"]) == (JOB_FAILED, TARGET)
    assert event["id"] == headers["webhook-id"]
    assert event["data"]["reason"] == "no memory"
    assert headers["Content-Type"] == "application/cloudevents+json"


@pytest.mark.parametrize(
    ("scores", "told"),
    [((90, 40), 1), ((90, 40, 30), 1), ((40, 30), 0), ((40,), 0), ((90, 60), 0), ((40, 90), 0)],
)
def test_health_that_falls_below_the_limit_is_told(store, receiver, tmp_path, scores, told):
    notifier = Notifier(store, [endpoint(receiver, tmp_path)])
    see_health(store, *scores)
    assert notifier.collect() == told
    assert {row.event for row in outbox(store)} <= {TABLE_UNHEALTHY}


def test_endpoints_choose_events_and_tables(store, receiver, tmp_path):
    fail_a_job(store)
    others = [{"events": [TABLE_UNHEALTHY]}, {"tables": ["lake.web.*"]}]
    for other in others:
        assert Notifier(store, [endpoint(receiver, tmp_path, **other)]).collect() == 0


def test_an_endpoint_that_is_down_is_tried_again_later_and_at_last_given_up(
    store, receiver, tmp_path
):
    receiver.status = 500
    notifier = Notifier(store, [endpoint(receiver, tmp_path)])
    fail_a_job(store)
    notifier.collect()
    for attempt in range(1, len(DELAYS_SECONDS) + 2):
        assert notifier.send() == 0
        (row,) = outbox(store)
        assert row.attempts == attempt
        assert notifier.send() == 0
        assert len(receiver.seen) == attempt
        make_due(store)
    assert (row.state, row.answer) == ("given up", "answered 500")


def test_an_endpoint_that_comes_back_gets_the_same_event(store, receiver, tmp_path):
    receiver.status = 503
    notifier = Notifier(store, [endpoint(receiver, tmp_path)])
    fail_a_job(store)
    notifier.collect()
    notifier.send()
    receiver.status = 200
    make_due(store)
    assert notifier.send() == 1
    assert len({headers["webhook-id"] for headers, _ in receiver.seen}) == 1
    assert outbox(store)[0].state == "sent"


@pytest.mark.parametrize("status", [410, 302])
def test_what_is_gone_and_what_leads_elsewhere(store, receiver, tmp_path, status):
    receiver.status = status
    notifier = Notifier(store, [endpoint(receiver, tmp_path)])
    fail_a_job(store)
    notifier.collect()
    notifier.send()
    assert outbox(store)[0].state == ("given up" if status == 410 else "waiting")
    assert len(receiver.seen) == 1


def test_it_works_by_itself_until_it_is_stopped(store, receiver, tmp_path):
    notifier = Notifier(store, [endpoint(receiver, tmp_path)])
    fail_a_job(store)
    notifier.start()
    deadline = threading.Event()
    for _ in range(600):
        if receiver.seen or deadline.wait(0.05):
            break
    notifier.stop()
    assert len(receiver.seen) == 1


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"url": "http://a.example", "secrets": SECRETS},
        {"url": "https://a.example", "secrets": []},
        {"url": "https://a.example", "secrets": ["weak"]},
        {"url": "https://a.example", "secrets": SECRETS, "events": ["other"]},
        {"url": "https://a.example", "secrets": SECRETS, "speling": 1},
    ],
)
def test_what_is_refused(values):
    with pytest.raises(SettingsError, match=r"\[notifications.ops\]"):
        make_endpoint(Section("ops", values, "[notifications.ops]"))


def test_all_events_are_told_by_default():
    values = {"url": "https://a.example", "secrets": SECRETS}
    assert make_endpoint(Section("ops", values, "x")).events == frozenset(EVENTS)
