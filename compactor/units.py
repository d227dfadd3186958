"""Sizes and durations as people write and read them: `512MiB`, `5m 48s`."""

from __future__ import annotations

import re

_BINARY = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
# `512M` means what `512MiB` says; `512MB` is decimal, as the standard has it.
_SIZE_UNITS: dict[str, int] = (
    {"": 1, "b": 1}
    | {unit.lower(): 1024**power for power, unit in enumerate(_BINARY, start=1)}
    | {unit[0].lower(): 1024**power for power, unit in enumerate(_BINARY, start=1)}
    | {unit[0].lower() + "b": 1000**power for power, unit in enumerate(_BINARY, start=1)}
)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw])\s*")
# Beyond three digits a decimal says nothing more.
_DECIMAL_BELOW = 100
_NEXT_UNIT_FROM = 1023.5
_TENTHS_BELOW_SECONDS = 10.0


def parse_size(text: str) -> int:
    """Read a size in bytes: `512MiB`, `1.5 GiB`, `256MB`, `64M`, `1048576`.

    Raises:
        ValueError: it is no size; the message shows how one is written.
    """
    found = _SIZE.fullmatch(text.strip())
    factor = _SIZE_UNITS.get(found[2].lower()) if found else None
    if found is None or factor is None:
        raise ValueError(f"`{text}` is not a size; write `512MiB` or `2GiB`")
    return round(float(found[1]) * factor)


def parse_duration(text: str) -> float:
    """Read a duration in seconds: `15m`, `1h 30m`, `2d`, `0.5s`, or a bare number of seconds.

    Raises:
        ValueError: it is no duration; the message shows how one is written.
    """
    stripped = text.strip()
    if re.fullmatch(r"\d+(?:\.\d+)?", stripped):
        return float(stripped)
    parts = list(_DURATION_PART.finditer(stripped))
    if not parts or "".join(part[0] for part in parts) != stripped:
        raise ValueError(f"`{text}` is not a duration; write `15m` or `1h30m`")
    return sum(float(part[1]) * _DURATION_UNITS[part[2]] for part in parts)


def format_size(size_bytes: float) -> str:
    """Write a size in binary units with about three digits: `47.9 GiB`, `312 MiB`, `17 B`."""
    amount = float(size_bytes)
    if abs(amount) < _NEXT_UNIT_FROM:
        return f"{amount:.0f} B"
    power = 0
    # What would be rounded to 1,024 of a unit is 1.0 of the next one.
    while abs(amount) >= _NEXT_UNIT_FROM and power < len(_BINARY):
        amount /= 1024
        power += 1
    decimals = 1 if abs(amount) < _DECIMAL_BELOW else 0
    return f"{amount:,.{decimals}f} {_BINARY[power - 1]}"


def format_duration(seconds: float) -> str:
    """Write a duration by its two largest units: `0.4s`, `48s`, `5m 48s`, `2h 3m`, `3d 4h`."""
    if seconds < _TENTHS_BELOW_SECONDS:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def format_count(count: int, noun: str, plural: str | None = None) -> str:
    """Write a number of things: `1 group`, `4,812 data files`, `2 entries` with its own plural."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
