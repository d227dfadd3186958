"""Keys of the metadata table and the file group that a key belongs to.  Pure.

Keys of statistics are hashes: of the column, the partition and the file. The file group follows
from Java's hash of the text of a key, so it can be found without a look at the table.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

ALL_PARTITIONS = "__all_partitions__"
# The partition of a table without partitions.
UNPARTITIONED = "."

_MASK = (1 << 64) - 1
# 0xdabadaba, a negative number of 32 bits, as one of 64.
_SEED = 0xFFFFFFFFDABADABA
_PRIMES = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)


def partition_id(partition_path: str) -> str:
    """Return the name of a partition in keys and listings."""
    return partition_path or UNPARTITIONED


def partition_path(partition: str) -> str:
    """Return the path that a name of a partition stands for: the inverse of `partition_id`."""
    return "" if partition == UNPARTITIONED else partition


def column_prefix(column: str) -> str:
    """Return what the keys of a column's statistics begin with."""
    return _short_hash(column)


def column_partition_prefix(column: str, partition: str) -> str:
    """Return what the keys of a column's statistics of the files of a partition begin with.

    It is the key of the column's statistics of the partition as a whole.
    """
    return _short_hash(column) + _short_hash(partition_id(partition))


def column_stats_key(column: str, partition: str, file_name: str) -> str:
    """Return the key of a column's statistics in one file."""
    return column_partition_prefix(column, partition) + file_hash(file_name)


def bloom_key(partition: str, file_name: str) -> str:
    """Return the key of the bloom filter of a file."""
    return _short_hash(partition_id(partition)) + file_hash(file_name)


def file_hash(file_name: str) -> str:
    """Return what a file is in keys."""
    return b64encode(hashlib.md5(file_name.encode(), usedforsecurity=False).digest()).decode()


def file_group_number(key: str, group_count: int) -> int:
    """Return which of the file groups of a partition of the metadata table has this key."""
    if group_count == 1:
        return 0
    units = np.frombuffer(key.encode("utf-16-le", "surrogatepass"), np.uint16)
    value = 0
    for unit in units.tolist():
        value = 31 * value + unit & 0xFFFFFFFF
    return _number(value, group_count)


def file_group_numbers(
    keys: Iterable[str], group_count: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return `file_group_number` of many keys at once.

    Plain keys are hashed in one go for each of their lengths; the rest one by one.
    """
    texts = list(keys)
    found = np.zeros(len(texts), np.int64)
    if group_count == 1:
        return found
    by_length: dict[int, list[int]] = {}
    for number, text in enumerate(texts):
        if text.isascii():
            by_length.setdefault(len(text), []).append(number)
        else:
            found[number] = file_group_number(text, group_count)
    for length, numbers in by_length.items():
        joined = "".join([texts[number] for number in numbers]).encode()
        characters = np.frombuffer(joined, np.uint8).reshape(len(numbers), length)
        value = np.zeros(len(numbers), np.uint32)
        for position in range(length):
            value = value * np.uint32(31) + characters[:, position]
        found[numbers] = _numbers(value, group_count)
    return found


def _numbers(
    value: np.ndarray[tuple[int], np.dtype[np.uint32]], group_count: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    signed = value.view(np.int32).astype(np.int64)
    # Java has no positive number for the lowest one, and its remainder keeps the sign.
    absolute = np.where(signed == -(1 << 31), signed, np.abs(signed))
    return np.abs(np.fmod(absolute, group_count))


def _number(value: int, group_count: int) -> int:
    return int(_numbers(np.array([value], np.uint32), group_count)[0])


@lru_cache(maxsize=1 << 16)
def _short_hash(text: str) -> str:
    return b64encode(xxhash64(text.encode(), _SEED).to_bytes(8, "big")).decode()


def xxhash64(data: bytes, seed: int) -> int:
    """Return XXH64 of bytes, by its specification."""
    first, second, third, fourth, fifth = _PRIMES
    at = 0
    if len(data) >= 32:
        lanes = [seed + first + second, seed + second, seed, seed - first]
        while at + 32 <= len(data):
            for lane in range(4):
                word = int.from_bytes(data[at + 8 * lane : at + 8 * lane + 8], "little")
                lanes[lane] = _round(lanes[lane] & _MASK, word)
            at += 32
        value = sum(_turned(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True))
        for lane in lanes:
            value = ((value ^ _round(0, lane)) * first + fourth) & _MASK
    else:
        value = seed + fifth
    value = (value + len(data)) & _MASK
    while at + 8 <= len(data):
        word = int.from_bytes(data[at : at + 8], "little")
        value = (_turned(value ^ _round(0, word), 27) * first + fourth) & _MASK
        at += 8
    if at + 4 <= len(data):
        word = int.from_bytes(data[at : at + 4], "little")
        value = (_turned(value ^ word * first & _MASK, 23) * second + third) & _MASK
        at += 4
    for byte in data[at:]:
        value = _turned(value ^ byte * fifth & _MASK, 11) * first & _MASK
    value = (value ^ value >> 33) * second & _MASK
    value = (value ^ value >> 29) * third & _MASK
    return value ^ value >> 32


def _round(lane: int, word: int) -> int:
    first, second = _PRIMES[:2]
    return _turned((lane + word * second) & _MASK, 31) * first & _MASK


def _turned(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _MASK
