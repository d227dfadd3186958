"""Texts of a column in pieces, and where files are, are what plain Python says."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import duplicates
from catalog.duplicates import find_duplicate
from compactor.planner.columns import take_texts
from compactor.planner.places import Places

PIECES = st.lists(st.lists(st.integers(0, 30).map(str), max_size=5), max_size=5)


def column(pieces: list[list[str]]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(one, pa.string()) for one in pieces], pa.string())


@settings(max_examples=50, deadline=None)
@given(PIECES, st.data())
def test_texts_are_taken_from_any_piece(pieces: list[list[str]], data: st.DataObject) -> None:
    texts = [text for piece in pieces for text in piece]
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1))) if texts else []
    taken = take_texts(column(pieces), np.array(rows, np.int64))
    assert taken.to_pylist() == [texts[row] for row in rows]


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 30)), PIECES, st.booleans())
def test_files_are_found_where_they_are(
    known: set[int], wanted: list[list[str]], all_alike: bool
) -> None:
    paths = [str(one) for one in sorted(known)]
    with pytest.MonkeyPatch.context() as patch:
        if all_alike:
            patch.setattr("compactor.planner.places.hash_texts", lambda texts: np.ones(len(texts)))
        places = Places.of(column([paths[:3], paths[3:]]))
        found = places.find(column(wanted))
    expected = [paths.index(one) if one in paths else -1 for piece in wanted for one in piece]
    assert found.tolist() == expected


@given(st.lists(st.sampled_from("abcdef"), max_size=6), st.booleans())
def test_a_text_that_occurs_twice_is_found(texts: list[str], all_alike: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if all_alike:
            patch.setattr(duplicates.zlib, "crc32", lambda _: 7)
            patch.setattr(duplicates.zlib, "adler32", lambda _: 7)
        found = find_duplicate(lambda: column([texts[:2], texts[2:]]).chunks)
    assert (found is not None) == (len(set(texts)) < len(texts))
    assert found is None or texts.count(found) > 1
