"""Hypothesis strategies for tables, changes of them and the batches in which these come."""

from __future__ import annotations

import datetime
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from compactor.merge.changes import ChangeSet, Source, change_set, joined
from compactor.merge.rules import MergeRules
from tests.compactor.merge.model import Change
from tests.compactor.rewrite.tables import with_ids

NAN = float("nan")
UTC = datetime.UTC
# Few values per type, so that keys meet; among them those that are easily confused.
VALUES: dict[pa.DataType, list[Any]] = {
    pa.bool_(): [True, False, None],
    pa.int32(): [0, 1, -1, 2**31 - 1, None],
    pa.int64(): [0, 1, -1, 2**63 - 1, -(2**63), None],
    pa.float32(): [0.0, -0.0, 1.5, NAN, float("inf"), None],
    pa.float64(): [0.0, -0.0, 1.5, NAN, float("-inf"), None],
    pa.decimal128(9, 2): [Decimal("0.00"), Decimal("-1.50"), Decimal("1.50"), None],
    pa.decimal128(38, 5): [Decimal("0.00000"), Decimal("1" * 30), Decimal("-1.5"), None],
    pa.date32(): [datetime.date(1970, 1, 1), datetime.date(2026, 11, 22), None],
    pa.time64("us"): [datetime.time(0, 0), datetime.time(23, 59, 59, 999999), None],
    pa.timestamp("us"): [datetime.datetime(1970, 1, 1), datetime.datetime(2026, 1, 1), None],
    pa.timestamp("us", "UTC"): [
        datetime.datetime(1970, 1, 1, tzinfo=UTC),
        datetime.datetime(2026, 1, 1, tzinfo=UTC),
        None,
    ],
    pa.string(): ["", "a", "a\x00", "ü", "x" * 40, "x" * 300, None],
    pa.binary(): [b"", b"\x00", b"\x00\x00", b"abc", None],
    pa.binary(3): [b"\x00\x00\x00", b"abc", None],
    pa.binary(16): [b"\x00" * 16, b"\x01" * 16, None],
}
KEY_TYPES = st.sampled_from(list(VALUES))
ORDER = [0, 1, 2, 3, None]


def schemas() -> st.SearchStrategy[pa.Schema]:
    """Tables with the key columns `k0`, `k1`..., an order column and two others."""
    kinds = st.lists(KEY_TYPES, min_size=1, max_size=3)
    return kinds.map(
        lambda some: with_ids(
            pa.schema(
                [
                    *(pa.field(f"k{at}", kind) for at, kind in enumerate(some)),
                    pa.field("at", pa.int64()),
                    pa.field("v", pa.string()),
                    pa.field("tags", pa.list_(pa.field("element", pa.int32()))),
                ]
            )
        )
    )


def key_of(schema: pa.Schema) -> tuple[str, ...]:
    return tuple(name for name in schema.names if name.startswith("k"))


def rows(schema: pa.Schema) -> st.SearchStrategy[dict[str, Any]]:
    values: dict[str, st.SearchStrategy[Any]] = {
        name: st.sampled_from(VALUES[schema.field(name).type]) for name in key_of(schema)
    }
    values |= {
        "at": st.sampled_from(ORDER),
        "v": st.sampled_from(["p", "q", None]),
        "tags": st.sampled_from([None, [], [1], [1, None]]),
    }
    return st.fixed_dictionaries(values)


@st.composite
def files_of_changes(
    draw: st.DrawFn, schema: pa.Schema, *, lacking: bool = False
) -> list[tuple[Source, list[Change]]]:
    """Files of upserts and deletes with an op column, each as a source and as single changes."""
    found = []
    for file in range(draw(st.integers(1, 4))):
        stream = draw(st.integers(0, 2))
        missing = draw(st.sets(st.sampled_from(["v", "tags"]))) if lacking else set()
        given = draw(st.lists(st.tuples(rows(schema), st.booleans()), max_size=6))
        names = [name for name in schema.names if name not in missing]
        records = [{name: row[name] for name in names} for row, _ in given]
        table = pa.Table.from_pylist(records, pa.schema([schema.field(name) for name in names]))
        ops = pa.array(["D" if is_delete else "U" for _, is_delete in given], pa.string())
        changes = [
            Change(row, stream, file, number, key_of(schema) if is_delete else None)
            for number, (row, (_, is_delete)) in enumerate(zip(records, given, strict=True))
        ]
        source = Source(table.append_column("op", ops), f"file {file}", stream, file)
        found.append((source, changes))
    return found


@st.composite
def batched(
    draw: st.DrawFn, sources: list[Source], schema: pa.Schema, rules: MergeRules
) -> ChangeSet:
    """The changes of some files, cut anywhere and in any order of the pieces."""
    pieces = []
    for source in sources:
        cut = draw(st.integers(0, source.rows.num_rows))
        pieces.append(replace(source, rows=source.rows.slice(0, cut)))
        pieces.append(replace(source, rows=source.rows.slice(cut), first_row=cut))
    shuffled = draw(st.permutations(pieces))
    return joined([change_set(piece, schema, rules) for piece in shuffled])
