"""PyIceberg's property names translated into the settings of obstore's clients.

What a property does not say, obstore takes from the environment (`AWS_*`, `GOOGLE_*`,
`AZURE_*`) or from the machine's role. A property that we cannot honour is refused: ignoring it
would end in the wrong credentials being tried.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from catalog.errors import AccessDeniedError

_S3 = {
    "client.access-key-id": "access_key_id",
    "client.secret-access-key": "secret_access_key",
    "client.session-token": "session_token",
    "client.region": "region",
    "s3.access-key-id": "access_key_id",
    "s3.secret-access-key": "secret_access_key",
    "s3.session-token": "session_token",
    "s3.region": "region",
    "s3.endpoint": "endpoint",
    "s3.anonymous": "skip_signature",
    "s3.server-side-encryption": "server_side_encryption",
    "s3.sse-kms-key-id": "sse_kms_key_id",
    "s3.role-arn": "role_arn",
    "s3.role-session-name": "role_session_name",
}
# Of these, the ones that lent credentials take the place of.
S3_SECRETS = ("access_key_id", "secret_access_key", "session_token")
_S3_REFUSED = ("s3.signer", "s3.signer.uri", "s3.profile-name", "client.profile-name")
_S3_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_AZURE = {
    "adls.account-name": "account_name",
    "adls.account-key": "account_key",
    "adls.sas-token": "sas_key",
    "adls.tenant-id": "tenant_id",
    "adls.client-id": "client_id",
    "adls.client-secret": "client_secret",
    "adls.token": "token",
    "adls.anon": "skip_signature",
}
_GCS = {"gcs.service.host": "base_url"}


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """What one obstore client is made from; values are secrets and never shown."""

    config: Mapping[str, str]
    allows_http: bool = False
    proxy_url: str | None = None

    def __repr__(self) -> str:
        """Show the names only."""
        return f"ClientSettings({', '.join(sorted(self.config))})"


def s3_settings(properties: Mapping[str, str], bucket: str) -> ClientSettings:
    """Translate `s3.*` and `client.*`.

    Raises:
        AccessDeniedError: credentials are to come from where we cannot get them.
    """
    for name in _S3_REFUSED:
        if properties.get(name):
            raise AccessDeniedError(
                f"the property {name} is not supported",
                hint="Give s3.access-key-id and s3.secret-access-key, or set AWS_* variables.",
            )
    config = _renamed(properties, _S3)
    endpoint = config.get("endpoint") or _environment_endpoint()
    if _is_virtual_hosted(properties):
        config["virtual_hosted_style_request"] = "true"
        if endpoint:
            endpoint = config["endpoint"] = _with_bucket(endpoint, bucket)
    return ClientSettings(
        config,
        allows_http=endpoint.startswith("http://"),
        proxy_url=properties.get("s3.proxy-uri"),
    )


def azure_settings(properties: Mapping[str, str], account_host: str) -> ClientSettings:
    """Translate `adls.*`; the account is the one that the location names, if it names one."""
    config = _renamed(properties, _AZURE)
    if account_host:
        config["account_name"] = account_host.partition(".")[0]
    return ClientSettings(config)


def gcs_settings(properties: Mapping[str, str]) -> ClientSettings:
    """Translate `gcs.*`; the token is handed over by a credential provider."""
    config = _renamed(properties, _GCS)
    return ClientSettings(config, allows_http=config.get("base_url", "").startswith("http://"))


def _renamed(properties: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    """Translate in the order of `names`: of two for one setting the later and narrower wins."""
    return {theirs: properties[ours] for ours, theirs in names.items() if properties.get(ours)}


def _environment_endpoint() -> str:
    return next((found for name in _S3_ENDPOINT_VARIABLES if (found := os.environ.get(name))), "")


def _is_virtual_hosted(properties: Mapping[str, str]) -> bool:
    """PyIceberg and Java ask for the same by opposite properties; the path is the default."""
    return (
        properties.get("s3.force-virtual-addressing", "").lower() == "true"
        or properties.get("s3.path-style-access", "").lower() == "false"
    )


def _with_bucket(endpoint: str, bucket: str) -> str:
    parts = urlsplit(endpoint)
    if parts.netloc.startswith(f"{bucket}."):
        return endpoint
    return parts._replace(netloc=f"{bucket}.{parts.netloc}").geturl()
