"""What a commit changes in a table, as far as its metadata table must know.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from catalog.hudi.metadata_table.column_ranges import ColumnRange
from catalog.hudi.metadata_table.table import Operation


@dataclass(frozen=True, slots=True)
class AddedFile:
    """A file that a commit adds.

    Attributes:
        partition_path: empty for a table without partitions.
        name: of the file.
        size_bytes: its length.
        file_id: its file group.
        previous_name: the base file that it takes the place of in its group; None for none.
        ranges: of its columns, from its footer; empty for a log file.
        keys_before: yields the keys of the rows that its slice had before; None where these are all
            that the previous base file stores.
    """

    partition_path: str
    name: str
    size_bytes: int
    file_id: str
    previous_name: str | None = None
    ranges: tuple[ColumnRange, ...] = ()
    keys_before: Callable[[], Iterator[pa.Array]] | None = None

    @property
    def is_log(self) -> bool:
        """Whether it is a log file."""
        return self.name.startswith(".")

    @property
    def path(self) -> str:
        """Where it is below the table."""
        return f"{self.partition_path}/{self.name}" if self.partition_path else self.name


@dataclass(frozen=True, slots=True)
class MetadataChange:
    """What a commit changes.

    Attributes:
        operation: what it does.
        added: files that it adds.
        deleted: names of files that it deletes, by partition path.
        deleted_partitions: paths of partitions that are gone.
        live: by path of each partition that files are added to, the names of all files that its
            slices have after the commit, logs among them; needed where `PARTITION_STATS` is kept.
        schema: the Avro schema of the table's rows, as the commit names it.
    """

    operation: Operation
    added: tuple[AddedFile, ...] = ()
    deleted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    deleted_partitions: frozenset[str] = frozenset()
    live: Mapping[str, frozenset[str]] = field(default_factory=dict)
    schema: str = ""
