"""Single columns of a Parquet file, found by field id, in batches of bounded size.

Every way in which the bytes can be wrong ends in a `CorruptTableError` that names the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.errors import CorruptTableError
from catalog.schema import FIELD_ID_KEY

Path = tuple[str, ...]
# Column chunks larger than this are read through a buffer of this size.
_BUFFER_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class ParquetColumns:
    """A Parquet file of which some columns are read.

    Attributes:
        name: the file, for messages.
        source: its bytes.
        metadata: its footer.
    """

    name: str
    source: Any
    metadata: pq.FileMetaData

    @property
    def arrow(self) -> pa.Schema:
        """Its columns as Arrow reads them."""
        return self.metadata.schema.to_arrow_schema()

    def batches(
        self, paths: Sequence[Path], *, rows: int, dictionaries: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """Yield all rows, at most so many at a time, with the columns at the given paths.

        Raises:
            CorruptTableError: a page cannot be decoded or fails its checksum, or rows are missing.
        """
        names = [".".join(path) for path in paths]
        rows_missing = self.metadata.num_rows
        with decoding(self.name):
            file = pq.ParquetFile(
                self.source,
                metadata=self.metadata,
                read_dictionary=list(dictionaries),
                buffer_size=_BUFFER_BYTES if self._largest_chunk(names) > _BUFFER_BYTES else 0,
                page_checksum_verification=True,
            )
            batches = file.iter_batches(rows, columns=names, use_threads=False)
            for batch in batches:
                rows_missing -= batch.num_rows
                yield batch
        if rows_missing:
            # A page whose header is damaged is passed over without a word.
            raise CorruptTableError(f"{rows_missing} rows of {self.name} are gone")

    def row_bytes(self, paths: Sequence[Path]) -> float:
        """Return what a row of some columns takes on average, before compression."""
        total = sum(
            chunk.total_uncompressed_size for chunk in self._chunks({".".join(p) for p in paths})
        )
        return float(total / max(1, self.metadata.num_rows))

    def _largest_chunk(self, names: Sequence[str]) -> int:
        return max((one.total_compressed_size for one in self._chunks(set(names))), default=0)

    def _chunks(self, names: set[str]) -> Iterator[pq.ColumnChunkMetaData]:
        for number in range(self.metadata.num_row_groups):
            group = self.metadata.row_group(number)
            for column in map(group.column, range(group.num_columns)):
                if column.path_in_schema in names:
                    yield column


def open_columns(source: Any, name: str) -> ParquetColumns:
    """Read the footer of a file.

    Raises:
        CorruptTableError: it is no Parquet file.
    """
    with decoding(name):
        return ParquetColumns(name, source, pq.read_metadata(source))


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn complaints of the Parquet reader into a `CorruptTableError` about the file."""
    try:
        yield
    except pa.ArrowMemoryError:
        raise  # it says nothing about the file
    except (pa.ArrowException, OSError) as fault:
        raise CorruptTableError(f"{name} cannot be read: {fault}") from fault


def paths_by_id(schema: pa.Schema, mapping: Mapping[Path, int]) -> dict[int, Path]:
    """Return where columns are in a file, by field id: at the top, or within structs.

    Args:
        schema: the file's.
        mapping: field ids by path of names, for files that carry none.
    """
    fields = list(_fields(schema, ()))
    ids = {path: field.metadata[FIELD_ID_KEY] for path, field in fields if _has_id(field)}
    if ids:
        return {int(number): path for path, number in ids.items()}
    return {mapping[path]: path for path, _ in fields if path in mapping}


def _has_id(field: pa.Field) -> bool:
    return FIELD_ID_KEY in (field.metadata or {})


def _fields(fields: Any, parent: Path) -> Iterator[tuple[Path, pa.Field]]:
    for field in fields:
        path = (*parent, field.name)
        yield path, field
        if pa.types.is_struct(field.type):
            yield from _fields(field.type, path)
