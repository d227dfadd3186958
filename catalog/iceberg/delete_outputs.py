"""Delete files and vectors that workers wrote, as manifests describe them, from their footers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyiceberg.manifest import DataFileContent, FileFormat
from pyiceberg.typedef import Record
from pyiceberg.types import LongType, StringType

from catalog.commits import OutputFile
from catalog.errors import CorruptTableError
from catalog.iceberg.data_file import DataFile, described
from catalog.iceberg.delete_writing import FILE_PATH_ID, POSITION_DELETES, POSITION_ID
from catalog.iceberg.marking import vector_file
from catalog.iceberg.metrics import Column, FileMetrics, MetricsMode, file_metrics, split_offsets
from catalog.iceberg.vector_files import CARDINALITY
from catalog.puffin import PlacedBlob

_COLUMNS = (
    Column(FILE_PATH_ID, "file_path", StringType(), is_repeated=False),
    Column(POSITION_ID, "pos", LongType(), is_repeated=False),
)
# Bounds that are cut would not say any more which data file is meant.
_MODES = {
    column.field_id: MetricsMode(has_counts=True, has_bounds=True, length_max=None)
    for column in _COLUMNS
}


@dataclass(frozen=True, slots=True)
class VerifiedDeletes:
    """A position delete file as its own footer describes it."""

    file: OutputFile
    metrics: FileMetrics
    split_offsets: list[int] | None

    @staticmethod
    def of(output: OutputFile, footer: Any) -> VerifiedDeletes:
        """Describe an output by its footer.

        Raises:
            CorruptTableError: it is no position delete file.
        """
        if footer.schema.to_arrow_schema().names != POSITION_DELETES.names:
            raise CorruptTableError(f"the output {output.path} is no position delete file")
        metrics = file_metrics(footer, _COLUMNS, _MODES)
        return VerifiedDeletes(output, metrics, split_offsets(footer))

    def data_file(
        self,
        partition: Record,
        spec_id: int,
        *,
        sort_order_id: int | None = None,
        inputs: Sequence[DataFile] = (),
    ) -> DataFile:
        """Return its manifest form in a partition; its rows are in the one order there is."""
        del sort_order_id, inputs
        return described(
            spec_id,
            {
                "content": DataFileContent.POSITION_DELETES,
                "file_path": self.file.path,
                "file_format": FileFormat.PARQUET,
                "partition": partition,
                "record_count": self.file.row_count,
                "file_size_in_bytes": self.file.size_bytes,
                "column_sizes": self.metrics.column_sizes,
                "value_counts": self.metrics.value_counts,
                "null_value_counts": self.metrics.null_value_counts,
                "lower_bounds": self.metrics.lower_bounds,
                "upper_bounds": self.metrics.upper_bounds,
                "split_offsets": self.split_offsets,
            },
        )


@dataclass(frozen=True, slots=True)
class VerifiedVector:
    """A deletion vector as the footer of its own file describes it."""

    file: OutputFile
    vector: PlacedBlob

    @staticmethod
    def of(output: OutputFile, vector: PlacedBlob) -> VerifiedVector:
        """Describe an output.

        Raises:
            CorruptTableError: it is not what was announced.
        """
        end = vector.place.offset + vector.place.length
        if vector.properties[CARDINALITY] != str(output.row_count) or end > output.size_bytes:
            raise CorruptTableError(
                f"the output {output.path} drops {vector.properties[CARDINALITY]} rows,"
                f" {output.row_count} were announced"
            )
        return VerifiedVector(output, vector)

    def data_file(
        self,
        partition: Record,
        spec_id: int,
        *,
        sort_order_id: int | None = None,
        inputs: Sequence[DataFile] = (),
    ) -> DataFile:
        """Return its manifest form in a partition."""
        del sort_order_id, inputs
        like = described(spec_id, {"partition": partition})
        return vector_file(self.file.path, self.file.size_bytes, self.vector, like=like)
