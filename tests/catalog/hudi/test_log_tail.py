"""The rows that logs add come in batches that are neither tiny nor huge."""

from __future__ import annotations

import pyarrow as pa

from catalog.hudi.log_tail import joined

ROW_BYTES = 1 << 20


def test_small_batches_are_put_together() -> None:
    batches = [pa.record_batch({"n": [number]}) for number in range(5)]
    (one,) = joined(iter(batches))
    assert one["n"].to_pylist() == list(range(5))


def test_long_rows_are_not_gathered_without_end() -> None:
    """As many of them as short ones would not fit into memory, nor one column of Arrow's."""
    wide = pa.record_batch({"text": ["x" * ROW_BYTES]})
    found = list(joined(wide for _ in range(50)))
    assert sum(one.num_rows for one in found) == 50
    assert max(one.num_rows for one in found) == 16
