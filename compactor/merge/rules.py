"""The rules of one merge: what rows are told apart by, and which change of a row counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from compactor.errors import ChangesRefusedError
from compactor.rewrite.cluster.comparable import is_orderable


class Mode(StrEnum):
    """What becomes of a row whose key the table has."""

    UPSERT = "upsert"
    APPEND = "append"


@dataclass(frozen=True, slots=True)
class MergeRules:
    """How changes are read and ordered.

    Attributes:
        key: names of the columns that tell rows apart; may be empty in append mode.
        order_by: names of columns of the changes that order those of one stream position.
        op_column: name of the column that says what a change does; None: all are upserts.
        is_event_time: whether `order_by` goes before the stream position, and a change never
            overwrites a stored row that is newer by it.
        mode: whether rows of the same key replace each other.
    """

    key: tuple[str, ...]
    order_by: tuple[str, ...] = ()
    op_column: str | None = None
    is_event_time: bool = False
    mode: Mode = Mode.UPSERT

    def check(self, schema: pa.Schema) -> None:
        """Hold the rules against the columns of a table.

        Raises:
            ChangesRefusedError: they cannot be followed there.
        """
        if not self.key and self.mode is Mode.UPSERT:
            raise ChangesRefusedError("no key is given", hint="Name its columns with --key.")
        check_columns(self.key, schema)
        if not self.is_event_time:
            return
        if self.mode is Mode.APPEND:
            raise ChangesRefusedError("appended rows overwrite nothing, whatever their event time")
        if len(self.order_by) != 1 or self.order_by[0] not in schema.names:
            raise ChangesRefusedError(
                "event time needs one --order-by column, which the table stores"
            )


def check_columns(names: Sequence[str], schema: pa.Schema) -> None:
    """Check that rows can be told apart by some columns.

    Raises:
        ChangesRefusedError: one is missing, is named twice, or has values that do not compare.
    """
    for name in names:
        if schema.names.count(name) != 1:
            raise ChangesRefusedError(f"the table has no column {name!r} to be a key")
        if not is_orderable(schema.field(name).type):
            raise ChangesRefusedError(
                f"{name!r} cannot be a key: it is a {schema.field(name).type}",
                hint="Key columns are of plain types; lists, maps and structs are not.",
            )
    if len(set(names)) != len(names):
        raise ChangesRefusedError("a column is named twice in the key")
