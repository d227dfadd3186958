"""Delta tables for the benchmarks: a fresh table of links to cached data files per run."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from deltalake import Field, Schema, convert_to_deltalake

from benchmarks.tables import Input, Prepared

TABLE = "orders"
TARGET_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class DeltaInput:
    """A table of one shape.

    Attributes:
        source: its data files.
        codec: they are compressed by, and new ones shall be.
        partitions: how many partitions the files are dealt to; 1 for none.
    """

    source: Input
    codec: str
    partitions: int = 1


def prepare_delta(shape: DeltaInput, cache: Path, directory: Path, scale: float) -> Prepared:
    """Make a fresh table in a directory."""
    files = _cached_files(shape, max(4, round(shape.source.files * scale)), cache)
    shutil.rmtree(directory, ignore_errors=True)
    table = directory / TABLE
    linked = []
    for number, file in enumerate(files):
        place = table / f"part={number % shape.partitions}" if shape.partitions > 1 else table
        place.mkdir(parents=True, exist_ok=True)
        os.link(file, place / file.name)
        linked.append(place / file.name)
    is_partitioned = shape.partitions > 1
    convert_to_deltalake(
        str(table),
        partition_by=Schema([Field("part", "integer")]) if is_partitioned else None,
        partition_strategy="hive" if is_partitioned else None,
        configuration={"delta.targetFileSize": str(TARGET_BYTES)},
    )
    _set_codec(table, shape.codec)
    return Prepared(directory, tuple(linked), sum(path.stat().st_size for path in linked))


def _set_codec(table: Path, codec: str) -> None:
    """Set a property that deltalake reads over, but does not set."""
    (log,) = (table / "_delta_log").glob("*.json")
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "metaData" in action:
            action["metaData"]["configuration"]["delta.parquet.compression.codec"] = codec
    log.write_text("\n".join(map(json.dumps, actions)) + "\n")


def _cached_files(shape: DeltaInput, count: int, cache: Path) -> list[Path]:
    source = shape.source
    directory = cache / f"{source.name}-{shape.codec}-{count}x{source.rows_per_file}"
    if not directory.exists():
        partial = directory.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for index in range(count):
            rows = source.make(source.rows_per_file, index)
            pq.write_table(rows, partial / f"{index:05}.parquet", compression=shape.codec)
        partial.rename(directory)
    return sorted(directory.iterdir())
