"""Parquet files as bytes: footers read without decoding pages, row groups copied as they are."""

from compactor.parquet.compatibility import (
    ARROW_SCHEMA,
    column_sources,
    counterparts,
    why_not,
    why_not_file,
)
from compactor.parquet.declaring import declared_as, noted, redeclared
from compactor.parquet.dictionary import HEADER_BYTES_MAX, DictionaryPage, find_dictionary
from compactor.parquet.footer import SCHEMA, ColumnChunk, Footer, RowGroup, parse_footer
from compactor.parquet.integers import DecimalChunk, as_integer_file, bytes_of
from compactor.parquet.making import CODECS
from compactor.parquet.reading import has_page_checksums, read_footer
from compactor.parquet.splice import (
    ROW_GROUPS_MAX,
    Assembly,
    Copy,
    SplicePlan,
    SpliceSource,
    plan_splice,
)
from compactor.parquet.writing import SplicedFile, write_splice

__all__ = [
    "ARROW_SCHEMA",
    "CODECS",
    "HEADER_BYTES_MAX",
    "ROW_GROUPS_MAX",
    "SCHEMA",
    "Assembly",
    "ColumnChunk",
    "Copy",
    "DecimalChunk",
    "DictionaryPage",
    "Footer",
    "RowGroup",
    "SplicePlan",
    "SpliceSource",
    "SplicedFile",
    "as_integer_file",
    "bytes_of",
    "column_sources",
    "counterparts",
    "declared_as",
    "find_dictionary",
    "has_page_checksums",
    "noted",
    "parse_footer",
    "plan_splice",
    "read_footer",
    "redeclared",
    "why_not",
    "why_not_file",
    "write_splice",
]
