"""What the engines that could encode keep of a table's columns: `python -m benchmarks.fidelity`.

Each engine writes each kind of column, required and optional, as well as its options allow; the
file is then compared with what the table asks for. An engine encodes our outputs only if it keeps
everything: a column that loses its id or its nullability is another column to Iceberg and Delta,
and a page without a checksum or an index is worth less to every reader.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.data import lineitem
from catalog.layout import FileLayout
from catalog.location import Location
from catalog.storage import Storage
from compactor.parquet import has_page_checksums, read_footer
from compactor.rewrite.encoding import Encoding, schema_text
from compactor.rewrite.fingerprint import digest_batch

HERE = Path(__file__).resolve().parent
MIB = 1 << 20
LAYOUT = FileLayout(512 * MIB, 128 * MIB, 1 << 20, MIB, 2 * MIB, "zstd", 3)
SPEED_ROWS = 1_000_000
SPEED_RUNS = 3
KEPT = ("values", "schema", "ids", "required", "statistics", "page index", "checksums")

Write = Callable[[pa.Table, Path], None]


@dataclass(frozen=True, slots=True)
class Kind:
    """A column of one type: `values` without null, of which the optional column has some more."""

    type: pa.DataType
    values: tuple[object, ...]


def _child(name: str, kind: pa.DataType, number: int, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable, {"PARQUET:field_id": str(number)})


KINDS = {
    "boolean": Kind(pa.bool_(), (True, False)),
    "int": Kind(pa.int32(), (-1, 7)),
    "long": Kind(pa.int64(), (-1, 1 << 40)),
    "float": Kind(pa.float32(), (0.5, -2.0)),
    "double": Kind(pa.float64(), (0.5, -2.0)),
    "decimal(12, 2)": Kind(pa.decimal128(12, 2), (Decimal("-1.25"), Decimal("99.99"))),
    "decimal(38, 6)": Kind(pa.decimal128(38, 6), (Decimal("-1.25"), Decimal("1e20"))),
    "date": Kind(pa.date32(), (0, 20_000)),
    "time": Kind(pa.time64("us"), (0, 86_399_999_999)),
    "timestamp": Kind(pa.timestamp("us"), (0, 1_700_000_000_000_000)),
    "timestamptz": Kind(pa.timestamp("us", "UTC"), (0, 1_700_000_000_000_000)),
    "string": Kind(pa.string(), ("", "Zürich")),
    "binary": Kind(pa.binary(), (b"", b"\0\xff")),
    "fixed(3)": Kind(pa.binary(3), (b"abc", b"\0\0\0")),
    "uuid": Kind(pa.uuid(), (UUID(int=1).bytes, UUID(int=2).bytes)),
    "struct": Kind(
        pa.struct([_child("x", pa.int32(), 11, nullable=False), _child("y", pa.string(), 12)]),
        ({"x": 1, "y": None}, {"x": 2, "y": "b"}),
    ),
    "list": Kind(pa.list_(_child("element", pa.string(), 11)), ([], ["a", None])),
    "map": Kind(
        pa.map_(_child("key", pa.string(), 11, nullable=False), _child("value", pa.int64(), 12)),
        ([], [("a", 1), ("b", None)]),
    ),
}


def table_of(kind: Kind) -> pa.Table:
    """Return rows with an optional and a required column of a kind."""
    schema = pa.schema(
        [_child("optional", kind.type, 1), _child("needed", kind.type, 2, nullable=False)]
    )
    values = list(kind.values) * 50
    storage = kind.type.storage_type if isinstance(kind.type, pa.BaseExtensionType) else kind.type
    columns = [pa.array([None, *values[1:]], storage), pa.array(values, storage)]
    return pa.Table.from_arrays(
        [column.cast(field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )


def with_pyarrow(rows: pa.Table, path: Path) -> None:
    """Write as `compact` does."""
    with (
        pa.OSFile(str(path), "wb") as sink,
        Encoding(rows.schema, LAYOUT).open_writer(sink, row_group_rows=len(rows)) as writer,
    ):
        writer.write_table(rows, row_group_size=len(rows))


def with_duckdb(rows: pa.Table, path: Path) -> None:
    """Write with DuckDB, field ids given for the top level."""
    import duckdb

    ids = ", ".join(f"{name}: {number}" for number, name in enumerate(rows.schema.names, 1))
    connection = duckdb.connect(config={"threads": 1})
    connection.register("rows", rows)
    connection.execute(
        f"COPY rows TO '{path}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3,"
        f" ROW_GROUP_SIZE {max(2048, len(rows))}, FIELD_IDS {{{ids}}})"
    )


def with_polars(rows: pa.Table, path: Path) -> None:
    """Write with Polars, told the schema wanted."""
    import polars

    schema = pa.schema([field.with_type(_large(field.type)) for field in rows.schema])
    polars.from_arrow(rows).lazy().sink_parquet(
        path,
        compression="zstd",
        compression_level=3,
        row_group_size=len(rows),
        arrow_schema=schema,
    )


def with_parquet_rs(rows: pa.Table, path: Path) -> None:
    """Write with the Rust library, through arro3."""
    from arro3.io import write_parquet

    write_parquet(
        rows,
        str(path),
        compression="zstd(3)",
        max_row_group_size=len(rows),
        skip_arrow_metadata=True,
    )


ENGINES: Mapping[str, Write] = {
    "pyarrow": with_pyarrow,
    "duckdb": with_duckdb,
    "polars": with_polars,
    "parquet-rs": with_parquet_rs,
}


def _large(kind: pa.DataType) -> pa.DataType:
    """Spell a type as Polars wants it."""
    if pa.types.is_string(kind):
        return pa.large_string()
    if pa.types.is_binary(kind):
        return pa.large_binary()
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_large(field.type)) for field in kind.fields])
    if pa.types.is_list(kind):
        return pa.large_list(kind.value_field.with_type(_large(kind.value_type)))
    return kind


def kept_by(write: Write, kind: Kind, directory: Path) -> dict[str, bool]:
    """Return what a file of an engine keeps of a table's columns; nothing if it refuses them."""
    rows = table_of(kind)
    wanted, path = directory / "wanted.parquet", directory / "found.parquet"
    with_pyarrow(rows, wanted)
    path.unlink(missing_ok=True)
    try:
        write(rows, path)
    except Exception:  # noqa: BLE001 - whatever it raises, the column cannot be written by it
        return dict.fromkeys(KEPT, False)
    like, found = pq.read_metadata(wanted), pq.read_metadata(path)
    is_alike = len(like.schema) == len(found.schema)
    chunks = [found.row_group(0).column(index) for index in range(found.num_columns)]
    return {
        "values": _digest(wanted) == _digest(path),
        "schema": _columns(like) == _columns(found),
        "ids": is_alike and _ids(wanted) == _ids(path),
        "required": is_alike and _levels(like) == _levels(found),
        "statistics": is_alike and _statistics(like) == _statistics(found),
        "page index": all(one.has_column_index and one.has_offset_index for one in chunks),
        "checksums": _has_checksums(path),
    }


