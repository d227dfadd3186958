import datetime
import decimal
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runtime
from runtime import partition as library
from runtime import shuffle as orchestration
from runtime.hashing import hash_array, hash_rows
from runtime.partition import bucket_of, concatenated, partition
from runtime.shuffle import Shuffle, shuffle

MIB = 1 << 20

values = st.one_of(
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)).map(lambda v: pa.array(v, pa.int64())),
    st.lists(st.none() | st.floats()).map(lambda v: pa.array(v, pa.float64())),
    st.lists(st.none() | st.text(max_size=300)).map(lambda v: pa.array(v, pa.string())),
    st.lists(st.none() | st.binary(max_size=300)).map(lambda v: pa.array(v, pa.binary())),
    st.lists(st.none() | st.booleans()).map(lambda v: pa.array(v, pa.bool_())),
    st.lists(st.none() | st.lists(st.none() | st.text(max_size=9), max_size=4)).map(
        lambda v: pa.array(v, pa.list_(pa.string()))
    ),
    st.lists(st.none() | st.fixed_dictionaries({"a": st.integers(0, 3), "b": st.text()})).map(
        lambda v: pa.array(v, pa.struct({"a": pa.int64(), "b": pa.string()}))
    ),
)


def same(left, right):
    return left is right or left == right or (left != left and right != right)


class TestHashing:
    @given(values)
    def test_equal_values_and_only_they_hash_alike(self, array):
        rows, hashes = array.to_pylist(), hash_array(array)
        for i in range(min(len(rows), 8)):
            for j in range(i):
                assert (hashes[i] == hashes[j]) == same(rows[i], rows[j])

    @given(values, st.integers(0, 5))
    def test_slices_and_chunks_change_nothing(self, array, start):
        whole = hash_array(array)
        assert np.array_equal(hash_array(array.slice(start)), whole[start:])
        chunked = pa.table({"k": pa.chunked_array([array[:start], array[start:]])})
        plain = pa.table({"k": array})
        assert np.array_equal(hash_rows(chunked, ["k"]), hash_rows(plain, ["k"]))

    @given(st.sampled_from([8, 9, 15, 16, 36, 127, 128, 129]), st.data())
    def test_texts_of_one_length_hash_as_among_others(self, length, data):
        text = st.text("ab", min_size=length, max_size=length)
        alike = pa.array(data.draw(st.lists(text, min_size=1, max_size=6)))
        mixed = pa.concat_arrays([alike, pa.array(["c"])])
        assert np.array_equal(hash_array(alike), hash_array(mixed)[:-1])
        apart = mixed.take(pa.array([0, len(alike) - 1]))
        assert np.array_equal(hash_array(apart), hash_array(alike)[[0, -1]])

    @pytest.mark.parametrize(
        "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
    )
    def test_layouts_of_strings_hash_alike(self, kind):
        array = pa.array(["", "a", None, "x" * 8, "long" * 100, "a"])
        other = array.dictionary_encode() if pa.types.is_dictionary(kind) else array.cast(kind)
        assert np.array_equal(hash_array(array), hash_array(other))

    def test_widths_of_numbers_hash_alike(self):
        array = pa.array([0, 1, None, 127])
        for kind in (pa.int8(), pa.uint16(), pa.int32(), pa.uint64()):
            assert np.array_equal(hash_array(array), hash_array(array.cast(kind)))
        floats = pa.array([0.0, 1.5, None, float("nan")])
        twins = pa.array([-0.0, 1.5, None, -float("nan")], pa.float32())
        assert np.array_equal(hash_array(floats), hash_array(twins))

    def test_nulls_in_a_dictionary_are_nulls(self):
        array = pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), pa.array(["a", None]))
        assert np.array_equal(hash_array(array), hash_array(pa.array(["a", None, None])))

    @pytest.mark.parametrize(
        "array",
        [
            pa.array([decimal.Decimal("1.20"), None, decimal.Decimal("-7.00")]),
            pa.array([datetime.date(2026, 1, 1), None, datetime.date(2026, 1, 2)]),
            pa.array([datetime.datetime(2026, 1, 1), None, datetime.datetime(2026, 1, 2)]),
            pa.array([datetime.time(1), None, datetime.time(2)]),
            pa.array([datetime.timedelta(1), None, datetime.timedelta(2)]),
            pa.array([b"1234", None, b"5678"], pa.binary(4)),
            pa.array([[("a", 1)], None, [("b", 2)]], pa.map_(pa.string(), pa.int8())),
            pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2)),
            pa.array([[1], None, []], pa.large_list(pa.int8())),
            pa.array([1.5, None, 2.5], pa.float16()),
            pa.nulls(3),
        ],
        ids=lambda array: str(array.type),
    )
    def test_every_type_has_a_hash(self, array):
        hashes = hash_array(pa.concat_arrays([array, array]))
        assert np.array_equal(hashes[:3], hashes[3:])
        assert len(set(hashes[:3].tolist())) == len(set(map(str, array.to_pylist())))

    def test_buckets_are_even(self):
        keys = pa.table({"k": np.arange(100_000)})
        counts = np.bincount(bucket_of(hash_rows(keys, ["k"]), 16))
        assert counts.min() > 0.9 * counts.max()


def make_input(seed, rows=5_000, keys=500):
    random = np.random.default_rng(seed)
    numbers = random.integers(0, keys, rows)
    return pa.table(
        {
            "k": numbers,
            "s": pa.array([f"key-{n}" for n in numbers]).dictionary_encode(),
            "v": np.arange(rows) + seed * rows,
        }
    )


