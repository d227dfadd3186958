"""How base files are written: the sizes of Hudi's writers, unless the table says otherwise.  Pure.

Hudi keeps these settings with each writer, not with the table. What is copied keeps its codec.
"""

from __future__ import annotations

from catalog.hudi.config import TableConfig
from catalog.hudi.footers import REPLACED, KeyNotesMaker
from catalog.hudi.schema import FILE_NAME
from catalog.layout import FileLayout
from catalog.location import Confinement, Location
from catalog.storage import Storage

MIB = 1 << 20
_TARGET = "hoodie.parquet.max.file.size"
_TARGET_BYTES = 120 * MIB
_CODEC = "hoodie.parquet.compression.codec"
# Written by us where rows are encoded anew: smaller and quicker than the gzip of Hudi's writers.
_OWN_CODEC = "zstd"


def file_layout(config: TableConfig, storage: Storage, root: Location) -> FileLayout:
    """Return how a table wants its base files."""
    target = config.get(_TARGET)
    codec = config.get(_CODEC).lower()
    return FileLayout(
        target_file_size_bytes=int(target) if target.isdigit() else _TARGET_BYTES,
        row_group_size_bytes=128 * MIB,
        row_group_rows_max=MIB,
        page_size_bytes=MIB,
        dictionary_page_size_bytes=MIB,
        codec=codec or _OWN_CODEC,
        codec_level=None,
        is_codec_required=bool(codec),
        own_name_column=FILE_NAME,
        replaced_footer_keys=REPLACED,
        footer_notes=KeyNotesMaker(storage, Confinement((root,))),
        changes_in_place=True,
    )
