"""Moves an object from shared memory to disk, compressed: its parts stay readable one by one."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from runtime.local.store import (
    ARROW,
    FREED,
    LZ4,
    PLAIN,
    PartSpan,
    index_of,
    map_file,
    read_index,
    spilled_path,
)
from runtime.serialization import ALIGNMENT_BYTES

COMPRESS_BYTES_MIN = 4096
"""Smaller parts, pickle streams as a rule, stay as they are."""


def spill(path: str, freed: Collection[int]) -> None:
    """Write an object to disk, leaving out segments that were given back, and free its memory.

    Readers find it at each moment: it appears under its name on disk before it goes from memory.

    Raises:
        OSError: The disk is full; the object stays where it is.
    """
    target = spilled_path(path)
    try:
        _rewrite(map_file(path), f"{target}.part", freed)
    except OSError:
        Path(f"{target}.part").unlink(missing_ok=True)
        raise
    Path(f"{target}.part").rename(target)
    os.unlink(path)  # noqa: PTH108 - as `remove` does


def _rewrite(whole: memoryview, path: str, freed: Collection[int]) -> None:
    import pyarrow as pa

    with pa.OSFile(path, "wb") as sink:
        index = []
        for segment, spans in enumerate(read_index(whole)):
            written = [_write(whole, span, sink) for span in spans if segment not in freed]
            index.append(written or [PartSpan(0, 0, FREED, 0)])
        sink.write(b"\0" * (-sink.tell() % ALIGNMENT_BYTES))
        sink.write(index_of(index))


def _write(whole: memoryview, span: PartSpan, sink: Any) -> PartSpan:
    import pyarrow as pa

    sink.write(b"\0" * (-sink.tell() % ALIGNMENT_BYTES))
    start = sink.tell()
    part, kind = whole[span.offset : span.offset + span.length], span.kind
    if kind == ARROW:
        _compress_stream(part, sink)
    elif span.length >= COMPRESS_BYTES_MIN:
        kind = LZ4
        sink.write(pa.Codec("lz4").compress(part))
    else:
        kind = PLAIN
        sink.write(part)
    return PartSpan(start, sink.tell() - start, kind, span.length)


def _compress_stream(part: memoryview, sink: Any) -> None:
    import pyarrow as pa

    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    with (
        pa.ipc.open_stream(pa.py_buffer(part)) as reader,
        pa.ipc.new_stream(sink, reader.schema, options=options) as writer,
    ):
        for batch in reader:
            writer.write_batch(batch)
