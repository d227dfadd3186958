"""Hashes rows of Arrow data by value, whole columns at a time.

Equal values have equal hashes however they are laid out: dictionary-encoded or plain, with 32- or
64-bit offsets, as views, sliced or chunked, integers and floats of any width; 0.0 is -0.0 and all
NaN are one. A null is a value of its own. Hashes are for placing rows, never for comparing them.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Hashes = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]

WORDS_MAX = 16
"""Values of up to so many 8-byte words are read word by word, all rows at once."""

SPAN_BYTES_MAX = 4 << 20
"""Bytes of longer values that are hashed at once: their intermediate results are 16 times that."""

_NULL = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_BASE = np.uint64(0x5851F42D4C957F2D)
_SHIFT = np.uint64(33)


def hash_rows(table: pa.Table, columns: Sequence[str]) -> Hashes:
    """Return a 64-bit hash of the values of the columns for each row.

    Raises:
        KeyError: The table has no such column.
    """
    hashes = np.zeros(table.num_rows, np.uint64)
    for name in columns:
        chunks = [hash_array(chunk) for chunk in table.column(name).chunks]
        hashes = mixed(hashes * _BASE + np.concatenate([np.empty(0, np.uint64), *chunks]))
    return hashes


def hash_array(array: pa.Array) -> Hashes:
    """Return the hash of each value of an array."""
    hashes = mixed(_raw(array))
    if array.null_count:
        hashes[pc.is_null(array).to_numpy(zero_copy_only=False)] = _NULL
    return hashes


def mixed(hashes: Hashes) -> Hashes:
    """Spread every bit over all others (the finish of MurmurHash3)."""
    shifted = hashes >> _SHIFT
    hashes = hashes ^ shifted
    for factor in (_MIX_1, _MIX_2):
        hashes *= factor
        np.right_shift(hashes, _SHIFT, out=shifted)
        hashes ^= shifted
    return hashes


def _raw(array: pa.Array) -> Hashes:
    """Return numbers that are equal for equal values; what stands for a null does not matter."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return hash_array(array.storage)
    if pa.types.is_dictionary(kind):
        return _dictionary(array)
    if pa.types.is_run_end_encoded(kind):
        return hash_array(pc.run_end_decode(array))
    if pa.types.is_null(kind):
        return np.zeros(len(array), np.uint64)
    if pa.types.is_nested(kind):
        return _nested(array)
    if pa.types.is_decimal(kind):
        wide = pa.decimal256(max(kind.precision, 39), kind.scale)
        return _fixed_width(array.cast(wide), 32)
    if _is_bytes(kind):
        return _bytes(array.cast(pa.large_binary()))
    if pa.types.is_fixed_size_binary(kind):
        return _fixed_width(array, kind.byte_width)
    return _number(array)


def _number(array: pa.Array) -> Hashes:
    kind = array.type
    if pa.types.is_floating(kind):
        floats = array.fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64) + 0.0
        floats[np.isnan(floats)] = np.nan
        return _as_hashes(floats.view(np.uint64))
    if kind == pa.month_day_nano_interval():
        return _fixed_width(array, 16)
    if pa.types.is_boolean(kind):
        array = array.cast(pa.uint8())
    elif not pa.types.is_integer(kind):  # dates, times, durations
        array = array.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    values = array.fill_null(0).to_numpy(zero_copy_only=False)
    return _as_hashes(values.astype(np.int64, copy=False).view(np.uint64))


def _dictionary(array: pa.DictionaryArray) -> Hashes:
    hashes = hash_array(array.dictionary)
    if not len(hashes):
        return np.full(len(array), _NULL)
    # The hash of a null in the dictionary is that of a null; it must not be mixed again.
    places = array.indices.fill_null(0).to_numpy(zero_copy_only=False)
    return _as_hashes(_unmixed(hashes)[places])


def _nested(array: pa.Array) -> Hashes:
    if pa.types.is_struct(array.type):
        hashes = np.zeros(len(array), np.uint64)
        for child in array.flatten():
            hashes = mixed(hashes * _BASE + hash_array(child))
        return hashes
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.list_(array.type.value_field))
    if pa.types.is_map(array.type):
        array = array.cast(pa.list_(pa.struct([array.type.key_field, array.type.item_field])))
    starts, ends = _list_bounds(array)
    first = int(starts.min(initial=0)) if len(starts) else 0
    last = int(ends.max(initial=0))
    elements = hash_array(array.values.slice(first, last - first))
    return _sums(elements, starts - first, ends - first)


def _list_bounds(array: pa.Array) -> tuple[Offsets, Offsets]:
    if not len(array):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    offsets = array.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    return offsets[:-1], offsets[1:]


def _sums(elements: Hashes, starts: Offsets, ends: Offsets) -> Hashes:
    """Return, per list, the sum of its elements' hashes, each mixed with its place."""
    lengths = ends - starts
    rows = np.repeat(np.arange(len(starts)), lengths)
    firsts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    places = np.arange(len(rows)) - firsts[rows]
    chosen = mixed(elements[places + starts[rows]] + places.astype(np.uint64) * _BASE)
    totals = np.concatenate([np.zeros(1, np.uint64), np.cumsum(chosen, dtype=np.uint64)])
    sums = totals[firsts + lengths] - totals[firsts]
    return np.asarray(sums + lengths.astype(np.uint64) * _BASE, np.uint64)


