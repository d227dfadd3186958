"""Attempts keep to the limits that the table sets, and nonsense in them is no limit at all."""

from __future__ import annotations

import time

import pytest

from catalog.attempts import attempts
from catalog.iceberg.commit_properties import (
    avro_codec,
    inferred_metrics_max,
    manifest_size_bytes,
    pace,
    partition_summaries_max,
)

QUICK = {"commit.retry.min-wait-ms": "1", "commit.retry.max-wait-ms": "2"}


def test_the_defaults_are_those_of_the_specification() -> None:
    found = pace({})
    assert (found.retries_max, found.wait_min_seconds, found.wait_max_seconds) == (4, 0.1, 60)
    assert found.timeout_seconds == 1800
    assert manifest_size_bytes({}) == 8 << 20
    assert (inferred_metrics_max({}), partition_summaries_max({})) == (100, 0)


@pytest.mark.parametrize("retries", [0, 1, 7])
def test_attempts_are_as_many_as_allowed(retries: int) -> None:
    properties = {**QUICK, "commit.retry.num-retries": str(retries)}
    assert list(attempts(pace(properties))) == list(range(retries + 1))


def test_no_attempt_begins_after_the_time_is_up() -> None:
    properties = {**QUICK, "commit.retry.num-retries": "10000000"}
    begun = time.monotonic()
    made = list(attempts(pace({**properties, "commit.retry.total-timeout-ms": "50"})))
    assert 1 < len(made) < 100
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("value", ["", "many", "-3", "1.5"])
def test_nonsense_does_not_stop_a_commit(value: str) -> None:
    found = pace({"commit.retry.num-retries": value, "commit.retry.min-wait-ms": value})
    assert found.retries_max in (0, 4)
    assert found.wait_min_seconds in (0, 0.1)
    assert avro_codec({"write.avro.compression-codec": value}) == "deflate"
