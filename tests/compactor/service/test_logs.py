"""Lines of logs: what they are about, their two forms, and that no secret stands in any."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from compactor.service.app import application, opened
from compactor.service.config import ServiceConfig, load_service_config
from compactor.service.logs import Logs
from compactor.service.secrecy import BLOT, Blotter, secrets_of

KEY = "whsec_c2VjcmV0LW9mLXRoaXJ0eS10d28tYnl0ZXMtb3ItbW9yZQ=="
PLANTED = {
    "store": "p@ss/word&of=store",
    "s3": "s3-token-0123456789",
    "hudi": "hudi-key-of-a-line-in-a-file",
    "dbt": "dbt-token-of-the-environment",
    "standard": KEY,
    "notify": "whsec_bm90aWZ5LXNlY3JldC1vZi10aGlydHktdHdvLWJ5dGVz",
    "aws": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "session": "FwoGZXIvYXdzEJr//////////wEaDExample",
    "catalog": "catalog-credential:rest-0123",
    "otel": "collector-0123456789",
}


class Lines(io.StringIO):
    """A stream that may be a terminal."""

    def __init__(self, *, is_terminal: bool = False) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    @property
    def values(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def environment() -> dict[str, str]:
    return {
        "HOOK_KEYS": PLANTED["dbt"],
        "AWS_SECRET_ACCESS_KEY": PLANTED["aws"],
        "AWS_SESSION_TOKEN": PLANTED["session"],
        "PYICEBERG_CATALOG__LAKE__CREDENTIAL": PLANTED["catalog"],
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-team=lake,authorization={PLANTED['otel']}",
    }


@pytest.fixture
def config(tmp_path: Path, environment: dict[str, str]) -> ServiceConfig:
    (tmp_path / "hudi").write_text(f"{PLANTED['hudi']}\n")
    path = tmp_path / "compact.toml"
    path.write_text(
        '[store]\nurl = "postgresql://compact:p%40ss%2Fword%26of%3Dstore@db/compact"\n'
        f'[webhooks.standard]\nsecrets = ["{KEY}"]\n'
        f'[webhooks.s3]\nsecrets = ["{PLANTED["s3"]}"]\n'
        f'[webhooks.hudi]\nsecrets_file = "{tmp_path}/hudi"\n'
        '[webhooks.dbt]\nsecrets_env = "HOOK_KEYS"\n[webhooks.dbt.jobs]\n1 = ["lake.a.one"]\n'
        '[notifications.ops]\nurl = "https://ops.example.com/in"\n'
        f'secrets = ["{PLANTED["notify"]}"]\n'
    )
    return load_service_config(path, environment={**environment, "HOME": str(tmp_path)})


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    logger = logging.getLogger("compactor.service.tested")
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)


def test_a_line_says_what_it_is_about(log: logging.Logger) -> None:
    lines = Lines()
    logs = Logs(lines, Blotter([]))
    log.addHandler(logs.handler())
    log.warning("one %s", "word", extra={"table": "lake.a.one", "trigger": 7, "odd": 1})
    logs.about["job"] = "j1"
    log.warning("another")
    first, second = lines.values
    assert {**first, "timestamp": ""} == {
        "event": "one word",
        "level": "warning",
        "logger": "compactor.service.tested",
        "table": "lake.a.one",
        "trigger": 7,
        "timestamp": "",
    }
    assert (second["job"], second["event"]) == ("j1", "another")


def test_people_read_text(log: logging.Logger) -> None:
    lines = Lines(is_terminal=True)
    log.addHandler(Logs(lines, Blotter(["hidden-word"])).handler())
    try:
        raise ValueError("the hidden-word")
    except ValueError:
        log.exception("it failed", extra={"table": "lake.a.one"})
    text = lines.getvalue()
    assert "it failed" in text
    assert "lake.a.one" in text
    assert f"ValueError: the {BLOT}" in text
    assert "hidden-word" not in text


@pytest.mark.parametrize("is_terminal", [False, True])
def test_no_secret_of_the_configuration_stands_in_a_line(
    log: logging.Logger, config: ServiceConfig, environment: dict[str, str], is_terminal: bool
) -> None:
    lines = Lines(is_terminal=is_terminal)
    log.addHandler(Logs(lines, Blotter(secrets_of(config, environment))).handler())
    url = config.settings.store.url
    for secret in PLANTED.values():
        log.warning("in the text: %s", secret)
        log.warning("in an address: %s", f"{url}?token={secret}")
        log.warning("in a value: %r", {"headers": {"Authorization": f"Bearer {secret}"}})
        log.warning("beside it", extra={"table": f"lake.{secret}", "source": [secret]})
        try:
            raise RuntimeError(f"refused: {secret}")
        except RuntimeError as error:
            log.warning("an error", exc_info=error)
    text = lines.getvalue()
    assert "p%40ss" not in text
    assert [name for name, one in PLANTED.items() if one.removeprefix("whsec_") in text] == []
    assert text.count(BLOT) > 5 * len(PLANTED)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("postgresql://ada:pw@db/x failed", f"postgresql://{BLOT}@db/x failed"),
        ("Authorization: Bearer abc.def", f"Authorization: Bearer {BLOT}"),
        (f"cpt_{'a' * 43} is unknown", f"{BLOT} is unknown"),
        ("s3://b/k?X-Amz-Signature=0a1b&x=1", f"s3://b/k?X-Amz-Signature={BLOT}&x=1"),
        ("https://host:8080/path is fine", "https://host:8080/path is fine"),
    ],
)
def test_secrets_are_known_by_their_form(told: str, shown: str) -> None:
    assert Blotter([]).text(told) == shown


@settings(deadline=None)
@given(secret=st.text(min_size=4).filter(lambda one: "*" not in one), around=st.text())
def test_a_secret_is_found_wherever_it_stands(secret: str, around: str) -> None:
    assert secret not in Blotter([secret]).text(f"{around}{secret}{around}")


def test_a_service_at_work_tells_none(tmp_path: Path) -> None:
    path = tmp_path / "compact.toml"
    path.write_text(
        f'[store]\nurl = "sqlite:///{tmp_path}/jobs.db"\n[webhooks.standard]\nsecrets = ["{KEY}"]\n'
    )
    config = load_service_config(path, environment={"HOME": str(tmp_path)})
    lines = Lines()
    handler, root = Logs(lines, Blotter(secrets_of(config, {}))).handler(), logging.getLogger()
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.DEBUG)
    try:
        with opened(config) as service, TestClient(application(service)) as client:
            forged = {"webhook-id": KEY, "webhook-timestamp": "1", "webhook-signature": f"v1,{KEY}"}
            assert client.post("/webhooks/standard", content=KEY, headers=forged).status_code == 401
            assert client.get("/readyz").status_code == 200
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
    assert KEY.removeprefix("whsec_") not in lines.getvalue()
    assert any("serves" in line["event"] for line in lines.values)


def test_what_nobody_catches_is_a_line_too() -> None:
    program = (
        "import sys, logging, threading\n"
        "from compactor.service.logs import Logs\n"
        "from compactor.service.secrecy import Blotter\n"
        "Logs(sys.stderr, Blotter(['hidden-word'])).begin(level=logging.INFO)\n"
        "def fail(): raise ValueError('hidden-word')\n"
        "thread = threading.Thread(target=fail, name='one')\n"
        "thread.start(); thread.join()\n"
        "import warnings; warnings.warn('hidden-word')\n"
        "fail()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    in_thread, warned, at_last = [json.loads(line) for line in done.stderr.splitlines()]
    assert in_thread["event"] == "the thread `one` has ended by a defect"
    assert f"ValueError: {BLOT}" in in_thread["exception"]
    assert warned["logger"] == "py.warnings"
    assert (at_last["level"], done.returncode) == ("critical", 1)
    assert "hidden-word" not in done.stderr
