"""Deletion vectors in Puffin files: read by their place, written once per data file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.deletion_vectors import decode, encode, framed, unframed
from catalog.errors import CorruptTableError
from catalog.iceberg.deletion_vectors import VectorPlace, file_name, read_vectors
from catalog.iceberg.vector_files import (
    CARDINALITY,
    TARGET,
    beside,
    file_of_vectors,
    placed_in,
    the_vector_in,
    write_vectors,
)
from catalog.location import Location
from catalog.model import KEEP_ALL, DeleteFile, Selection
from catalog.storage import Storage
from tests.catalog.changes import Change, plan_change
from tests.catalog.conformance import fill
from tests.catalog.groups import paths, plan_all
from tests.catalog.iceberg.version3 import Version3Lake

POSITIONS = st.lists(st.integers(0, (1 << 40)), min_size=1, max_size=50, unique=True).map(sorted)


@given(POSITIONS)
def test_positions_come_back(positions: list[int]) -> None:
    payload = unframed(framed(encode(np.array(positions, np.int64))), "v")
    assert decode(payload, cardinality=len(positions)).tolist() == positions


@given(st.text(), st.integers(0, 1 << 62), st.integers(8, 1 << 40))
def test_a_vector_is_known_by_its_place(path: str, offset: int, size_bytes: int) -> None:
    name = file_name(path, offset, size_bytes)
    assert VectorPlace.of(name) == VectorPlace(path, offset, size_bytes)
    assert VectorPlace.of(f"s3://bucket/{path}") is None


def _puffin(directory: Path, *vectors: list[int]) -> tuple[Location, list[DeleteFile]]:
    positions = {f"file-{number}": np.array(one, np.int64) for number, one in enumerate(vectors)}
    file = file_of_vectors(positions)
    path = directory / "v.puffin"
    path.write_bytes(file.content)
    location = Location.parse(f"file://{path}")
    return location, [
        DeleteFile(
            file_name(str(location), one.place.offset, one.place.length),
            one.place.length,
            int(one.properties[CARDINALITY]),
            1,
            one.properties[TARGET],
        )
        for one in placed_in(file, "v")
    ]


def test_vectors_of_one_file_are_read_together(tmp_path: Path) -> None:
    location, files = _puffin(tmp_path, [1, 5], [0], [7, 8, 9])
    found = read_vectors(files[1:], Storage.from_properties({}), lambda _: location)
    assert {name: one.tolist() for name, one in found.items()} == {
        files[1].path: [0],
        files[2].path: [7, 8, 9],
    }


@given(st.data())
def test_no_damaged_byte_passes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    location, (file, _) = _puffin(tmp_path_factory.mktemp("v"), [1, 5, 70_000], [3])
    path = Path(location.path)
    content = bytearray(path.read_bytes())
    place = VectorPlace.of(file.path)
    assert place is not None
    at = data.draw(st.integers(place.offset, place.offset + place.size_bytes - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(CorruptTableError):
        read_vectors([file], Storage.from_properties({}), lambda _: location)


def test_vectors_of_workers_are_read_by_their_footers(tmp_path: Path) -> None:
    storage = Storage.from_properties({})
    selections = {
        f"{number}-{'long' * number}": Selection(np.arange(number, dtype=np.int64))
        for number in (1, 3, 2000)
    }
    outputs = write_vectors(
        {**selections, "none": KEEP_ALL},
        storage,
        locate=lambda number: Location.parse(f"file://{tmp_path}/x-{number}.parquet"),
    )
    assert outputs.keys() == selections.keys()
    for path, output in outputs.items():
        location = Location.parse(output.path)
        vector = the_vector_in(location, storage)
        assert vector.properties == {TARGET: path, CARDINALITY: str(output.row_count)}
        assert storage.size(location) == output.size_bytes
        found = read_vectors(
            [DeleteFile(output.path, 1, output.row_count, 1, None)], storage, Location.parse
        )
        assert found[output.path].tolist() == selections[path].dropped.tolist()
    assert beside(Location.parse("file:///a/b.c.parquet")) == Location.parse("file:///a/b.c.puffin")


def test_a_file_of_two_vectors_is_none_of_a_worker(tmp_path: Path) -> None:
    location, _ = _puffin(tmp_path, [1], [2])
    with pytest.raises(CorruptTableError, match="one deletion vector"):
        the_vector_in(location, Storage.from_properties({}))


def test_another_number_of_rows_than_announced(tmp_path: Path) -> None:
    location, (file,) = _puffin(tmp_path, [1, 5])
    with pytest.raises(CorruptTableError, match="2 positions, 3 were announced"):
        read_vectors([replace(file, row_count=3)], Storage.from_properties({}), lambda _: location)


def test_a_place_that_is_none() -> None:
    for offset, size_bytes in ((4, None), (-1, 40), (4, 3)):
        with pytest.raises(CorruptTableError):
            file_name("p", offset, size_bytes)


def test_marks_take_over_what_was_deleted_before(tmp_path: Path) -> None:
    """One vector per data file: the one before leaves, its neighbours in the same file do not."""
    lake = Version3Lake(tmp_path)
    files = fill(lake, parts="a", files=3)["a"]
    lake.delete({files[0]: [0, 1], files[1]: [2], files[2]: [3]})
    rows = lake.rows()
    change = Change([], deletes=[5, 17])
    assert lake.table.commit(plan_change(lake.table, change, marks=True)).conflicts == ()
    assert lake.rows() == change.apply(rows)
    inventory = lake.table.inventory(lake.table.snapshot())
    deletes = {one.path: [delete.row_count for delete in one.deletes] for one in inventory.slices()}
    assert deletes == {files[0]: [3], files[1]: [2], files[2]: [1]}
    head = lake.other.current_snapshot()
    assert head is not None
    assert head.summary is not None
    assert (head.summary["added-dvs"], head.summary["removed-dvs"]) == ("2", "2")
    assert {Path(one["path"]).suffix for one in inventory.delete_files.to_pylist()} == {".puffin"}


def test_a_rewrite_of_one_file_leaves_the_other_vectors_of_the_puffin_file(tmp_path: Path) -> None:
    lake = Version3Lake(tmp_path)
    files = fill(lake, parts="ab", files=1)
    lake.delete({files["a"][0]: [0], files["b"][0]: [1]})
    rows = lake.rows()
    commit = plan_all(lake.table)
    one = replace(commit, rewrites=commit.rewrites[:1])
    assert lake.table.commit(one).conflicts == ()
    assert lake.rows() == rows
    inventory = lake.table.inventory(lake.table.snapshot())
    left = {path for some in files.values() for path in some} - paths(one.rewrites[0].files)
    assert set(inventory.delete_files["target"].to_pylist()) == left
