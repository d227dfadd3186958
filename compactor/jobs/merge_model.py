"""What a table must hold after a merge, computed by DuckDB from keys and hashes of rows.

It shares nothing with the merge but how rows are read: keys are compared by DuckDB's own rules
(null is null, NaN is NaN, 0.0 is -0.0), the last change per key is found by its sorting, and stored
rows by its joins. Memory is bounded; what does not fit is on disk.

The tables, and what is in them besides the values of key columns (`k0`...), of other columns that
rows are looked for by (`w0`...), and hashes of columns (`h0`..., null where a change lacks it):

    base      rows of the snapshot before; whether their file is in the one after, too: is_shared
    own       rows of the other files of the snapshot after
    changes   kind (1 for deletes), stream, file, row, what they are ordered by: o0...
    deletes0… deletes on some of these columns; stream, file, row, o0...
"""

# ruff: noqa: S608 - no name in these statements comes from outside
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import pyarrow as pa

from compactor.merge.rules import Mode

# Joins and sorts go to disk beyond this.
_MEMORY = "512MB"
_PLACED = Template(
    "CREATE VIEW placed_$table AS SELECT t.*, p.place FROM $table t"
    " JOIN places p ON p.source = '$table' AND p.id = t.rowid"
)
_LATEST = Template(
    "CREATE TABLE latest AS SELECT $keys, $values, any_value(gone_at) AS gone_at,"
    " arg_max(kind, place) AS kind, max(place) AS place FROM (SELECT *,"
    " max(place) FILTER (kind = 1) OVER (PARTITION BY $keys) AS gone_at FROM done) GROUP BY $keys"
)
_STALE = Template(
    "CREATE TABLE settled AS SELECT l.*, coalesce(b.newest > c.o0, b.newest IS NOT NULL)"
    " AS is_stale FROM latest l JOIN done c ON c.place = l.place LEFT JOIN"
    " (SELECT $keys, max($time) AS newest FROM base GROUP BY $keys) b ON $on"
)
_NEW = Template(
    "SELECT $values FROM settled s LEFT JOIN"
    " (SELECT $keys, $stored FROM base GROUP BY $keys) b ON $on WHERE s.kind = 0 AND NOT s.is_stale"
)
_KEPT = Template(
    "SELECT $hashes FROM rows_left r WHERE NOT EXISTS"
    " (SELECT 1 FROM settled s WHERE $on AND NOT s.is_stale)"
)
_SUMS = Template(
    "SELECT count(*), coalesce(sum(hash($hashes)::HUGEINT), 0),"
    " coalesce(sum(hash($hashes, 1)::HUGEINT), 0) FROM ($query)"
)


@dataclass(frozen=True, slots=True)
class Sums:
    """An order-independent summary of rows: their number, and two sums of hashes of them."""

    rows: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Shape:
    """What the model knows of rows.

    Attributes:
        keys: number of key columns; 0 where rows are appended.
        hashes: number of hashes of each row.
        orders: number of columns that changes are ordered by.
        mode: whether rows of one key replace each other.
        event_time: the column of `base` that holds the event time; None without one.
        absent: the hash of a null, for columns that no change gives a value.
    """

    keys: int
    hashes: int
    orders: int
    mode: Mode
    event_time: str | None
    absent: int


