"""Catalog properties become client settings, or are refused by name."""

from __future__ import annotations

import sys
from subprocess import run

import pytest

from catalog.errors import AccessDeniedError
from catalog.location import Location
from catalog.storage import Storage
from catalog.storage.clients import open_client
from catalog.storage.settings import azure_settings, gcs_settings, s3_settings
from catalog.storage.values import RetryPolicy
from tests.catalog.storage.s3_server import QUICK_RETRY, new_bucket, s3_properties

KEYS = {"s3.access-key-id": "AK", "s3.secret-access-key": "very-secret"}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def test_s3_names_are_translated() -> None:
    settings = s3_settings(
        {**KEYS, "s3.session-token": "ST", "s3.region": "eu-west-1", "s3.endpoint": "http://h:1"},
        "b",
    )
    assert settings.config == {
        "access_key_id": "AK",
        "secret_access_key": "very-secret",
        "session_token": "ST",
        "region": "eu-west-1",
        "endpoint": "http://h:1",
    }
    assert settings.allows_http


def test_the_narrower_name_wins() -> None:
    config = s3_settings({"client.region": "eu-west-1", "s3.region": "eu-west-2"}, "b").config
    assert config == {"region": "eu-west-2"}


def test_http_is_allowed_for_a_plain_endpoint_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not s3_settings({}, "b").allows_http
    assert not s3_settings({"s3.endpoint": "https://h"}, "b").allows_http
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://h")
    assert s3_settings({}, "b").allows_http


@pytest.mark.parametrize(
    "properties", [{"s3.force-virtual-addressing": "true"}, {"s3.path-style-access": "false"}]
)
def test_virtual_addressing_puts_the_bucket_into_the_host(properties: dict[str, str]) -> None:
    found = s3_settings({"s3.endpoint": "http://h:9000", **properties}, "b")
    assert found.config["endpoint"] == "http://b.h:9000"
    assert found.config["virtual_hosted_style_request"] == "true"


@pytest.mark.parametrize("name", ["s3.profile-name", "s3.signer", "s3.signer.uri"])
def test_what_cannot_be_honoured_is_refused(name: str) -> None:
    storage = Storage.from_properties({name: "x"})
    with pytest.raises(AccessDeniedError, match=name):
        storage.read(Location.parse("s3://bucket/a"))


def test_secrets_are_never_shown() -> None:
    storage = Storage.from_properties(KEYS)
    assert "very-secret" not in repr(storage)
    assert "very-secret" not in repr(s3_settings(KEYS, "b"))


def test_only_what_concerns_storage_is_kept() -> None:
    storage = Storage.from_properties({**KEYS, "uri": "sqlite://", "token": "catalog"})
    assert dict(storage.properties) == KEYS


def test_azure_takes_the_account_from_the_location() -> None:
    properties = {"adls.account-name": "other", "adls.account-key": "a2V5"}
    config = azure_settings(properties, "account.dfs.core.windows.net").config
    assert config == {"account_name": "account", "account_key": "a2V5"}


def test_gcs_takes_the_service_host() -> None:
    settings = gcs_settings({"gcs.service.host": "http://127.0.0.1:4443"})
    assert settings.config == {"base_url": "http://127.0.0.1:4443"}
    assert settings.allows_http


@pytest.mark.parametrize(
    ("scheme", "authority", "properties"),
    [
        ("s3", "bucket", {**KEYS, "s3.region": "us-east-1", "s3.proxy-uri": "http://proxy:1"}),
        ("gs", "bucket", {"gcs.oauth2.token": "t", "gcs.oauth2.token-expires-at": "9000000000000"}),
        ("az", "container", {"adls.account-name": "account", "adls.account-key": "a2V5"}),
        ("abfss", "container@account.dfs.core.windows.net", {"adls.sas-token": "sv=1&sig=x"}),
    ],
)
def test_every_store_opens_once_per_process(
    scheme: str, authority: str, properties: dict[str, str]
) -> None:
    chosen = tuple(sorted(properties.items()))
    retry = RetryPolicy()
    client = open_client(scheme, authority, properties=chosen, retry=retry)
    assert client is open_client(scheme, authority, properties=chosen, retry=RetryPolicy())


def test_the_environment_fills_in(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = s3_properties(s3_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", given["s3.endpoint"])
    monkeypatch.setenv("AWS_REGION", given["s3.region"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", given["s3.access-key-id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", given["s3.secret-access-key"])
    location = new_bucket(s3_endpoint).child("a")
    storage = Storage.from_properties({}, retry=QUICK_RETRY)
    storage.write(location, b"x")
    assert storage.read(location) == b"x"


def test_importing_storage_loads_no_client() -> None:
    code = (
        "import sys, catalog.storage;"
        "print([name for name in ('obstore', 'pyarrow') if name in sys.modules])"
    )
    found = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
