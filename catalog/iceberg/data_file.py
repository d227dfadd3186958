"""A file as manifests of every format version describe it: PyIceberg's, with the fields of v3.

Specification: https://iceberg.apache.org/spec/#data-file-fields
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyiceberg import manifest

from catalog.iceberg.deletion_vectors import file_name

# The place of the fields that version 3 has added, in the library's record.
_FIRST_ROW_ID, _REFERENCED, _OFFSET, _SIZE = 16, 17, 18, 19


_FIELDS = manifest.DATA_FILE_TYPE[3].fields


class DataFile(manifest.DataFile):
    """A data file or delete file."""

    @property
    def name(self) -> str:
        """What tells it from all others: its path; of deletion vectors, its place besides."""
        return file_name(self.file_path, self.content_offset, self.content_size_in_bytes)

    @property
    def first_row_id(self) -> int | None:
        """The id of its first row, where it was given one for good."""
        found: int | None = self[_FIRST_ROW_ID]
        return found

    @property
    def referenced_data_file(self) -> str | None:
        """The one data file that it deletes rows of, where the writer says so."""
        found: str | None = self[_REFERENCED]
        return found

    @property
    def content_offset(self) -> int | None:
        """Where in its file a deletion vector begins; None for what is no deletion vector."""
        found: int | None = self[_OFFSET]
        return found

    @property
    def content_size_in_bytes(self) -> int | None:
        """Length of a deletion vector."""
        found: int | None = self[_SIZE]
        return found


def described(spec_id: int, fields: Mapping[str, Any]) -> DataFile:
    """Return a file of a spec from fields by the names of the specification; absent ones are null.

    The library's own way to make one leaves out the fields of version 3.
    """
    file = DataFile(*(fields.get(field.name) for field in _FIELDS))
    file.spec_id = spec_id
    return file
