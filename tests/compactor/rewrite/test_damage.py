"""Damaged inputs and failing storage end in a clear error; the attempt leaves nothing behind."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.errors import (
    CatalogError,
    CorruptTableError,
    ObjectNotFoundError,
    StorageFullError,
)
from catalog.schema import TableSchema
from compactor.errors import VerificationError
from compactor.rewrite import group as group_module
from compactor.rewrite.encoding import Encoding
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.input import open_parquet
from compactor.rewrite.task import Proof, RowDigest
from compactor.rewrite.verify import check_digests, check_rows, digest_slices, read_back
from compactor.rewrite.write import WrittenFile
from compactor.splicing import SpliceLimits
from tests.compactor.rewrite.tables import (
    LocalTable,
    described,
    inventory,
    make_task,
    output_files,
    with_ids,
    write_file,
)

SCHEMA = with_ids(pa.schema([("id", pa.int64()), ("text", pa.string())]))
MIB = 1 << 20


def rows(count: int, start: int = 0) -> pa.Table:
    random = np.random.default_rng(start)
    texts = [random.bytes(random.integers(1, 40)).hex() for _ in range(count)]
    return pa.table([range(start, start + count), texts], SCHEMA)


def local_table(directory: Path) -> LocalTable:
    return LocalTable(str(directory), TableSchema(SCHEMA))


def refused(table: LocalTable, paths: list[str], kind: type[Exception], match: str) -> None:
    """The error is of the kind and names the file; every file is as it was."""
    directory = Path(table.directory)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    with pytest.raises(kind, match=match):
        rewrite_group(make_task(table, paths, target_bytes=20_000))
    after = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert after == before


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), codec=st.sampled_from(["zstd", "snappy", "none"]))
def test_a_flipped_bit_in_a_page_is_found(
    data: st.DataObject, codec: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("flip")
    path = write_file(directory / "in.parquet", rows(200), compression=codec)
    files = inventory([path])
    column = pq.read_metadata(path).row_group(0).column(data.draw(st.integers(0, 1)))
    start = min(filter(None, (column.dictionary_page_offset, column.data_page_offset)))
    position = start + data.draw(st.integers(0, column.total_compressed_size - 1))
    raw = bytearray(Path(path).read_bytes())
    raw[position] ^= 1 << data.draw(st.integers(0, 7))
    Path(path).write_bytes(raw)
    table = local_table(directory)
    with suppress(CorruptTableError):
        rewrite_group(make_task(table, [path], files=files))
    # A page header holds bits that do not matter; a page does not.
    for output in output_files(table):
        assert pq.ParquetFile(output).read().cast(SCHEMA).equals(rows(200))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_flipped_bit_in_a_footer_never_ends_the_process(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Footers carry no checksum: what cannot be told from a sound one is read as it stands."""
    directory = tmp_path_factory.mktemp("footer")
    path = write_file(directory / "in.parquet", rows(50))
    files = inventory([path])
    raw = bytearray(Path(path).read_bytes())
    footer_bytes = int.from_bytes(raw[-8:-4], "little") + 8
    raw[-data.draw(st.integers(1, footer_bytes))] ^= 1 << data.draw(st.integers(0, 7))
    Path(path).write_bytes(raw)
    table = local_table(directory)
    try:
        result = rewrite_group(make_task(table, [path], files=files))
    except (CatalogError, VerificationError):
        assert output_files(table) == []
    else:
        assert result.rows_written == 50


