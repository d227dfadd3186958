"""What every store does alike: local files, S3 and memory."""

from __future__ import annotations

import os
import pickle
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.errors import CorruptTableError, ObjectExistsError, ObjectNotFoundError
from catalog.location import Location
from catalog.storage import ByteRange, Storage, StorageTally
from tests.catalog.storage.conftest import Place

NAMES = [
    "metadata/v1.metadata.json",
    "data/day=2026-11-20/a.parquet",
    "data/ts=2020-01-01T00%3A00%3A00/f:1",
    "data/a b%20c+d&e/ü-中.parquet",
    "data/type=text%2Fhtml/x'y(z)!~*@$,;.parquet",
]


def listed(place: Place, prefix: Location | None = None) -> list[str]:
    found = place.storage.list(prefix or place.root)
    return sorted(info.location.relative_to(place.root) for info in found)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_kept_literally(place: Place, name: str) -> None:
    location = place.root.child(name)
    place.storage.write(location, name.encode())
    assert place.storage.read(location) == name.encode()
    assert listed(place) == [name]
    assert next(iter(place.storage.list(place.root))).location == location


def test_names_that_differ_by_encoding_are_two_objects(place: Place) -> None:
    plain, encoded = place.root.child("a b"), place.root.child("a%20b")
    place.storage.write(plain, b"plain")
    place.storage.write(encoded, b"encoded")
    assert place.storage.read(plain) == b"plain"
    assert place.storage.read(encoded) == b"encoded"


def test_head_tells_size_time_and_etag(place: Place) -> None:
    location = place.root.child("a")
    place.storage.write(location, b"12345")
    info = place.storage.head(location)
    assert info.location == location
    assert info.size_bytes == place.storage.size(location) == 5
    assert abs(datetime.now(UTC) - info.modified_at) < timedelta(minutes=5)
    place.storage.write(location, b"54321")
    assert place.storage.head(location).etag != info.etag


def test_a_range_comes_with_the_version_it_is_of(place: Place) -> None:
    location = place.root.child("a")
    place.storage.write(location, b"0123456789")
    data, version = place.storage.read_version(location, ByteRange(2, 3))
    assert data == b"234"
    assert version.size_bytes == 10
    assert version.etag == place.storage.head(location).etag
    assert place.storage.read_version(location, ByteRange(0, 0))[0] == b""
    with pytest.raises(CorruptTableError):
        place.storage.read_version(location, ByteRange(8, 3))
    with pytest.raises(ObjectNotFoundError):
        place.storage.read_version(place.root.child("b"), ByteRange(0, 1))


def test_write_replaces(place: Place) -> None:
    location = place.root.child("a")
    place.storage.write(location, b"a long first version")
    place.storage.write(location, b"second")
    assert place.storage.read(location) == b"second"
    place.storage.write(location, b"")
    assert place.storage.read(location) == b""
    assert listed(place) == ["a"]


def test_ranges_come_back_in_order(place: Place) -> None:
    data = os.urandom(3_000_000)
    location = place.root.child("a")
    place.storage.write(location, data)
    ranges = [(2_500_000, 500_000), (0, 10), (7, 0), (5, 10), (2_999_999, 1)]
    parts = place.storage.read_ranges(location, [ByteRange(*one) for one in ranges])
    assert parts == [data[offset : offset + length] for offset, length in ranges]
    assert place.storage.read_range(location, 1, 2) == data[1:3]
    assert place.storage.read_ranges(location, []) == []


@pytest.mark.parametrize(("offset", "length"), [(2, 5), (5, 1), (6, 3), (0, 100)])
def test_a_range_past_the_end_is_a_truncated_object(place: Place, offset: int, length: int) -> None:
    location = place.root.child("a")
    place.storage.write(location, b"12345")
    with pytest.raises(CorruptTableError) as caught:
        place.storage.read_range(location, offset, length)
    assert str(location) in str(caught.value)


def test_put_if_absent_lets_the_first_win(place: Place) -> None:
    location = place.root.child("metadata/v2.json")
    place.storage.put_if_absent(location, b"ours")
    with pytest.raises(ObjectExistsError) as caught:
        place.storage.put_if_absent(location, b"theirs")
    assert str(location) in str(caught.value)
    assert place.storage.read(location) == b"ours"
    assert listed(place) == ["metadata/v2.json"]


def test_put_if_absent_knows_its_own_bytes(place: Place) -> None:
    location = place.root.child("metadata/v2.json")
    place.storage.put_if_absent(location, b"ours")
    place.storage.put_if_absent(location, b"ours")


def test_put_if_match_compares_and_swaps(place: Place) -> None:
    location = place.root.child("hint")
    place.storage.write(location, b"1")
    first = place.storage.head(location).etag
    place.storage.put_if_match(location, b"2", first)
    with pytest.raises(ObjectExistsError):
        place.storage.put_if_match(location, b"3", first)
    assert place.storage.read(location) == b"2"
    place.storage.delete([location])
    with pytest.raises(ObjectExistsError):
        place.storage.put_if_match(location, b"4", first)
    assert listed(place) == []


def test_delete_is_idempotent(place: Place) -> None:
    locations = [place.root.child(f"d/{number}") for number in range(5)]
    for location in locations:
        place.storage.write(location, b"x")
    place.storage.delete(iter([*locations[:4], locations[0], place.root.child("never")]))
    place.storage.delete([])
    assert listed(place) == ["d/4"]


