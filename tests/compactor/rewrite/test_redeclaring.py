"""Files whose footers declare another schema than the rows had."""

from __future__ import annotations

from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compactor.rewrite.redeclaring import RedeclaringWriter


def test_a_file_whose_rows_were_refused_ends_as_such() -> None:
    kind = pa.struct([pa.field("a", pa.int32(), nullable=False)])
    schema = pa.schema([pa.field("c", kind)])
    rows = pa.table([pa.nulls(1, kind)], schema)
    writer = RedeclaringWriter(
        pa.BufferOutputStream(), b"", partial(pq.ParquetWriter, schema=schema)
    )
    with pytest.raises(pa.ArrowInvalid, match="declared non-nullable"):
        writer.write_table(rows, row_group_size=1)
    with pytest.raises(ValueError, match="no footer"):
        writer.close()
