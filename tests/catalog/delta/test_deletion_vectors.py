"""Deletion vectors come back from each of their places, and damage to them is always found."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from catalog.delta import deletion_vectors as dv
from catalog.delta import z85
from catalog.errors import CorruptTableError, LocationError, ObjectNotFoundError
from catalog.location import Confinement, Location
from catalog.storage import Storage

POSITIONS = st.lists(
    st.one_of(
        st.integers(0, 70_000),
        st.integers((1 << 32) - 3, (1 << 32) + 3),
        st.integers(0, (1 << 63) - 1),
    ),
    max_size=60,
)


def positions_of(values: list[int]) -> dv.Positions:
    return np.array(values, dtype=np.int64)


def read(place: Path, *vectors: dv.DeletionVector) -> list[list[int]]:
    table = Location.parse(str(place))
    found = dv.read_vectors(Storage(), vectors, table=table, confinement=Confinement((table,)))
    return [found[vector].tolist() for vector in vectors]


def store(place: Path, *many: list[int]) -> tuple[Path, tuple[dv.DeletionVector, ...]]:
    identity = uuid.uuid4().bytes
    content, vectors = dv.file_of_vectors(identity, [positions_of(one) for one in many])
    path = place / dv.file_name(identity)
    path.write_bytes(content)
    return path, vectors


@given(POSITIONS)
@example([])
@example(list(range(70_000)))
@example(list(range(0, 200_000, 3)))
def test_positions_come_back_ascending_and_unique(values: list[int]) -> None:
    wanted = sorted(set(values))
    payload = dv.encode(positions_of(values))
    assert dv.decode(payload, cardinality=len(wanted)).tolist() == wanted


@given(POSITIONS)
def test_an_inline_vector_comes_back(values: list[int]) -> None:
    vector = dv.inline_vector(positions_of(values))
    assert (vector.storage_type, vector.cardinality) == ("i", len(set(values)))
    assert read(Path("/nowhere"), vector) == [sorted(set(values))]


def test_the_bytes_are_those_of_the_protocol() -> None:
    # Magic, one bucket, key 0, then a portable 32-bit bitmap of one array container with 3, 4, 7.
    payload = dv.encode(positions_of([3, 4, 7]))
    bitmap = "3a30000001000000" + "00000200" + "10000000" + "030004000700"
    assert payload.hex() == "d1d33964" + "0100000000000000" + "00000000" + bitmap


def test_several_vectors_share_a_file(tmp_path: Path) -> None:
    many = [[1, 2, 3], [], list(range(5000)), [1 << 33]]
    path, vectors = store(tmp_path, *many)
    assert path.read_bytes()[0] == 1
    assert vectors[0].offset == 1
    assert len({vector.unique_id for vector in vectors}) == len(many)
    assert read(tmp_path, *vectors) == many


def test_a_vector_with_a_prefix_lies_in_that_directory(tmp_path: Path) -> None:
    (tmp_path / "ab").mkdir()
    _, (vector,) = store(tmp_path / "ab", [4, 5])
    prefixed = replace(vector, path_or_inline="ab" + vector.path_or_inline)
    assert read(tmp_path, prefixed) == [[4, 5]]


@pytest.mark.parametrize("directory", ["plain", "with space"])
def test_an_absolute_vector_is_a_uri(tmp_path: Path, directory: str) -> None:
    (tmp_path / directory).mkdir()
    path, (vector,) = store(tmp_path / directory, [9])
    absolute = replace(vector, storage_type="p", path_or_inline=path.as_uri())
    assert read(tmp_path, absolute) == [[9]]


def test_a_vector_outside_of_the_table_is_refused(tmp_path: Path) -> None:
    path, (vector,) = store(tmp_path, [9])
    with pytest.raises(LocationError):
        read(tmp_path / "t", replace(vector, storage_type="p", path_or_inline=str(path)))
    with pytest.raises(LocationError):
        read(tmp_path / "t", replace(vector, path_or_inline="../" + vector.path_or_inline))


def test_the_identity_of_a_vector_is_spelled_as_by_the_protocol() -> None:
    assert dv.DeletionVector("u", "abc", 4, 1, 7).unique_id == "uabc@7"
    assert dv.DeletionVector("i", "abc", 4, 1).unique_id == "iabc"


@given(st.data())
def test_no_damaged_byte_of_a_file_passes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("vectors")
    path, (vector,) = store(place, [1, 5, 70_000, (1 << 32) + 1])
    content = bytearray(path.read_bytes())
    where = data.draw(st.integers(1, len(content) - 1))
    content[where] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(CorruptTableError):
        read(place, vector)


@given(st.binary(max_size=80))
def test_noise_is_refused_or_keeps_its_word(noise: bytes) -> None:
    payload = dv.encode(positions_of([]))[:4] + noise
    try:
        found = dv.decode(payload, cardinality=3)
    except CorruptTableError:
        return
    assert len(set(found.tolist())) == 3


def test_a_short_file_and_a_missing_one(tmp_path: Path) -> None:
    path, (vector,) = store(tmp_path, [1, 2])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptTableError, match="truncated"):
        read(tmp_path, vector)
    path.unlink()
    with pytest.raises(ObjectNotFoundError):
        read(tmp_path, vector)


def test_what_the_log_announces_must_hold(tmp_path: Path) -> None:
    _, (vector,) = store(tmp_path, [1, 2])
    for wrong in (
        replace(vector, cardinality=3),
        replace(vector, size_bytes=vector.size_bytes - 1),
        replace(vector, offset=vector.offset + 1 if vector.offset else 0),
        replace(vector, offset=-5),
        replace(vector, storage_type="x"),
        replace(vector, path_or_inline=z85.encode(b"four") + "x" * 5),
        replace(dv.inline_vector(positions_of([1, 2])), cardinality=1),
        replace(dv.inline_vector(positions_of([1, 2])), size_bytes=10_000),
    ):
        with pytest.raises((CorruptTableError, ObjectNotFoundError)):
            read(tmp_path, wrong)


def test_the_legacy_layout_is_refused_by_its_magic() -> None:
    legacy = (1681511376).to_bytes(4, "big") + bytes(12)
    with pytest.raises(CorruptTableError, match="no known magic"):
        dv.decode(legacy, cardinality=0)
