"""Where tables lie: the one spelling of a location by which events of objects find their table."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from catalog.errors import LocationError
from catalog.location import Location

_FORCED = ("iceberg:", "delta:", "hudi:")
# Stores have no longer keys, and no table lies deeper: an event may tell of anything.
_CHARACTERS_MAX = 4096
_SEGMENTS_MAX = 64


def place_of(text: str) -> str:
    """Return the spelling of a location: equal for equal places; empty for what is none."""
    try:
        location = Location.parse(text)
    except LocationError:
        return ""
    return _spelled(location, len(location.segments))


def enclosing_places(text: str) -> Iterator[str]:
    """Yield the place itself and those around it, the narrowest first; none for what is none.

    Places that lie deeper than any table does are left out.
    """
    if len(text) > _CHARACTERS_MAX:
        return
    try:
        location = Location.parse(text)
    except LocationError:
        return
    for count in range(min(len(location.segments), _SEGMENTS_MAX), 0, -1):
        yield _spelled(location, count)


def place_of_target(target: str) -> str:
    """Return the place that a target names by itself; empty for a name in a catalog."""
    bare = next((target.removeprefix(one) for one in _FORCED if target.startswith(one)), target)
    return place_of(bare) if "/" in bare else ""


def place_of_head(head: str) -> str:
    """Return the place of a table whose metadata lies at a head; empty for other heads.

    Events tell of metadata that was written: it lies right below the table, as a rule.
    """
    directory, _, name = head.rpartition("/")
    above, _, last = directory.rpartition("/")
    is_usual = last == "metadata" and name.endswith(".metadata.json")
    return place_of(above) if is_usual else ""


def full_target(target: str) -> str:
    """Return a target in the form it is registered under: paths from the root on.

    Raises:
        LocationError: it is the path of nothing that can be a table.
    """
    if "/" not in target or any(target.startswith(one) for one in _FORCED):
        return target
    location = Location.resolve(target)
    return location.path if location.is_local else str(location).rstrip("/")


def namespace_of(target: str) -> str:
    """Return what quotas are counted by: catalog and namespace, or the prefix of a path."""
    if "/" in target:
        return target.rstrip("/").rpartition("/")[0] or urlsplit(target).path
    return target.rpartition(".")[0]


def _spelled(location: Location, count: int) -> str:
    return f"{location.scheme}://{location.authority}/{'/'.join(location.segments[:count])}"