def last_of_each_key(table):
    return table.group_by("k", use_threads=False).aggregate([("v", "max")])


def keys_and_sum(table):
    return sorted(set(table["k"].to_pylist())), pc.sum(table["v"]).as_py()


class TestPartition:
    def test_keeps_every_row_once_and_their_order(self):
        table = make_input(1, 10_000)
        parts = partition(table, ["s"], 7)
        assert sum(part.num_rows for part in parts) == 10_000
        for part in parts:
            assert part["v"].to_pylist() == sorted(part["v"].to_pylist())
        assert sorted(pa.concat_tables(parts)["v"].to_pylist()) == table["v"].to_pylist()

    def test_more_than_one_take(self, monkeypatch):
        monkeypatch.setattr(library, "BATCH_ROWS_MAX", 100)
        parts = partition(make_input(1, 1_000), ["k"], 3)
        assert [p["v"].to_pylist() for p in parts] == [sorted(p["v"].to_pylist()) for p in parts]

    def test_strings_that_need_wide_offsets(self, monkeypatch):
        monkeypatch.setattr(library, "OFFSETS_BYTES_MAX", 1_000)
        tables = [pa.table({"s": ["x" * 400, "y" * 400]}), pa.table({"s": ["z" * 400]})]
        whole = concatenated(tables)
        assert whole["s"].type == pa.large_string()
        assert whole["s"].to_pylist() == ["x" * 400, "y" * 400, "z" * 400]
        parts = partition(pa.concat_tables(tables), ["s"], 2)
        assert sorted(s for part in parts for s in part["s"].to_pylist()) == sorted(
            whole["s"].to_pylist()
        )

    def test_senseless_plans_are_refused(self):
        with pytest.raises(ValueError, match="buckets"):
            Shuffle(("k",), 0)
        with pytest.raises(ValueError, match="key column"):
            Shuffle((), 1)


@pytest.fixture(scope="module", params=["inline", "local"])
def rt(request):
    with runtime.connect(request.param, workers=2, memory_bytes=2 << 30) as rt:
        yield rt


class TestShuffle:
    def test_brings_rows_together(self, rt):
        plan = Shuffle(("k",), 8, read=make_input, reduce=keys_and_sum, key=("t", "shuffle"))
        refs = shuffle(rt, range(4), plan)
        results = rt.get(refs)
        keys = [key for some, _ in results for key in some]
        assert sorted(keys) == list(range(500))
        assert sum(total for _, total in results) == sum(range(20_000))
        assert rt.profile(refs[0]).key == ("t", "shuffle-reduce")

    def test_one_object_per_input(self, rt):
        if rt.stats().workers:
            before = rt.stats().object_bytes
            rt.get(shuffle(rt, [rt.put(make_input(1))], Shuffle(("k",), 50, reduce=keys_and_sum)))
            deadline = time.monotonic() + 10
            while rt.stats().object_bytes != before:
                assert time.monotonic() < deadline

    def test_combines_before_it_ships(self, rt):
        plan = Shuffle(("k",), 2, read=make_input, combine=last_of_each_key)
        tables = rt.get(shuffle(rt, [0], plan))
        assert sum(table.num_rows for table in tables) == 500

    def test_without_inputs_there_is_no_schema(self, rt):
        with pytest.raises(ValueError, match="at least one input"):
            shuffle(rt, [], Shuffle(("k",), 2))


class TestBetweenMachines:
    """What runs there runs anywhere: here every step but the moving."""

    @pytest.mark.parametrize(("buckets", "groups_max"), [(8, 64), (8, 3), (7, 2), (1, 1)])
    def test_groups_of_buckets_are_cut_again(self, rt, monkeypatch, buckets, groups_max):
        monkeypatch.setattr(orchestration, "GROUPS_MAX", groups_max)
        plan = Shuffle(("k",), buckets, read=make_input, reduce=rows_in_order)
        inputs = range(5)
        here = rt.get(orchestration._Steps(rt, plan, None).on_one_machine(inputs))
        there = rt.get(orchestration._Steps(rt, plan, None).on_many(inputs))
        assert there == here
        assert sum(map(len, there)) == 25_000

    @given(st.integers(1, 1 << 16), st.integers(1, 100))
    def test_groups_are_even(self, buckets, groups_max):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(orchestration, "GROUPS_MAX", groups_max)
            sizes = orchestration.group_sizes(buckets)
        assert sum(sizes) == buckets
        assert len(sizes) == min(buckets, groups_max)
        assert max(sizes) - min(sizes) <= 1


def rows_in_order(table):
    return list(zip(table["k"].to_pylist(), table["v"].to_pylist(), strict=True))


@pytest.mark.slow
def test_a_bucket_of_more_text_than_32_bits_can_address():
    """Three inputs of 900 MiB, all of one key."""
    with runtime.connect("local", workers=1, memory_bytes=8 << 30) as rt:
        plan = Shuffle(("k",), 4, read=make_texts, reduce=kind_rows_and_last)
        found = rt.get(shuffle(rt, range(3), plan, memory=4 << 30))
    assert sorted(rows for _, rows, _ in found) == [0, 0, 0, 2_700]
    assert max(found, key=lambda each: each[1]) == ("large_string", 2_700, "2" * MIB)


def make_texts(seed):
    return pa.table({"k": [1] * 900, "text": [str(seed) * MIB] * 900})


def kind_rows_and_last(table):
    """Put a column's bytes in one place, as many kernels do."""
    texts = table["text"].combine_chunks()
    return str(texts.type), len(texts), texts[-1].as_py() if len(texts) else ""