def _fixed_width(array: pa.Array, width: int) -> Hashes:
    data = np.frombuffer(array.buffers()[1] or b"", np.uint8)
    starts = (np.arange(len(array), dtype=np.int64) + array.offset) * width
    return _spans(data, starts, np.full(len(array), width, np.int64))


def _bytes(array: pa.LargeBinaryArray) -> Hashes:
    if not len(array):
        return np.empty(0, np.uint64)
    _, offsets, data = array.buffers()
    bounds = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    values = np.frombuffer(data or b"", np.uint8)
    return _spans(values, bounds[:-1], np.diff(bounds))


def _spans(data: npt.NDArray[np.uint8], starts: Offsets, lengths: Offsets) -> Hashes:
    """Return the hash of the bytes of each span."""
    hashes = lengths.astype(np.uint64) * _BASE
    if len(data) < 8:
        data = np.concatenate([data, np.zeros(8 - len(data), np.uint8)])
    # All 8-byte words of the buffer, aligned or not, without a copy.
    words = np.ndarray((len(data) - 7,), np.dtype("<u8"), data, strides=(1,))
    longest = int(lengths.max(initial=0))
    if 8 <= longest <= 8 * WORDS_MAX and longest == lengths.min():
        return _alike(words, starts, longest, hashes)
    is_long = lengths > 8 * WORDS_MAX
    rows = np.flatnonzero(~is_long)
    for word in range(WORDS_MAX):
        rows = rows[lengths[rows] >= 8 * (word + 1)]
        if not len(rows):
            break
        hashes[rows] = mixed(hashes[rows] ^ words[starts[rows] + 8 * word])
    rows = np.flatnonzero((lengths % 8 > 0) & ~is_long)
    hashes[rows] = mixed(hashes[rows] ^ _tails(words, starts[rows], lengths[rows]))
    for some in _groups(np.flatnonzero(is_long), lengths):
        hashes[some] += _polynomials(data, starts[some], lengths[some])
    return hashes


def _alike(words: Hashes, starts: Offsets, length: int, hashes: Hashes) -> Hashes:
    """Go on with the hashes of spans of one length; those side by side are not gathered."""
    first, last = int(starts[0]), int(starts[-1])
    are_adjacent = np.array_equal(starts, np.arange(first, last + 1, length))
    for start in range(0, length, 8):
        # The last word ends where the span does: what it shares with the one before goes.
        place = min(start, length - 8)
        if are_adjacent:
            # Copied at once: arithmetic on words that are not aligned takes ten times as long.
            found = words[first + place : last + place + 1 : length].copy()
        else:
            found = words[starts + place]
        found >>= np.uint64(8 * (start - place))
        hashes = mixed(np.bitwise_xor(hashes, found, out=found))
    return hashes


def _tails(words: Hashes, starts: Offsets, lengths: Offsets) -> Hashes:
    """Return the last word of each span, which it does not fill."""
    rest = lengths % 8
    wanted = starts + lengths - rest
    read = np.minimum(wanted, len(words) - 1)
    found = words[read] >> ((wanted - read) * 8).astype(np.uint64)
    unused = ((8 - rest) * 8).astype(np.uint64)
    return np.asarray((found << unused) >> unused, np.uint64)


def _groups(rows: Offsets, lengths: Offsets) -> Iterator[Offsets]:
    """Cut rows into runs of about as many bytes as are hashed at once."""
    if len(rows):
        ends = np.cumsum(lengths[rows])
        cuts = np.flatnonzero(np.diff(ends // SPAN_BYTES_MAX)) + 1
        yield from np.split(rows, cuts)


def _polynomials(data: npt.NDArray[np.uint8], starts: Offsets, lengths: Offsets) -> Hashes:
    """Return, per span, the polynomial of its bytes (modulo 2**64)."""
    ends = np.cumsum(lengths)
    firsts = ends - lengths
    places = np.arange(int(ends[-1])) - np.repeat(firsts, lengths)
    powers = np.concatenate([[np.uint64(1)], np.full(int(lengths.max()) - 1, _BASE)])
    powers = np.cumprod(powers, dtype=np.uint64)
    terms = data[places + np.repeat(starts, lengths)].astype(np.uint64) * powers[places]
    return np.add.reduceat(terms, firsts)


def _as_hashes(values: npt.ArrayLike) -> Hashes:
    return np.asarray(values, np.uint64)


def _unmixed(hashes: Hashes) -> Hashes:
    """Undo `mixed`, so that mixing again gives the same hash."""
    hashes = _unshift(hashes) * np.uint64(pow(int(_MIX_2), -1, 1 << 64))
    hashes = _unshift(hashes) * np.uint64(pow(int(_MIX_1), -1, 1 << 64))
    return _unshift(hashes)


def _unshift(hashes: Hashes) -> Hashes:
    # A shift by more than half the width is its own inverse.
    return hashes ^ (hashes >> _SHIFT)


def _is_bytes(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_string_view,
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_binary_view,
        )
    )
