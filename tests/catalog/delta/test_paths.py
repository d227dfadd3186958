"""Paths of a log: decoded as one by one, absolute, and confined whatever they try."""

from __future__ import annotations

from urllib.parse import quote, unquote

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.delta.paths import Paths, decode
from catalog.errors import CatalogError, CorruptTableError, LocationError
from catalog.location import Confinement, Location

ROOT = Location.parse("/lake/orders")
PATHS = Paths(ROOT, Confinement((ROOT,)))
BUCKET = Location.parse("s3://bucket/orders")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ENCODED = st.lists(
    st.sampled_from(["%", "%2", "%20", "%25", "%2F", "%c3%A9", "%zz", "a", "/", "=", ".", "é"])
).map("".join)


@given(st.lists(ENCODED | TEXTS))
def test_decoding_a_column_is_decoding_each(texts: list[str]) -> None:
    try:
        expected = [unquote(text, errors="strict") for text in texts]
    except UnicodeDecodeError:
        with pytest.raises(CorruptTableError):
            decode(pa.array(texts, pa.string()))
        return
    # The library leaves text that is no ASCII alone, and so decodes around it piece by piece.
    assert decode(pa.array(texts, pa.string())).to_pylist() == expected


def test_decoding_a_part_of_an_array() -> None:
    whole = pa.array(["x%20", "%20y", "plain", "z%25"])
    assert decode(whole.slice(1, 2)).to_pylist() == [" y", "plain"]
    assert decode(whole.slice(3)).to_pylist() == ["z%"]


@given(TEXTS)
def test_what_we_store_is_what_we_find(name: str) -> None:
    try:
        location = ROOT.child(name)
    except LocationError:
        return
    stored = PATHS.stored(location)
    assert PATHS.resolve_one(stored) == f"/lake/orders/{location.relative_to(ROOT)}"
    assert not any(letter in stored for letter in " \u00a0\u2028\x85")


def test_paths_are_spelled_as_java_does_it() -> None:
    # As the reference writer has it in its logs; its vacuum takes no other spelling for the file.
    location = ROOT.child("p=a b%2F\u00fc%3D%25\u4e16\u00a0!~'()*,;$&+@", "part.parquet")
    assert PATHS.stored(location) == (
        "p=a%20b%252F\u00fc%253D%2525\u4e16%C2%A0!~'()*,;$&+@/part.parquet"
    )


@given(st.lists(TEXTS | ENCODED, max_size=4).map("/".join))
def test_every_path_is_within_the_table_or_refused(stored: str) -> None:
    try:
        found = PATHS.resolve_one(stored)
    except CatalogError:
        return
    location = Location.parse(found)
    assert location.is_within(ROOT) != bool(PATHS.is_foreign(pa.array([found]))[0])
    if location.is_within(ROOT):
        assert found == f"/lake/orders/{location.relative_to(ROOT)}"
    else:
        with pytest.raises(LocationError):
            PATHS.confine(pa.array([found]))


@given(st.lists(TEXTS.map(lambda text: quote(text, safe="/")), max_size=4))
def test_a_column_is_resolved_as_its_values_are(stored: list[str]) -> None:
    single = []
    for path in stored:
        try:
            single.append(PATHS.resolve_one(path))
        except CatalogError:
            with pytest.raises(CatalogError):
                PATHS.resolve(pa.array(stored, pa.string()))
            return
    assert PATHS.resolve(pa.array(stored, pa.string())).to_pylist() == single


@pytest.mark.parametrize(
    "stored",
    [
        "../other/x.parquet",
        "k=1/../../x",
        "%2e%2e/x",
        "k=1/%252e%252e/x",
        "k=%252F..%252F../x",
        "http://host/x",
        "a//b",
        "./a",
        "a%00b",
        "a%0Ab",
    ],
)
def test_ways_out_are_refused(stored: str) -> None:
    with pytest.raises(LocationError):
        PATHS.resolve_one(stored)


@pytest.mark.parametrize(
    "stored", ["/etc/passwd", "file:/etc/passwd", "file:///lake/orders2/x", "s3://bucket/x"]
)
def test_files_elsewhere_are_named_but_not_read(stored: str) -> None:
    resolved = PATHS.resolve(pa.array([stored, "k=1/x"]))
    assert Location.parse(resolved[0].as_py()) == Location.parse(stored)
    PATHS.confine(resolved.slice(1))
    with pytest.raises(LocationError) as caught:
        PATHS.confine(resolved)
    assert "delta.read-prefixes" in caught.value.hint


@pytest.mark.parametrize("stored", ["", "%ff", "%c3", "x%e2%82"])
def test_what_is_no_path(stored: str) -> None:
    with pytest.raises(CorruptTableError):
        PATHS.resolve_one(stored)


@pytest.mark.parametrize(
    "stored",
    ["k=1/x", "/lake/orders/k=1/x", "file:/lake/orders/k=1/x", "file:///lake/orders/k=1/x"],
)
def test_every_spelling_of_a_file_of_the_table_is_one(stored: str) -> None:
    assert PATHS.resolve_one(stored) == "/lake/orders/k=1/x"


def test_buckets_by_other_names_of_their_scheme() -> None:
    paths = Paths(BUCKET, Confinement((BUCKET,)))
    assert paths.resolve_one("s3a://bucket/orders/k=1/x") == "s3://bucket/orders/k=1/x"
    assert paths.resolve_one("k=a%2520b/x") == "s3://bucket/orders/k=a%20b/x"
    with pytest.raises(LocationError):
        paths.resolve_one("what%3Fquery")


def test_other_tables_are_read_when_admitted() -> None:
    source = Location.parse("/lake/source")
    paths = Paths(ROOT, Confinement((ROOT, source)))
    resolved = paths.resolve(pa.array(["k=1/x", "file:///lake/source/k=1/x"]))
    assert resolved.to_pylist() == ["/lake/orders/k=1/x", "file:///lake/source/k=1/x"]
    assert paths.is_foreign(resolved).tolist() == [False, True]
    paths.confine(resolved)
    with pytest.raises(LocationError):
        paths.confine(pa.array(["/lake/source2/x"]))
