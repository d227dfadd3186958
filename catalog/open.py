"""From a target to a table: names in catalogs, paths and URIs, globs, and what was meant.

A target is `catalog.namespace.table`, with as many namespaces as there are levels, or the path or
URI of a table that lies outside of catalogs; `name@branch` is a branch of an Iceberg table.
`iceberg:`, `delta:` and `hudi:` force the format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from types import ModuleType

from catalog.errors import CatalogError, TableNotFoundError, UnsupportedTableError
from catalog.location import Location
from catalog.storage import Storage
from catalog.table import Table

_FORCED = re.compile(r"(iceberg|delta|hudi):(?!//)(.+)", re.DOTALL)
_WILD = re.compile(r"[*?\[]")
# Directory that only tables of the format have.
_MARKERS = {"_delta_log": "delta", ".hoodie": "hudi", "metadata": "iceberg"}
_NAME_PARTS_MIN = 3
_SUGGESTIONS_MAX = 3


def open_table(
    target: str, properties: Mapping[str, str] | None = None, *, kept: Path | None = None
) -> Table:
    """Open the table that a target names.

    Args:
        target: as the module describes.
        properties: settings of the catalog or storage that go before the configured ones.
        kept: a directory of this machine for what need not be read again; None for none.

    Raises:
        TableNotFoundError: no such catalog, namespace or table.
        UnsupportedTableError: the table has a format or a feature that is not handled.
        AccessDeniedError: the catalog or storage refuses the credentials.
        StorageError: the catalog or storage cannot be reached.
    """
    forced, rest = _split(target)
    if _is_path(forced, rest):
        return _open_path(target, rest, forced, properties or {})
    named, _, branch = rest.partition("@")
    catalog_name, *identifier = name_parts(named, shown=target)
    catalog = _catalogs().open_tables(catalog_name, properties)
    from catalog.iceberg.table import IcebergTable  # lazy: half a second to import

    table = IcebergTable(target, catalog, tuple(identifier), branch or "main")
    table.kept = kept
    table.load()
    return table


def suggestions(target: str, properties: Mapping[str, str] | None = None) -> list[str]:
    """Return targets that exist and look like this one, the closest first; asks few questions."""
    forced, rest = _split(target)
    name, *identifier = rest.split(".")
    if _is_path(forced, rest) or len(identifier) < _NAME_PARTS_MIN - 1:
        return []
    try:
        known = _catalogs().known_catalogs()
        catalogs = [name] if properties or name in known else _close(name, known)
        candidates = [one for each in catalogs for one in _similar(each, identifier, properties)]
    except CatalogError:  # a suggestion is worth no second failure
        return []
    return _close(rest, candidates)


def expand(pattern: str, properties: Mapping[str, str] | None = None) -> list[str]:
    """Return the targets that a glob names: `*`, `?` and `[…]` match within one part of a name.

    A target without wildcards is returned as it is, without asking whether it exists.

    Raises:
        TableNotFoundError: nothing matches.
        StorageError: the catalog cannot be reached.
    """
    forced, rest = _split(pattern)
    if not _WILD.search(rest) or _is_path(forced, rest):
        return [pattern]
    first, *parts = name_parts(rest, shown=pattern)
    catalogs = [first]
    if _WILD.search(first):
        catalogs = [one for one in _catalogs().known_catalogs() if fnmatchcase(one, first)]
    found = [target for one in catalogs for target in _matching(one, parts, properties)]
    if not found:
        raise TableNotFoundError(
            f"no table matches `{pattern}`",
            hint="`*` stands for one part of a name: compact tables 'CATALOG.*.*'",
        )
    return found


def is_path(target: str) -> bool:
    """Tell whether a target is the path or URI of something, not a name in a catalog."""
    return _is_path(*_split(target))


def is_named(target: str) -> bool:
    """Whether a target is a name in a catalog, as opposed to a path or URI."""
    return not _is_path(*_split(target))


def name_parts(name: str, *, shown: str | None = None) -> list[str]:
    """Split a name: the catalog, its namespaces, the table.

    Args:
        name: without a forced format.
        shown: the target as it was given, for the message.

    Raises:
        TableNotFoundError: it names no table.
    """
    parts = name.split(".")
    # Bytes that are no text come from the command line as letters that cannot be printed.
    is_text = all(part.strip() and part.isprintable() for part in parts)
    if len(parts) < _NAME_PARTS_MIN or not is_text:
        raise TableNotFoundError(
            f"`{shown or name}` names no table",
            hint="write catalog.namespace.table, or the path of a table with a slash in it",
        )
    return parts


def _split(target: str) -> tuple[str, str]:
    forced = _FORCED.fullmatch(target)
    return (forced[1], forced[2]) if forced else ("", target)


def _is_path(forced: str, text: str) -> bool:
    if forced in ("delta", "hudi") or "/" in text or text.startswith(("~", "file:")):
        return True
    return text.count(".") < _NAME_PARTS_MIN - 1 and Path(text).is_dir()


def _close(name: str, candidates: Iterable[str]) -> list[str]:
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    found = get_close_matches(name.lower(), by_lower, n=_SUGGESTIONS_MAX)
    return [by_lower[one] for one in found]


def _catalogs() -> ModuleType:
    """Import what talks to catalogs, half a second of processor time.

    Raises:
        CatalogError: the library reads its configuration on import, and it is malformed.
    """
    try:
        return import_module("catalog.iceberg.catalogs")
    except ImportError:
        raise
    except Exception as fault:  # the errors of a YAML parser, and of a home that is not there
        raise CatalogError(
            f"the configuration of the catalogs cannot be read: {str(fault).splitlines()[0]}",
            hint="check .pyiceberg.yaml and the variables PYICEBERG_*",
        ) from fault


def _matching(
    catalog_name: str, patterns: list[str], properties: Mapping[str, str] | None
) -> list[str]:
    """Return the tables of a catalog whose names match part by part."""
    catalogs = _catalogs()
    catalog = catalogs.open_catalog(catalog_name, properties)
    *spaces, table_pattern = patterns
    return [
        ".".join((catalog_name, *namespace, table))
        for namespace in catalogs.namespaces(catalog, depth=len(spaces))
        if len(namespace) == len(spaces) and all(map(fnmatchcase, namespace, spaces))
        for table in catalogs.tables(catalog, namespace)
        if fnmatchcase(table, table_pattern)
    ]


def _similar(
    catalog_name: str, identifier: list[str], properties: Mapping[str, str] | None
) -> list[str]:
    """Return the tables of the namespaces that look like the one in an identifier."""
    catalogs = _catalogs()
    catalog = catalogs.open_catalog(catalog_name, properties)
    known = {".".join(one): one for one in catalogs.namespaces(catalog, depth=len(identifier) - 1)}
    return [
        ".".join((catalog_name, namespace, table))
        for namespace in _close(".".join(identifier[:-1]), known)
        for table in catalogs.tables(catalog, known[namespace])
    ]


def _open_path(target: str, path: str, forced: str, properties: Mapping[str, str]) -> Table:
    location = Location.resolve(path)
    found = forced or _recognise(location, Storage.from_properties(properties))
    if not found:
        raise TableNotFoundError(
            f"no table at {target}", hint="a table has a directory _delta_log or .hoodie"
        )
    if found == "iceberg":
        raise UnsupportedTableError(
            f"{target} is the path of an Iceberg table, which its catalog must name",
            hint="write catalog.namespace.table",
        )
    # Jobs are recorded under this name, and go on from another directory, too.
    name = location.path if location.scheme == "file" else str(location).rstrip("/")
    if found == "hudi":
        from catalog.hudi.table import HudiTable  # lazy: other formats need none

        hudi_table = HudiTable(name, location, properties)
        hudi_table.config()
        return hudi_table
    from catalog.delta.table import DeltaTable  # lazy: other formats need none

    table = DeltaTable(name, location, properties)
    table.load()
    return table


def _recognise(location: Location, storage: Storage) -> str:
    for marker, name in _MARKERS.items():
        if next(iter(storage.list(location.child(marker))), None) is not None:
            return name
    return ""
