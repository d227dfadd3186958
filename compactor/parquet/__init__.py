"""Parquet files as bytes: footers read without decoding pages, row groups copied as they are."""

from compactor.parquet.compatibility import (
    ARROW_SCHEMA,
    column_sources,
    counterparts,
    why_not,
    why_not_file,
)
from compactor.parquet.declaring import declared_as
from compactor.parquet.footer import ColumnChunk, Footer, RowGroup, parse_footer
from compactor.parquet.page_header import dictionary_entries
from compactor.parquet.reading import has_page_checksums, read_footer
from compactor.parquet.splice import Assembly, Copy, SplicePlan, SpliceSource, plan_splice
from compactor.parquet.writing import SplicedFile, write_splice

__all__ = [
    "ARROW_SCHEMA",
    "Assembly",
    "ColumnChunk",
    "Copy",
    "Footer",
    "RowGroup",
    "SplicePlan",
    "SpliceSource",
    "SplicedFile",
    "column_sources",
    "counterparts",
    "declared_as",
    "dictionary_entries",
    "has_page_checksums",
    "parse_footer",
    "plan_splice",
    "read_footer",
    "why_not",
    "why_not_file",
    "write_splice",
]