class Model:
    """A dictionary of rows in a database of its own."""

    def __init__(self, directory: Path, shape: Shape) -> None:
        """Begin with nothing; what does not fit into memory goes to the directory."""
        import duckdb  # lazy: only full proofs need it

        self._database: Any = duckdb.connect(
            str(directory / "model.duckdb"),
            config={"memory_limit": _MEMORY, "temp_directory": str(directory / "spilled")},
        )
        self._shape = shape
        self._keys = [f"k{at}" for at in range(shape.keys)]
        self._hashes = [f"h{at}" for at in range(shape.hashes)]
        self._columns: dict[str, list[str]] = {}
        self._deletes: dict[str, list[str]] = {}

    def close(self) -> None:
        """Forget everything."""
        self._database.close()

    def add(self, table: str, rows: pa.Table) -> None:
        """Add rows to a table, which has the columns of the first ones."""
        self._database.register("incoming", rows)
        names = ", ".join(self._columns.setdefault(table, rows.schema.names))
        for statement in (
            f"CREATE TABLE IF NOT EXISTS {table} AS SELECT {names} FROM incoming LIMIT 0",
            f"INSERT INTO {table} SELECT {names} FROM incoming",
        ):
            self._run(statement)
        self._database.unregister("incoming")

    def add_deletes(self, rows: pa.Table, by: Sequence[str]) -> None:
        """Add deletes that are keyed on some columns."""
        name = f"deletes{len(self._deletes)}"
        self._deletes[name] = list(by)
        self.add(name, rows)

    def expected(self) -> Sums:
        """Return what the table must hold."""
        self._put_in_order()
        self._bury()
        going = [
            f"EXISTS (SELECT 1 FROM {name} d WHERE {_same('b', 'd', by)})"
            for name, by in self._deletes.items()
        ]
        is_going = " OR ".join(going) or "false"
        self._run(f"CREATE VIEW rows_left AS SELECT * FROM base b WHERE NOT ({is_going})")
        hashes = ", ".join(self._hashes)
        if self._shape.mode is Mode.APPEND:
            kept, new = (f"SELECT {hashes} FROM {one}" for one in ("rows_left", "done"))
            return self._sums(f"{kept} UNION ALL {new} WHERE kind = 0")
        self._settle()
        kept = _KEPT.substitute(hashes=hashes, on=_same("r", "s", self._keys))
        return self._sums(f"{kept} UNION ALL {self._new_rows()}")

    def found(self) -> Sums:
        """Return what the table holds: in the files that it had before, and in the others."""
        kept, own = (f"SELECT {', '.join(self._hashes)} FROM {one}" for one in ("base", "own"))
        return self._sums(f"{kept} WHERE is_shared UNION ALL {own}")

    def _put_in_order(self) -> None:
        """Give every change and delete its place among all; what is not ordered by comes first."""
        orders = [f"o{at}" for at in range(self._shape.orders)]
        terms = [f"{one} NULLS FIRST" for one in orders]
        first = [*terms, "stream"] if self._shape.event_time else ["stream", *terms]
        selected = []
        for table in ("changes", *self._deletes):
            given = [one for one in orders if one in self._columns[table]]
            names = ", ".join(["stream", "file", '"row"', *given])
            selected.append(f"SELECT '{table}' AS source, rowid AS id, {names} FROM {table}")
        self._run(
            "CREATE TABLE places AS SELECT source, id, row_number() OVER"
            f" (ORDER BY {', '.join([*first, 'file', 'row'])}) AS place"
            f" FROM ({' UNION ALL BY NAME '.join(selected)})"
        )
        for table in ("changes", *self._deletes):
            self._run(_PLACED.substitute(table=table))

    def _bury(self) -> None:
        """Make a delete of each change that a later delete hits."""
        joins, hits = "", ["false"]
        for name, by in self._deletes.items():
            columns = ", ".join(by)
            joins += (
                f" LEFT JOIN (SELECT {columns}, max(place) AS last_at FROM placed_{name}"
                f" GROUP BY {columns}) {name} ON {_same('c', name, by)}"
            )
            hits.append(f"coalesce({name}.last_at > c.place, false)")
        kind = f"CASE WHEN {' OR '.join(hits)} THEN 1 ELSE c.kind END"
        self._run(
            f"CREATE TABLE done AS SELECT c.* REPLACE ({kind} AS kind) FROM placed_changes c{joins}"
        )

    def _settle(self) -> None:
        """Leave one change per key, each column from the last that has it."""
        last = "arg_max({0}, place) FILTER (kind = 0 AND place > coalesce(gone_at, -1)) AS {0}"
        keys = ", ".join(self._keys)
        values = ", ".join(last.format(one) for one in self._hashes)
        self._run(_LATEST.substitute(keys=keys, values=values))
        if self._shape.event_time is None:
            self._run("CREATE VIEW settled AS SELECT *, false AS is_stale FROM latest")
            return
        on = _same("b", "l", self._keys)
        self._run(_STALE.substitute(keys=keys, time=self._shape.event_time, on=on))

    def _new_rows(self) -> str:
        """Return the query of the rows that come in; what no change gives is the stored row's."""
        stored = "CASE WHEN s.gone_at IS NULL THEN b.{0} END"
        values = ", ".join(
            f"coalesce(s.{one}, {stored.format(one)}, {self._shape.absent}) AS {one}"
            for one in self._hashes
        )
        return _NEW.substitute(
            values=values,
            keys=", ".join(self._keys),
            stored=", ".join(f"any_value({one}) AS {one}" for one in self._hashes),
            on=_same("s", "b", self._keys),
        )

    def _sums(self, query: str) -> Sums:
        statement = _SUMS.substitute(hashes=", ".join(self._hashes), query=query)
        return Sums(*map(int, self._database.execute(statement).fetchone()))

    def _run(self, statement: str) -> None:
        self._database.execute(statement)


def _same(left: str, right: str, columns: Sequence[str]) -> str:
    terms = (f"{left}.{one} IS NOT DISTINCT FROM {right}.{one}" for one in columns)
    return " AND ".join(terms)
