"""The catalogs of the user's PyIceberg configuration: opened, listed, their faults translated.

Configuration is read at each call, from `.pyiceberg.yaml` and `PYICEBERG_CATALOG__*`, as PyIceberg
does. Metadata goes through our own storage unless the configuration names a `py-io-impl`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from pyiceberg import exceptions as pyiceberg_errors
from pyiceberg.catalog import Catalog, CatalogType, infer_catalog_type, load_catalog
from pyiceberg.utils.config import Config

from catalog.errors import (
    AccessDeniedError,
    CatalogError,
    CorruptTableError,
    StorageError,
    TableNotFoundError,
)
from catalog.iceberg.metadata_json import write_metadata_with_every_field

_FILE_IO = "catalog.iceberg.catalog_io.CatalogFileIO"
_MISSING = (
    pyiceberg_errors.NoSuchTableError,
    pyiceberg_errors.NoSuchNamespaceError,
    pyiceberg_errors.NoSuchIdentifierError,
)
_DENIED = (
    pyiceberg_errors.UnauthorizedError,
    pyiceberg_errors.ForbiddenError,
    pyiceberg_errors.AuthorizationExpiredError,
    pyiceberg_errors.OAuthError,
    pyiceberg_errors.SignError,
    PermissionError,
)


def known_catalogs() -> list[str]:
    """Return the names of the configured catalogs."""
    return sorted(Config().get_known_catalogs())


def open_catalog(name: str, properties: Mapping[str, str] | None = None) -> Catalog:
    """Open a configured catalog.

    Args:
        name: its name in the configuration.
        properties: settings that take precedence over the configured ones.

    Raises:
        TableNotFoundError: no catalog of this name is configured.
        StorageError: it cannot be reached.
        AccessDeniedError: it refuses the credentials.
    """
    return _opened(name, _settings(name, properties))


def open_tables(name: str, properties: Mapping[str, str] | None = None) -> Catalog:
    """Open a configured catalog to load tables of it: what it takes to do more may come later.

    Raises:
        TableNotFoundError, StorageError, AccessDeniedError: as for `open_catalog`.
    """
    from catalog.iceberg.sqlite import SqliteTables, database_of  # lazy: the others need none of it

    settings = _settings(name, properties)
    if database_of(settings) is None:
        return _opened(name, settings)
    return cast(Catalog, SqliteTables(name, settings, lambda: _opened(name, settings)))


def _settings(name: str, properties: Mapping[str, str] | None) -> dict[str, Any]:
    configured: dict[str, Any] = dict(Config().get_catalog_config(name) or {})
    settings = {**configured, **(properties or {})}
    if not settings:
        names = ", ".join(known_catalogs()) or "none"
        raise TableNotFoundError(
            f"no catalog is named `{name}`",
            hint=f"configured catalogs: {names}; add it to .pyiceberg.yaml or set "
            f"PYICEBERG_CATALOG__{name.upper()}__URI",
        )
    settings.setdefault("py-io-impl", _FILE_IO)
    settings.setdefault("init_catalog_tables", "false")
    return settings


def _opened(name: str, settings: dict[str, Any]) -> Catalog:
    uri = str(settings.get("uri", ""))
    if uri and (settings.get("type") == "sql" or uri.startswith("sqlite:")):
        _check_database(name, uri)
    try:
        with catalog_errors(f"the catalog {name}"):
            catalog = _loaded(name, settings)
            write_metadata_with_every_field(catalog)
            return catalog
    except CorruptTableError as fault:
        raise _misconfigured(name, fault.__cause__) from fault


def _loaded(name: str, settings: dict[str, Any]) -> Catalog:
    """Make a catalog: of our own kind where PyIceberg's does less than it should."""
    is_own = "py-catalog-impl" in settings
    told = settings.get("type") or (None if is_own else infer_catalog_type(name, settings))
    kind = str(getattr(told, "value", told)).lower()
    if kind == CatalogType.REST.value and settings.get("uri"):
        from catalog.iceberg.rest import RestCatalog  # lazy: the other catalogs need none of it

        return RestCatalog(name, **settings)
    if kind == CatalogType.GLUE.value:
        from catalog.iceberg.glue import GlueCatalog  # lazy: as above

        return GlueCatalog(name, **settings)
    return load_catalog(name, **settings)


