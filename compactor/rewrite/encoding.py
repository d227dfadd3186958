"""A table's schema and layout in the terms of the Parquet writer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from catalog.errors import UnsupportedTableError
from catalog.layout import FileLayout
from catalog.location import Location
from catalog.schema import TableSchema
from catalog.storage import OutputFile
from compactor.clustering import STAMP_KEY
from compactor.parquet import ARROW_SCHEMA, SCHEMA, Footer, parse_footer
from compactor.rewrite.dictionaries import unrepeating_paths
from compactor.rewrite.floats import nan_paths, negative_zero_paths
from compactor.rewrite.hidden_nulls import without_hidden_nulls
from compactor.rewrite.integers import integer_columns, with_integers
from compactor.rewrite.redeclaring import ParquetWriter, RedeclaringWriter, Sink
from compactor.rewrite.repetition import dictionary_columns, united, with_dictionaries

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
# Stands for the file of a footer that is never written.
_NO_FILE = Location.parse("file:///dev/null")
_TRAILER_BYTES = 8
_CODECS_WITH_LEVEL = frozenset(("GZIP", "BROTLI", "ZSTD"))


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the outputs of one table are encoded.

    Attributes:
        schema: the table's columns.
        layout: what the table wants of its files.
        without_statistics: paths of the leaf columns that get none.
        without_dictionary: paths of the leaf columns that get none.
        has_integer_decimals: whether decimals of up to 18 digits are stored as the integers that
            Iceberg asks for; its readers take byte arrays of fixed length as well.
        from_dictionaries: columns whose rows come as dictionaries; files do not show it.
        from_integers: decimals that come as the integers that are stored; nor do they show this.
    """

    schema: pa.Schema
    layout: FileLayout
    without_statistics: frozenset[str] = frozenset()
    without_dictionary: frozenset[str] = frozenset()
    has_integer_decimals: bool = True
    from_dictionaries: frozenset[str] = frozenset()
    from_integers: frozenset[str] = frozenset()

    @classmethod
    def of(cls, table: TableSchema, layout: FileLayout) -> Encoding:
        """Return how a table wants the columns encoded that its files store.

        Raises:
            UnsupportedTableError: by the names that it would have, a column would be read as
                another one, or as none.
        """
        if not table.goes_by_own_names:
            raise UnsupportedTableError(
                "data files have no field ids, and the name mapping gives the table's own names"
                " to other columns"
            )
        return cls(table.written, layout)

    def only(self, columns: Sequence[int]) -> Encoding:
        """Return how some of the top-level columns are encoded by themselves."""
        schema = pa.schema([self.schema.field(column) for column in columns])
        names = {name for name, _ in leaf_paths(schema)}
        filters = tuple(one for one in self.layout.bloom_filters if one[0] in names)
        return replace(self, schema=schema, layout=replace(self.layout, bloom_filters=filters))

    def ways(self) -> tuple[Encoding, ...]:
        """Return the ways to write files that readers of the table take, the preferred first."""
        other = replace(self, has_integer_decimals=not self.has_integer_decimals)
        is_same = other.empty_footer().schema == self.empty_footer().schema
        return (self,) if is_same else (self, other)

    @property
    def rows_schema(self) -> pa.Schema:
        """The schema of the rows that a writer takes."""
        schema = with_integers(self.schema, self.from_integers)
        return with_dictionaries(schema, self.from_dictionaries)

    def suiting(self, batches: Sequence[pa.RecordBatch]) -> Encoding:
        """Return the encoding for rows like these: no dictionary where values hardly repeat."""
        without = unrepeating_paths(
            batches,
            self.layout.dictionary_page_size_bytes,
            is_compressed=_codec(self.layout.codec) != "NONE",
        )
        return replace(self, without_dictionary=self.without_dictionary | without)

    def sparing(self, batches: Sequence[pa.RecordBatch]) -> Encoding:
        """Return the encoding with nothing that would mislead readers about these rows."""
        unsaid, plain = self.without_statistics, self.without_dictionary
        return replace(
            self,
            without_statistics=unsaid | nan_paths(batches, unsaid),
            without_dictionary=plain | negative_zero_paths(batches, plain),
        )

    def fitting(self, batches: Sequence[pa.RecordBatch]) -> Encoding:
        """Return the encoding for a file that begins with these rows."""
        filtered = {name for name, _ in self.layout.bloom_filters}
        return replace(self, from_dictionaries=dictionary_columns(batches) - filtered)

    def table(self, batches: Sequence[pa.RecordBatch]) -> pa.Table:
        """Return rows as a writer takes them."""
        return without_hidden_nulls(united(batches, self.rows_schema))

    def with_integers(self) -> Encoding:
        """Return the encoding of rows whose decimals come as the integers that files store."""
        names = integer_columns(self.schema) if self.has_integer_decimals else frozenset()
        return replace(self, from_integers=names)

    def open_writer(
        self, sink: OutputFile | pa.NativeFile, *, row_group_rows: int
    ) -> ParquetWriter:
        """Begin a file whose row groups have about this many rows.

        Raises:
            UnsupportedTableError: the codec is not known, or a Bloom filter names no leaf column.
        """
        begin = partial(self._begin, row_group_rows=row_group_rows)
        if not self.from_integers:
            own: ParquetWriter = begin(sink)
            return own
        declared = replace(self, from_integers=frozenset()).empty_footer().value(SCHEMA)
        return RedeclaringWriter(sink, declared or b"", begin)

    def _begin(self, sink: OutputFile | Sink, *, row_group_rows: int) -> pq.ParquetWriter:
        codec = _codec(self.layout.codec)
        writer = pq.ParquetWriter(
            sink,
            self.rows_schema,
            compression=codec,
            compression_level=self.layout.codec_level if codec in _CODECS_WITH_LEVEL else None,
            data_page_size=self.layout.page_size_bytes,
            dictionary_pagesize_limit=self.layout.dictionary_page_size_bytes,
            bloom_filter_options=self._bloom_filters(row_group_rows),
            use_dictionary=self._all_but(self.without_dictionary),
            write_statistics=self._all_but(self.without_statistics),
            store_decimal_as_integer=self.has_integer_decimals,
            # The schema of Arrow is left out, so that all files of a table can stand together.
            store_schema=False,
            write_page_index=True,
            write_page_checksum=True,
        )
        writer.add_key_value_metadata(dict(self.layout.footer_metadata))
        return writer

    def parquet_schema(self) -> str:
        """Return the Parquet schema that every output shows: names, ids, types, repetition."""
        return footer_schema_text(self.empty_footer())

    def empty_footer(self) -> Footer:
        """Return the footer of a file without row groups."""
        data = self._empty_file().to_pybytes()
        length = int.from_bytes(data[-_TRAILER_BYTES:-4], "little")
        footer = data[-_TRAILER_BYTES - length : -_TRAILER_BYTES]
        return parse_footer(_NO_FILE, footer, size_bytes=len(data))

    def replaced_keys(self) -> frozenset[bytes]:
        """Return the key-value metadata of inputs that row groups do without in our outputs.

        Ours take the place of their own, and columns are read as the table's schema says.
        """
        names = [key for key, _ in self.layout.footer_metadata]
        own = (key.encode() for key in (*names, *self.layout.replaced_footer_keys))
        # An order holds for the file that says so, not for one that takes up its row groups.
        return frozenset((ARROW_SCHEMA, STAMP_KEY.encode(), *own))

    def filtered_leaves(self) -> frozenset[int]:
        """Return the numbers of the leaf columns that are to have Bloom filters."""
        wanted = {name for name, _ in self.layout.bloom_filters}
        names = (name for name, _ in leaf_paths(self.schema))
        return frozenset(number for number, name in enumerate(names) if name in wanted)

    def _empty_file(self) -> pa.Buffer:
        sink = pa.BufferOutputStream()
        self.open_writer(sink, row_group_rows=1).close()
        return sink.getvalue()

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


def footer_schema_text(footer: Footer) -> str:
    """Return the same of a footer that was read by us."""
    return schema_text(pq.read_metadata(pa.BufferReader(footer.as_file())))


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
