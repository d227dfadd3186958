"""Slices with rows behind the stored ones, the column of the file's own name, and footer notes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.model import FileSlice, Inventory, Selection
from catalog.schema import TableSchema, named_ids
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.read import SliceReader
from compactor.rewrite.task import Proof, RewriteTask
from compactor.rewrite.verify import digest_slices
from compactor.splicing import SpliceLimits
from tests.compactor.rewrite.tables import (
    LAYOUT,
    LocalTable,
    described,
    inventory,
    with_ids,
    write_file,
)

SCHEMA = with_ids(
    pa.schema(
        [
            pa.field("name_of_file", pa.string()),
            pa.field("key", pa.string()),
            pa.field("price", pa.decimal128(12, 2)),
        ]
    )
)
NO_FIELD_IDS = TableSchema(SCHEMA, name_mapping=tuple(named_ids(SCHEMA)), has_field_ids=False)
EVERYTHING = SpliceLimits(
    row_group_bytes_min=0,
    chunk_bytes_min=0,
    row_group_bytes_max=1 << 40,
    row_groups_max=4096,
    footer_bytes_max=1 << 30,
    keeps_layout=True,
)
MARKED = "keys.of.rows"


@dataclass(frozen=True)
class TableTail:
    rows: pa.Table

    @property
    def row_count(self) -> int:
        return int(self.rows.num_rows)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        yield from self.rows.select(list(columns)).to_batches(max_chunksize=7)


class KeyNotes:
    """Says which rows are new and which files the others are stored in."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._new = 0

    def took(self, file: FileSlice) -> None:
        self._taken.add(Path(file.path).name)

    def added(self, rows: pa.RecordBatch) -> None:
        self._new += rows.num_rows

    def pairs(self) -> tuple[tuple[str, str], ...]:
        return ((MARKED, f"{','.join(sorted(self._taken))} {self._new}"),)


@dataclass(frozen=True)
class LoggedTable(LocalTable):
    tails: tuple[tuple[str, pa.Table], ...] = ()

    def selections(self, files: Inventory) -> Mapping[str, Selection]:
        found = dict(super().selections(files))
        for path, rows in self.tails:
            dropped = found.get(path, Selection(np.empty(0, np.int64))).dropped
            found[path] = Selection(dropped, TableTail(rows))
        return found


LOGGED = replace(
    LAYOUT,
    own_name_column="name_of_file",
    replaced_footer_keys=(MARKED, "hoodie_min_record_key"),
    footer_notes=KeyNotes,
)


def rows(start: int, count: int, name: str = "?") -> pa.Table:
    numbers = range(start, start + count)
    return pa.table(
        [
            [name] * count,
            [f"key {n:06d}" for n in numbers],
            pa.array([n * 7 for n in numbers], pa.decimal128(12, 2)),
        ],
        NO_FIELD_IDS.written,
    )


def table(tmp_path: Path, *tails: tuple[str, pa.Table]) -> LoggedTable:
    return LoggedTable(str(tmp_path), NO_FIELD_IDS, LOGGED, tails=tails)


def write(path: Path, content: pa.Table, **options: object) -> str:
    usual = {"compression": "zstd", "store_decimal_as_integer": True, "write_page_index": True}
    return write_file(path, content, **{**usual, **options})


def task(
    where: LoggedTable, files: Inventory, *, splice: SpliceLimits | None = EVERYTHING
) -> RewriteTask:
    return RewriteTask(
        table=where,
        partition_key="p",
        files=files,
        attempt_id="job-1-a",
        target_file_size_bytes=1000,
        proof=Proof.FULL,
        splice=splice,
        is_one_file=True,
    )


def read(path: str) -> list[tuple[str, str, object]]:
    found = pq.read_table(path).to_pydict()
    return list(zip(*found.values(), strict=True))