@contextmanager
def catalog_errors(subject: str) -> Iterator[None]:
    """Turn what a catalog client raises into our errors."""
    try:
        yield
    except CatalogError:
        raise
    except _MISSING as fault:
        raise TableNotFoundError(f"{subject} does not exist") from fault
    except _DENIED as fault:
        raise AccessDeniedError(
            f"no access to {subject}: {_first_line(fault)}", hint=_access_hint(fault)
        ) from fault
    except (pyiceberg_errors.NotInstalledError, ImportError) as fault:
        raise CatalogError(
            f"{subject} needs a package that is not installed: {_first_line(fault)}",
            hint="install PyIceberg with the extra of the catalog, or the driver of its database",
        ) from fault
    except (ValueError, KeyError, TypeError, pyiceberg_errors.ValidationError) as fault:
        raise CorruptTableError(f"{subject} cannot be read: {_reason(fault)}") from fault
    except Exception as fault:  # each catalog's client has errors of its own
        if _is_denied(fault):
            raise AccessDeniedError(f"no access to {subject}: {_first_line(fault)}") from fault
        raise StorageError(
            f"{subject} does not answer: {_first_line(fault)}",
            hint="check the address and the state of the catalog, then try again",
        ) from fault


def _access_hint(fault: Exception) -> str:
    if isinstance(fault, pyiceberg_errors.ForbiddenError):
        return "the catalog knows who asks and does not allow it: ask for the privilege"
    return (
        "check the credentials of the catalog; a bare token runs out: with credential ="
        " CLIENT-ID:SECRET and oauth2-server-uri it is renewed"
    )


def _is_denied(fault: Exception) -> bool:
    """Whether an AWS client was refused; its error class exists only where it is installed."""
    response = getattr(fault, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    return "AccessDenied" in code or code in ("UnrecognizedClientException", "ExpiredToken")


def _first_line(fault: Exception) -> str:
    lines = str(fault).splitlines()
    return lines[0] if lines else type(fault).__name__


def _reason(fault: Exception) -> str:
    """Return what is wrong; the first line of a model's complaint only counts the others."""
    first, *others = str(fault).splitlines() or [""]
    if "validation error" not in first or not others:
        return _first_line(fault)
    return " ".join(line.strip() for line in others[:2]).partition(" [type=")[0]


def _check_database(name: str, uri: str) -> None:
    """Refuse an address that is none, and SQLite's creating of a database where there is none."""
    from sqlalchemy import make_url  # lazy: the other catalogs need none of it
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(uri)
    except ArgumentError as fault:
        raise _misconfigured(name, f"{uri!r} is not the URL of a database") from fault
    is_file = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    if is_file and not Path(str(url.database)).exists():
        raise StorageError(
            f"the database of the catalog {name} does not exist: {url.database}",
            hint="check the catalog's uri",
        )


def _misconfigured(name: str, reason: object) -> CatalogError:
    return CatalogError(
        f"the settings of the catalog {name} make no catalog: {reason}",
        hint="check its type and its uri in the configuration",
    )


def namespaces(
    catalog: Catalog, *, depth: int, parent: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Yield the namespaces of a catalog down to a depth, parents before children."""
    with catalog_errors(f"the catalog {catalog.name}"):
        found = sorted(set(catalog.list_namespaces(parent)))
    for namespace in found:
        if len(namespace) == len(parent) + 1:
            yield namespace
            if depth > 1:
                yield from namespaces(catalog, depth=depth - 1, parent=namespace)


def tables(catalog: Catalog, namespace: tuple[str, ...]) -> list[str]:
    """Return the names of the tables in a namespace."""
    with catalog_errors(f"the namespace {'.'.join(namespace)}"):
        return sorted(identifier[-1] for identifier in catalog.list_tables(namespace))
