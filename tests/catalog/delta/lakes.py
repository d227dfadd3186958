"""Delta tables under test, each with deltalake as the other writer at its side."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable as PeerTable
from deltalake import write_deltalake

from catalog.delta.contents import lines
from catalog.delta.row_delta import delete_rows
from catalog.delta.table import DeltaTable
from catalog.location import Location
from tests.catalog.conformance import Row, expected

SCHEMA = pa.schema([("id", pa.int64()), ("part", pa.string()), ("text", pa.string())])
_FIELDS = [
    {"name": name, "type": kind, "nullable": True, "metadata": {}}
    for name, kind in (("id", "long"), ("part", "string"), ("text", "string"))
]
WITH_VECTORS = {"delta.enableDeletionVectors": "true"}


def rows_of(ids: Sequence[int], part: str) -> pa.Table:
    """Return rows whose text follows from their id."""
    columns = zip(*expected(ids, part), strict=True)
    return pa.table([*map(list, columns)], schema=SCHEMA)


def create_table(
    directory: Path,
    *,
    configuration: Mapping[str, str],
    features: Sequence[str] = ("deletionVectors",),
    partition_columns: Sequence[str] = ("part",),
    domains: Mapping[str, str] | None = None,
) -> None:
    """Write the first version of a table by hand: no engine writes every feature."""
    readers = [one for one in features if one in ("deletionVectors", "v2Checkpoint")]
    metadata = {
        "id": str(uuid.uuid4()),
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": _FIELDS}),
        "partitionColumns": list(partition_columns),
        "configuration": dict(configuration),
        "createdTime": 1,
    }
    protocol = {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": readers,
        "writerFeatures": list(features),
    }
    info = {"timestamp": 1, "operation": "CREATE TABLE", "inCommitTimestamp": 1}
    actions: list[dict[str, Any]] = [
        {"commitInfo": info},
        {"protocol": protocol},
        {"metaData": metadata},
    ]
    for domain, text in (domains or {}).items():
        actions.append(
            {"domainMetadata": {"domain": domain, "configuration": text, "removed": False}}
        )
    log = directory / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020}.json").write_bytes(lines(actions))


def commits(directory: Path) -> list[list[dict[str, Any]]]:
    """Return the actions of every version whose commit is there, in order."""
    files = sorted((directory / "_delta_log").glob("*[0-9].json"))
    return [[json.loads(line) for line in one.read_text().splitlines()] for one in files]


class DeltaLake:
    """A partitioned table at a path."""

    has_deletes = True
    first_snapshot_id = "0"
    has_sequence_numbers = False

    def __init__(
        self,
        directory: Path,
        *,
        configuration: Mapping[str, str] = WITH_VECTORS,
        creates: bool = True,
    ) -> None:
        self.directory = directory / "lake"
        self.root = Location.parse(str(self.directory))
        if creates:
            create_table(self.directory, configuration=configuration)

    @property
    def table(self) -> DeltaTable:
        return DeltaTable("lake", self.root, {})

    @property
    def peer(self) -> PeerTable:
        return PeerTable(str(self.directory))

    def paths(self) -> set[str]:
        files = self.table.inventory(self.table.snapshot()).files
        return set(files["path"].to_pylist())

    def append(self, ids: Sequence[int], part: str = "a") -> str:
        before = self._stored()
        write_deltalake(str(self.directory), rows_of(ids, part), mode="append")
        (new,) = self._stored() - before
        return new

    def _stored(self) -> set[str]:
        return {str(path) for path in self.directory.glob("part=*/*.parquet")} | {
            str(path) for path in self.directory.glob("*.parquet")
        }

    def delete(self, positions: Mapping[str, Sequence[int]]) -> None:
        delete_rows(self.table, {path: np.array(sorted(some)) for path, some in positions.items()})

    def remove(self, path: str) -> None:
        self.commit([{"remove": self.remove_of(path)}])

    def commit(self, actions: Sequence[Mapping[str, Any]]) -> int:
        """Commit actions as they are; return the version."""
        version = self.table.load()[1].version + 1
        info = {"commitInfo": {"timestamp": 2, "operation": "DELETE"}}
        path = self.directory / "_delta_log" / f"{version:020}.json"
        with path.open("xb") as file:
            file.write(lines([info, *actions]))
        return version

    def add_of(self, path: str) -> dict[str, Any]:
        """Return the last `add` action of a file."""
        adds = [one["add"] for some in commits(self.directory) for one in some if "add" in one]
        stored = Path(path).relative_to(self.directory)
        found: dict[str, Any] = [one for one in adds if one["path"] == str(stored)][-1]
        return found

    def remove_of(self, path: str) -> dict[str, Any]:
        """Return the `remove` action of a file."""
        add = self.add_of(path)
        kept = {
            name: add[name]
            for name in ("path", "partitionValues", "size", "deletionVector")
            if add.get(name)
        }
        return {**kept, "deletionTimestamp": 1, "dataChange": True, "extendedFileMetadata": True}

    def expire(self) -> None:
        self.peer.create_checkpoint()
        version = self.peer.version()
        for number in range(version):
            (self.directory / "_delta_log" / f"{number:020}.json").unlink(missing_ok=True)

    def rows(self, snapshot_id: str | None = None) -> list[Row]:
        peer = (
            self.peer if snapshot_id is None else PeerTable(str(self.directory), int(snapshot_id))
        )
        table = pa.table(peer.scan(columns=["id", "part", "text"]))
        return sorted(zip(*(table[name].to_pylist() for name in SCHEMA.names), strict=True))
