"""Whatever is sent to the HTTP API, the answer is one that its description names."""

import base64
import threading
import time

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings

from compactor.service.app import application, opened
from compactor.service.config import load_service_config

SECRET = "whsec_" + base64.b64encode(b"x" * 32).decode()
TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("api")
    file = directory / "compact.toml"
    file.write_text(
        f'[store]\nurl = "sqlite:///{directory}/jobs.db"\n'
        f'[service]\nlogs = "{directory}"\ngrpc_listen = "127.0.0.1:0"\n'
        f'[webhooks.standard]\nsecrets = ["{SECRET}"]\n'
        f'[webhooks.s3]\nsecrets = ["{TOKEN}"]\n'
        f'[webhooks.cloudevents]\nsecrets = ["{TOKEN}"]\n'
    )
    with opened(load_service_config(file, environment={})) as service:
        options = uvicorn.Config(application(service), port=0, log_config=None)
        server = uvicorn.Server(options)
        thread = threading.Thread(target=server.run)
        thread.start()
        for _ in range(600):
            if server.started:
                break
            time.sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("POST", "/webhooks/{source}"),
    ],
)
def test_answers_are_as_described(api, method, path):
    @given(case=api[path][method].as_strategy())
    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    def answer_is_described(case):
        case.call_and_validate()

    answer_is_described()


def test_nothing_is_described_that_is_not_tested(api):
    described = {(one.ok().method.upper(), one.ok().path) for one in api.get_all_operations()}
    tested = test_answers_are_as_described.pytestmark[0].args[1]
    assert described == set(tested)