def test_a_damaged_file_in_the_middle_takes_all_outputs_with_it(tmp_path: Path) -> None:
    paths = [write_file(tmp_path / f"{i}.parquet", rows(2_000, i * 2_000)) for i in range(6)]
    raw = bytearray(Path(paths[5]).read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    Path(paths[5]).write_bytes(raw)
    table = local_table(tmp_path)
    refused(table, paths, CorruptTableError, r"5\.parquet cannot be read as Parquet: .*")


def test_files_that_are_not_what_the_metadata_says(tmp_path: Path) -> None:
    path = write_file(tmp_path / "in.parquet", rows(100))
    size = Path(path).stat().st_size
    table = local_table(tmp_path)
    for wrong, match in [
        ((path, size + 1, 100), "the metadata says .* bytes"),
        ((path, size, 99), "the metadata says 99 rows, the footer of the file 100"),
    ]:
        with pytest.raises(CorruptTableError, match=match):
            rewrite_group(make_task(table, [], files=described([wrong])))
    assert output_files(table) == []


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "magic"])
def test_files_that_are_not_parquet(tmp_path: Path, damage: str) -> None:
    good = write_file(tmp_path / "good.parquet", rows(100))
    raw = Path(good).read_bytes()
    bad = {
        "truncated": raw[: len(raw) // 2],
        "empty": b"",
        "text": b"not a table at all" * 20,
        "magic": raw[:-4] + b"PARX",
    }[damage]
    path = tmp_path / "bad.parquet"
    path.write_bytes(bad)
    table = local_table(tmp_path)
    files = described([(good, len(raw), 100), (str(path), len(bad), 100)])
    with pytest.raises(CorruptTableError, match=r"bad\.parquet"):
        rewrite_group(make_task(table, [], files=files))
    assert output_files(table) == []


def test_a_missing_file(tmp_path: Path) -> None:
    path = write_file(tmp_path / "in.parquet", rows(100))
    files = described([(path, 1, 1), (str(tmp_path / "gone.parquet"), 10, 1)])
    table = local_table(tmp_path)
    with pytest.raises(ObjectNotFoundError, match=r"gone\.parquet"):
        rewrite_group(make_task(table, [], files=files.take(np.array([1]))))
    assert output_files(table) == []


def test_deletes_of_rows_that_do_not_exist(tmp_path: Path) -> None:
    path = write_file(tmp_path / "in.parquet", rows(100))
    refused(local_table(tmp_path).dropping(path, [100]), [path], CorruptTableError, "100 rows")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a MiB."""
    name = ctypes.util.find_library("c")
    libc = ctypes.CDLL(name, use_errno=True)
    disk = tmp_path / "disk"
    disk.mkdir()
    if libc.mount(b"tmpfs", os.fsencode(disk), b"tmpfs", 0, b"size=512k"):
        pytest.skip(f"no file system can be mounted here: {os.strerror(ctypes.get_errno())}")
    yield disk
    libc.umount2(os.fsencode(disk), 2)


def test_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    paths = [write_file(tmp_path / f"in/{i}.parquet", rows(9_000, i)) for i in range(4)]
    table = LocalTable(str(small_disk), TableSchema(SCHEMA))
    with pytest.raises(StorageFullError, match=str(small_disk)):
        rewrite_group(make_task(table, paths, target_bytes=200_000))
    assert output_files(table) == []


def test_outputs_that_fail_their_proof_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_file(tmp_path / "in.parquet", rows(100))
    table = local_table(tmp_path)
    monkeypatch.setattr(group_module, "read_back", lambda *_: RowDigest(100, 1))
    refused(table, [path], VerificationError, "are not the 100 surviving rows")


def test_damage_after_writing_is_found_on_reading_back(tmp_path: Path) -> None:
    path = write_file(tmp_path / "in.parquet", rows(100))
    table = local_table(tmp_path)
    task = make_task(table, [path])
    (output,) = rewrite_group(task).outputs
    written = WrittenFile(table.locate(output.path), output.size_bytes, (100,))
    schema = Encoding(SCHEMA, table.layout).parquet_schema()
    assert read_back(table, written, schema, task.proof) == digest_slices(table, task.files)
    with pytest.raises(VerificationError, match="does not have the schema"):
        read_back(table, written, schema + " ", task.proof)
    with pytest.raises(VerificationError, match="row groups"):
        read_back(
            table, WrittenFile(written.location, output.size_bytes, (60, 40)), schema, task.proof
        )
    raw = bytearray(Path(output.path).read_bytes())
    raw[len(raw) // 3] ^= 1
    Path(output.path).write_bytes(raw)
    with pytest.raises(VerificationError, match="cannot be read back"):
        read_back(table, written, schema, task.proof)


def test_an_input_whose_damage_shows_in_the_copy_is_named(tmp_path: Path) -> None:
    paths = [
        write_file(tmp_path / f"{start}.parquet", rows(100, start), write_statistics=False)
        for start in (0, 100)
    ]
    raw = Path(paths[1]).read_bytes()
    # The name of the column as its chunk has it, which nobody needs for copying.
    at = raw.rindex(b"text")
    Path(paths[1]).write_bytes(raw[:at] + b"\x80" + raw[at + 1 :])
    limits = SpliceLimits(0, 0, 1 << 40, 4096, 8 * MIB, keeps_layout=False)
    table = local_table(tmp_path)
    for proof in Proof:
        with pytest.raises(CorruptTableError, match=r"100\.parquet cannot be read as Parquet"):
            rewrite_group(replace(make_task(table, paths, proof=proof), splice=limits))
        assert output_files(table) == []


def test_arithmetic_and_digests() -> None:
    check_rows(read=10, dropped=3, written=7)
    with pytest.raises(VerificationError, match="10 rows were read and 3 of them dropped, but 8"):
        check_rows(read=10, dropped=3, written=8)
    with pytest.raises(VerificationError):
        check_digests(inputs=RowDigest(1, 2), outputs=RowDigest(1, 3))


EXPANDING = """
import sys
from pathlib import Path
from dataclasses import replace
from tests.compactor.rewrite.tables import LAYOUT, LocalTable, make_task, TableSchema
from compactor.rewrite.encoding import Encoding
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.task import Proof
import pyarrow as pa, pyarrow.parquet as pq
path, out = sys.argv[1:]
SMALL = replace(LAYOUT, row_group_size_bytes=16 << 20)
table = LocalTable(out, TableSchema(pq.read_schema(path)))
result = rewrite_group(make_task(table, [path], proof=Proof.COUNTS))
print(result.rows_written, pa.default_memory_pool().max_memory())
"""


def measured(code: str, path: str, directory: Path) -> tuple[int, int]:
    """Rewrite a file in a process of its own; return the rows written and Arrow's peak in bytes."""
    found = subprocess.run(
        [sys.executable, "-c", code, path, str(directory)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    written, peak = map(int, found.stdout.split())
    return written, peak


def test_a_small_file_that_expands_a_thousandfold_stays_within_memory(tmp_path: Path) -> None:
    """A hundred kilobytes that decode into a gigabyte, hidden behind harmless rows."""
    count = 1_000
    words = pa.array(["x", *(letter * MIB for letter in "ab")])
    index = pa.array(
        np.concatenate([np.zeros(50_000, np.int32), np.arange(count, dtype=np.int32) % 2 + 1])
    )
    kind = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema([pa.field("text", kind, metadata={"PARQUET:field_id": "1"})])
    path = tmp_path / "bomb.parquet"
    with pq.ParquetWriter(
        path, schema, store_schema=False, dictionary_pagesize_limit=64 * MIB, compression="zstd"
    ) as writer:
        column = pa.DictionaryArray.from_arrays(index, words)
        writer.write_table(pa.table([column], schema), row_group_size=len(index))
    assert path.stat().st_size < MIB
    written, peak = measured(EXPANDING, str(path), tmp_path)
    assert written == len(index)
    assert peak < 400 * MIB


def test_a_foreign_row_group_need_not_fit_into_memory(tmp_path: Path) -> None:
    """A row group of 160 MiB is streamed into row groups of 16 MiB."""
    count = 4 << 20
    numbers = np.random.default_rng(0).integers(0, 1 << 62, (5, count))
    schema = with_ids(pa.schema([(f"c{i}", pa.int64()) for i in range(5)]))
    path = write_file(
        tmp_path / "big.parquet",
        pa.table(list(numbers), schema),
        row_group_size=count,
        compression="none",
        use_dictionary=False,
    )
    assert Path(path).stat().st_size > 160 * MIB
    code = EXPANDING.replace(
        "TableSchema(pq.read_schema(path))", "TableSchema(pq.read_schema(path)), SMALL"
    )
    written, peak = measured(code, path, tmp_path)
    assert written == count
    assert peak < 120 * MIB


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    """The storage's own error comes through the Parquet reader."""
    path = write_file(tmp_path / "in.parquet", rows(250_000), compression="none")
    size = Path(path).stat().st_size
    table = local_table(tmp_path)
    with open_parquet(table.storage, table.locate(path), name=path, size_bytes=size) as source:
        os.truncate(path, size // 2)
        with pytest.raises(CorruptTableError, match=r"in\.parquet is truncated"):
            list(source.batches(0, ["id", "text"]))
