"""Footers that lie: refused by name, with work and memory bounded by the bytes there are."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.errors import CatalogError, CorruptTableError, UnsupportedTableError
from catalog.location import Location
from compactor.parquet import Footer, SpliceSource, parse_footer, plan_splice, read_footer, scan
from compactor.parquet.page_index import Stretches
from compactor.parquet.rendering import render_tail
from compactor.parquet.thrift import LIST, STRUCT, signed_bytes
from tests.compactor.parquet.corpus import STORAGE, WRITERS, opened, rows, whole, with_pyarrow

HERE = Location.parse("/data/it.parquet")
SEEDS = ("index", "filters", "pages-v2", "duckdb", "polars")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    directory = tmp_path_factory.mktemp("hostile")
    found = {}
    for writer in SEEDS:
        WRITERS[writer](directory / writer, rows(1, 300))
        found[writer] = (directory / writer).read_bytes()
    return found


def use(footer: Footer, file: bytes) -> None:
    """Do with a footer what is done with one: plan, render, describe."""
    source = SpliceSource(footer, range(footer.row_group_count))
    for group in source.row_groups:
        footer.row_group(group)
        for column in range(footer.column_count):
            footer.chunk(group, column)
    # A source of another shift before it makes every offset move.
    plan = plan_splice([source] if not source.row_groups else [source, source])
    render_tail(plan, [Stretches((0,), (file,))] * len(plan.sources))


@contextmanager
def at_worst_refused(name: str) -> Iterator[None]:
    try:
        yield
    except (CorruptTableError, UnsupportedTableError) as error:
        if name not in str(error):
            raise AssertionError("the error does not name the file") from error


def mutate(data: st.DataObject, original: bytes) -> bytes:
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, max(0, len(changed) - 1)))
        how = data.draw(st.sampled_from(["flip", "set", "insert", "remove", "cut", "repeat"]))
        if how == "flip" and changed:
            changed[at] ^= 1 << data.draw(st.integers(0, 7))
        elif how == "set" and changed:
            changed[at] = data.draw(st.sampled_from([0, 1, 0x19, 0x1C, 0x7F, 0x80, 0xF9, 0xFF]))
        elif how == "insert":
            changed[at:at] = data.draw(st.binary(max_size=12))
        elif how == "remove":
            del changed[at : at + data.draw(st.integers(1, 20))]
        elif how == "cut":
            del changed[at:]
        else:
            changed[at:at] = changed[at : at + data.draw(st.integers(1, 200))]
    return bytes(changed)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutated_footers_never_crash(files: dict[str, bytes], data: st.DataObject) -> None:
    file = files[data.draw(st.sampled_from(SEEDS))]
    length = int.from_bytes(file[-8:-4], "little")
    footer = mutate(data, file[-8 - length : -8])
    body = file[: -8 - length]
    with at_worst_refused(str(HERE)):
        use(parse_footer(HERE, footer, size_bytes=len(body) + len(footer) + 8), body)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutated_files_never_crash(
    files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = files[data.draw(st.sampled_from(SEEDS))]
    mutated = file[: len(file) // 2] + mutate(data, file[len(file) // 2 :])
    path = tmp_path_factory.mktemp("mutated") / "it.parquet"
    path.write_bytes(mutated)
    with at_worst_refused(str(path)):
        use(opened(path), mutated)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_are_no_footer(data: bytes) -> None:
    with pytest.raises(CorruptTableError):
        parse_footer(HERE, data, size_bytes=len(data) + 1000)


def numbers(path: Path, column: int) -> Footer:
    """Return a footer parsed anew with one number of its first chunk replaced by a huge one."""
    footer = opened(path)
    span = footer.chunks[scan.SPANS + column]
    at = span >> 4
    data = footer.data[:at] + signed_bytes(2**62) + footer.data[at + (span & 15) :]
    return parse_footer(footer.location, data, size_bytes=footer.offset + len(data) + 8)


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (scan.DATA_PAGE, "column chunk lies outside"),
        (scan.BLOOM, "Bloom filter lies outside"),
        (scan.OFFSET_INDEX, "offset index lies outside"),
        (scan.COLUMN_INDEX, "column index lies outside"),
    ],
)
def test_positions_outside_of_the_file(tmp_path: Path, column: int, what: str) -> None:
    path = tmp_path / "it.parquet"
    table = rows(0).select(["id"])
    options = {"write_page_index": True, "bloom_filter_options": {"id": {"ndv": 9}}}
    with_pyarrow(path, table, use_dictionary=False, **options)
    with pytest.raises(CorruptTableError, match=what):
        numbers(path, column)


def test_absurd_counts_allocate_nothing() -> None:
    schema = bytes([2 << 4 | LIST, 1 << 4 | STRUCT, 0x48, 1, 65, 0])
    absurd = schema + bytes([1 << 4 | 6, 0, 1 << 4 | LIST, 0xF0 | STRUCT]) + b"\xff" * 4 + b"\x07"
    tracemalloc.start()
    try:
        with pytest.raises(CorruptTableError, match="more elements than there are bytes"):
            parse_footer(HERE, absurd, size_bytes=2**40)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "no Parquet file of 0 bytes"),
        (b"PAR1", "no Parquet file of 4 bytes"),
        (b"PAR1PAR1", "no Parquet file"),
        (b"x" * 100, "no Parquet file"),
        (b"PAR1" + b"\xff\xff\xff\xffPAR1", "no Parquet file"),
        (b"PAR1" + b"\x00\x00\x00\x00PAR1", "past its end"),
        (b"PARE" + b"\x00\x00\x00\x00PARE", "encrypted"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: bytes, error: str) -> None:
    path = tmp_path / "it.parquet"
    path.write_bytes(content)
    with pytest.raises(CatalogError, match=error):
        opened(path)


def test_a_file_of_another_size_than_stated(tmp_path: Path) -> None:
    path = tmp_path / "it.parquet"
    with_pyarrow(path, rows(0))
    size = path.stat().st_size
    location = Location.parse(str(path))
    for wrong in (size - 1, size + 1, 2 * size):
        with pytest.raises(CorruptTableError):
            read_footer(STORAGE, location, wrong)


def test_a_page_index_of_another_chunk(tmp_path: Path) -> None:
    path = tmp_path / "it.parquet"
    with_pyarrow(path, rows(0), write_page_index=True)
    source = whole(path)
    plan = plan_splice([source, source])
    file = bytearray(path.read_bytes())
    at = source.footer.chunks[scan.OFFSET_INDEX]
    file[at + 4] ^= 0x7E
    with pytest.raises(CorruptTableError, match=r"offset index|page location|past its end"):
        render_tail(plan, [Stretches((0,), (bytes(file),))] * 2)
