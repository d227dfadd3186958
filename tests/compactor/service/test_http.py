"""What senders and probes are told: never more than they may know, and always what to do."""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from standardwebhooks import Webhook

from compactor.errors import SettingsError
from compactor.service import http
from compactor.service.app import application, check_certificate, check_listen, opened
from compactor.service.auth import Authenticator, new_token
from compactor.service.config import ServiceConfig
from compactor.service.queue import Outcome, Work
from tests.compactor.service.conftest import Configure
from tests.compactor.service.rows import claimed, ended
from tests.compactor.service.tls_server import write_certificate

with warnings.catch_warnings():
    # It asks for another client than the one that other tests use.
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes, yes").decode()
SECTIONS = (
    '[service]\ndebounce = "1h"\ndebounce_max = "1h"\nsweep_every = "1d"\n'
    f'[webhooks.standard]\nsecrets = ["{SECRET}"]\n[[tables]]\ntarget = "lake.a.one"\n'
)
EVENT = {"type": "committed", "data": {"table": "lake.a.one"}}
Send = Callable[..., httpx.Response]


def local_client(app: FastAPI) -> TestClient:
    return TestClient(app, base_url="http://localhost")


@pytest.fixture
def config(configure: Configure) -> ServiceConfig:
    return configure(SECTIONS)


@pytest.fixture
def client(config: ServiceConfig) -> Iterator[TestClient]:
    with opened(config) as service, local_client(application(service)) as opened_client:
        yield opened_client


def send(
    client: TestClient,
    event: object = EVENT,
    *,
    key: str = "one",
    source: str = "standard",
    age: timedelta = timedelta(),
) -> httpx.Response:
    body = event if isinstance(event, str) else json.dumps(event)
    at = datetime.now(UTC) - age
    headers = {
        "webhook-id": key,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(SECRET).sign(key, at, body),
    }
    return client.post(f"/webhooks/{source}", content=body, headers=headers)


def test_a_delivery_is_taken_in_once(client: TestClient) -> None:
    first, again = send(client), send(client)
    assert (first.status_code, first.json()["result"]) == (202, "accepted")
    assert (again.status_code, again.json()["result"]) == (200, "duplicate")
    assert first.json()["triggers"] == again.json()["triggers"]


def test_a_table_that_nobody_has_registered_is_of_no_concern(client: TestClient) -> None:
    answer = send(client, {"data": {"table": "lake.x.y"}})
    assert (answer.status_code, answer.json()) == (202, {"result": "ignored", "triggers": []})


def test_forged_stale_and_unreadable_deliveries_are_refused(client: TestClient) -> None:
    forged = client.post("/webhooks/standard", content=json.dumps(EVENT))
    assert forged.status_code == 401
    assert forged.headers["content-type"] == "application/problem+json"
    assert send(client, age=timedelta(minutes=6)).status_code == 401
    assert send(client, age=timedelta(minutes=-6)).status_code == 401
    assert send(client, "{").status_code == 400
    assert send(client, "[" * 100_000).status_code == 400
    assert send(client, {"data": {}}).status_code == 400


def test_a_body_that_is_too_large_is_not_read_to_its_end(client: TestClient) -> None:
    large = "x" * (http.BODY_BYTES_MAX + 1)
    assert send(client, large).status_code == 413

    def parts() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    assert client.post("/webhooks/standard", content=parts()).status_code == 413


def test_an_unknown_source_is_told_apart_from_none(client: TestClient) -> None:
    assert send(client, source="other").status_code == 404
    assert client.post("/webhooks/other").status_code == 404
    assert client.get("/webhooks/standard").status_code == 405


def test_a_source_that_sends_too_much_is_asked_to_wait(config: ServiceConfig) -> None:
    slow = replace(config, service=replace(config.service, rate_max=1.0))
    with opened(slow) as service, local_client(application(service)) as client:
        answers = [send(client, key=f"k{number}") for number in range(6)]
    assert [one.status_code for one in answers[:2]] == [202, 202]
    assert answers[-1].status_code == 429
    assert answers[-1].headers["retry-after"]


