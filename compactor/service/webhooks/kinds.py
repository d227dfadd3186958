"""Every kind of receiver by its name in the configuration, made from its section."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from compactor.errors import SettingsError
from compactor.service.webhooks.cloudevents import CloudEventsReceiver
from compactor.service.webhooks.dbt import DbtReceiver
from compactor.service.webhooks.eventbridge import EventBridgeReceiver
from compactor.service.webhooks.hudi import DEFAULT_KEY, HudiReceiver
from compactor.service.webhooks.iceberg_metrics import IcebergMetricsReceiver
from compactor.service.webhooks.request import Receiver
from compactor.service.webhooks.s3_records import S3Receiver
from compactor.service.webhooks.sqs import Queue
from compactor.service.webhooks.standard import StandardReceiver, decode_secret

TOKEN_CHARACTERS_MIN = 16
_Section = TypeVar("_Section", bound=msgspec.Struct)
_Texts = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
Fetch = Callable[[str], bytes]


class _Secrets(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Secrets stand in the section, in a file (one per line), or in an environment variable."""

    kind: str = ""
    secrets: tuple[str, ...] = ()
    secrets_file: str = ""
    secrets_env: str = ""


class _WithCatalog(_Secrets, frozen=True, kw_only=True):
    catalog: str = ""


class _Iceberg(_Secrets, frozen=True, kw_only=True):
    catalog: Annotated[str, msgspec.Meta(min_length=1)]


class _Dbt(_Secrets, frozen=True, kw_only=True):
    jobs: dict[str, tuple[str, ...]]


class _Sns(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    topics: _Texts
    kind: str = ""
    catalog: str = ""


class _Sqs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    url: str
    region: str
    kind: str = ""
    endpoint: str | None = None
    catalog: str = ""


def is_polled(name: str, section: Mapping[str, object]) -> bool:
    """Tell whether a section describes a queue that is polled, not a receiver of requests."""
    return section.get("kind", name) == "sqs"


def make_queue(name: str, section: Mapping[str, object]) -> Queue:
    """Make the queue of a section `[webhooks.<name>]`.

    Raises:
        SettingsError: a setting is missing, unknown, or of another type.
    """
    said = _section(name, section, _Sqs)
    return Queue(name, said.url, said.region, said.endpoint, said.catalog)


def make_receiver(name: str, section: Mapping[str, object], *, fetch: Fetch) -> Receiver:
    """Make the receiver of a section `[webhooks.<name>]`; its kind is `kind`, or else the name.

    Args:
        name: of the source; the last segment of its URL.
        section: as the file has it.
        fetch: gets public HTTPS URLs, for SNS.

    Raises:
        SettingsError: the kind is unknown, a setting is missing, unknown or of another type, or a
            secret is too weak to prove anything.
    """
    kind = section.get("kind", name)
    maker = _MAKERS.get(str(kind))
    if maker is None:
        raise SettingsError(
            f"unknown kind of webhook `{kind}` in [webhooks.{name}]",
            hint=f"set `kind` to one of {', '.join(sorted(_MAKERS))}, sqs",
        )
    return maker(name, section, fetch)


def _standard(name: str, section: Mapping[str, object], _: Fetch) -> Receiver:
    said = _section(name, section, _Secrets)
    try:
        return StandardReceiver(name, tuple(decode_secret(one) for one in _texts(name, said)))
    except ValueError as error:
        raise SettingsError(
            f"a secret of [webhooks.{name}] is refused: {error}",
            hint="make one: `echo whsec_$(openssl rand -base64 32)`",
        ) from error


def _cloudevents(name: str, section: Mapping[str, object], _: Fetch) -> Receiver:
    said = _section(name, section, _WithCatalog)
    return CloudEventsReceiver(name, _tokens(name, said), said.catalog)


def _eventbridge(name: str, section: Mapping[str, object], _: Fetch) -> Receiver:
    said = _section(name, section, _WithCatalog)
    return EventBridgeReceiver(name, _tokens(name, said), said.catalog)


def _s3(name: str, section: Mapping[str, object], _: Fetch) -> Receiver:
    return S3Receiver(name, _tokens(name, _section(name, section, _Secrets)))


def _hudi(name: str, section: Mapping[str, object], _: Fetch) -> Receiver:
    tokens = _tokens(name, _section(name, section, _Secrets))
    if DEFAULT_KEY in tokens:
        raise SettingsError(
            f"the secret of [webhooks.{name}] is the one that Hudi sends if none is set",
            hint="set `hoodie.write.commit.callback.http.api.key` to one of your own",
        )
    return HudiReceiver(name, tokens)


def _iceberg(name: str, section: Mapping[str, object], _: Fetch) -> Receiver:
    said = _section(name, section, _Iceberg)
    return IcebergMetricsReceiver(name, _tokens(name, said), said.catalog)


def _dbt(name: str, section: Mapping[str, object], _: Fetch) -> Receiver:
    said = _section(name, section, _Dbt)
    return DbtReceiver(name, _tokens(name, said), said.jobs)


def _sns(name: str, section: Mapping[str, object], fetch: Fetch) -> Receiver:
    from compactor.service.webhooks.sns import SnsReceiver  # lazy: cryptography takes 10 MiB

    said = _section(name, section, _Sns)
    return SnsReceiver(name, frozenset(said.topics), fetch, said.catalog)


_MAKERS: Mapping[str, Callable[[str, Mapping[str, object], Fetch], Receiver]] = {
    "standard": _standard,
    "cloudevents": _cloudevents,
    "eventbridge": _eventbridge,
    "s3": _s3,
    "sns": _sns,
    "iceberg": _iceberg,
    "hudi": _hudi,
    "dbt": _dbt,
}


def _section(name: str, section: Mapping[str, object], kind: type[_Section]) -> _Section:
    try:
        return msgspec.convert(dict(section), kind)
    except msgspec.ValidationError as error:
        raise SettingsError(
            f"[webhooks.{name}] is refused: {error}", hint="see docs/service.md"
        ) from error


def _tokens(name: str, said: _Secrets) -> tuple[bytes, ...]:
    tokens = _texts(name, said)
    if any(len(token) < TOKEN_CHARACTERS_MIN for token in tokens):
        raise SettingsError(
            f"a secret of [webhooks.{name}] has fewer than {TOKEN_CHARACTERS_MIN} characters",
            hint="make one: `openssl rand -hex 32`",
        )
    return tuple(token.encode() for token in tokens)


def _texts(name: str, said: _Secrets) -> list[str]:
    found = list(said.secrets)
    if said.secrets_env:
        found += os.environ.get(said.secrets_env, "").split()
    if said.secrets_file:
        try:
            found += Path(said.secrets_file).read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"`secrets_file` of [webhooks.{name}] cannot be read: {error}",
                hint="name a file with one secret per line",
            ) from error
    if not found:
        raise SettingsError(
            f"[webhooks.{name}] has no secret, and anybody could send",
            hint="set `secrets`, `secrets_file` or `secrets_env`",
        )
    return found
