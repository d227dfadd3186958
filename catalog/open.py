"""From a target to a table: names in catalogs, paths and URIs, globs, and what was meant.

A target is `catalog.namespace.table`, with as many namespaces as there are levels, or the path or
URI of a table that lies outside of catalogs. `iceberg:`, `delta:` and `hudi:` force the format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

from catalog.errors import CatalogError, TableNotFoundError, UnsupportedTableError
from catalog.location import Location
from catalog.storage import Storage
from catalog.table import Table

_FORCED = re.compile(r"(iceberg|delta|hudi):(?!//)(.+)", re.DOTALL)
_WILD = re.compile(r"[*?\[]")
_FORMAT_NAMES = {"delta": "Delta Lake", "hudi": "Hudi", "iceberg": "Iceberg"}
# Directory that only tables of the format have.
_MARKERS = {"_delta_log": "delta", ".hoodie": "hudi", "metadata": "iceberg"}
_NAME_PARTS_MIN = 3
_SUGGESTIONS_MAX = 3


def open_table(target: str, properties: Mapping[str, str] | None = None) -> Table:
    """Open the table that a target names.

    Args:
        target: as the module describes.
        properties: settings of the catalog or storage that go before the configured ones.

    Raises:
        TableNotFoundError: no such catalog, namespace or table.
        UnsupportedTableError: the table has a format or a feature that is not handled.
        AccessDeniedError: the catalog or storage refuses the credentials.
        StorageError: the catalog or storage cannot be reached.
    """
    forced, rest = _split(target)
    if _is_path(rest) or forced in ("delta", "hudi"):
        return _open_path(target, rest, forced, properties or {})
    from catalog.iceberg.catalogs import open_catalog  # lazy: a second to import
    from catalog.iceberg.table import IcebergTable  # lazy: likewise

    catalog_name, *identifier = _name_parts(target, rest)
    table = IcebergTable(target, open_catalog(catalog_name, properties), tuple(identifier))
    table.load()
    return table


def suggestions(target: str, properties: Mapping[str, str] | None = None) -> list[str]:
    """Return targets that exist and look like this one, the closest first."""
    forced, rest = _split(target)
    parts = rest.split(".")
    if _is_path(rest) or forced in ("delta", "hudi") or not all(parts):
        return []
    from catalog.iceberg.catalogs import known_catalogs  # lazy: a second to import

    try:
        is_known = properties or parts[0] in known_catalogs()
        catalogs = [parts[0]] if is_known else _close(parts[0], known_catalogs())
        candidates = [name for one in catalogs for name in _all_tables(one, properties, [])]
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
    if not _WILD.search(rest) or _is_path(rest) or forced in ("delta", "hudi"):
        return [pattern]
    from catalog.iceberg.catalogs import known_catalogs  # lazy: a second to import

    first, *others = _name_parts(pattern, rest)
    catalogs = [one for one in known_catalogs() if fnmatchcase(one, first)]
    if not _WILD.search(first):
        catalogs = [first]
    found = [name for one in catalogs for name in _all_tables(one, properties, others)]
    if not found:
        raise TableNotFoundError(f"no table matches {pattern}")
    return found


def _split(target: str) -> tuple[str, str]:
    forced = _FORCED.fullmatch(target)
    return (forced[1], forced[2]) if forced else ("", target)


def _is_path(text: str) -> bool:
    if "/" in text or text in (".", "..") or text.startswith(("~", "file:")):
        return True
    return text.count(".") < _NAME_PARTS_MIN - 1 and Path(text).is_dir()


def _name_parts(target: str, name: str) -> list[str]:
    parts = name.split(".")
    if len(parts) < _NAME_PARTS_MIN or not all(parts):
        raise TableNotFoundError(
            f"{target!r} names no table",
            hint="write catalog.namespace.table, or the path of a table with a slash in it",
        )
    return parts


def _close(name: str, candidates: Iterable[str]) -> list[str]:
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    found = get_close_matches(name.lower(), by_lower, n=_SUGGESTIONS_MAX)
    return [by_lower[one] for one in found]


def _all_tables(
    catalog_name: str, properties: Mapping[str, str] | None, pattern: list[str]
) -> list[str]:
    """Return the tables of a catalog, those whose name matches part by part when given parts."""
    from catalog.iceberg.catalogs import namespaces, open_catalog, tables  # lazy: slow

    catalog = open_catalog(catalog_name, properties)
    return [
        ".".join((catalog_name, *namespace, table))
        for namespace in namespaces(catalog)
        if not pattern or _matches(namespace, pattern[:-1])
        for table in tables(catalog, namespace)
        if not pattern or fnmatchcase(table, pattern[-1])
    ]


def _matches(parts: tuple[str, ...], patterns: list[str]) -> bool:
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


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
    raise UnsupportedTableError(
        f"{target} is a {_FORMAT_NAMES[found]} table, which is not supported yet",
        hint="Iceberg tables are: write catalog.namespace.table",
    )


def _recognise(location: Location, storage: Storage) -> str:
    for marker, name in _MARKERS.items():
        if next(iter(storage.list(location.child(marker))), None) is not None:
            return name
    return ""
