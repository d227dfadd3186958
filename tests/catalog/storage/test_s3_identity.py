"""Requests of our own are sent where obstore would send them, by whom it would send them."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog.errors import NotComposableError
from catalog.location import Location
from catalog.storage import RetryPolicy
from catalog.storage.clients import open_client
from catalog.storage.s3_identity import address, environment_proxy, find_credentials
from catalog.storage.settings import ClientSettings

LOCATION = Location.parse("s3://bucket/a b/x=1%3A2/ü'(z)!~.parquet")
KEYS = {"s3.access-key-id": "key", "s3.secret-access-key": "secret"}


def address_of(**properties: str) -> tuple[str, str]:
    named = {
        name.replace("_", "-").replace("s3-", "s3.", 1): one for name, one in properties.items()
    }
    client = open_client(
        "s3", "bucket", properties=tuple({**KEYS, **named}.items()), retry=RetryPolicy()
    )
    found = address(client, LOCATION)
    return found.url, found.region


KEY = "a%20b/x%3D1%253A2/%C3%BC%27%28z%29%21~.parquet"


@pytest.mark.parametrize(
    ("properties", "url"),
    [
        ({}, "https://s3.eu-west-1.amazonaws.com/bucket"),
        ({"s3_endpoint": "http://127.0.0.1:9000"}, "http://127.0.0.1:9000/bucket"),
        ({"s3_path_style_access": "false"}, "https://bucket.s3.eu-west-1.amazonaws.com"),
        (
            {"s3_endpoint": "https://store.test", "s3_path_style_access": "false"},
            "https://bucket.store.test",
        ),
    ],
)
def test_the_address_is_obstores(properties: dict[str, str], url: str) -> None:
    assert address_of(s3_region="eu-west-1", **properties) == (f"{url}/{KEY}", "eu-west-1")


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing in the environment, and no machine to ask."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_given_credentials_come_first(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    given = {"access_key_id": "key", "secret_access_key": "secret", "session_token": "token"}
    found = find_credentials(ClientSettings(given))()
    assert (found.access_key, found.secret_key, found.token) == ("key", "secret", "token")


def test_the_environment_comes_next(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        monkeypatch.setenv(f"AWS_{name}", name.lower())
    found = find_credentials(ClientSettings({}))()
    assert (found.access_key, found.secret_key) == ("access_key_id", "secret_access_key")
    assert found.token == "session_token"


def test_files_of_other_tools_are_not_read(nowhere: Path) -> None:
    (nowhere / ".aws").mkdir()
    (nowhere / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = theirs\naws_secret_access_key = theirs\n"
    )
    with pytest.raises(NotComposableError, match="no credentials"):
        find_credentials(ClientSettings({}))


def test_a_profile_that_is_missing_is_told(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(NotComposableError, match="credentials"):
        find_credentials(ClientSettings({}))


def test_the_proxy_of_the_environment_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "store.test")
    assert environment_proxy("https://s3.test/bucket") == "http://proxy:3128"
    assert environment_proxy("https://store.test/bucket") is None
    assert environment_proxy("http://s3.test/bucket") is None
    monkeypatch.setenv("all_proxy", "http://other:3128")
    assert environment_proxy("http://s3.test/bucket") == "http://other:3128"
