"""Delete blocks: keys and ordering values of all kinds, there and back."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.hudi.delete_records import DeletedKey, Ordering, encode_deletes, read_deletes

LONGS = st.integers(-(2**63), 2**63 - 1)
SINGLE = {
    Ordering.NONE: st.none(),
    Ordering.BOOLEAN: st.booleans(),
    Ordering.INT: st.integers(-(2**31), 2**31 - 1),
    Ordering.LONG: LONGS,
    Ordering.FLOAT: st.floats(width=32, allow_nan=False),
    Ordering.DOUBLE: st.floats(allow_nan=False),
    Ordering.BYTES: st.binary(max_size=5),
    Ordering.STRING: st.text(max_size=5),
    Ordering.DATE: st.integers(-9999, 9999),
    Ordering.DECIMAL: st.binary(min_size=1, max_size=12),
    Ordering.TIME_MICROS: LONGS,
    Ordering.TIMESTAMP_MICROS: LONGS,
}
single = st.sampled_from(list(SINGLE)).flatmap(lambda kind: st.tuples(st.just(kind), SINGLE[kind]))
several = st.tuples(st.just(Ordering.SEVERAL), st.lists(single, max_size=3))
deletes = st.builds(
    lambda key, path, ordering: DeletedKey(key, path, *ordering),
    st.text(max_size=8),
    st.text(max_size=8),
    st.one_of(single, several),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(deletes, max_size=5))
def test_deletes_are_read_as_they_were_written(written):
    assert list(read_deletes(encode_deletes(written))) == written


def test_what_only_java_can_read_is_refused():
    with pytest.raises(UnsupportedTableError, match="version 2"):
        list(read_deletes(struct.pack(">ii", 2, 0)))


@pytest.mark.parametrize("cut", [3, 9, -1])
def test_a_block_that_ends_early_is_damaged(cut):
    content = encode_deletes([DeletedKey("key", "p", Ordering.LONG, 7)])
    with pytest.raises(CorruptTableError, match="delete block"):
        list(read_deletes(content[:cut]))
