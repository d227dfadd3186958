"""Whether tables have changed since they were looked at last, as cheaply as each format allows.

A *head* is a text that stays the same for as long as a table does: where its metadata lies, or the
number of its version. Nothing else may be read out of it. Thousands of tables are asked about at
once: one question to a catalog that can answer for all, or else a question per table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from catalog.errors import CatalogError, TableNotFoundError
from catalog.open import is_named, name_parts


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A table and the head that it had; empty when it was never looked at."""

    target: str
    head: str


@dataclass(frozen=True, slots=True)
class SeenHead:
    """A table whose head has changed, or that cannot be looked at.

    Attributes:
        target: the table.
        head: the head it has now; empty when it cannot be told.
        error: why it cannot be told; None when it can.
    """

    target: str
    head: str
    error: CatalogError | None = None

    @property
    def is_missing(self) -> bool:
        """Whether there is no such table, as opposed to one that cannot be reached."""
        return isinstance(self.error, TableNotFoundError)


def changed_heads(known: Iterable[KnownHead]) -> Iterator[SeenHead]:
    """Yield the tables that are not as they were; what cannot be told is told, too."""
    named: dict[str, list[KnownHead]] = defaultdict(list)
    at_paths: list[KnownHead] = []
    for one in known:
        if not is_named(one.target):
            at_paths.append(one)
            continue
        try:
            named[_parts(one)[0]].append(one)
        except CatalogError as error:
            yield SeenHead(one.target, "", error)
    for catalog_name, tables in named.items():
        yield from _in_catalog(catalog_name, tables)
    if at_paths:
        from catalog.delta.heads import version_heads  # lazy: not everybody has tables at paths

        yield from _changed(at_paths, version_heads([(one.target, one.head) for one in at_paths]))


def _parts(known: KnownHead) -> list[str]:
    return name_parts(known.target.removeprefix("iceberg:"), shown=known.target)


def _in_catalog(catalog_name: str, tables: Sequence[KnownHead]) -> Iterator[SeenHead]:
    from catalog.iceberg.heads import metadata_heads  # lazy: half a second to import

    identifiers = [tuple(_parts(one)[1:]) for one in tables]
    yield from _changed(tables, metadata_heads(catalog_name, identifiers))


def _changed(
    tables: Sequence[KnownHead], heads: Iterable[str | CatalogError]
) -> Iterator[SeenHead]:
    for one, head in zip(tables, heads, strict=True):
        if isinstance(head, CatalogError):
            yield SeenHead(one.target, "", head)
        elif head != one.head:
            yield SeenHead(one.target, head)
