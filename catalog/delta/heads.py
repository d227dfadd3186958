"""Which version many Delta tables have now: whether the next commit is there, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from catalog.delta.log import LOG_DIRECTORY, commit_name, list_segment
from catalog.errors import CatalogError, ObjectNotFoundError
from catalog.location import Location
from catalog.storage import Storage


def version_heads(known: Iterable[tuple[str, str]]) -> Iterator[str | CatalogError]:
    """Yield the version of each table as text, or why it cannot be told.

    Args:
        known: each target with the version it had, empty when it was never looked at.
    """
    storage = Storage.from_properties({})
    for target, version in known:
        try:
            root = Location.resolve(target.removeprefix("delta:"))
            yield version if _is_head(storage, root, version) else _listed(storage, root)
        except CatalogError as error:
            yield error


def _is_head(storage: Storage, root: Location, version: str) -> bool:
    """Whether a version is there and the next one is not; what was cleaned is listed instead."""
    if not version.isdigit():
        return False
    log = root.child(LOG_DIRECTORY)
    number = int(version)
    return not _exists(storage, log.child(commit_name(number + 1))) and _exists(
        storage, log.child(commit_name(number))
    )


def _exists(storage: Storage, location: Location) -> bool:
    try:
        storage.head(location)
    except ObjectNotFoundError:
        return False
    return True


def _listed(storage: Storage, root: Location) -> str:
    return str(list_segment(storage, root).version)
