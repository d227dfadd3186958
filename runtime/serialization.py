"""Turns values into parts that can be written anywhere and mapped back without a copy.

The first part is a pickle stream; each further part is one buffer that the stream refers to.
Arrow data becomes an IPC stream, which holds the rows of a slice alone, while pickle would drag
the whole parent buffer along; NumPy buffers stay as they are.

Plain pickle comes first since it needs no import; what it cannot do (lambdas, closures, anything
defined in `__main__`) is pickled by value with cloudpickle.
"""

import functools
import io
import pickle
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

ALIGNMENT_BYTES = 64
"""Arrow's own alignment: mapped buffers may be used by vectorised kernels as they are."""

Buffer = bytes | memoryview
_SCALARS = frozenset({bool, float, int, str, type(None)})
Reduced = tuple[Callable[..., object], tuple[object, ...]]


class _Sink(Protocol):
    def write(self, data: Any, /) -> object: ...
    def tell(self) -> int: ...


@dataclass(frozen=True, slots=True)
class ArrowStream:
    """Record batches of one schema, written as an IPC stream only when it is known where to."""

    schema: "pa.Schema"
    batches: Sequence["pa.RecordBatch"]

    @property
    def size_bytes(self) -> int:
        """Bytes of the rows themselves, whatever their parent buffers hold."""
        return sum(batch.nbytes for batch in self.batches)

    def write(self, sink: _Sink) -> None:
        """Append the stream to an Arrow output or a Python file."""
        import pyarrow as pa

        with pa.ipc.new_stream(sink, self.schema) as writer:
            for batch in self.batches:
                writer.write_batch(batch)


Part = bytes | pickle.PickleBuffer | ArrowStream


@dataclass(frozen=True, slots=True)
class Encoded:
    """A value in parts, not yet written anywhere."""

    parts: tuple[Part, ...]

    @property
    def size_bytes(self) -> int:
        """Size of all parts, Arrow metadata aside."""
        return sum(_size_bytes(part) for part in self.parts)

    @property
    def has_arrow(self) -> bool:
        """Whether pyarrow is needed to write it."""
        return any(isinstance(part, ArrowStream) for part in self.parts)


def encode(value: object) -> Encoded:
    """Pickle a value into parts; buffers are referred to, not copied.

    Raises:
        Exception: Whatever the value's own pickling raises.
    """
    if type(value) in _SCALARS:
        return Encoded((pickle.dumps(value, protocol=5),))
    try:
        return _encode(_Plain, value)
    except (pickle.PicklingError, AttributeError, TypeError):
        return _encode(_by_value_pickler(), value)


def decode(buffers: Sequence[Buffer]) -> Any:
    """Rebuild a value from the parts of `encode`; large contents stay views of the buffers."""
    return pickle.loads(buffers[0], buffers=buffers[1:])  # noqa: S301 - one trust domain


def in_memory(encoded: Encoded) -> list[bytes]:
    """Write each part into memory of its own."""
    return [_bytes_of(part) for part in encoded.parts]


def write_parts(encoded: Encoded, sink: _Sink) -> tuple[tuple[int, int], ...]:
    """Write all parts one after the other; returns (offset, length) in bytes of each."""
    spans = []
    for part in encoded.parts:
        sink.write(b"\0" * (-sink.tell() % ALIGNMENT_BYTES))
        start = sink.tell()
        if isinstance(part, ArrowStream):
            part.write(sink)
        else:
            sink.write(part.raw() if isinstance(part, pickle.PickleBuffer) else part)
        spans.append((start, sink.tell() - start))
    return tuple(spans)


def rows_of(value: object) -> int:
    """Return the Arrow rows of a value or, if it is a list or tuple, of its items."""
    lib = sys.modules.get("pyarrow.lib")
    if lib is None:
        return 0
    if isinstance(value, lib.Table | lib.RecordBatch):
        return int(value.num_rows)
    return sum(map(rows_of, value)) if isinstance(value, list | tuple) else 0


