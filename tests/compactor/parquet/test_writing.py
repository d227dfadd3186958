"""Splices between disks, in memory and through S3: the same bytes, or nothing."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from catalog.errors import CatalogError, CorruptTableError, ObjectExistsError, ObjectNotFoundError
from catalog.location import Location
from catalog.storage import Storage
from compactor.errors import VerificationError
from compactor.parquet import SpliceSource, plan_splice, read_footer, write_splice, writing
from compactor.parquet import scan as s
from compactor.parquet.reading import TAIL_BYTES
from tests.catalog.storage.s3_server import new_bucket, s3_server, s3_storage
from tests.compactor.parquet.corpus import (
    STORAGE,
    opened,
    read,
    rows,
    spliced,
    whole,
    with_pyarrow,
    written,
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return written(tmp_path_factory.mktemp("inputs"), "filters", 3)


@pytest.fixture(scope="module")
def remote() -> Iterator[tuple[Storage, Location]]:
    with s3_server() as endpoint:
        yield s3_storage(endpoint), new_bucket(endpoint)


def uploaded(storage: Storage, root: Location, paths: list[Path]) -> list[SpliceSource]:
    sources = []
    for path in paths:
        storage.write(root.child(path.name), path.read_bytes())
        footer = read_footer(storage, root.child(path.name), path.stat().st_size)
        sources.append(SpliceSource(footer, range(footer.row_group_count)))
    return sources


@pytest.mark.parametrize("store", ["s3", "memory"])
def test_remote_splices_are_the_local_ones(
    inputs: list[Path],
    store: str,
    remote: tuple[Storage, Location],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Small pieces, so that many are in flight at once.
    monkeypatch.setattr(writing, "_PIECE_BYTES", 10_000)
    memory = (Storage(), Location.parse(f"memory://{uuid.uuid4().hex}"))
    storage, root = remote if store == "s3" else memory
    local = spliced([whole(path) for path in inputs], tmp_path / "local.parquet")
    plan = plan_splice(uploaded(storage, root, inputs))
    result = write_splice(storage, plan, root.child("out.parquet"))
    assert storage.read(root.child("out.parquet")) == local.read_bytes()
    assert result.size_bytes == local.stat().st_size
    mixed = plan_splice([whole(inputs[0]), *plan.sources[1:]])
    write_splice(storage, mixed, Location.parse(str(tmp_path / "mixed.parquet")))
    assert (tmp_path / "mixed.parquet").read_bytes() == local.read_bytes()


def test_reads_no_more_than_it_must(inputs: list[Path], tmp_path: Path) -> None:
    storage = STORAGE.metered()
    path = tmp_path / "it.parquet"
    with_pyarrow(path, rows(0).select(["id"]), write_page_index=True)
    location, size = Location.parse(str(path)), path.stat().st_size
    footer = read_footer(storage, location, size)
    assert storage.tally().requests == 1
    plan = plan_splice([SpliceSource(footer, range(footer.row_group_count))])
    result = write_splice(storage, plan, location.parent.child("out.parquet"))
    # The footer, the creation, the one range, another look at the source, and a page of both.
    assert storage.tally().requests == 6
    page = 2 * min(footer.chunk_bytes(0) + footer.chunk_bytes(1) + footer.chunk_bytes(2))
    assert storage.tally().bytes_read == min(size, TAIL_BYTES) + result.copied_bytes + page
    assert storage.tally().bytes_written == result.size_bytes


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_source_replaced_since_its_footer_was_read_is_refused(
    inputs: list[Path], tmp_path: Path, place: str
) -> None:
    root = Location.parse(str(tmp_path) if place == "local" else f"memory://{uuid.uuid4().hex}")
    plan = plan_splice(uploaded(STORAGE, root, inputs))
    victim = plan.sources[1].footer.location
    STORAGE.write(victim, STORAGE.read(victim))
    with pytest.raises(CorruptTableError, match=f"{re.escape(str(victim))} was replaced"):
        write_splice(STORAGE, plan, root.child("out.parquet"))
    assert not any("out" in str(info.location) for info in STORAGE.list(root))


def test_footers_and_indexes_longer_than_the_first_read(tmp_path: Path) -> None:
    path = tmp_path / "it.parquet"
    with_pyarrow(path, rows(0), write_page_index=True, row_group_size=10)
    footer = opened(path)
    assert len(footer.data) > TAIL_BYTES
    few = SpliceSource(footer, [0, 30, 59])
    output = spliced([few, whole(path)], tmp_path / "out.parquet")
    assert read(output).num_rows == 630
    assert spliced([whole(path)], tmp_path / "same.parquet").read_bytes() == path.read_bytes()


def test_footers_and_plans_cross_processes(inputs: list[Path], tmp_path: Path) -> None:
    plan = pickle.loads(pickle.dumps(plan_splice([whole(path) for path in inputs])))
    write_splice(STORAGE, plan, Location.parse(str(tmp_path / "out.parquet")))
    here = spliced([whole(path) for path in inputs], tmp_path / "here.parquet")
    assert here.read_bytes() == (tmp_path / "out.parquet").read_bytes()


def test_between_file_systems(inputs: list[Path], tmp_path: Path) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one file system only")
    with tempfile.TemporaryDirectory(dir=memory) as other:
        moved = [Path(shutil.copy(path, other)) for path in inputs]
        here = spliced([whole(path) for path in inputs], tmp_path / "here.parquet")
        there = spliced([whole(path) for path in moved], tmp_path / "there.parquet")
        assert there.read_bytes() == here.read_bytes()


@pytest.mark.parametrize("error", ["EXDEV", "EINVAL", "ENOSYS", "EOPNOTSUPP", "EPERM"])
def test_where_the_kernel_does_not_copy(
    inputs: list[Path], error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = spliced([whole(path) for path in inputs], tmp_path / "here.parquet")
    copy_file_range = os.copy_file_range
    calls = iter(range(1000))

    def partly(source: int, target: int, count: int, offset: int) -> int:
        if next(calls) % 2:
            import errno

            raise OSError(getattr(errno, error), "no")
        return copy_file_range(source, target, min(count, 1000), offset)

    monkeypatch.setattr(os, "copy_file_range", partly)
    there = spliced([whole(path) for path in inputs], tmp_path / "there.parquet")
    assert there.read_bytes() == here.read_bytes()


def failing(plan_sources: list[SpliceSource], output: Path, error: type[CatalogError]) -> None:
    plan = plan_splice(plan_sources)
    with pytest.raises(error):
        write_splice(STORAGE, plan, Location.parse(str(output)))


def test_nothing_is_left_when_a_source_has_shrunk_or_gone(tmp_path: Path) -> None:
    paths = written(tmp_path, "index", 2)
    sources = [whole(path) for path in paths]
    os.truncate(paths[1], 1000)
    failing(sources, tmp_path / "out.parquet", CorruptTableError)
    paths[1].unlink()
    failing(sources, tmp_path / "out.parquet", ObjectNotFoundError)
    assert sorted(tmp_path.iterdir()) == [paths[0]]


def test_nothing_is_overwritten(inputs: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    output.write_bytes(b"another's")
    failing([whole(inputs[0])], output, ObjectExistsError)
    assert output.read_bytes() == b"another's"


def test_remote_failures_leave_nothing(
    inputs: list[Path], remote: tuple[Storage, Location]
) -> None:
    storage, root = remote
    sources = uploaded(storage, root.child("gone"), inputs)
    storage.delete([sources[2].footer.location])
    with pytest.raises(ObjectNotFoundError):
        write_splice(storage, plan_splice(sources), root.child("gone", "out.parquet"))
    assert len(list(storage.list(root.child("gone")))) == 2


def test_filters_whose_length_the_footer_does_not_say(inputs: list[Path]) -> None:
    """As parquet-java wrote them before 1.14: the length is in the filter's own header."""
    footer = opened(inputs[0])
    chunks = footer.chunks[:]
    for at in range(s.BLOOM_LENGTH, len(chunks), s.CHUNK_WIDTH):
        chunks[at] = 0
    from compactor.parquet import reading

    learned = reading._with_filter_lengths(STORAGE, replace(footer, chunks=chunks))
    assert learned.chunks == footer.chunks


def test_page_indexes_that_overlap(inputs: list[Path], tmp_path: Path) -> None:
    source = whole(inputs[0])
    chunks = source.footer.chunks
    for at in range(0, len(chunks), s.CHUNK_WIDTH):
        chunks[at + s.COLUMN_INDEX] = chunks[s.COLUMN_INDEX]
        chunks[at + s.COLUMN_INDEX_LENGTH] = 100_000
    failing([source], tmp_path / "out.parquet", CorruptTableError)


@pytest.mark.parametrize("has_checksums", [True, False])
def test_other_bytes_than_those_of_the_source_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_checksums: bool
) -> None:
    path = tmp_path / "in.parquet"
    with_pyarrow(path, rows(0).select(["id"]), write_page_checksum=has_checksums)

    def copies_zeros(output: Any, copies: Any, locations: Any) -> None:
        del locations
        output.write(bytes(sum(one.length for one in copies)))

    monkeypatch.setattr("compactor.parquet.writing._copy_files", copies_zeros)
    target = Location.parse(str(tmp_path / "out.parquet"))
    with pytest.raises(VerificationError, match="other bytes"):
        write_splice(STORAGE, plan_splice([whole(path)]), target)
    assert not Path(target.path).exists()