@pytest.mark.parametrize("splice", [EVERYTHING, None])
def test_stored_rows_come_first_then_the_tail(tmp_path: Path, splice: SpliceLimits | None) -> None:
    base = write(tmp_path / "base.parquet", rows(0, 100, "base.parquet"), row_group_size=20)
    where = table(tmp_path, (base, rows(1000, 17))).dropping(base, [3, 45])

    done = rewrite_group(task(where, inventory([base]), splice=splice))

    (output,) = done.outputs
    kept = [n for n in range(100) if n not in (3, 45)]
    found = read(output.path)
    assert [key for _, key, _ in found] == [f"key {n:06d}" for n in (*kept, *range(1000, 1017))]
    assert {name for name, _, _ in found} == {Path(output.path).name}
    assert (done.rows_read, done.rows_dropped, done.rows_tail, done.rows_written) == (
        100, 2, 17, 115,
    )  # fmt: skip
    assert done.splice.row_groups_patched == (3 if splice else 0)
    assert pq.read_metadata(output.path).metadata[MARKED.encode()] == b"base.parquet 17"


def test_the_name_of_a_file_needs_no_look_into_the_input(tmp_path: Path) -> None:
    """Its chunk may be damaged: nothing of it is read, and the digest is without it."""
    base = write(tmp_path / "base.parquet", rows(0, 50, "base.parquet"), row_group_size=50)
    chunk = pq.read_metadata(base).row_group(0).column(0)
    data = bytearray(Path(base).read_bytes())
    start = chunk.dictionary_page_offset
    data[start : start + 8] = bytes(8)
    Path(base).write_bytes(data)

    done = rewrite_group(task(table(tmp_path), inventory([base])))

    assert done.digest is not None
    assert {name for name, _, _ in read(done.outputs[0].path)} == {Path(done.outputs[0].path).name}


def test_footers_of_inputs_may_tell_of_their_rows(tmp_path: Path) -> None:
    told = rows(0, 50).replace_schema_metadata({"hoodie_min_record_key": "key 000000"})
    base = write(tmp_path / "base.parquet", told, store_schema=True)
    assert pq.read_metadata(base).metadata[b"hoodie_min_record_key"]

    done = rewrite_group(task(table(tmp_path), inventory([base])))

    assert done.splice.row_groups_patched == 1
    metadata = pq.read_metadata(done.outputs[0].path).metadata
    assert b"hoodie_min_record_key" not in metadata
    assert metadata[b"owner"] == b"tests"


def test_a_slice_may_be_all_tail(tmp_path: Path) -> None:
    path = str(tmp_path / "only.log")

    done = rewrite_group(task(table(tmp_path, (path, rows(0, 10))), described([(path, 0, 0)])))

    assert [key for _, key, _ in read(done.outputs[0].path)] == [f"key {n:06d}" for n in range(10)]


@pytest.mark.parametrize("splice", [EVERYTHING, None])
def test_a_slice_without_rows_leaves_a_file_without_rows(
    tmp_path: Path, splice: SpliceLimits | None
) -> None:
    base = write(tmp_path / "base.parquet", rows(0, 3))
    where = table(tmp_path).dropping(base, [0, 1, 2])

    done = rewrite_group(task(where, inventory([base]), splice=splice))

    (output,) = done.outputs
    assert read(output.path) == []
    assert pq.read_schema(output.path).names == SCHEMA.names
    assert output.size_bytes == Path(output.path).stat().st_size


def test_one_file_whatever_its_size(tmp_path: Path) -> None:
    base = write(tmp_path / "base.parquet", rows(0, 5000), row_group_size=500)

    done = rewrite_group(task(table(tmp_path), inventory([base])))

    assert len(done.outputs) == 1
    assert pq.read_metadata(done.outputs[0].path).num_row_groups == 10


def test_readers_see_slices_whole(tmp_path: Path) -> None:
    base = write(tmp_path / "base.parquet", rows(0, 9))
    where = table(tmp_path, (base, rows(20, 3))).dropping(base, [0])
    files = inventory([base])

    seen = pa.Table.from_batches(list(SliceReader.of(where, files).batches(next(files.slices()))))
    assert seen["key"].to_pylist() == [f"key {n:06d}" for n in (*range(1, 9), *range(20, 23))]
    plain = write(tmp_path / "plain.parquet", pa.concat_tables([rows(20, 3), rows(1, 8)]))
    assert digest_slices(where, files) == digest_slices(table(tmp_path), inventory([plain]))
