"""Credentials that a catalog lends for the files of one table, and how a worker has them anew.

A REST catalog answers the loading of a table with keys to its storage that run out: it is asked for
others by loading the table again, with the settings that the coordinator opened the catalog with.

Specification: https://iceberg.apache.org/rest-catalog-spec/ (`X-Iceberg-Access-Delegation`)
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from catalog.errors import AccessDeniedError
from catalog.storage import Storage
from catalog.storage.lent import Loan

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

# What a loan is told by: keys that hold for good come without it.
_TOKENS = ("s3.session-token", "gcs.oauth2.token")
_ENDS = ("s3.session-token-expires-at-ms", "gcs.oauth2.token-expires-at")
_LENT = (*_TOKENS, "s3.access-key-id", "s3.secret-access-key")
# Where the catalog does not say when they run out: no store lends for less than a quarter of an
# hour, and the answer may have been kept by the catalog for some of it.
ASSUMED_LIFE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class CatalogLender:
    """A catalog that lends credentials for one table; see `catalog.storage.lent.Lender`.

    Attributes:
        catalog: its name.
        settings: what it is opened with, as JSON: it may hold secrets and is never shown.
        identifier: of the table.
    """

    catalog: str
    settings: str = field(repr=False)
    identifier: tuple[str, ...]

    def __call__(self) -> Loan:
        """Load the table for what comes with it.

        Raises:
            CatalogError: the catalog does not answer, or lends nothing any more.
        """
        from catalog.iceberg.catalogs import catalog_errors, open_catalog  # lazy: seldom

        name = ".".join((self.catalog, *self.identifier))
        opened = open_catalog(self.catalog, json.loads(self.settings))
        with catalog_errors(f"the table {name}"):
            loaded = opened.load_table(self.identifier)
        lent = _lent(loaded.io.properties, {})
        if not lent:
            raise AccessDeniedError(
                f"the catalog {self.catalog} lends no credentials for {name} any more",
                hint="check what the catalog hands out for the table, then run again",
            )
        return Loan(tuple(sorted(lent.items())), _expires_at_ms(loaded.io.properties), self)


def storage_of(catalog: Catalog, identifier: tuple[str, ...], table: Table) -> Storage:
    """Return the storage of a table that has just been loaded."""
    properties = table.io.properties
    storage = Storage.from_properties(properties)
    lent = _lent(properties, catalog.properties)
    if not lent:
        return storage
    settings = {name: value for name, value in catalog.properties.items() if _is_plain(value)}
    lender = CatalogLender(catalog.name, json.dumps(settings, sort_keys=True), identifier)
    loan = Loan(tuple(sorted(lent.items())), _expires_at_ms(properties), lender)
    return replace(storage, loan=loan)


def _lent(properties: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Return the keys that came with a table, other than those that the user has given."""
    is_lent = any(properties.get(name) not in (None, "", own.get(name)) for name in _TOKENS)
    if not is_lent:
        return {}
    return {name: str(properties[name]) for name in _LENT if properties.get(name)}


def _expires_at_ms(properties: Mapping[str, str]) -> int:
    told = [int(properties[name]) for name in _ENDS if str(properties.get(name, "")).isdigit()]
    return min(told) if told else int((time.time() + ASSUMED_LIFE_SECONDS) * 1000)


def _is_plain(value: object) -> bool:
    """Whether a setting can be sent to another process: not what holds a connection."""
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True