def test_what_cannot_be_kept_now_is_to_be_sent_again(config: ServiceConfig) -> None:
    with opened(config) as service, local_client(application(service)) as client:
        with service.parts.store.transaction() as connection:
            connection.execute(text("ALTER TABLE deliveries RENAME TO away"))
        answer = send(client)
        assert (answer.status_code, answer.json()["code"]) == (503, "job-failed")
        with service.parts.store.transaction() as connection:
            connection.execute(text("ALTER TABLE away RENAME TO deliveries"))
        assert send(client).status_code == 202


def test_probes_and_figures(client: TestClient) -> None:
    send(client)
    client.post("/webhooks/standard", content="forged")
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    told = client.get("/metrics").text
    figures = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(told)
        for sample in family.samples
    }
    assert all(name.startswith("compactor_") for name, *_ in figures)
    assert figures["compactor_webhook_received_total", "accepted", "standard"] == 1
    assert figures["compactor_webhook_received_total", "standard", "webhook-unverified"] == 1
    assert figures["compactor_jobs_queued", "pending"] == 1
    assert figures["compactor_tables", "unknown"] == 1


def test_totals_outlive_what_they_count(config: ServiceConfig) -> None:
    with opened(config) as service, local_client(application(service)) as client:
        send(client)
        with service.parts.store.transaction() as connection:
            connection.execute(text("UPDATE triggers SET not_before_ms = 0"))
        held = claimed(service.parts.store, config, instance="other")
        assert held is not None
        work = Work(bytes_read=2, bytes_written=3, groups_committed=1)
        assert ended(service.parts.store, config, held, Outcome("succeeded", work=work))
        told = client.get("/metrics").text
    assert 'compactor_jobs_total{state="succeeded",trigger="standard"} 1.0' in told
    assert 'compactor_groups_total{result="committed"} 1.0' in told
    assert "compactor_read_bytes_total 2.0" in told
    assert "compactor_job_duration_seconds_count 1.0" in told


def test_figures_are_for_those_with_a_token(configure: Configure) -> None:
    token, digest = new_token()
    entry = f'[[auth.tokens]]\nname = "grafana"\nscope = "read"\nsha256 = "{digest}"\n'
    config = configure(SECTIONS + entry)
    with opened(config) as service, local_client(application(service)) as client:
        assert client.get("/metrics").status_code == 401
        shown = {"Authorization": f"Bearer {token}"}
        assert client.get("/metrics", headers=shown).status_code == 200
        assert client.get("/readyz").status_code == 200


def test_without_tokens_figures_are_for_names_of_this_machine(client: TestClient) -> None:
    assert client.get("/metrics").status_code == 200
    led_here = client.get("/metrics", headers={"host": "elsewhere.example"})
    assert led_here.status_code == 403


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "[::1]:1", "localhost:1"])
def test_loopback_needs_neither_encryption_nor_tokens(configure: Configure, listen: str) -> None:
    check_listen(configure(f'[service]\nlisten = "{listen}"\n'), Authenticator())


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.org:1"])
def test_other_addresses_are_refused_without_them(configure: Configure, listen: str) -> None:
    tls = 'tls_certificate = "c.pem"\ntls_key = "k.pem"\n'
    plain = configure(f'[service]\nlisten = "{listen}"\n')
    encrypted = configure(f'[service]\nlisten = "{listen}"\n{tls}')
    section = {"tokens": [{"name": "a", "scope": "read", "sha256": new_token()[1]}]}
    known = Authenticator.of(section)
    for config, authenticator in ((plain, known), (encrypted, Authenticator())):
        with pytest.raises(SettingsError, match="without TLS and tokens"):
            check_listen(config, authenticator)
    check_listen(encrypted, known)


def test_a_certificate_is_read_before_anybody_is_served(
    config: ServiceConfig, tmp_path: Path
) -> None:
    pair = tmp_path / "pair.pem"
    options = replace(config.service, tls_certificate=pair, tls_key=pair)
    for written in (None, b"neither"):
        if written is not None:
            pair.write_bytes(written)
        with pytest.raises(SettingsError, match="cannot be used"):
            check_certificate(options)
    write_certificate(pair)
    check_certificate(options)


@pytest.mark.parametrize("listen", ["", "localhost", "localhost:http", "localhost:99999"])
def test_what_is_no_address_is_refused(configure: Configure, listen: str) -> None:
    with pytest.raises(SettingsError, match="is no address"):
        check_listen(configure(f'[service]\nlisten = "{listen}"\n'), Authenticator())