def _size_bytes(part: Part) -> int:
    if isinstance(part, ArrowStream):
        return part.size_bytes
    return part.raw().nbytes if isinstance(part, pickle.PickleBuffer) else len(part)


def _bytes_of(part: Part) -> bytes:
    if isinstance(part, bytes):
        return part
    if isinstance(part, pickle.PickleBuffer):
        return bytes(part.raw())
    sink = io.BytesIO()
    part.write(sink)
    return sink.getvalue()


class _NeedsValueError(pickle.PicklingError):
    """Plain pickle would send a name that means something else to the receiver."""


class _Parts:
    """The buffers of one value, in the order in which the pickle stream refers to them."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._streams: dict[int, tuple[pickle.PickleBuffer, ArrowStream]] = {}

    def take(self, buffer: pickle.PickleBuffer) -> None:
        """Receive one out-of-band buffer from the pickler."""
        _, stream = self._streams.get(id(buffer), (None, None))
        self.parts.append(buffer if stream is None else stream)

    def refer(self, load: Callable[[Buffer], object], stream: ArrowStream) -> Reduced:
        """Let an empty buffer stand in the pickle stream for an IPC stream not yet written."""
        marker = pickle.PickleBuffer(b"")
        self._streams[id(marker)] = (marker, stream)
        return load, (marker,)

    def reduce(self, value: object) -> Reduced | None:
        """Return how Arrow data is rebuilt; None for everything else."""
        lib = sys.modules.get("pyarrow.lib")
        if lib is None:
            return None
        if isinstance(value, lib.Table):
            return self.refer(_load_table, ArrowStream(value.schema, value.to_batches()))
        if isinstance(value, lib.RecordBatch):
            return self.refer(_load_batch, ArrowStream(value.schema, [value]))
        if isinstance(value, lib.Array):
            batch = lib.RecordBatch.from_arrays([value], [""])
            return self.refer(_load_array, ArrowStream(batch.schema, [batch]))
        if isinstance(value, lib.ChunkedArray):
            table = lib.Table.from_arrays([value], [""])
            return self.refer(_load_column, ArrowStream(table.schema, table.to_batches()))
        return None


def _encode(pickler: Callable[[BinaryIO, _Parts], pickle.Pickler], value: object) -> Encoded:
    stream, parts = io.BytesIO(), _Parts()
    pickler(stream, parts).dump(value)
    return Encoded((stream.getvalue(), *parts.parts))


class _Plain(pickle.Pickler):
    def __init__(self, stream: BinaryIO, parts: _Parts) -> None:
        super().__init__(stream, protocol=5, buffer_callback=parts.take)
        self._parts = parts

    def reducer_override(self, value: object) -> Any:
        if isinstance(value, type | FunctionType) and value.__module__ == "__main__":
            raise _NeedsValueError(value.__qualname__)
        return self._parts.reduce(value) or NotImplemented


@functools.cache
def _by_value_pickler() -> Callable[[BinaryIO, _Parts], pickle.Pickler]:
    import cloudpickle

    class ByValue(cloudpickle.Pickler):  # type: ignore[misc]  # untyped base
        def __init__(self, stream: BinaryIO, parts: _Parts) -> None:
            super().__init__(stream, protocol=5, buffer_callback=parts.take)
            self._parts = parts

        def reducer_override(self, value: object) -> object:
            return self._parts.reduce(value) or super().reducer_override(value)

    return ByValue


def _reader(buffer: Buffer) -> "pa.RecordBatchStreamReader":
    import pyarrow as pa

    return pa.ipc.open_stream(pa.py_buffer(buffer))


def _load_table(buffer: Buffer) -> "pa.Table":
    return _reader(buffer).read_all()


def _load_batch(buffer: Buffer) -> "pa.RecordBatch":
    return _reader(buffer).read_next_batch()


def _load_array(buffer: Buffer) -> "pa.Array":
    return _load_batch(buffer).column(0)


def _load_column(buffer: Buffer) -> "pa.ChunkedArray":
    return _load_table(buffer).column(0)
