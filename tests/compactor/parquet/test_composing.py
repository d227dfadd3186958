"""Splices that S3 composes: the same bytes as a splice through us, and proved to be."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import CorruptTableError
from catalog.location import Location
from catalog.storage import Storage
from catalog.storage.composition import _composer
from catalog.storage.parts import NewPiece
from compactor.errors import VerificationError
from compactor.parquet import SplicePlan, SpliceSource, plan_splice, read_footer, write_splice
from compactor.parquet.checking import has_right_checksum
from compactor.parquet.composing import compose_splice, pieces
from compactor.parquet.reading import read_page_indexes
from compactor.parquet.rendering import render_tail
from tests.catalog.storage.fault_proxy import Fault, faulty
from tests.catalog.storage.s3_server import new_bucket, s3_server, s3_storage
from tests.catalog.storage.test_s3_faults import unfinished_uploads
from tests.compactor.parquet.corpus import written

ROWS = 500_000
ALWAYS = 10_000


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two files of 12 MB in two row groups, and a small one between them."""
    directory = tmp_path_factory.mktemp("files")
    return [
        write(directory / f"{number}.parquet", number, rows)
        for number, rows in enumerate([ROWS, 1000, ROWS])
    ]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("corpus")
    written(directory, "filters", 5)
    return directory


