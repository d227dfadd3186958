"""Whose requests we send to S3 where obstore has none to offer, and to which address.

obstore knows the address and the region of a bucket: both are read from a link that it signs.
It keeps its credentials to itself, so they are looked up again where it finds them: in the
properties, then in the environment, then at the machine's role. Configuration files of other
tools are not read, as obstore does not read them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import getproxies, proxy_bypass

from obstore import sign
from obstore.store import S3Store

from catalog.errors import NotComposableError
from catalog.location import Location
from catalog.storage.faults import obstore_faults
from catalog.storage.lent import Loan, S3Purse, purse
from catalog.storage.settings import ClientSettings

# The link is never sent: it only has to be signed.
_LINK_LIFETIME = timedelta(minutes=1)
# By botocore's names, in its order.
_PROVIDERS = ("env", "assume-role-with-web-identity", "container-role", "iam-role")


@dataclass(frozen=True, slots=True)
class Address:
    """Where an object is on the network.

    Attributes:
        url: without query.
        region: the one to sign for.
    """

    url: str
    region: str


def address(client: S3Store, location: Location) -> Address:
    """Return the address of an object as obstore would use it.

    Raises:
        AccessDeniedError, StorageError: obstore has no credentials.
    """
    with obstore_faults("sign for", location):
        link = urlsplit(sign(client, "GET", location.key, _LINK_LIFETIME))
    scope = parse_qs(link.query).get("X-Amz-Credential", ["//"])[0]
    return Address(link._replace(query="").geturl(), scope.split("/")[-3])


def environment_proxy(url: str) -> str | None:
    """Return the proxy that the environment wants for an address, as obstore finds it by itself."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def find_credentials(settings: ClientSettings, loan: Loan | None = None) -> Callable[[], Any]:
    """Return what gives the credentials of the moment.

    Args:
        settings: of the client whose requests are complemented.
        loan: the credentials that it works with, where they are lent.

    Raises:
        NotComposableError: there are none to sign with; the message says why.
    """
    if settings.config.get("skip_signature", "").lower() == "true":
        raise NotComposableError("access is anonymous")
    if settings.config.get("role_arn"):
        raise NotComposableError("the credentials are those of an assumed role")
    if loan is not None and loan.has_s3:
        return _lent_credentials(loan)
    return _given_credentials(settings.config) or _found_credentials()


def _lent_credentials(loan: Loan) -> Callable[[], Any]:
    from botocore.credentials import ReadOnlyCredentials

    held: S3Purse = purse(S3Purse, loan)

    def current() -> ReadOnlyCredentials:
        found = held()
        return ReadOnlyCredentials(
            found["access_key_id"], found["secret_access_key"], found.get("token")
        )

    return current


def _given_credentials(config: Mapping[str, str]) -> Callable[[], Any] | None:
    from botocore.credentials import ReadOnlyCredentials

    key, secret = config.get("access_key_id"), config.get("secret_access_key")
    if not key or not secret:
        return None
    given = ReadOnlyCredentials(key, secret, config.get("session_token"))
    return lambda: given


def _found_credentials() -> Callable[[], Any]:
    from botocore.credentials import create_credential_resolver
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    try:
        resolver = create_credential_resolver(Session())
        for name in [one.METHOD for one in resolver.providers if one.METHOD not in _PROVIDERS]:
            resolver.remove(name)
        found = resolver.load_credentials()
    except BotoCoreError as error:
        raise NotComposableError(f"credentials cannot be found: {error}") from error
    if found is None:
        raise NotComposableError("no credentials were found to sign with")
    frozen: Callable[[], Any] = found.get_frozen_credentials
    return frozen
