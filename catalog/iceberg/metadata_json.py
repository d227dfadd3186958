"""Table metadata written by us for the catalogs that leave it to their clients.

PyIceberg drops the fields that it does not know, and refuses to write format version 3. So what it
makes of the new metadata is merged with the file before: whatever it has not changed stays as it
was there, known or not.

Specification: https://iceberg.apache.org/spec/#table-metadata-fields
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from pyiceberg.catalog import Catalog, MetastoreCatalog
from pyiceberg.io import FileIO
from pyiceberg.serializers import Compressor
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil
from pyiceberg.typedef import IcebergBaseModel

# By what the members of a list are known, of those that it has.
_IDENTITIES = ("snapshot-id", "schema-id", "spec-id", "order-id", "field-id", "id", "metadata-file")
_LAST_WITHOUT_ROW_IDS = 2
_GLUE_WRITER = "_write_metadata_no_exist_check"


def write_metadata_with_every_field(catalog: Catalog) -> None:
    """Make a catalog write metadata as said above; those with a server of their own write none."""
    if isinstance(catalog, MetastoreCatalog):
        # The one place that its commits and creations write through; it offers no other.
        catalog._write_metadata = write_metadata  # type: ignore[method-assign]  # noqa: SLF001
    if hasattr(catalog, _GLUE_WRITER):
        # For stores of its own that cannot be asked whether a file is there.
        setattr(catalog, _GLUE_WRITER, partial(write_metadata, overwrites=True))


def write_metadata(
    metadata: TableMetadata, io: FileIO, metadata_path: str, *, overwrites: bool = False
) -> None:
    """Write the metadata of a table, with what the file before it holds besides."""
    document = _dumped(metadata)
    if metadata.metadata_log:
        before = _read(io, metadata.metadata_log[-1].metadata_file)
        document = merged(before, _dumped(TableMetadataUtil.parse_obj(before)), document)
    if metadata.format_version > _LAST_WITHOUT_ROW_IDS and not metadata.snapshots:
        document.setdefault("next-row-id", 0)  # the library forgets to begin
    content = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    content = Compressor.get_compressor(metadata_path).bytes_compressor()(content)
    with io.new_output(metadata_path).create(overwrite=overwrites) as sink:
        sink.write(content)


def merged(before: Any, known: Any, new: Any) -> Any:
    """Return a new document that has what a library does not know of the one before.

    Args:
        before: the document before.
        known: what the library makes of it.
        new: what it makes of the new one.
    """
    if new == known:
        return before
    if isinstance(new, dict) and isinstance(known, dict) and isinstance(before, dict):
        unknown = {key: value for key, value in before.items() if key not in known}
        inner = {
            key: merged(before[key], known[key], value) if key in before and key in known else value
            for key, value in new.items()
        }
        return {**unknown, **inner}
    if isinstance(new, list) and isinstance(known, list) and isinstance(before, list):
        return list(_members(before, known, new)) if len(before) == len(known) else new
    return new


def _members(before: Sequence[Any], known: Sequence[Any], new: Sequence[Any]) -> Iterator[Any]:
    """Merge each new member with the one before that is known by the same."""
    places = {_identity(one): place for place, one in enumerate(known)}
    for one in new:
        place = places.get(_identity(one))
        yield one if place is None else merged(before[place], known[place], one)


def _identity(member: Any) -> Any:
    if not isinstance(member, dict):
        return json.dumps(member)
    found = next((name for name in _IDENTITIES if name in member), None)
    return json.dumps(member, sort_keys=True) if found is None else (found, member[found])


def _read(io: FileIO, location: str) -> Any:
    compressor = Compressor.get_compressor(location)
    with (
        io.new_input(location).open() as source,
        compressor.stream_decompressor(source) as plain,
    ):
        return json.loads(plain.read())


def _dumped(metadata: TableMetadata) -> Any:
    # That of version 3 refuses to be written, by a method of its own.
    return json.loads(IcebergBaseModel.model_dump_json(metadata))
