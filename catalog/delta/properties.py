"""What the properties of a Delta table ask of its data files.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from catalog.errors import UnsupportedTableError
from catalog.layout import FileLayout

MIB = 1 << 20
# What managed services tune tables below 2.5 TB to; the reference writer knows no default.
_TARGET_BYTES = 256 * MIB
# A smaller target is taken for this one: the footers of such files would outweigh their rows.
TARGET_BYTES_MIN = MIB
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
# No store has an object of more digits.
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([kmgt]?)i?b?", re.IGNORECASE | re.ASCII)
_CODEC_NAMES = ("delta.parquet.compression.codec", "parquet.compression")
# What most writers of Delta tables use when nothing is said.
_CODEC = "snappy"
_CODECS = {
    "snappy": "snappy",
    "zstd": "zstd",
    "gzip": "gzip",
    "brotli": "brotli",
    "lz4": "lz4",
    "lz4_raw": "lz4",
    "uncompressed": "none",
    "none": "none",
}


def file_layout(configuration: Mapping[str, str]) -> FileLayout:
    """Return how the table wants its data files; defaults are those of the reference writer.

    Raises:
        UnsupportedTableError: a property asks for what we cannot write.
    """
    target_bytes = _size(configuration, "delta.targetFileSize", _TARGET_BYTES)
    return FileLayout(
        target_file_size_bytes=max(TARGET_BYTES_MIN, target_bytes),
        row_group_size_bytes=_size(configuration, "delta.parquet.block.size", 128 * MIB),
        row_group_rows_max=MIB,
        page_size_bytes=_size(configuration, "delta.parquet.page.size", MIB),
        dictionary_page_size_bytes=_size(configuration, "delta.parquet.dictionary.page.size", MIB),
        codec=_codec(configuration),
        codec_level=None,
        is_codec_required=any(configuration.get(name) for name in _CODEC_NAMES),
    )


def is_set(configuration: Mapping[str, str], name: str) -> bool:
    """Return a property that is true or false; false when it is not there."""
    return configuration.get(name, "").strip().lower() == "true"


def _codec(configuration: Mapping[str, str]) -> str:
    found = next((configuration[name] for name in _CODEC_NAMES if configuration.get(name)), _CODEC)
    if found.lower() not in _CODECS:
        raise UnsupportedTableError(
            f"the codec {found} is not supported for Parquet files",
            hint=f"set {_CODEC_NAMES[0]} to zstd, snappy, gzip, lz4 or uncompressed",
        )
    return _CODECS[found.lower()]


def _size(configuration: Mapping[str, str], name: str, default: int) -> int:
    """Return a number of bytes: `104857600`, `100mb`, `1g`."""
    text = configuration.get(name)
    if not text:
        return default
    found = _SIZE.fullmatch(text.strip())
    size = int(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if size <= 0:
        raise UnsupportedTableError(f"the property {name} is not a size in bytes: {text!r}")
    return size
