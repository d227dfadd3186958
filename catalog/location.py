"""The one type for every URI: parsed once, compared by segment, confined to a table's own prefixes.

Metadata is untrusted input. Whatever names a file passes `Location.parse` before any I/O, and
a `Confinement` before it is read, written or deleted. The check is lexical: nothing is decoded
and symbolic links are not followed, so `%3A` in a partition path names exactly that file.

`str(location)` is the text as it was given: table metadata must round-trip byte for byte, while
equality, hashing and containment see the normalised form (`s3a://b/k` equals `s3://b/k`).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import unquote

from catalog.errors import LocationError

LOCAL_SCHEME = "file"
# Spelling -> what it is compared as. Clients of one store disagree on the spelling alone.
_SCHEMES = {
    LOCAL_SCHEME: LOCAL_SCHEME,
    "s3": "s3",
    "s3a": "s3",
    "s3n": "s3",
    "gs": "gs",
    "gcs": "gs",
    "az": "az",
    "azure": "az",
    "abfs": "abfss",
    "abfss": "abfss",
    "memory": "memory",
}
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CONTAINER_AND_ACCOUNT = re.compile(r"[A-Za-z0-9$][A-Za-z0-9-]*@[A-Za-z0-9][A-Za-z0-9.-]*")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?://([^/]*))?(/.*)?", re.DOTALL)
_DOTS = frozenset((".", ".."))
# Bounds the search for dots that were encoded more than once.
_DECODINGS_MAX = 4
_SHOWN_CHARACTERS_MAX = 300


@dataclass(frozen=True, slots=True)
class Location:
    """An absolute file, object or prefix; made by `parse`, `resolve` and `child` only.

    Attributes:
        text: the spelling it was given with, not part of equality.
        scheme: `file`, `s3`, `gs`, `az`, `abfss` or `memory`, whatever the spelling.
        authority: the bucket, `container@account-host` for `abfss`, empty for local files.
        segments: the path by segment, never decoded.
    """

    text: str = field(compare=False)
    scheme: str
    authority: str
    segments: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Location:
        """Read a URI or an absolute local path.

        Raises:
            LocationError: it is relative, of an unknown scheme, or carries what no table needs:
                dot or empty segments (also percent-encoded), control characters, user
                information, a port, a query or a fragment.
        """
        if _CONTROL.search(text):
            _refuse(text, "it contains a control character")
        if text.startswith("/"):
            return cls(text, LOCAL_SCHEME, "", _segments(text, text))
        found = _URI.fullmatch(text)
        if found is None:
            _refuse(text, "it is neither a URI nor an absolute path")
        scheme = _SCHEMES.get(found[1].lower())
        if scheme is None:
            _refuse(text, f"the scheme {found[1]!r} is not known")
        if "?" in text or "#" in text:
            _refuse(text, "it has a query or a fragment")
        _check_authority(text, scheme, found[2])
        return cls(text, scheme, found[2] or "", _segments(text, found[3] or "/"))

    @classmethod
    def resolve(cls, text: str) -> Location:
        """Read what a user typed: as `parse`, and a relative path is taken from here.

        Raises:
            LocationError: as `parse`.
        """
        is_uri = _URI.fullmatch(text) is not None and ("://" in text or text.startswith("file:"))
        return cls.parse(text if is_uri else os.path.abspath(os.path.expanduser(text)))  # noqa: PTH100, PTH111 - must not follow links

    def __str__(self) -> str:
        """Return the spelling that the location was given with."""
        return self.text

    @property
    def is_local(self) -> bool:
        """Whether this is a file of this machine."""
        return self.scheme == LOCAL_SCHEME

    @property
    def key(self) -> str:
        """The object key: the segments joined, without a leading slash."""
        return "/".join(self.segments)

    @property
    def path(self) -> str:
        """The path in the local file system.

        Raises:
            LocationError: the location is not local.
        """
        if not self.is_local:
            _refuse(self.text, "it is not a local file")
        return "/" + self.key

    @property
    def name(self) -> str:
        """The last segment, empty for a root."""
        return self.segments[-1] if self.segments else ""

    @property
    def parent(self) -> Location:
        """The prefix that contains this location; a root is its own parent."""
        if not self.segments:
            return self
        stem = self.text.rstrip("/")
        end = stem.rindex("/") + (1 if len(self.segments) == 1 else 0)
        return Location(stem[:end], self.scheme, self.authority, self.segments[:-1])

    def child(self, *names: str) -> Location:
        """Return what lies below; each name is a segment or a relative path, taken literally.

        Raises:
            LocationError: a name breaks the rules of `parse` or is absolute.
        """
        tail = "/".join(names)
        text = self.text + ("" if self.text.endswith("/") else "/") + tail
        is_uri = not self.text.startswith("/")
        if not tail or _CONTROL.search(tail) or (is_uri and ("?" in tail or "#" in tail)):
            _refuse(text, "the name is empty or has a control character, a query or a fragment")
        return Location(
            text, self.scheme, self.authority, self.segments + _segments(text, "/" + tail)
        )

    def is_within(self, prefix: Location) -> bool:
        """Whether this is the prefix itself or lies below it, compared by whole segments."""
        return (
            self.segments[: len(prefix.segments)] == prefix.segments
            and self.scheme == prefix.scheme
            and self.authority == prefix.authority
        )

    def relative_to(self, prefix: Location) -> str:
        """Return the path below a prefix, empty for the prefix itself.

        Raises:
            LocationError: the location is not within the prefix.
        """
        if not self.is_within(prefix):
            _refuse(self.text, f"it is not within {prefix}")
        return "/".join(self.segments[len(prefix.segments) :])


@dataclass(frozen=True, slots=True)
class Confinement:
    """The prefixes that a table may touch: its location and what its properties configure."""

    prefixes: tuple[Location, ...]

    def admits(self, location: Location) -> bool:
        """Whether the location lies within one of the prefixes."""
        return any(location.is_within(prefix) for prefix in self.prefixes)

    def check(self, location: Location) -> Location:
        """Return the location when it is admitted.

        Raises:
            LocationError: it lies outside; the message names the file and the prefixes.
        """
        if not self.admits(location):
            allowed = ", ".join(str(prefix) for prefix in self.prefixes)
            _refuse(location.text, f"it lies outside of the table's prefixes: {allowed}")
        return location

    def parse(self, text: str) -> Location:
        """Read a URI out of metadata and check it.

        Raises:
            LocationError: it is malformed or lies outside.
        """
        return self.check(Location.parse(text))


def _refuse(text: str, reason: str) -> NoReturn:
    shown = text if len(text) <= _SHOWN_CHARACTERS_MAX else text[:_SHOWN_CHARACTERS_MAX] + "…"
    raise LocationError(f"refused location {shown!r}: {reason}")


def _check_authority(text: str, scheme: str, authority: str | None) -> None:
    if scheme == LOCAL_SCHEME:
        if authority:
            _refuse(text, "a local file has no host")
        return
    shape = _CONTAINER_AND_ACCOUNT if scheme == "abfss" else _BUCKET
    if not authority or not shape.fullmatch(authority):
        _refuse(text, "the bucket is missing or malformed, or has user information or a port")


def _segments(text: str, path: str) -> tuple[str, ...]:
    """Split a path that starts with a slash; one trailing slash is allowed."""
    inner = path[1:].removesuffix("/")
    if not inner:
        if len(path) > 1:
            _refuse(text, "it has an empty segment")
        return ()
    segments = tuple(inner.split("/"))
    if "" in segments:
        _refuse(text, "it has an empty segment")
    if not _DOTS.isdisjoint(segments) or (
        "%" in inner and any("%" in one and _hides_dots(one) for one in segments)
    ):
        _refuse(text, "it has a '.' or '..' segment or an encoded dot")
    return segments


def _hides_dots(segment: str) -> bool:
    """Whether a server that decodes once too often would see a way out in this segment.

    An encoded slash alone is legal: writers encode partition values, so `type=text%2Fhtml` is an
    ordinary directory. It is refused where it would set a dot segment free.
    """
    if "%2e" in segment.lower():
        return True
    for _ in range(_DECODINGS_MAX):
        decoded = unquote(segment)
        if decoded == segment:
            return False
        if not _DOTS.isdisjoint(decoded.replace("\\", "/").split("/")):
            return True
        segment = decoded
    return False
