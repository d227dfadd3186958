"""A table's schema and layout in the terms of the Parquet writer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from catalog.errors import UnsupportedTableError
from catalog.model import FileLayout
from catalog.storage import OutputFile

_CODECS = {
    "none": "NONE",
    "uncompressed": "NONE",
    "snappy": "SNAPPY",
    "gzip": "GZIP",
    "brotli": "BROTLI",
    "lz4": "LZ4",
    "lz4_raw": "LZ4",
    "zstd": "ZSTD",
}
_CODECS_WITH_LEVEL = frozenset(("GZIP", "BROTLI", "ZSTD"))


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the outputs of one table are encoded.

    Attributes:
        schema: the table's columns.
        layout: what the table wants of its files.
        without_statistics: paths of the leaf columns that get none.
        without_dictionary: paths of the leaf columns that get none.
    """

    schema: pa.Schema
    layout: FileLayout
    without_statistics: frozenset[str] = frozenset()
    without_dictionary: frozenset[str] = frozenset()

    def open_writer(
        self, sink: OutputFile | pa.NativeFile, *, row_group_rows: int
    ) -> pq.ParquetWriter:
        """Begin a file whose row groups have about this many rows.

        Raises:
            UnsupportedTableError: the codec is not known, or a Bloom filter names no leaf column.
        """
        codec = _codec(self.layout.codec)
        writer = pq.ParquetWriter(
            sink,
            self.schema,
            compression=codec,
            compression_level=self.layout.codec_level if codec in _CODECS_WITH_LEVEL else None,
            data_page_size=self.layout.page_size_bytes,
            dictionary_pagesize_limit=self.layout.dictionary_page_size_bytes,
            bloom_filter_options=self._bloom_filters(row_group_rows),
            use_dictionary=self._all_but(self.without_dictionary),
            write_statistics=self._all_but(self.without_statistics),
            # Decimals as the integers that Iceberg asks for; the schema of Arrow is left out, so
            # that all files of a table have the same schema bytes.
            store_decimal_as_integer=True,
            store_schema=False,
            write_page_index=True,
            write_page_checksum=True,
        )
        writer.add_key_value_metadata(dict(self.layout.footer_metadata))
        return writer

    def parquet_schema(self) -> str:
        """Return the Parquet schema that every output shows: names, ids, types, repetition."""
        sink = pa.BufferOutputStream()
        self.open_writer(sink, row_group_rows=1).close()
        return schema_text(pq.read_metadata(pa.BufferReader(sink.getvalue())))

    def _all_but(self, without: frozenset[str]) -> bool | list[str]:
        """Name the other leaf columns, in the way of the Parquet writer."""
        return [p for _, p in leaf_paths(self.schema) if p not in without] if without else True

    def _bloom_filters(self, rows: int) -> dict[str, dict[str, float]] | None:
        if not self.layout.bloom_filters:
            return None
        paths = dict(leaf_paths(self.schema))
        unknown = [name for name, _ in self.layout.bloom_filters if name not in paths]
        if unknown:
            raise UnsupportedTableError(
                f"a Bloom filter is wanted for {unknown[0]!r}, which is no leaf column of the table"
            )
        return {
            paths[name]: {"ndv": max(1, rows), "fpp": probability}
            for name, probability in self.layout.bloom_filters
        }


def schema_text(metadata: pq.FileMetaData) -> str:
    """Return the schema of a footer in full, as text that is equal for equal schemas."""
    return str(metadata.schema).partition("\n")[2]


def leaf_paths(schema: pa.Schema) -> Iterator[tuple[str, str]]:
    """Yield the dotted name of each leaf column and its path in the Parquet schema."""
    for field in schema:
        yield from _leaf_paths(field, field.name, field.name)


def _leaf_paths(field: pa.Field, name: str, path: str) -> Iterator[tuple[str, str]]:
    kind = field.type
    if types.is_struct(kind):
        for child in kind.fields:
            yield from _leaf_paths(child, f"{name}.{child.name}", f"{path}.{child.name}")
    elif types.is_map(kind):
        yield from _leaf_paths(kind.key_field, f"{name}.key", f"{path}.key_value.key")
        yield from _leaf_paths(kind.item_field, f"{name}.value", f"{path}.key_value.value")
    elif types.is_list(kind) or types.is_large_list(kind):
        yield from _leaf_paths(kind.value_field, f"{name}.element", f"{path}.list.element")
    else:
        yield name, path


def _codec(name: str) -> str:
    codec = _CODECS.get(name.lower())
    if codec is None:
        raise UnsupportedTableError(
            f"the table wants the codec {name!r}, which is not handled",
            hint=f"Known are {', '.join(sorted(_CODECS))}.",
        )
    return codec
