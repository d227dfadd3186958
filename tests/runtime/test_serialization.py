import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.local.store import Inline, Piece, Stored, map_file, pack, read_index, unpack
from runtime.serialization import ALIGNMENT_BYTES, ArrowStream, Encoded, decode, encode, in_memory

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.binary()
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@dataclass(frozen=True, slots=True)
class Holder:
    value: Any


def round_trip(value):
    return decode(in_memory(encode(value)))


@given(plain)
def test_plain_values(value):
    assert round_trip(value) == value


def big_table(rows=200_000):
    return pa.table({"n": np.arange(rows), "s": pa.array([None, "x"] * (rows // 2))})


ARROW = {
    "table": big_table(),
    "empty": big_table().slice(0, 0),
    "no columns": big_table(10).select([]),
    "slice": big_table().slice(1000, 7),
    "chunks": pa.concat_tables([big_table(10), big_table(4).slice(1)]),
    "dictionary": pa.table({"d": pa.array(["a", "b", "a", None]).dictionary_encode()}),
    "dictionaries": pa.table(
        {
            "d": pa.chunked_array(
                [pa.array(["a"]).dictionary_encode(), pa.array(["b", "c"]).dictionary_encode()]
            )
        }
    ),
    "nested": pa.table({"l": [[1, 2], None, []], "s": [{"a": 1}, {"a": None}, None]}),
    "decimal": pa.table({"d": pa.array([1, None], pa.decimal128(38, 2))}),
    "fields": pa.table(
        [pa.array([1])],
        schema=pa.schema([pa.field("a", pa.int64(), False, {"PARQUET:field_id": "7"})]),
    ),
    "views": pa.table({"v": pa.array(["a", "long enough not to be inlined"], pa.string_view())}),
    "batch": big_table(10).to_batches()[0],
    "empty batch": big_table(10).to_batches()[0].slice(0, 0),
    "array": pa.array([1, None, 3]).slice(1),
    "column": big_table(10)["s"],
    "empty column": pa.chunked_array([], pa.int8()),
    "null": pa.nulls(3),
}


@pytest.mark.parametrize("name", ARROW)
def test_arrow_values(name):
    value = ARROW[name]
    back = round_trip(Holder([value])).value[0]
    assert type(back) is type(value)
    assert back.equals(value)
    if isinstance(value, pa.Table):
        assert back.num_rows == value.num_rows
        assert back.schema.equals(value.schema, check_metadata=True)
        back.validate(full=True)


@pytest.mark.parametrize("value", [big_table(), big_table()["n"], big_table()["n"].chunk(0)])
def test_slices_leave_their_parents_behind(value):
    assert sum(len(part) for part in in_memory(encode(value.slice(5, 10)))) < 4096


def test_one_table_twice_is_written_once():
    table = big_table()
    first, second = round_trip((table, table))
    assert first is second


def test_by_value_functions_carry_tables_as_arrow_too():
    table = big_table().slice(0, 3)
    encoded = encode(lambda: table)
    assert encoded.has_arrow
    assert encoded.size_bytes < 4096
    assert decode(in_memory(encoded))().equals(table)


def test_buffers_come_back_read_only():
    array = round_trip(np.arange(5))
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


class TestStore:
    def test_small_values_have_no_file(self, tmp_path):
        packed = pack([encode(big_table().slice(0, 5))], str(tmp_path / "v"))
        assert isinstance(packed, Inline)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "value",
        [big_table(), (big_table(), big_table(4), np.arange(100_000)), "x" * 100_000],
        ids=["table", "several", "pickle"],
    )
    def test_large_values_have_one_file(self, tmp_path, value):
        packed = pack([encode(value)], str(tmp_path / "v"))
        assert isinstance(packed, Stored)
        ((*spans,),) = read_index(map_file(packed.path))
        assert all(span.offset % ALIGNMENT_BYTES == 0 for span in spans)
        assert packed.size_bytes <= (tmp_path / "v").stat().st_size
        back = unpack(Piece(packed))
        (tmp_path / "v").unlink()
        assert repr(back) == repr(value)

    def test_mapped_tables_are_not_copied(self, tmp_path):
        packed = pack([encode(big_table())], str(tmp_path / "v"))
        allocated = pa.total_allocated_bytes()
        back = unpack(Piece(packed))
        assert pa.total_allocated_bytes() - allocated < 1024
        assert not back["n"].chunk(0).buffers()[1].is_mutable

    def test_a_value_that_fails_half_way_leaves_no_file(self, tmp_path):
        mismatched = ArrowStream(pa.schema([("other", pa.int8())]), big_table().to_batches())
        with pytest.raises(pa.ArrowInvalid):
            pack([Encoded((b"", mismatched))], str(tmp_path / "v"))
        assert list(tmp_path.iterdir()) == []


def test_plain_values_need_no_cloudpickle():
    import subprocess

    code = (
        "import sys; from runtime.serialization import *; decode(in_memory(encode([1, {'a': 2}])));"
        "sys.exit(bool({'cloudpickle', 'pyarrow', 'numpy'} & set(sys.modules)))"
    )
    environment = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
