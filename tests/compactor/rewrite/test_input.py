"""Complaints of the Parquet reader: about the file, or about memory."""

from __future__ import annotations

import pytest

from catalog.errors import CorruptTableError
from compactor.rewrite.input import decoding


def test_a_thread_that_cannot_start_is_no_damage_to_the_file() -> None:
    with pytest.raises(MemoryError, match=r"a\.parquet"), decoding("a.parquet"):
        raise OSError("Failed to launch worker thread: Resource temporarily unavailable")


def test_other_complaints_are_about_the_file() -> None:
    with pytest.raises(CorruptTableError, match=r"a\.parquet"), decoding("a.parquet"):
        raise OSError("Couldn't deserialize thrift")
