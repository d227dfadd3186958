"""Where tables lie, in one spelling; and how often a source may send."""

from __future__ import annotations

from pathlib import Path

import pytest

from compactor.service.limits import RateLimit
from compactor.service.places import (
    enclosing_places,
    full_target,
    namespace_of,
    place_of,
    place_of_head,
    place_of_target,
)


def test_equal_places_are_spelled_alike() -> None:
    assert place_of("s3a://bucket/wh/t/") == place_of("s3://bucket/wh/t") == "s3://bucket/wh/t"
    assert place_of("/wh/t") == place_of("file:///wh/t") == "file:///wh/t"


@pytest.mark.parametrize(
    "text", ["", "relative/path", "s3://bucket/a/../b", "http://x/y", "s3://user@bucket/x", "a\0b"]
)
def test_what_is_no_place_is_none(text: str) -> None:
    assert place_of(text) == ""
    assert list(enclosing_places(text)) == []


def test_places_are_enclosed_by_whole_segments() -> None:
    around = list(enclosing_places("s3://bucket/wh/t/data/1.parquet"))
    assert around[0] == "s3://bucket/wh/t/data/1.parquet"
    assert around[-1] == "s3://bucket/wh"


def test_a_table_lies_above_its_metadata() -> None:
    assert place_of_head("s3://b/wh/t/metadata/00001-x.metadata.json") == "s3://b/wh/t"
    assert place_of_head("s3://b/elsewhere/00001-x.metadata.json") == ""
    assert place_of_head("17") == ""


def test_targets_are_registered_by_full_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert full_target("lake.a.one") == "lake.a.one"
    assert full_target("./orders") == f"{tmp_path}/orders"
    assert full_target("s3://bucket/orders/") == "s3://bucket/orders"
    assert place_of_target("delta:/wh/orders") == "file:///wh/orders"
    assert place_of_target("lake.a.one") == ""
    assert [namespace_of(one) for one in ("lake.a.one", "/wh/a/t")] == ["lake.a", "/wh/a"]


def test_a_source_may_send_what_it_has_saved_up() -> None:
    rate = RateLimit(rate_max=2.0)
    assert [rate.admits("one", now_seconds=0.0) for _ in range(5)] == [True] * 4 + [False]
    assert rate.admits("other", now_seconds=0.0)
    assert rate.admits("one", now_seconds=0.5)
    assert not rate.admits("one", now_seconds=0.5)
    assert all(RateLimit(rate_max=0).admits("one", now_seconds=0.0) for _ in range(100))
