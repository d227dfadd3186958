"""Position delete files and deletion vectors: what they look like, and those that a change writes.

A change writes one file for each of its groups, under a name that follows from the commit and with
a content that follows from it, too. So whoever commits it again finds the same file, and it can be
removed by name when nothing came of the commit. In tables that have deletion vectors the file holds
one for each data file, which takes over what was deleted of it before.

Specification: https://iceberg.apache.org/spec/#position-delete-files
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import DataFile as AnyDataFile
from pyiceberg.manifest import DataFileContent, FileFormat
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import LongType

from catalog.commits import Commit, Rewrite
from catalog.errors import ObjectExistsError, UnsupportedTableError
from catalog.iceberg.data_file import DataFile, described
from catalog.iceberg.delete_writing import FILE_PATH_ID, POSITION_ID, encode
from catalog.iceberg.files import IcebergFiles
from catalog.iceberg.position_deletes import read_positions
from catalog.iceberg.vector_files import CARDINALITY, TARGET, file_of_vectors, placed_in
from catalog.location import Location
from catalog.model import KEEP_ALL
from catalog.puffin import PlacedBlob
from catalog.storage import Storage

_Positions = npt.NDArray[np.int64]
# The last format version whose rows are marked by files of rows.
LAST_WITHOUT_VECTORS = 2
_ROWS, _VECTORS = "parquet", "puffin"


def can_mark(metadata: TableMetadata) -> bool:
    """Whether a table may have delete files."""
    return metadata.format_version > 1


def refuse_marks(commit: Commit, metadata: TableMetadata) -> None:
    """Refuse a change that marks rows in a table that has no delete files.

    Raises:
        UnsupportedTableError: it does.
    """
    if not can_mark(metadata) and any(one.marks for one in commit.rewrites):
        raise UnsupportedTableError(
            f"tables of format version {metadata.format_version} have no position deletes",
            hint="rewrite the files instead, or upgrade the table to version 2",
        )


def data_file(
    location: str, size_bytes: int, positions: Mapping[str, _Positions], *, like: AnyDataFile
) -> DataFile:
    """Return the manifest form of a delete file.

    Args:
        location: its path.
        size_bytes: its length.
        positions: its content.
        like: a data file of the partition that the deletes are filed under.
    """
    paths = sorted(path.encode() for path in positions)
    count = sum(map(len, positions.values()))
    least = min(int(some[0]) for some in positions.values())
    greatest = max(int(some[-1]) for some in positions.values())
    return described(
        like.spec_id,
        {
            "content": DataFileContent.POSITION_DELETES,
            "file_path": location,
            "file_format": FileFormat.PARQUET,
            "partition": like.partition,
            "record_count": count,
            "file_size_in_bytes": size_bytes,
            "value_counts": {FILE_PATH_ID: count, POSITION_ID: count},
            "null_value_counts": {FILE_PATH_ID: 0, POSITION_ID: 0},
            # Equal bounds of the path scope the deletes to the one file.
            "lower_bounds": {FILE_PATH_ID: paths[0], POSITION_ID: to_bytes(LongType(), least)},
            "upper_bounds": {FILE_PATH_ID: paths[-1], POSITION_ID: to_bytes(LongType(), greatest)},
            "split_offsets": [4],
        },
    )


def vector_file(
    location: str, size_bytes: int, vector: PlacedBlob, *, like: AnyDataFile
) -> DataFile:
    """Return the manifest form of a deletion vector; the arguments are those of `data_file`."""
    return described(
        like.spec_id,
        {
            "content": DataFileContent.POSITION_DELETES,
            "file_path": location,
            "file_format": FileFormat.PUFFIN,
            "partition": like.partition,
            "record_count": int(vector.properties[CARDINALITY]),
            "file_size_in_bytes": size_bytes,
            "referenced_data_file": vector.properties[TARGET],
            "content_offset": vector.place.offset,
            "content_size_in_bytes": vector.place.length,
        },
    )


@dataclass(frozen=True, slots=True)
class Marker:
    """Writes the delete files of one change, each once.

    Attributes:
        storage: where they go.
        commit: the change.
        files: the workers' side of the base.
    """

    storage: Storage
    commit: Commit
    files: IcebergFiles
    _written: dict[str, int] = field(default_factory=dict)
    _vectors: dict[str, tuple[int, tuple[PlacedBlob, ...]]] = field(default_factory=dict)

    def file(self, number: int, like: DataFile) -> DataFile:
        """Write the marks of a group by its number; `like` is a data file of its partition."""
        rewrite = self.commit.rewrites[number]
        positions = {path: one.dropped for path, one in rewrite.marks.items()}
        location = self._location(number, rewrite, _ROWS)
        if str(location) not in self._written:
            self._written[str(location)] = self._write(location, positions)
        return data_file(str(location), self._written[str(location)], positions, like=like)

    def vectors(self, number: int, like: DataFile) -> list[DataFile]:
        """Do the same with deletion vectors, which hold what was deleted before as well."""
        rewrite = self.commit.rewrites[number]
        location = self._location(number, rewrite, _VECTORS)
        if str(location) not in self._vectors:
            self._vectors[str(location)] = self._write_vectors(location, rewrite)
        size_bytes, placed = self._vectors[str(location)]
        return [vector_file(str(location), size_bytes, one, like=like) for one in placed]

    def _write_vectors(
        self, location: Location, rewrite: Rewrite
    ) -> tuple[int, tuple[PlacedBlob, ...]]:
        is_marked = [path in rewrite.marks for path in rewrite.files.files["path"].to_pylist()]
        marked = rewrite.files.take(np.flatnonzero(is_marked))
        before = read_positions(marked, self.storage, self.files.locate)
        file = file_of_vectors(
            {
                path: np.union1d(one.dropped, before.get(path, KEEP_ALL).dropped)
                for path, one in rewrite.marks.items()
            }
        )
        with suppress(ObjectExistsError):
            self.storage.put_if_absent(location, file.content)
        return len(file.content), placed_in(file, str(location))

    def remove(self) -> None:
        """Remove what this or another process has written for the commit, none of it in a table."""
        self.storage.delete(self._locations())

    def _locations(self) -> Iterator[Location]:
        for number, rewrite in enumerate(self.commit.rewrites):
            if rewrite.marks:
                yield self._location(number, rewrite, _ROWS)
                yield self._location(number, rewrite, _VECTORS)

    def _location(self, number: int, rewrite: Rewrite, ending: str) -> Location:
        name = f"{self.commit.commit_id}-{number}-deletes.{ending}"
        return self.files.new_location(rewrite.target_key, name)

    def _write(self, location: Location, positions: Mapping[str, _Positions]) -> int:
        # Whatever is there holds the same rows: it has the name of this commit.
        with suppress(ObjectExistsError):
            self.storage.put_if_absent(location, encode(positions))
        return self.storage.size(location)
