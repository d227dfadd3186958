"""A second, independent decoder of compact Thrift, to judge what the product's codec wrote."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Fields of ColumnChunk and ColumnMetaData that name positions, which a splice may change.
MOVING_CHUNK = {2, 4, 5, 6}
MOVING_METADATA = {9, 10, 11, 14}


@dataclass
class Decoder:
    data: bytes
    at: int = 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def signed(self) -> int:
        value = self.unsigned()
        return value >> 1 if value % 2 == 0 else -(value >> 1) - 1

    def raw(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]

    def struct(self) -> dict[int, Any]:
        found: dict[int, Any] = {}
        number = 0
        while header := self.byte():
            number = number + (header >> 4) if header >> 4 else self.signed()
            kind = header & 15
            found[number] = kind == 1 if kind in (1, 2) else self.value(kind)
        return found

    def value(self, kind: int) -> Any:
        if kind in (4, 5, 6):
            return self.signed()
        if kind == 8:
            return self.raw(self.unsigned())
        if kind == 12:
            return self.struct()
        if kind in (1, 2, 3):
            return self.byte()
        if kind == 7:
            return self.raw(8)
        assert kind in (9, 10), kind
        header = self.byte()
        count = header >> 4 if header >> 4 < 15 else self.unsigned()
        return [self.value(header & 15) for _ in range(count)]


def footer_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    assert data[-4:] == data[:4] == b"PAR1"
    length = int.from_bytes(data[-8:-4], "little")
    return data[-8 - length : -8]


def footer(path: Path) -> dict[int, Any]:
    return Decoder(footer_bytes(path)).struct()


def still(path: Path) -> list[list[dict[Any, Any]]]:
    """Return what of each column chunk may not change when its bytes move."""
    return [
        [
            {k: v for k, v in chunk.items() if k not in MOVING_CHUNK | {3}}
            | {("metadata", k): v for k, v in chunk[3].items() if k not in MOVING_METADATA}
            | {"present": tuple(sorted(chunk)) + tuple(sorted(chunk[3]))}
            for chunk in group[1]
        ]
        for group in footer(path)[4]
    ]


def check_pages(path: Path) -> Counter[str]:
    """Follow every page index to its pages; count what was met."""
    data = path.read_bytes()
    met: Counter[str] = Counter()
    groups = footer(path)[4]
    # parquet-rs refuses files in which some row groups are numbered and others are not.
    assert len({7 in group for group in groups}) <= 1
    for ordinal, group in enumerate(groups):
        assert group.get(7, ordinal) == ordinal
        starts = []
        for chunk in group[1]:
            metadata = chunk[3]
            # A chunk without values may have no page at all.
            start = min((x for x in (metadata[9], metadata.get(11, 0)) if x > 0), default=0)
            starts.append(start)
            met["chunks"] += 1
            _check_chunk_pages(data, start, metadata, met)
            if 4 in chunk:
                _check_index(data, chunk, start, met)
            if metadata.get(14):
                header = Decoder(data, metadata[14])
                bits = header.struct()[1]
                if 15 in metadata:
                    assert header.at + bits == metadata[14] + metadata[15]
                met["filters"] += 1
        assert group[3] == 0 or group.get(5, starts[0]) in (0, min(starts))
    return met


def _check_chunk_pages(
    data: bytes, start: int, metadata: dict[int, Any], met: Counter[str]
) -> None:
    at = start
    while at < start + metadata[7]:
        header = Decoder(data, at)
        page = header.struct()
        at = header.at + page[3]
        met["pages"] += 1
    assert at == start + metadata[7]


def _check_index(data: bytes, chunk: dict[int, Any], start: int, met: Counter[str]) -> None:
    decoder = Decoder(data, chunk[4])
    locations = decoder.struct()[1]
    assert decoder.at == chunk[4] + chunk[5]
    if 6 in chunk:
        columns = Decoder(data, chunk[6])
        assert len(columns.struct()[1]) == len(locations)
        assert columns.at == chunk[6] + chunk[7]
    for location in locations:
        assert start <= location[1] < start + chunk[3][7]
        header = Decoder(data, location[1])
        page = header.struct()
        assert page[1] in (0, 3)
        assert header.at + page[3] == location[1] + location[2]
        met["indexed pages"] += 1
