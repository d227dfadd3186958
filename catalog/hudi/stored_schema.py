"""The schema of rows as files store them, which is not always what commits say of it.

Writers of change streams keep what happened to a row in a column of their own. Commits do not name
it: the newest file that has rows says whether there is one, as it does to Hudi's own readers. A row
that says it was deleted takes the older ones of its key away.
"""

from __future__ import annotations

import json

import pyarrow.parquet as pq

from catalog.errors import CorruptTableError, ObjectNotFoundError
from catalog.hudi.details import CommitDetails
from catalog.hudi.log_blocks import BlockKind, HeaderKey, read_blocks
from catalog.hudi.reading import Source, newest_commits
from catalog.hudi.schema import OPERATION, parse_avro

_ROWS = (BlockKind.AVRO_DATA, BlockKind.PARQUET_DATA)
_FIELD = {"name": OPERATION, "type": ["null", "string"], "default": None}


def stored_schema(source: Source) -> str:
    """Return the Avro schema of the rows in files; empty where nobody says it.

    Raises:
        CorruptTableError: a file cannot be read.
        UnsupportedTableError: columns go by ids, as with `hoodie.schema.on.read.enable`.
    """
    text, has_operations = "", None
    for details in newest_commits(source):
        text = text or details.schema
        if has_operations is None:
            has_operations = _has_operations(source, details)
        if text and has_operations is not None:
            break
    text = text or source.config.create_schema
    return _with_operations(text) if text and has_operations else text


def _with_operations(text: str) -> str:
    avro = json.loads(text)
    others = [one for one in avro["fields"] if one["name"] != OPERATION]
    return json.dumps({**avro, "fields": [_FIELD, *others]}, separators=(",", ":"))


def _has_operations(source: Source, details: CommitDetails) -> bool | None:
    """Tell whether rows that a commit wrote say it; None where it wrote none, or they are gone."""
    for one in details.write_stats:
        if one.inserted_count > 0 or one.updated_count > 0:
            try:
                columns = _columns(source, one.path)
            except ObjectNotFoundError:
                continue
            if columns:
                return OPERATION in columns
    return None


def _columns(source: Source, path: str) -> frozenset[str]:
    """Return the names of the columns of a file; none of a log without rows."""
    location = source.root.child(*path.split("/"))
    with source.storage.open_input(location) as file:
        if not location.name.startswith("."):
            try:
                return frozenset(pq.read_schema(file).names)
            except OSError as error:
                raise CorruptTableError(f"{location} cannot be read: {error}") from error
        blocks = [one for one in read_blocks(file) if one.kind in _ROWS]
    text = blocks[-1].header.get(HeaderKey.SCHEMA) if blocks else None
    return frozenset(one["name"] for one in parse_avro(text)["fields"]) if text else frozenset()
