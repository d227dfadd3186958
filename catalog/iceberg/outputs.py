"""The outputs of a commit as manifests describe them, from their own footers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyiceberg.manifest import DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record

from catalog.commits import Commit, OutputFile
from catalog.errors import CorruptTableError
from catalog.iceberg.data_file import DataFile, described
from catalog.iceberg.delete_outputs import VerifiedDeletes, VerifiedVector
from catalog.iceberg.file_schema import columns_of
from catalog.iceberg.metrics import FileMetrics, file_metrics, metrics_modes, split_offsets
from catalog.iceberg.row_lineage import lineage_schema, tracks_rows
from catalog.iceberg.vector_files import ENDING, the_vector_in
from catalog.location import Confinement
from catalog.outputs import read_outputs
from catalog.puffin import PlacedBlob
from catalog.storage import Storage


@dataclass(frozen=True, slots=True)
class VerifiedOutput:
    """An output as its own footer describes it."""

    file: OutputFile
    metrics: FileMetrics
    split_offsets: list[int] | None

    def data_file(
        self,
        partition: Record,
        spec_id: int,
        *,
        sort_order_id: int | None = None,
        inputs: Sequence[DataFile] = (),
    ) -> DataFile:
        """Return its manifest form in a partition, with the order that its rows are in.

        Args:
            partition: the values that part it.
            spec_id: the spec that it is of.
            sort_order_id: the order that its rows are in.
            inputs: the files that rows of it were in.
        """
        metrics = self.metrics.beside([one.nan_value_counts for one in inputs])
        return described(
            spec_id,
            {
                "content": DataFileContent.DATA,
                "file_path": self.file.path,
                "file_format": FileFormat.PARQUET,
                "partition": partition,
                "record_count": self.file.row_count,
                "file_size_in_bytes": self.file.size_bytes,
                "column_sizes": metrics.column_sizes,
                "value_counts": metrics.value_counts,
                "null_value_counts": metrics.null_value_counts,
                "nan_value_counts": metrics.nan_value_counts,
                "lower_bounds": metrics.lower_bounds,
                "upper_bounds": metrics.upper_bounds,
                "key_metadata": None,
                "split_offsets": self.split_offsets,
                "equality_ids": None,
                "sort_order_id": sort_order_id,
            },
        )


# What a commit adds to a table.
Verified = VerifiedOutput | VerifiedDeletes | VerifiedVector


@dataclass(frozen=True, slots=True)
class OutputReader:
    """Reads outputs back and compares them with what was announced.

    Attributes:
        storage: where the outputs are.
        confinement: where outputs may be.
        schemas: the schemas that an output may have been written with, the likeliest first.
        properties: the table's, for the metrics modes.
    """

    storage: Storage
    confinement: Confinement
    schemas: Sequence[Schema]
    properties: Mapping[str, str]

    def read(self, commit: Commit) -> dict[str, Verified]:
        """Return the outputs of a commit by path.

        Raises:
            CorruptTableError: as `read_outputs`, or one does not have the columns of the table.
        """
        deletes = {
            one.path
            for rewrite in commit.rewrites
            if rewrite.records_deletes
            for one in rewrite.added
        }

        def described(output: OutputFile, footer: Any) -> Verified:
            if isinstance(footer, PlacedBlob):
                return VerifiedVector.of(output, footer)
            if output.path in deletes:
                return VerifiedDeletes.of(output, footer)
            return self._described(output, footer)

        def vector(output: OutputFile) -> PlacedBlob | None:
            if output.path not in deletes or not output.path.endswith(ENDING):
                return None
            return the_vector_in(self.confinement.parse(output.path), self.storage)

        return read_outputs(
            commit,
            self.storage,
            confinement=self.confinement,
            describe=described,
            other_footer=vector,
        )

    def _described(self, output: OutputFile, footer: Any) -> VerifiedOutput:
        arrow = footer.schema.to_arrow_schema()
        for schema in self.schemas:
            columns = columns_of(arrow, schema)
            if columns is not None:
                modes = metrics_modes(columns, self.properties)
                metrics = file_metrics(footer, columns, modes)
                return VerifiedOutput(output, metrics, split_offsets(footer))
        raise CorruptTableError(f"the output {output.path} does not have the columns of the table")


def schemas_since(metadata: TableMetadata, commit: Commit) -> list[Schema]:
    """Return the schemas that were current since the base of the commit, the newest first.

    Workers write with the schema that was current when they were given their task. An older one
    would silently drop the columns that came after it. Ids of rows are stored as soon as they have
    any: a table may come to have them while it is rewritten.
    """
    current = metadata.schema()
    base = next(
        (one for one in metadata.snapshots if str(one.snapshot_id) == commit.base.snapshot_id), None
    )
    base_id = current.schema_id if base is None or base.schema_id is None else base.schema_id
    later = [schema for schema in metadata.schemas if schema.schema_id >= base_id]
    found = [current, *sorted(later, key=lambda schema: -schema.schema_id)]
    if not tracks_rows(metadata):
        return found
    has_ids = any(
        one.files.files["first_row_id"].null_count < one.files.file_count for one in commit.rewrites
    )
    return [*map(lineage_schema, found), *(() if has_ids else found)]
