"""Deterministic input: lineitem-like rows, and wide nested ones, as Arrow tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

WORDS = """
the of quickly furiously slyly carefully blithely final regular special express pending
ironic even bold silent unusual requests deposits accounts packages instructions
theodolites foxes ideas dependencies platelets pinto beans asymptotes sleep haggle nag
wake cajole detect integrate among across above along about according to after against
""".split()
COMMENTS = 60_000


def _decimal(unscaled: np.ndarray, precision: int, scale: int) -> pa.Array:
    words = np.empty((len(unscaled), 2), dtype=np.int64)
    words[:, 0] = unscaled
    words[:, 1] = unscaled >> 63
    kind = pa.decimal128(precision, scale)
    return pa.Array.from_buffers(kind, len(unscaled), [None, pa.py_buffer(words.tobytes())])


def _choice(random: np.random.Generator, values: Sequence[str], rows: int) -> pa.Array:
    codes = pa.array(random.integers(0, len(values), rows), pa.int32())
    return pa.DictionaryArray.from_arrays(codes, pa.array(values)).cast(pa.string())


def _comments(rows: int, seed: int) -> pa.Array:
    random = np.random.default_rng(seed)
    words = np.array(WORDS)
    picks = random.integers(0, len(words), (COMMENTS, 6))
    lengths = random.integers(2, 7, COMMENTS)
    pool = [" ".join(words[p[:n]]) for p, n in zip(picks, lengths, strict=True)]
    return _choice(random, pool, rows)


def lineitem(rows: int, seed: int) -> pa.Table:
    """Return rows like TPC-H's lineitem: 16 columns, keys ascending from the seed on."""
    random = np.random.default_rng(seed)
    orders = np.sort(random.integers(0, rows // 4 + 1, rows)) + seed * (rows // 4 + 1)
    days = np.datetime64("1992-01-02") + random.integers(0, 2526, rows)
    quantity = random.integers(1, 51, rows) * 100
    return pa.table(
        {
            "l_orderkey": pa.array(orders, pa.int64()),
            "l_partkey": pa.array(random.integers(1, 200_000, rows), pa.int64()),
            "l_suppkey": pa.array(random.integers(1, 10_000, rows), pa.int64()),
            "l_linenumber": pa.array(random.integers(1, 8, rows), pa.int32()),
            "l_quantity": _decimal(quantity, 12, 2),
            "l_extendedprice": _decimal(random.integers(90_000, 10_500_000, rows), 12, 2),
            "l_discount": _decimal(random.integers(0, 11, rows), 12, 2),
            "l_tax": _decimal(random.integers(0, 9, rows), 12, 2),
            "l_returnflag": _choice(random, ["A", "N", "R"], rows),
            "l_linestatus": _choice(random, ["F", "O"], rows),
            "l_shipdate": pa.array(days, pa.date32()),
            "l_commitdate": pa.array(days + random.integers(-30, 31, rows), pa.date32()),
            "l_receiptdate": pa.array(days + random.integers(1, 31, rows), pa.date32()),
            "l_shipinstruct": _choice(
                random, ["COLLECT COD", "DELIVER IN PERSON", "NONE", "TAKE BACK RETURN"], rows
            ),
            "l_shipmode": _choice(
                random, ["AIR", "FOB", "MAIL", "RAIL", "REG AIR", "SHIP", "TRUCK"], rows
            ),
            "l_comment": _comments(rows, seed),
        }
    )


def _nullable(random: np.random.Generator, values: np.ndarray, kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind, mask=random.random(len(values)) < 0.1)


def _lists(random: np.random.Generator, values: pa.Array, rows: int) -> pa.Array:
    cuts = np.sort(random.integers(0, len(values) + 1, rows - 1))
    offsets = np.concatenate([[0], cuts, [len(values)]]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def nested(rows: int, seed: int) -> pa.Table:
    """Return a wide table: 56 flat columns with nulls, a struct, a list and a map."""
    random = np.random.default_rng(seed)
    columns: dict[str, pa.Array] = {"id": pa.array(np.arange(rows) + seed * rows, pa.int64())}
    for index in range(20):
        columns[f"metric_{index:02}"] = _nullable(random, random.random(rows), pa.float64())
    for index in range(15):
        values = random.integers(0, 10 ** (index % 9 + 1), rows)
        columns[f"count_{index:02}"] = _nullable(random, values, pa.int64())
    for index in range(20):
        columns[f"tag_{index:02}"] = _choice(random, WORDS[: index + 3], rows)
    columns["address"] = pa.StructArray.from_arrays(
        [_choice(random, WORDS, rows), pa.array(random.integers(10_000, 99_999, rows), pa.int32())],
        names=["city", "zip"],
    )
    columns["scores"] = _lists(random, pa.array(random.random(rows * 3)), rows)
    keys = _choice(random, WORDS, rows * 2)
    labels = pa.array(random.integers(0, 1000, rows * 2), pa.int64())
    offsets = pa.array(np.arange(0, rows * 2 + 1, 2), pa.int32())
    columns["labels"] = pa.MapArray.from_arrays(offsets, keys, labels)
    return pa.table(columns)
