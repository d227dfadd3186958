"""Locations: what is refused, what is kept as it was spelled, what is compared."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from catalog.errors import LocationError
from catalog.location import Confinement, Location

ROOTS = ["/", "file:///", "file:/", "s3://bucket/", "s3a://bucket/", "gs://bucket/"]
ROOTS += ["abfss://container@account.dfs.core.windows.net/", "memory://name/"]

# Names as partitioned tables have them: url-encoded values, spaces, colons, any script.
NAMES = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/?#%"), min_size=1
).filter(lambda name: name not in {".", ".."})
PATHS = st.lists(NAMES, min_size=1, max_size=5)


@pytest.mark.parametrize(
    "text",
    [
        "/warehouse/t/data/day=2026-11-20/a.parquet",
        "/warehouse/t/data/ts=2020-01-01T00%3A00%3A00/a b.parquet",
        "/warehouse/t/what?/it#is",
        "file:/warehouse/t/type=text%2Fhtml/a.parquet",
        "file:///warehouse/url=https%3A%2F%2Fexample.com%2F/a",
        "file:///",
        "s3://bucket",
        "s3://my.bucket-1/t/data/00000-0-%20%25.parquet",
        "S3A://bucket/k/",
        "s3n://bucket/v=1.5/...",
        "gs://bucket/t",
        "az://container/t",
        "abfss://container@account.dfs.core.windows.net/t/x",
        "abfs://$web@account.dfs.core.windows.net/t/x",
    ],
)
def test_accepts_and_keeps_spelling(text: str) -> None:
    assert str(Location.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "relative/path",
        "./t",
        "file:relative",
        "file://host/t",
        "file://localhost/t",
        "http://bucket/t",
        "https://bucket.s3.amazonaws.com/t",
        "s3:/bucket/t",
        "s3:///t",
        "s3://",
        "s3://user@bucket/t",
        "s3://key:secret@bucket/t",
        "s3://bucket:9000/t",
        "s3://buck%65t/t",
        "s3://../t",
        "s3://bucket/t?versionId=1",
        "s3://bucket/t#part",
        "s3://bucket//t",
        "s3://bucket/t//",
        "s3://bucket/t//x",
        "//t",
        "/t/../x",
        "/t/.",
        "/..",
        "file:///t/../../etc/passwd",
        "s3://bucket/t/%2e%2e/x",
        "s3://bucket/t/.%2E/x",
        "s3://bucket/t/a%2ehidden",
        "s3://bucket/t/..%2fx",
        "s3://bucket/t/a%2F..%2Fx",
        "s3://bucket/t/..%5cx",
        "s3://bucket/t/%252e%252e/x",
        "s3://bucket/t/%25252e%25252E/x",
        "s3://bucket/t/a\nb",
        "s3://bucket/t/a\x00b",
        "/t/a\x7fb",
        "/t/a\udcffb",
        "abfss://account.dfs.core.windows.net/t",
        "abfss://a:b@c@account.dfs.core.windows.net/t",
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(LocationError, match="refused location"):
        Location.parse(text)


def test_message_is_one_bounded_line() -> None:
    with pytest.raises(LocationError) as caught:
        Location.parse("s3://bucket/\n" + "x" * 10_000)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://bucket/t", "s3a://bucket/t"),
        ("s3://bucket/t", "S3N://bucket/t/"),
        ("/t/x", "file:///t/x"),
        ("/t/x", "file:/t/x"),
        ("gs://bucket/t", "gcs://bucket/t"),
    ],
)
def test_spellings_of_one_place_are_equal(one: str, other: str) -> None:
    assert Location.parse(one) == Location.parse(other)
    assert hash(Location.parse(one)) == hash(Location.parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s3://bucket/t", "s3://Bucket/t"),
        ("s3://bucket/t", "gs://bucket/t"),
        ("s3://bucket/a%3Ab", "s3://bucket/a:b"),
        ("/a%20b", "/a b"),
    ],
)
def test_different_places_differ(one: str, other: str) -> None:
    assert Location.parse(one) != Location.parse(other)


@given(st.sampled_from(ROOTS), PATHS)
def test_child_and_parse_agree(root: str, names: list[str]) -> None:
    built = Location.parse(root).child(*names)
    parsed = Location.parse(root + "/".join(names))
    assert built == parsed
    assert str(built) == str(parsed)
    assert built.name == names[-1]
    assert built.relative_to(Location.parse(root)) == "/".join(names)
    assert pickle.loads(pickle.dumps(built)) == built


@given(st.sampled_from(ROOTS), PATHS)
def test_parent_undoes_child(root: str, names: list[str]) -> None:
    parent = Location.parse(root).child(*names[:-1]) if names[:-1] else Location.parse(root)
    found = parent.child(names[-1]).parent
    assert found == parent
    assert Location.parse(str(found)) == parent


@given(st.text())
def test_any_text_is_taken_whole_or_refused(text: str) -> None:
    try:
        location = Location.parse(text)
    except LocationError:
        return
    assert str(location) == text
    assert not {"", ".", ".."} & set(location.segments)


@given(PATHS, PATHS)
def test_is_within_compares_whole_segments(prefix: list[str], path: list[str]) -> None:
    root = Location.parse("s3://bucket")
    below, above = root.child(*path), root.child(*prefix)
    assert below.is_within(above) == (path[: len(prefix)] == prefix)


@given(NAMES, NAMES)
def test_a_longer_name_is_not_within(name: str, tail: str) -> None:
    assume(name + tail not in {".", ".."})
    root = Location.parse("/warehouse")
    assert not root.child(name + tail).is_within(root.child(name))


@pytest.mark.parametrize("name", ["", "..", "a/../b", "/absolute", "a//b", "a\nb", "%2e%2e", "a?b"])
def test_child_refuses(name: str) -> None:
    with pytest.raises(LocationError):
        Location.parse("s3://bucket/t").child(name)


def test_local_path_and_key() -> None:
    assert Location.parse("file:///t/a%20b").path == "/t/a%20b"
    assert Location.parse("s3://bucket/t/a%20b").key == "t/a%20b"
    with pytest.raises(LocationError):
        _ = Location.parse("s3://bucket/t").path


def test_resolve_takes_what_users_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = Location.parse(str(tmp_path / "orders"))
    assert Location.resolve("orders") == expected
    assert Location.resolve("./x/../orders/") == expected
    assert Location.resolve("~/orders") == expected
    assert Location.resolve("file://" + str(tmp_path / "orders")) == expected
    assert Location.resolve("s3://bucket/orders").scheme == "s3"
    with pytest.raises(LocationError):
        Location.resolve("ftp://host/orders")


def test_confinement_admits_prefixes_only() -> None:
    confinement = Confinement(
        (Location.parse("s3://bucket/t"), Location.parse("s3://other/t/data"))
    )
    assert str(confinement.parse("s3a://bucket/t/metadata/v1.json")).startswith("s3a:")
    for outside in ["s3://bucket/t2/x", "s3://other/t/metadata/x", "/t/x", "gs://bucket/t/x"]:
        with pytest.raises(LocationError, match="s3://bucket/t, s3://other/t/data") as caught:
            confinement.parse(outside)
        assert outside in str(caught.value)
        assert not confinement.admits(Location.parse(outside))
    assert pickle.loads(pickle.dumps(confinement)) == confinement
