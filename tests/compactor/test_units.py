"""Units: what is written can be read, and the usual spellings are understood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compactor.units import (
    format_count,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("1048576", 1 << 20),
        ("512MiB", 512 << 20),
        ("1.5 GiB", 3 << 29),
        ("64M", 64 << 20),
        ("256MB", 256_000_000),
        ("10kb", 10_000),
        ("7 B", 7),
    ],
)
def test_sizes_are_read(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "MiB", "-1MiB", "1 MiB x", "1e9", "12q", "1 000"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("15m", 900), ("1h30m", 5400), ("1h 30m", 5400), ("2d", 172800), ("250ms", 0.25)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5 parsecs", "1h x", "-5m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (312 << 20, "312 MiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5 << 70, "5,120 EiB"),
    ],
)
def test_sizes_are_written(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes).replace("1,023", "1023") == text


@given(st.integers(0, 1 << 62))
def test_written_sizes_are_read_back_nearly(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes).replace(",", "")) == pytest.approx(
        size_bytes, rel=0.06
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0s"), (5.25, "5.2s"), (48, "48s"), (348, "5m 48s"), (7380, "2h 3m"), (1e5, "1d 3h")],
)
def test_durations_are_written(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_counts_agree_with_their_nouns() -> None:
    assert format_count(1, "group") == "1 group"
    assert format_count(4812, "data file") == "4,812 data files"
    assert format_count(2, "entry", "entries") == "2 entries"
