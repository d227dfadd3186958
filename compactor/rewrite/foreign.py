"""Outputs in the form that the inputs have, where all agree on one that our encoder does not write.

Writers declare the same columns in other ways: all of them optional, annotated in the older way,
lists spelled otherwise. Readers of the table read such files already, so row groups of them may
become a file of the same form. Rows are encoded beside them if our encoder can be told to write
that form; else the form serves only where everything is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.schema import TableSchema, field_id
from compactor.parquet import Footer, declared_as, why_not
from compactor.rewrite.encoding import Encoding
from compactor.rewrite.fitting import Form
from compactor.rewrite.input import decoding


def foreign_form(footer: Footer, forms: Sequence[Form], table: TableSchema) -> Form | None:
    """Return the form of files like an input's; None when it is one of `forms`, or serves nobody.

    Args:
        footer: the input's.
        forms: what our encoder writes, the preferred form first.
        table: the columns that outputs have.

    Raises:
        CorruptTableError: the footer cannot be read.
    """
    first = forms[0]
    if footer.obstacle is not None or any(footer.schema == form.like.schema for form in forms):
        return None
    like = declared_as(first.like, footer)
    declared = arrow_schema(like)
    if not _are_the_columns(declared, table):
        return None
    form = replace(first, like=like, columns=tuple(one.leaves for one in like.schema.columns))
    loose = loosened(first.encoding.schema, declared)
    for own in forms:
        encoding = replace(own.encoding, schema=loose)
        if _can_write(encoding, form):
            return replace(form, encoding=encoding)
    return replace(form, is_only_copied=True)


def arrow_schema(footer: Footer) -> pa.Schema:
    """Return the columns of a file as Arrow reads them, whatever the writer says of Arrow.

    Raises:
        CorruptTableError: Arrow does not read them.
    """
    with decoding(str(footer.location)):
        return pq.read_metadata(pa.BufferReader(footer.as_file())).schema.to_arrow_schema()


def loosened(schema: pa.Schema, declared: pa.Schema) -> pa.Schema:
    """Return a schema with those columns nullable that another declares nullable."""
    fields = zip(schema, declared, strict=True)
    return pa.schema([one.with_nullable(one.nullable or other.nullable) for one, other in fields])


def _are_the_columns(declared: pa.Schema, table: TableSchema) -> bool:
    """Tell whether readers find in a form all columns of the table, and no others."""
    wanted = table.written
    is_same = declared.names == wanted.names and declared.types == wanted.types
    return is_same and _ids(declared) == _ids(wanted)


def _ids(fields: pa.Schema | pa.StructType) -> list[object]:
    """Return the ids of fields and of all that is nested in them."""
    found: list[object] = []
    for one in fields:
        kind = one.type
        inner = (
            [kind.key_field, kind.item_field]
            if isinstance(kind, pa.MapType)
            else [kind.field(index) for index in range(kind.num_fields)]
        )
        found.append((field_id(one), _ids(inner)))
    return found


def _can_write(encoding: Encoding, form: Form) -> bool:
    """Tell whether rows encoded in some way can stand beside row groups of a form."""
    written = encoding.empty_footer()
    ignored = encoding.replaced_keys()
    return why_not(form.like, written, ignored_keys=ignored) is None
