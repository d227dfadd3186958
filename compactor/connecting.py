"""Opening the runtime that the settings name, with what was learned of memory in earlier runs."""

from __future__ import annotations

import os
from pathlib import Path

from compactor.errors import SettingsError
from compactor.jobs.priors import PRIORS
from compactor.settings import RuntimeSettings
from runtime import Runtime, connect
from runtime.connect import BACKENDS
from runtime.ledger import Experience


def refuse_unknown(settings: RuntimeSettings) -> None:
    """Refuse an address that names no runtime, without opening any.

    Raises:
        SettingsError: there is no such runtime.
    """
    if settings.url.partition("://")[0] not in BACKENDS:
        raise SettingsError(f"unknown runtime {settings.url!r}: use {', '.join(BACKENDS)}")


def connected(settings: RuntimeSettings) -> Runtime:
    """Open the runtime that the settings name.

    Raises:
        SettingsError: there is no such runtime.
    """
    try:
        return connect(
            settings.url,
            workers=settings.workers,
            memory_bytes=settings.memory_bytes,
            profiles=Experience(_profiles(settings), PRIORS),
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _profiles(settings: RuntimeSettings) -> Path | None:
    """Return where profiles are kept; None where nothing can be: what is learned is a help only."""
    try:
        settings.profiles.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    is_writable = os.access(settings.profiles.parent, os.W_OK)
    return settings.profiles if is_writable else None
