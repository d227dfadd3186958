"""What footers say of keys is what readers look them up by."""

import pyarrow as pa
import pytest

from catalog.hudi.footers import MAX_KEY, MIN_KEY, KeyNotes, KeyNotesMaker
from catalog.hudi.schema import RECORD_KEY
from catalog.location import Confinement
from catalog.storage import Storage


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["b", "a", "\u00e9"], ("a", "\u00e9")),
        # As Java compares them: two halves of a character are less than one from U+E000 on.
        (["z", "\U0001f600", "\uff01"], ("z", "\uff01")),
        (["\uff01", "\U0001f600"], ("\U0001f600", "\uff01")),
    ],
)
def test_bounds_are_those_of_java(keys, expected):
    notes = KeyNotes(KeyNotesMaker(Storage(), Confinement(())))
    for some in (keys, keys[:1]):
        notes.added(pa.record_batch({RECORD_KEY: some}))
    pairs = dict(notes.pairs())
    assert (pairs[MIN_KEY], pairs[MAX_KEY]) == expected
