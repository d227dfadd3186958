"""Changes out of a prefix of Parquet files, each of which is merged once.

The *watermark* is the name, below the prefix, of the last file that was merged. What comes later
in the order of names is new. So whoever writes the changes must give files names that grow, as
names that begin with a time or a number of fixed width do; a file that appears below the watermark
is never seen. Files that begin with `.` or `_`, at any depth, are not data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from catalog.location import Location
from catalog.storage import Storage
from compactor.errors import ChangesRefusedError
from compactor.merge.changes import Source
from compactor.merge.sources import Arrivals, united
from compactor.rewrite.input import open_parquet, row_groups

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
    """

    storage: Storage
    location: Location
    size_bytes: int
    row_count: int
    watermark: str
    number: int

    def read(self) -> Iterator[Source]:
        """Yield the changes, a row group at a time.

        Raises:
            CorruptTableError: it is no Parquet file, or damaged.
            ObjectNotFoundError, AccessDeniedError, StorageError: it cannot be read.
        """
        name, first_row = str(self.location), 0
        with open_parquet(
            self.storage, self.location, name=name, size_bytes=self.size_bytes
        ) as source:
            schema = source.file.schema_arrow
            for group in range(source.metadata.num_row_groups):
                batches = source.batches(group, schema.names)
                rows = pa.Table.from_batches(batches, schema=schema)
                yield Source(rows, name, file=self.number, first_row=first_row)
                first_row += rows.num_rows


@dataclass(frozen=True, slots=True)
class FileSource:
    """The files below a prefix; implements `compactor.merge.sources.ChangeSource`."""

    storage: Storage
    prefix: Location

    @property
    def name(self) -> str:
        """The prefix."""
        return str(self.prefix).rstrip("/")

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