def cpu_seconds(write: Write, rows: pa.Table, directory: Path) -> float:
    """Return the fewest CPU-seconds of some runs, all threads counted, imports apart."""
    write(rows.slice(0, 1000), directory / "warm.parquet")
    best = float("inf")
    for _ in range(SPEED_RUNS):
        started = time.process_time()
        write(rows, directory / "speed.parquet")
        best = min(best, time.process_time() - started)
    return best


def measure(directory: Path) -> dict[str, dict[str, object]]:
    """Return, by engine, the kinds that keep each property, and CPU-seconds to encode."""
    pa.set_cpu_count(1)
    rows = lineitem(SPEED_ROWS, 1)
    found: dict[str, dict[str, object]] = {}
    for name, write in ENGINES.items():
        kept = {kind: kept_by(write, one, directory) for kind, one in KINDS.items()}
        lost = {one: [kind for kind in KINDS if not kept[kind][one]] for one in KEPT}
        found[name] = {"lost": lost, "cpu_seconds": cpu_seconds(write, rows, directory)}
    return found


def markdown(found: Mapping[str, Mapping[str, object]]) -> str:
    """Return the results as a table."""
    lines = [
        f"| engine | CPU s to encode 1M rows | {' | '.join(KEPT)} |",
        f"|---|---:|{'---|' * len(KEPT)}",
    ]
    for name, one in found.items():
        lost = one["lost"]
        assert isinstance(lost, dict)
        cells = [_cell(lost[key]) for key in KEPT]
        lines.append(f"| {name} | {one['cpu_seconds']:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(lost: list[str]) -> str:
    if len(lost) == len(KINDS):
        return "never"
    return f"not {', '.join(lost)}" if lost else "yes"


def _digest(path: Path) -> object:
    rows = pq.read_table(path, use_threads=False).combine_chunks()
    return [digest_batch(batch) for batch in rows.to_batches()]


def _columns(metadata: pq.FileMetaData) -> str:
    """Return the schema without its root, whose name is the engine's own."""
    return schema_text(metadata).partition("{")[2]


def _ids(path: Path) -> list[object]:
    return [_ids_of(field) for field in pq.read_schema(path)]


def _ids_of(field: pa.Field) -> object:
    own = (field.metadata or {}).get(b"PARQUET:field_id")
    kind = field.type
    if pa.types.is_map(kind):
        return own, _ids_of(kind.key_field), _ids_of(kind.item_field)
    return own, *(_ids_of(kind.field(index)) for index in range(kind.num_fields))


def _levels(metadata: pq.FileMetaData) -> list[tuple[int, int]]:
    columns = (metadata.schema.column(index) for index in range(len(metadata.schema)))
    return [(one.max_definition_level, one.max_repetition_level) for one in columns]


def _statistics(metadata: pq.FileMetaData) -> list[object]:
    chunks = (metadata.row_group(0).column(i).statistics for i in range(metadata.num_columns))
    return [
        one and (one.has_min_max and (one.min_raw, one.max_raw), one.null_count) for one in chunks
    ]


def _has_checksums(path: Path) -> bool:
    location = Location.resolve(str(path))
    storage = Storage.from_properties({})
    footer = read_footer(storage, location, path.stat().st_size)
    return has_page_checksums(storage, footer, 0)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity", description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE / "results")
    output = parser.parse_args().output
    with tempfile.TemporaryDirectory() as directory:
        found = measure(Path(directory))
    table = markdown(found)
    (output / "fidelity.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (output / "fidelity.md").write_text(table + "\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
