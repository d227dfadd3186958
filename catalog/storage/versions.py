"""Objects that must stay what they were: looked at again once their bytes have been used."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from catalog.errors import CorruptTableError

if TYPE_CHECKING:
    from catalog.storage.parts import Source
    from catalog.storage.storage import Storage

_REQUESTS_IN_FLIGHT_MAX = 8


def require_unchanged(storage: Storage, sources: Iterable[Source]) -> None:
    """Refuse sources that are not the versions any more that they were.

    Raises:
        CorruptTableError: one has been replaced; it is named.
        ObjectNotFoundError: one is gone; it is named.
    """

    def check(source: Source) -> None:
        found = storage.head(source.location)
        if found.size_bytes != source.size_bytes or _bare(found.etag) != _bare(source.etag):
            raise replaced(source)

    distinct = dict.fromkeys(sources)
    for source in distinct:
        if source.location.is_local:
            check(source)
    remote = [source for source in distinct if not source.location.is_local]
    if remote:
        with ThreadPoolExecutor(_REQUESTS_IN_FLIGHT_MAX) as pool:
            for _ in pool.map(check, remote):
                pass


def replaced(source: Source) -> CorruptTableError:
    """Return the error of a source that is not the version that was looked at."""
    return CorruptTableError(
        f"{source.location} was replaced while it was being copied",
        hint="Data files never change once written: find out who writes over them.",
    )


def _bare(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')
