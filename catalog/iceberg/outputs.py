"""The outputs of a commit, read back from storage: a manifest names nothing that was not seen.

The coordinator opens the footer of every file that workers say they wrote, so that one that is
missing, short or wrong is found before the commit and not by a reader after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record

from catalog.errors import CorruptTableError, ObjectNotFoundError
from catalog.iceberg.file_schema import columns_of
from catalog.iceberg.metrics import FileMetrics, file_metrics, metrics_modes, split_offsets
from catalog.location import Confinement, Location
from catalog.model import Commit, OutputFile, Rewrite
from catalog.storage import Storage

# Footers are small and far away: a few requests in flight hide the latency.
_READERS = 8


@dataclass(frozen=True, slots=True)
class VerifiedOutput:
    """An output as its own footer describes it."""

    file: OutputFile
    metrics: FileMetrics
    split_offsets: list[int] | None

    def data_file(self, partition: Record, spec_id: int) -> DataFile:
        """Return its manifest form in a partition; no sort order is claimed."""
        data_file = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=self.file.path,
            file_format=FileFormat.PARQUET,
            partition=partition,
            record_count=self.file.row_count,
            file_size_in_bytes=self.file.size_bytes,
            column_sizes=self.metrics.column_sizes,
            value_counts=self.metrics.value_counts,
            null_value_counts=self.metrics.null_value_counts,
            nan_value_counts=None,
            lower_bounds=self.metrics.lower_bounds,
            upper_bounds=self.metrics.upper_bounds,
            key_metadata=None,
            split_offsets=self.split_offsets,
            equality_ids=None,
            sort_order_id=None,
        )
        data_file.spec_id = spec_id
        return data_file


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

    def read(self, commit: Commit) -> dict[str, VerifiedOutput]:
        """Return the outputs of a commit by path.

        Raises:
            CorruptTableError: one is missing, short, or not what was announced; or a group's
                outputs do not hold the number of rows that its inputs keep.
        """
        outputs = _distinct_outputs(commit)
        for rewrite in commit.rewrites:
            _require_row_arithmetic(rewrite)
        with ThreadPoolExecutor(_READERS) as readers:
            return {verified.file.path: verified for verified in readers.map(self._one, outputs)}

    def _one(self, output: OutputFile) -> VerifiedOutput:
        location = self.confinement.parse(output.path)
        try:
            return self._verified(output, location)
        except ObjectNotFoundError as error:
            raise CorruptTableError(f"the output {output.path} does not exist") from error
        except pa.ArrowException as error:
            raise CorruptTableError(f"the output {output.path} cannot be read: {error}") from error

    def _verified(self, output: OutputFile, location: Location) -> VerifiedOutput:
        size_bytes = self.storage.size(location)
        _require(output, "bytes", announced=output.size_bytes, found=size_bytes)
        with self.storage.open_input(location, size_bytes=size_bytes) as source:
            footer = pq.read_metadata(source)
        _require(output, "rows", announced=output.row_count, found=footer.num_rows)
        return self._described(output, footer)

    def _described(self, output: OutputFile, footer: Any) -> VerifiedOutput:
        arrow = footer.schema.to_arrow_schema()
        for schema in self.schemas:
            columns = columns_of(arrow, schema)
            if columns is not None:
                modes = metrics_modes(columns, self.properties)
                metrics = file_metrics(footer, columns, modes)
                return VerifiedOutput(output, metrics, split_offsets(footer))
        raise CorruptTableError(f"the output {output.path} does not have the columns of the table")


def _require(output: OutputFile, what: str, *, announced: int, found: int) -> None:
    if announced != found:
        raise CorruptTableError(
            f"the output {output.path} has {found} {what}, {announced} were announced"
        )


def _distinct_outputs(commit: Commit) -> list[OutputFile]:
    outputs = [output for rewrite in commit.rewrites for output in rewrite.added]
    inputs = [path for one in commit.rewrites for path in one.files.files["path"].to_pylist()]
    paths = {output.path for output in outputs}
    if len(paths) != len(outputs) or not paths.isdisjoint(inputs):
        raise CorruptTableError(f"commit {commit.commit_id} names a file twice")
    return outputs


def _require_row_arithmetic(rewrite: Rewrite) -> None:
    kept = rewrite.files.row_count - rewrite.rows_dropped
    written = sum(output.row_count for output in rewrite.added)
    if written != kept:
        raise CorruptTableError(
            f"group {rewrite.group_id} wrote {written} rows where {kept} were to be kept"
        )


def schemas_since(metadata: TableMetadata, commit: Commit) -> list[Schema]:
    """Return the schemas that were current since the base of the commit, the newest first.

    Workers write with the schema that was current when they were given their task. An older one
    would silently drop the columns that came after it.
    """
    current = metadata.schema()
    base = next(
        (one for one in metadata.snapshots if str(one.snapshot_id) == commit.base.snapshot_id), None
    )
    base_id = current.schema_id if base is None or base.schema_id is None else base.schema_id
    later = [schema for schema in metadata.schemas if schema.schema_id >= base_id]
    return [current, *sorted(later, key=lambda schema: -schema.schema_id)]