def write(path: Path, seed: int, rows: int, **options: bool) -> Path:
    random = np.random.default_rng(seed)
    columns = {"id": np.arange(rows), "noise": random.random(rows), "more": random.random(rows)}
    pq.write_table(
        pa.table(columns),
        path,
        row_group_size=max(1, rows // 2),
        write_page_index=True,
        **{"write_page_checksum": True, **options},
    )
    return path


@pytest.fixture
def bucket(endpoint: str) -> Location:
    _composer.cache_clear()
    return new_bucket(endpoint)


def planned(storage: Storage, bucket: Location, files: list[Path]) -> SplicePlan:
    """Store the files and plan to splice them."""
    sources = []
    for path in files:
        storage.write(bucket.child(path.name), path.read_bytes())
        footer = read_footer(storage, bucket.child(path.name), path.stat().st_size)
        sources.append(SpliceSource(footer, range(footer.row_group_count)))
    return plan_splice(sources)


def spliced_here(files: list[Path], target: Path) -> bytes:
    """Return the same splice made of local files."""
    storage = Storage()
    sources = []
    for path in files:
        footer = read_footer(storage, Location.parse(str(path)), path.stat().st_size)
        sources.append(SpliceSource(footer, range(footer.row_group_count)))
    write_splice(storage, plan_splice(sources), Location.parse(str(target)))
    return target.read_bytes()


def test_the_store_makes_the_same_file_as_we(
    endpoint: str, bucket: Location, files: list[Path], tmp_path: Path
) -> None:
    storage = s3_storage(endpoint)
    plan = planned(storage, bucket, files)
    mine = storage.metered()
    done = write_splice(mine, plan, bucket.child("out.parquet"))
    assert storage.read(done.location) == spliced_here(files, tmp_path / "out.parquet")
    assert done.why_streamed == ""
    assert done.composed_bytes == mine.tally().bytes_copied
    # One range of the small file takes 5 MiB of its neighbour with it; all else stays there.
    assert done.copied_bytes - done.composed_bytes < 5 << 20
    assert unfinished_uploads(endpoint, bucket) == 0


def test_a_file_that_begins_elsewhere_begins_with_what_we_send(
    endpoint: str, bucket: Location, files: list[Path]
) -> None:
    storage = s3_storage(endpoint)
    footer = planned(storage, bucket, files[:1]).sources[0].footer
    again = read_footer(storage, footer.location, footer.size_bytes)
    whole = SpliceSource(again, [0, 1])
    plan = plan_splice([SpliceSource(footer, [1]), whole])
    done = write_splice(storage, plan, bucket.child("out.parquet"))
    rows = pq.read_table(storage.open_input(done.location), use_threads=False)
    first = pq.read_table(files[0])
    assert rows.equals(pa.concat_tables([first.slice(ROWS // 2), first]))
    assert done.composed_bytes > 0


@pytest.mark.parametrize("fault", [Fault.UNKNOWN_REQUEST, Fault.EMPTY_200, Fault.FORBIDDEN])
def test_what_the_store_does_not_copy_passes_through_us(
    endpoint: str, bucket: Location, files: list[Path], tmp_path: Path, fault: Fault
) -> None:
    with faulty(endpoint, "^PUT .*partNumber=1&", fault, hits=1) as proxy:
        storage = s3_storage(proxy.endpoint)
        plan = planned(storage, bucket, files)
        done = write_splice(storage, plan, bucket.child("out.parquet"))
    assert done.composed_bytes == 0
    assert "copy" in done.why_streamed
    stored = s3_storage(endpoint).read(done.location)
    assert stored == spliced_here(files, tmp_path / "out.parquet")
    assert unfinished_uploads(endpoint, bucket) == 0


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_pieces_are_the_bytes_of_the_splice(corpus: Path, data: st.DataObject) -> None:
    """Whatever is selected, of files with Bloom filters and page indexes, in any order."""
    storage = Storage()
    paths = sorted(corpus.glob("*.parquet"))
    sources = []
    for path in data.draw(st.lists(st.sampled_from(paths), min_size=1, max_size=4, unique=True)):
        footer = read_footer(storage, Location.parse(str(path)), path.stat().st_size)
        groups = st.integers(0, footer.row_group_count - 1)
        sources.append(SpliceSource(footer, data.draw(st.lists(groups, min_size=1, unique=True))))
    plan = plan_splice(sources)
    tail = render_tail(plan, read_page_indexes(storage, plan.sources))
    joined = b"".join(
        one.data
        if isinstance(one, NewPiece)
        else storage.read_range(one.source.location, one.offset, one.length)
        for one in pieces(plan, tail)
    )
    target = corpus / "out" / f"{uuid.uuid4().hex}.bin"
    write_splice(storage, plan, Location.parse(str(target)))
    assert joined == target.read_bytes()


def test_short_ranges_pass_through_us(endpoint: str, bucket: Location, files: list[Path]) -> None:
    storage = s3_storage(endpoint)
    done = write_splice(storage, planned(storage, bucket, files[1:2]), bucket.child("out.parquet"))
    assert "long enough" in done.why_streamed
    assert pq.read_table(storage.open_input(done.location)).equals(pq.read_table(files[1]))


def test_a_source_replaced_since_its_footer_was_read_is_refused(
    endpoint: str, bucket: Location, files: list[Path], tmp_path: Path
) -> None:
    storage = s3_storage(endpoint)
    plan = planned(storage, bucket, files)
    other = write(tmp_path / "other.parquet", 77, ROWS).read_bytes()
    storage.write(bucket.child(files[2].name), other[: files[2].stat().st_size].ljust(1))
    with pytest.raises(CorruptTableError, match=rf"{files[2].name} was replaced"):
        write_splice(storage, plan, bucket.child("out.parquet"))
    assert not any("out" in str(info.location) for info in storage.list(bucket))
    assert unfinished_uploads(endpoint, bucket) == 0


@pytest.mark.parametrize("has_checksums", [True, False])
@pytest.mark.parametrize("where", ["page", "end"])
def test_a_store_that_copies_other_bytes_is_found_out(
    endpoint: str, bucket: Location, tmp_path: Path, where: str, has_checksums: bool
) -> None:
    files = [write(tmp_path / "a.parquet", 1, ROWS, write_page_checksum=has_checksums)]
    storage = s3_storage(endpoint)
    plan = planned(storage, bucket, files)
    tail = render_tail(plan, read_page_indexes(storage, plan.sources))
    target = bucket.child("out.parquet")

    class Wrong(Storage):
        """Damages what it has composed."""

        __slots__ = ()

        def compose(self, location, parts):
            super().compose(location, parts)
            data = bytearray(self.read(location))
            at = -20 if where == "end" else slice(4, plan.body_end)
            data[at] = data[at] ^ 1 if where == "end" else bytes(len(data[at]))
            self.write(location, bytes(data))

    with pytest.raises(VerificationError, match=r"out\.parquet"):
        compose_splice(Wrong(storage.properties, storage.retry), plan, tail, target)
    assert not any("out" in str(info.location) for info in storage.list(bucket))


def test_a_checksum_is_of_the_bytes_behind_the_header(tmp_path: Path) -> None:
    for has_checksums in (True, False):
        path = write(tmp_path / "a.parquet", 1, 1000, write_page_checksum=has_checksums)
        column = pq.read_metadata(path).row_group(0).column(1)
        start = column.dictionary_page_offset or column.data_page_offset
        chunk = path.read_bytes()[start : start + column.total_compressed_size]
        assert has_right_checksum(chunk) is has_checksums
        damaged = bytearray(chunk)
        damaged[100] ^= 1
        assert not has_right_checksum(bytes(damaged))
        assert not has_right_checksum(chunk[:200])
    assert not has_right_checksum(b"")
    assert not has_right_checksum(bytes(100))
