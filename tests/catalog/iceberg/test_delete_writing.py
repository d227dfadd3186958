"""Delete files of workers that cannot all be written: nothing stays, and the cause is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from catalog.errors import AccessDeniedError, StorageFullError
from catalog.iceberg.delete_writing import write_position_deletes
from catalog.iceberg.vector_files import write_vectors
from catalog.location import Location
from catalog.model import Selection
from catalog.storage import Storage

SELECTIONS = {name: Selection(np.array([1, 5], np.int64)) for name in ("a", "b")}
WRITERS: tuple[Callable[..., object], ...] = (
    write_vectors,
    partial(write_position_deletes, is_per_file=True),
)


class FullAfterOne(Storage):
    """Takes the first file alone."""

    def put_if_absent(self, location: Location, data: bytes) -> None:
        if "-0" not in location.name:
            raise StorageFullError("the disk is full")
        super().put_if_absent(location, data)


class Kept(FullAfterOne):
    """Nothing may be removed from it, either."""

    def delete(self, locations: Iterable[Location]) -> None:
        raise AccessDeniedError("nobody removes anything here")


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(("storage", "left"), [(FullAfterOne(), 0), (Kept(), 1)])
def test_the_cause_is_told_whatever_becomes_of_the_others(
    tmp_path: Path, write: Callable[..., object], storage: Storage, left: int
) -> None:
    with pytest.raises(StorageFullError, match="the disk is full"):
        write(
            SELECTIONS,
            storage,
            locate=lambda number: Location.parse(f"{tmp_path}/x-{number}.parquet"),
        )
    assert len(list(tmp_path.iterdir())) == left