def test_delete_works_in_batches(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catalog.storage.storage._DELETE_BATCH_MAX", 2)
    locations = [place.root.child(str(number)) for number in range(5)]
    for location in locations:
        place.storage.write(location, b"x")
    place.storage.delete(locations)
    assert listed(place) == []


def test_list_goes_by_whole_segments(place: Place) -> None:
    for name in ["data/a", "data/b/c", "data2/a", "metadata/x"]:
        place.storage.write(place.root.child(name), b"x")
    assert listed(place, place.root.child("data")) == ["data/a", "data/b/c"]
    assert listed(place, place.root.child("none")) == []
    assert len(listed(place)) == 4


def test_copy_replaces_the_target(place: Place) -> None:
    source, target = place.root.child("a"), place.root.child("below/b")
    place.storage.write(source, b"new")
    place.storage.write(target, b"old")
    place.storage.copy(source, target)
    assert place.storage.read(target) == b"new"
    assert place.storage.read(source) == b"new"


def test_copy_between_stores(place: Place) -> None:
    source, target = place.root.child("a"), Location.parse("memory://elsewhere/a")
    place.storage.write(source, b"x")
    place.storage.copy(source, target)
    assert place.storage.read(target) == b"x"


def test_missing_objects_are_named(place: Place) -> None:
    missing = place.root.child("nope")
    for use in (
        place.storage.head,
        place.storage.read,
        place.storage.open_input,
        lambda one: place.storage.read_range(one, 0, 1),
        lambda one: place.storage.copy(one, place.root.child("copy")),
    ):
        with pytest.raises(ObjectNotFoundError) as caught:
            use(missing)
        assert str(missing) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_prefix_is_no_object(place: Place) -> None:
    place.storage.write(place.root.child("data/a"), b"x")
    for use in (place.storage.head, place.storage.read, place.storage.open_input):
        with pytest.raises(ObjectNotFoundError):
            use(place.root.child("data"))


# Incompressible, of several row groups, longer than one part of an upload.
TABLE = pa.table({"n": range(60_000), "noise": [os.urandom(160) for _ in range(60_000)]})


def test_parquet_streams_out_and_reads_back(place: Place) -> None:
    location = place.root.child("data/day=1/a.parquet")
    with place.storage.open_output(location) as output:
        with pq.ParquetWriter(output, TABLE.schema) as writer:
            writer.write_table(TABLE, row_group_size=10_000)
        assert not output.closed
    size_bytes = place.storage.size(location)
    assert output.closed
    assert output.size_bytes == output.tell() == size_bytes > 8 << 20
    for source in (
        place.storage.open_input(location),
        place.storage.open_input(location, size_bytes=size_bytes),
    ):
        with source, pq.ParquetFile(source, pre_buffer=False) as file:
            assert file.metadata.num_row_groups == 6
            assert file.read().equals(TABLE)
    assert pq.read_table(place.storage.open_input(location), columns=["n"]).num_rows == 60_000


def test_small_reads_of_an_input(place: Place) -> None:
    location = place.root.child("a")
    data = os.urandom(2_500_000)
    place.storage.write(location, data)
    with place.storage.open_input(location) as source:
        assert source.size() == len(data)
        assert source.read_at(8, len(data) - 8) == data[-8:]
        assert source.read_at(100, len(data) - 900_000) == data[-900_000:-899_900]
        assert source.read_at(10, 0) == data[:10]
        assert source.read_at(10, 1 << 20) == data[1 << 20 : (1 << 20) + 10]
        source.seek(-3, 2)
        assert source.read() == data[-3:]
        assert source.read() == b""
    with pytest.raises(ValueError, match="closed"):
        source.read_at(1, 0)


def test_an_aborted_output_leaves_nothing(place: Place) -> None:
    location = place.root.child("data/a.parquet")
    output = place.storage.open_output(location)

    def write_and_fail() -> None:
        with output, pq.ParquetWriter(output, TABLE.schema) as writer:
            writer.write_table(TABLE)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_and_fail()
    assert output.closed
    assert listed(place) == []
    with pytest.raises(ValueError, match="closed"):
        output.write(b"x")
    output.close()
    assert listed(place) == []


def test_closing_twice_keeps_the_object(place: Place) -> None:
    location = place.root.child("a")
    output = place.storage.open_output(location)
    output.write(b"12")
    output.write(bytearray(b"3"))
    output.close()
    output.close()
    output.abort()
    assert place.storage.read(location) == b"123"


def test_an_empty_output_is_an_empty_object(place: Place) -> None:
    place.storage.open_output(place.root.child("a")).close()
    assert place.storage.read(place.root.child("a")) == b""


def test_tally_counts_this_value_alone(place: Place) -> None:
    storage = place.storage.metered()
    location = place.root.child("a")
    with storage.open_output(location) as output:
        output.write(b"x" * 1000)
    storage.read_range(location, 0, 10)
    storage.read(location)
    tally = storage.tally()
    assert (tally.bytes_read, tally.bytes_written) == (1010, 1000)
    assert tally.requests >= 3
    assert place.storage.metered().tally() == StorageTally()
    assert tally + tally == StorageTally(2 * tally.requests, 2020, 2000)


def test_input_counts_what_it_fetches(place: Place) -> None:
    location = place.root.child("a")
    place.storage.write(location, os.urandom(4_000_000))
    storage = place.storage.metered()
    with storage.open_input(location) as source:
        source.read_at(2_000_000, 1_000_000)
    assert storage.tally().bytes_read == 2_000_000


def test_a_pickled_storage_works_and_counts_from_zero(place: Place) -> None:
    location = place.root.child("a")
    place.storage.write(location, b"x")
    copy: Storage = pickle.loads(pickle.dumps(place.storage))
    assert copy == place.storage
    assert copy.tally() == StorageTally()
    assert copy.read(location) == b"x"
    assert copy.tally() == StorageTally(1, 1, 0)
