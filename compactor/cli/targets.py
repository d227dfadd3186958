"""Opens the table that a target names; a misspelt one is answered with what was meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from catalog.table import Table


def opened(target: str, properties: Mapping[str, str] | None = None) -> Table:
    """Open a table.

    Raises:
        TableNotFoundError: there is none; the hint names those that look like it.
        CatalogError: as `catalog.open.open_table`.
    """
    from catalog.errors import TableNotFoundError
    from catalog.open import open_table, suggestions

    try:
        return open_table(target, properties, kept=_kept())
    except TableNotFoundError as error:
        if error.hint:
            raise
        close = suggestions(target, properties)
        namespace = target.rpartition(".")[0]
        meant = f"did you mean `{close[0]}`? " if close else ""
        hint = f"{meant}list tables: compact tables '{namespace}.*'"
        raise TableNotFoundError(f"no table `{target}`", hint=hint) from error


def _kept() -> Path:
    """Return where what was read of manifests is kept: beside the state of jobs."""
    from compactor.cli.session import Session

    return Session.of().settings().kept
