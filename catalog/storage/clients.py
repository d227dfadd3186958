"""The obstore clients of this process, one per bucket and settings, opened when first needed.

obstore works by threads of its own, which a fork does not copy: a forked child would wait for
them for ever. It is refused instead; worker processes have to be spawned.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from catalog.errors import LocationError
from catalog.storage.lent import GCSPurse, S3Purse, purse
from catalog.storage.settings import (
    S3_SECRETS,
    ClientSettings,
    azure_settings,
    gcs_settings,
    s3_settings,
)

if TYPE_CHECKING:
    from obstore.store import ClientConfig, GCSCredential, ObjectStore, RetryConfig

    from catalog.storage.lent import Loan
    from catalog.storage.values import RetryPolicy

# A table lives in a bucket or two; the bound only stops a leak in a service of many catalogs.
_CLIENTS_MAX = 256


@lru_cache(maxsize=1)
def _owner_process() -> int:
    """Return the process that opened the first client; a forked child inherits the answer."""
    return os.getpid()


def require_unforked() -> None:
    """Refuse to go on in a process that was forked after its parent had opened a client.

    Raises:
        RuntimeError: it was.
    """
    if _owner_process() != os.getpid():
        raise RuntimeError("storage clients do not survive a fork: spawn worker processes")


@lru_cache(maxsize=_CLIENTS_MAX)
def open_client(
    scheme: str,
    authority: str,
    *,
    properties: tuple[tuple[str, str], ...],
    retry: RetryPolicy,
    loan: Loan | None = None,
) -> ObjectStore:
    """Return the client of a bucket, the same one for the same arguments.

    Raises:
        LocationError: no client speaks the scheme.
    """
    openers: Mapping[str, Callable[[str, dict[str, str], RetryPolicy], ObjectStore]] = {
        "s3": partial(_open_s3, loan=loan),
        "gs": partial(_open_gcs, loan=loan),
        "az": _open_azure,
        "abfss": _open_azure,
        "memory": lambda _authority, _properties, _retry: MemoryStore(),
    }
    opener = openers.get(scheme)
    if opener is None:
        raise LocationError(f"no storage client for the scheme {scheme!r}")
    return opener(authority, dict(properties), retry)


def _open_s3(
    bucket: str, properties: dict[str, str], retry: RetryPolicy, *, loan: Loan | None
) -> ObjectStore:
    common = _common(s3_settings(properties, bucket), retry)
    if loan is None or not loan.has_s3:
        return S3Store(bucket, **common)
    common["config"] = {
        name: value for name, value in common["config"].items() if name not in S3_SECRETS
    }
    return S3Store(bucket, credential_provider=purse(S3Purse, loan), **common)


def _open_azure(authority: str, properties: dict[str, str], retry: RetryPolicy) -> ObjectStore:
    container, _, account_host = authority.partition("@")
    return AzureStore(container, **_common(azure_settings(properties, account_host), retry))


def _open_gcs(
    bucket: str, properties: dict[str, str], retry: RetryPolicy, *, loan: Loan | None
) -> ObjectStore:
    common = _common(gcs_settings(properties), retry)
    if loan is not None and loan.has_gcs:
        return GCSStore(bucket, credential_provider=purse(GCSPurse, loan), **common)
    token = properties.get("gcs.oauth2.token")
    if not token:
        return GCSStore(bucket, **common)
    milliseconds = properties.get("gcs.oauth2.token-expires-at")
    expires_at = datetime.fromtimestamp(int(milliseconds) / 1000, UTC) if milliseconds else None

    def credential() -> GCSCredential:
        return {"token": token, "expires_at": expires_at}

    return GCSStore(bucket, credential_provider=credential, **common)


def _common(settings: ClientSettings, retry: RetryPolicy) -> dict[str, Any]:
    """Return the arguments that every client takes."""
    client: ClientConfig = {
        "allow_http": settings.allows_http,
        "connect_timeout": timedelta(seconds=retry.connect_timeout_seconds),
        "timeout": timedelta(seconds=retry.request_timeout_seconds),
    }
    if settings.proxy_url:
        client["proxy_url"] = settings.proxy_url
    retries: RetryConfig = {
        "max_retries": retry.retries_max,
        "retry_timeout": timedelta(seconds=retry.timeout_seconds),
        "backoff": {
            "init_backoff": timedelta(seconds=retry.backoff_initial_seconds),
            "max_backoff": timedelta(seconds=retry.backoff_max_seconds),
            "base": 2,
        },
    }
    return {"config": settings.config, "client_options": client, "retry_config": retries}
