"""Changes out of a prefix of Parquet files, each of which is merged once.

The *watermark* is the name, below the prefix, of the last file that was merged. What comes later
in the order of names is new. So whoever writes the changes must give files names that grow, as
names that begin with a time or a number of fixed width do; a file that appears below the watermark
is never seen. Files that begin with `.` or `_`, at any depth, are not data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import pairwise

import pyarrow as pa

from catalog.location import Location
from catalog.storage import Storage
from compactor.errors import ChangesRefusedError
from compactor.merge.changes import Source
from compactor.merge.sources import Arrivals, united
from compactor.rewrite.input import ParquetInput, open_parquet, row_groups
from compactor.rewrite.nested import schema_without_views

_SUFFIX = ".parquet"


@dataclass(frozen=True, slots=True)
class ChangeFile:
    """A file of changes; implements `compactor.merge.sources.Part`.

    Attributes:
        storage: where it is.
        location: it.
        size_bytes: its length.
        row_count: number of its rows.
        watermark: its name below the prefix.
        number: its place among those that are merged together.
        row_groups: the ones that are read, from the first to before the last; None for all.
    """

    storage: Storage
    location: Location
    size_bytes: int
    row_count: int
    watermark: str
    number: int
    row_groups: tuple[int, int] | None = None

    def divided(self, count: int) -> list[ChangeFile]:
        """Return parts of the file that are read apart, as many as that if it has the row groups.

        Raises:
            CorruptTableError: it is no Parquet file, or damaged.
            ObjectNotFoundError, AccessDeniedError, StorageError: it cannot be read.
        """
        with self._opened(reads_ahead=False) as source:
            every = source.metadata.num_row_groups
        count = max(1, min(count, every))
        cuts = [every * at // count for at in range(count + 1)]
        return [replace(self, row_groups=both) for both in pairwise(cuts)]

    def read(self) -> Iterator[Source]:
        """Yield the changes, a row group at a time.

        Raises:
            CorruptTableError: it is no Parquet file, or damaged.
            ObjectNotFoundError, AccessDeniedError, StorageError: it cannot be read.
        """
        name = str(self.location)
        with self._opened() as source:
            schema = schema_without_views(source.file.schema_arrow)
            every = source.metadata.num_row_groups
            start, end = self.row_groups or (0, every)
            first_row = sum(source.metadata.row_group(at).num_rows for at in range(start))
            for group in range(start, end):
                batches = source.batches(group, schema.names)
                rows = pa.Table.from_batches(batches, schema=schema)
                yield Source(rows, name, file=self.number, first_row=first_row)
                first_row += rows.num_rows

    def _opened(self, *, reads_ahead: bool = True) -> AbstractContextManager[ParquetInput]:
        return open_parquet(
            self.storage,
            self.location,
            name=str(self.location),
            size_bytes=self.size_bytes,
            reads_ahead=reads_ahead,
        )


@dataclass(frozen=True, slots=True)
class FileSource:
    """The files below a prefix; implements `compactor.merge.sources.ChangeSource`."""

    storage: Storage
    prefix: Location

    @property
    def name(self) -> str:
        """The prefix, in one spelling: what was merged under one is merged under all."""
        prefix = self.prefix
        return (
            prefix.path if prefix.is_local else f"{prefix.scheme}://{prefix.authority}/{prefix.key}"
        )

    def arrivals(self, watermark: str | None) -> Arrivals:
        """Return the files after a watermark, in the order of their names.

        Raises:
            ChangesRefusedError: a file is no Parquet file by its name: its changes would be lost.
            CorruptTableError: one is none by its content.
            AccessDeniedError, StorageError: they cannot be listed or read.
        """
        schemas, parts = [], []
        for number, (name, location, size_bytes) in enumerate(self._new(watermark)):
            with open_parquet(
                self.storage, location, name=str(location), size_bytes=size_bytes, reads_ahead=False
            ) as source:
                rows = sum(group.num_rows for group in row_groups(source.metadata))
                schemas.append(source.file.schema_arrow)
            parts.append(ChangeFile(self.storage, location, size_bytes, rows, name, number))
        reached = parts[-1].watermark if parts else watermark
        return Arrivals(united(iter(schemas)), tuple(parts), reached)

    def _new(self, watermark: str | None) -> list[tuple[str, Location, int]]:
        """Return name, location and size of the files after a watermark."""
        found = sorted(
            (one.location.relative_to(self.prefix), one.location, one.size_bytes)
            for one in self.storage.list(self.prefix)
        )
        new = [
            one
            for one in found
            if not any(part[:1] in "._" for part in one[0].split("/"))
            and (watermark is None or one[0] > watermark)
        ]
        strange = [name for name, _, _ in new if not name.endswith(_SUFFIX)]
        if strange:
            raise ChangesRefusedError(
                f"{self.prefix} has {strange[0]!r} among the changes, which is no {_SUFFIX} file",
                hint="Only Parquet files are read; names that begin with . or _ are passed over.",
            )
        return new
