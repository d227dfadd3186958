"""Manifests of delete files, as the specification has them: PyIceberg writes none of its own."""

from __future__ import annotations

from pyiceberg.manifest import (
    ManifestContent,
    ManifestWriterV2,
    data_file_with_partition,
    manifest_entry_schema_with_data_file,
)
from pyiceberg.schema import Schema
from pyiceberg.typedef import TableVersion
from pyiceberg.types import IntegerType, ListType, NestedField, StructType

# The reference implementation reads 32-bit ids alone; those of the library have 64.
_EQUALITY_IDS = NestedField(
    135, "equality_ids", ListType(136, IntegerType(), element_required=True), required=False
)


class DeleteManifestWriter(ManifestWriterV2):
    """Writes manifests of delete files; the stock writer always says that they are data."""

    def content(self) -> ManifestContent:
        """Say that the files are delete files."""
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}

    def _with_partition(self, format_version: TableVersion) -> Schema:
        data_file = data_file_with_partition(
            self._spec.partition_type(self._schema), format_version
        )
        fields = (
            _EQUALITY_IDS if field.field_id == _EQUALITY_IDS.field_id else field
            for field in data_file.fields
        )
        return manifest_entry_schema_with_data_file(format_version, StructType(*fields))
