"""The outputs of a commit as the log describes them, from their own footers."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from catalog.commits import OutputFile
from catalog.delta.clustering import clustering_columns
from catalog.delta.contents import NewFile
from catalog.delta.paths import Paths
from catalog.delta.state import TableState
from catalog.delta.stats import StatsColumn, file_stats, stats_columns
from catalog.errors import CorruptTableError
from catalog.schema import TableSchema, field_id


@dataclass(frozen=True, slots=True)
class OutputDescriber:
    """Makes of an output and its footer what the log says of it.

    Attributes:
        paths: where files of the table may lie.
        schema: the columns that outputs must have.
        columns: those that statistics are collected of.
    """

    paths: Paths
    schema: TableSchema
    columns: tuple[StatsColumn, ...]

    @staticmethod
    def of(state: TableState, schema: TableSchema, paths: Paths) -> OutputDescriber:
        """Describe files of a version."""
        metadata = state.metadata
        columns = stats_columns(
            json.loads(metadata.schema_text)["fields"],
            metadata.configuration,
            partition_columns=metadata.partition_columns,
            always=clustering_columns(state),
        )
        return OutputDescriber(paths, schema, columns)

    def __call__(self, output: OutputFile, footer: Any) -> NewFile:
        """Describe one.

        Raises:
            CorruptTableError: it does not have the columns of the table.
        """
        if not _has_columns(footer.schema.to_arrow_schema(), self.schema):
            raise CorruptTableError(
                f"the output {output.path} does not have the columns of the table"
            )
        return NewFile(
            path=self.paths.stored(self.paths.confinement.parse(output.path)),
            size_bytes=output.size_bytes,
            modified_ms=int(time.time() * 1000),
            row_count=output.row_count,
            stats=file_stats(footer, self.columns),
        )


def _has_columns(found: pa.Schema, schema: TableSchema) -> bool:
    wanted = schema.written
    if found.names != wanted.names or found.types != wanted.types:
        return False
    return not schema.has_field_ids or [*map(field_id, found)] == [*map(field_id, wanted)]
