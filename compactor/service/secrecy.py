"""What must not be told to anybody: the secrets of a configuration, and how they are blotted out.

Secrets are known by their values, wherever they turn up; some that no configuration knows are known
by their form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from compactor.service.config import Section, ServiceConfig

BLOT = "***"
# Shorter ones are words of the language; what a variable holds is a secret by its name alone.
_CHARACTERS_MIN = 4
_CHARACTERS_MIN_OF_VARIABLES = 8
_SECRET_NAME = re.compile(
    r"secret|token|passw|credential|api_?key|access_?key|headers", re.IGNORECASE
)
_FORMS = re.compile(
    r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"  # user and password of a URL
    r"|(?<=\bBearer )[\w.~+/=-]+"
    r"|(?<=\bBasic )[\w+/=]{8,}"
    r"|\bcpt_[\w-]{20,}"  # a token of this service
    r"|(?<=\bwhsec_)[\w+/=]+"
    r"|(?<=[?&]X-Amz-Signature=)\w+"
    r"|(?<=[?&]X-Amz-Security-Token=)[\w%+/=-]+"
    r"|(?<=[?&]sig=)[\w%+/=-]+",
    re.IGNORECASE,
)


class Blotter:
    """Blots secrets out of texts.

    Args:
        secrets: their values.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {one for secret in secrets for one in _spellings(secret)}
        # The longest first: one may be the beginning of another.
        ordered = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        if self._known is not None:
            text = self._known.sub(BLOT, text)
        return _FORMS.sub(BLOT, text)

    def value(self, value: object) -> object:
        """Return a value, and all that is in it, without secrets."""
        if isinstance(value, bool | int | float | None):
            return value
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(one) for key, one in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(one) for one in value]
        return self.text(value if isinstance(value, str) else str(value))


def secrets_of_environment(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield what variables hold whose names tell of secrets."""
    for name, value in environment.items():
        if _SECRET_NAME.search(name):
            # Headers are pairs, some of them secret.
            for one in (value, *(pair.partition("=")[2] for pair in value.split(","))):
                if len(one) >= _CHARACTERS_MIN_OF_VARIABLES:
                    yield one


def secrets_of_store(url: str) -> Iterator[str]:
    """Yield the password of the URL of a store, if it has one."""
    with suppress(ArgumentError):
        password = make_url(url).password
        if password:
            yield str(password)


def secrets_of(config: ServiceConfig, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield every secret that a service is told, in its files or its environment."""
    yield from secrets_of_environment(environment)
    yield from secrets_of_store(config.settings.store.url)
    sections = (*config.webhooks.values(), *config.notifications.values(), config.auth)
    for section in sections:
        yield from _secrets_of_section(section, environment)


def _secrets_of_section(section: Section, environment: Mapping[str, str]) -> Iterator[str]:
    for key, value in section.values.items():
        if not _SECRET_NAME.search(key):
            continue
        if key.endswith("_file"):
            with suppress(OSError, UnicodeDecodeError, TypeError):
                yield from Path(value).read_text().split()
        elif key.endswith("_env"):
            yield from environment.get(str(value), "").split()
        else:
            yield from _texts(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _spellings(secret: str) -> Iterator[str]:
    """Yield a secret as it stands in texts, in URLs, and without what tells its kind."""
    bare = secret.removeprefix("whsec_")
    for one in (secret, bare, quote(secret, safe=""), quote_plus(secret)):
        if len(one) >= _CHARACTERS_MIN:
            yield one
