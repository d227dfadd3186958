"""What a table's properties ask of its files: their layout and where they may lie.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from catalog.errors import UnsupportedTableError
from catalog.layout import FileLayout
from catalog.location import Confinement, Location

_Number = TypeVar("_Number", int, float)

_PREFIX_PROPERTIES = (
    "write.data.path",
    "write.metadata.path",
    "write.object-storage.path",
    "write.folder-storage.path",
)
_BLOOM_ENABLED = "write.parquet.bloom-filter-enabled.column."
_BLOOM_FPP = "write.parquet.bloom-filter-fpp.column."
_BLOOM_FPP_DEFAULT = 0.01
_CODECS = {
    "zstd": "zstd",
    "gzip": "gzip",
    "snappy": "snappy",
    "brotli": "brotli",
    "lz4": "lz4",
    "lz4_raw": "lz4",
    "uncompressed": "none",
    "none": "none",
}


def file_layout(properties: Mapping[str, str]) -> FileLayout:
    """Return how the table wants its data files; defaults are those of the reference writers.

    Raises:
        UnsupportedTableError: a property asks for what we cannot write.
    """
    codec = properties.get("write.parquet.compression-codec", "zstd").lower()
    if codec not in _CODECS:
        raise UnsupportedTableError(
            f"the codec {codec} is not supported for Parquet files",
            hint="set write.parquet.compression-codec to zstd, snappy, gzip, lz4 or uncompressed",
        )
    return FileLayout(
        target_file_size_bytes=_number(properties, "write.target-file-size-bytes", 512 << 20),
        row_group_size_bytes=_number(properties, "write.parquet.row-group-size-bytes", 128 << 20),
        row_group_rows_max=_number(properties, "write.parquet.row-group-limit", 1 << 20),
        page_size_bytes=_number(properties, "write.parquet.page-size-bytes", 1 << 20),
        dictionary_page_size_bytes=_number(properties, "write.parquet.dict-size-bytes", 2 << 20),
        codec=_CODECS[codec],
        codec_level=_codec_level(properties.get("write.parquet.compression-level", "null")),
        bloom_filters=_bloom_filters(properties),
    )


def confinement(location: str, properties: Mapping[str, str]) -> Confinement:
    """Return the prefixes that the table's files may lie below.

    Raises:
        LocationError: one of them is malformed.
    """
    texts = [location, *(properties[name] for name in _PREFIX_PROPERTIES if properties.get(name))]
    return Confinement(tuple(Location.parse(text) for text in dict.fromkeys(texts)))


def data_prefix(location: str, properties: Mapping[str, str]) -> Location:
    """Return where new data files go, partition directories not included."""
    if is_object_layout(properties):
        fallback = properties.get("write.object-storage.path")
    else:
        fallback = properties.get("write.folder-storage.path")
    configured = properties.get("write.data.path") or fallback
    return Location.parse(configured) if configured else Location.parse(location).child("data")


def is_object_layout(properties: Mapping[str, str]) -> bool:
    """Whether new files are spread over hashed directories, against throttling of one prefix."""
    return is_set(properties, "write.object-storage.enabled", default=False)


def has_deletes_per_file(properties: Mapping[str, str]) -> bool:
    """Whether each data file is to have position delete files of its own: so it is with Spark."""
    return properties.get("write.delete.granularity", "file").strip().lower() != "partition"


def is_set(properties: Mapping[str, str], name: str, *, default: bool) -> bool:
    """Return a property that is true or false."""
    return properties.get(name, str(default)).strip().lower() == "true"


def refuse_properties(properties: Mapping[str, str]) -> None:
    """Refuse what changes how files are written in a way that we cannot follow.

    Raises:
        UnsupportedTableError: naming the property.
    """
    encrypted = next((name for name in properties if name.startswith("encryption.")), None)
    if encrypted is not None:
        raise UnsupportedTableError(
            f"the table is encrypted ({encrypted}), which is not supported",
            hint="compact it with an engine that has its keys; it was not touched",
        )
    for name in ("write.location-provider.impl", "write.py-location-provider.impl"):
        if properties.get(name):
            raise UnsupportedTableError(
                f"the table places its files by code of its own ({name}={properties[name]})",
                hint=f"remove the property {name}, or compact with an engine that has the code",
            )
    file_format = properties.get("write.format.default", "parquet")
    if file_format.lower() != "parquet":
        raise UnsupportedTableError(
            f"the table wants {file_format} files (write.format.default); only Parquet is written",
            hint="set write.format.default to parquet, or compact with the engine that writes it",
        )


def refuse_remote_signing(properties: Mapping[str, str]) -> None:
    """Refuse a catalog that wants to sign every request to storage itself.

    Args:
        properties: what the catalog answered about the access to the table's files.

    Raises:
        UnsupportedTableError: naming the property.
    """
    names = ("s3.remote-signing-enabled", "s3.signer")
    if is_set(properties, names[0], default=False) or properties.get(names[1]):
        raise UnsupportedTableError(
            "the catalog signs the requests to storage itself, which is not supported",
            hint=f"let it hand out credentials instead, and unset {names[0]} and {names[1]}",
        )


def _codec_level(text: str) -> int | None:
    if text in ("", "null"):
        return None
    try:
        return int(text)
    except ValueError as fault:
        raise UnsupportedTableError(
            f"the property write.parquet.compression-level is not a number: {text!r}"
        ) from fault


def _bloom_filters(properties: Mapping[str, str]) -> tuple[tuple[str, float], ...]:
    columns = sorted(
        name.removeprefix(_BLOOM_ENABLED)
        for name, value in properties.items()
        if name.startswith(_BLOOM_ENABLED) and value.strip().lower() == "true"
    )
    return tuple(
        (column, _number(properties, _BLOOM_FPP + column, _BLOOM_FPP_DEFAULT, of=float))
        for column in columns
    )


def _number(
    properties: Mapping[str, str],
    name: str,
    default: _Number,
    *,
    of: Callable[[str], _Number] | None = None,
) -> _Number:
    text = properties.get(name)
    if text is None:
        return default
    try:
        number = (of or type(default))(text)
    except ValueError as fault:
        raise UnsupportedTableError(f"the property {name} is not a number: {text!r}") from fault
    if number <= 0:
        raise UnsupportedTableError(f"the property {name} is not positive: {text!r}")
    return number
