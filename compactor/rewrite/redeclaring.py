"""A Parquet writer whose file declares its columns otherwise than the rows that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from compactor.parquet import redeclared

_MAGIC = b"PAR1"
_LENGTH_BYTES = 4


class Sink(Protocol):
    """What takes the bytes of a file."""

    @property
    def closed(self) -> bool:
        """Whether it takes no more."""

    def write(self, data: bytes, /) -> int | None:
        """Append bytes."""


class ParquetWriter(Protocol):
    """A Parquet file being written."""

    def write_table(self, table: pa.Table, row_group_size: int) -> None:
        """Append a row group."""

    def add_key_value_metadata(self, key_value_metadata: Mapping[str, str]) -> None:
        """Say more in the footer."""

    def close(self) -> None:
        """Write the footer."""


class RedeclaringWriter:
    """Writes rows, and puts another schema into the footer: the writer's end is held back for it.

    Args:
        sink: takes the bytes.
        schema: the schema of the footer, serialised; columns are stored alike by both.
        begin: begins a file of the rows.
    """

    def __init__(
        self, sink: Sink, schema: bytes, begin: Callable[[Sink], pq.ParquetWriter]
    ) -> None:
        self._schema = schema
        self._end = _End(sink)
        self._writer = begin(self._end)

    def write_table(self, table: pa.Table, row_group_size: int) -> None:
        """Append a row group."""
        self._writer.write_table(table, row_group_size=row_group_size)

    def add_key_value_metadata(self, key_value_metadata: Mapping[str, str]) -> None:
        """Say more in the footer."""
        self._writer.add_key_value_metadata(dict(key_value_metadata))

    def close(self) -> None:
        """Write the footer.

        Raises:
            CatalogError, OSError: as the sink raises them.
            ValueError: rows before were refused; the writer ends without a footer.
        """
        self._end.is_held = True
        self._writer.close()
        held = bytes(self._end.held)
        if not held.endswith(_MAGIC):
            raise ValueError("the file has no footer")
        footer_end = len(held) - len(_MAGIC) - _LENGTH_BYTES
        length = int.from_bytes(held[footer_end:][:_LENGTH_BYTES], "little")
        before, footer = held[: footer_end - length], held[footer_end - length : footer_end]
        footer = redeclared(footer, self._schema)
        size = len(footer).to_bytes(_LENGTH_BYTES, "little")
        self._end.sink.write(b"".join((before, footer, size, _MAGIC)))


class _End:
    """A sink whose last bytes are kept back."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.is_held = False
        self.held = bytearray()

    @property
    def closed(self) -> bool:
        """Whether it takes no more bytes."""
        return self.sink.closed

    def writable(self) -> bool:
        """Tell that it takes bytes."""
        return True

    def flush(self) -> None:
        """Do nothing: what is written is written."""

    def write(self, data: bytes) -> int | None:
        """Append bytes."""
        if not self.is_held:
            return self.sink.write(data)
        self.held += data
        return len(data)
