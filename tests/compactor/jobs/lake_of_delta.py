"""The Delta table of crash tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable as PeerTable
from deltalake import write_deltalake

from catalog.delta.row_delta import delete_rows
from catalog.delta.table import DeltaTable
from catalog.errors import AccessDeniedError
from catalog.location import Location
from catalog.storage import Storage
from compactor.jobs.failpoints import Failpoint
from tests.compactor.jobs.crashes import (
    COMMIT_ANSWERED,
    COMMIT_STAGED,
    dying_after,
    dying_before,
    refusing,
)
from tests.compactor.jobs.lake import DELETED, FILES_PER_PARTITION, rows_of
from tests.delta_tables import unreferenced_files

_SCHEMA = pa.schema([("n", pa.int64()), ("day", pa.int64()), ("text", pa.string())])


class Lake:
    """The table `t`; deleted rows are in deletion vectors."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "t"

    def make(self) -> None:
        for number in range(FILES_PER_PARTITION):
            write_deltalake(
                str(self.path),
                rows_of(number, _SCHEMA),
                mode="append",
                partition_by=["day"],
                configuration={"delta.enableDeletionVectors": "true"},
            )
        table = self.open()
        files = table.inventory(table.snapshot()).files
        delete_rows(table, {path: np.array(DELETED) for path in files["path"].to_pylist()[::3]})

    def open(self) -> DeltaTable:
        return DeltaTable(str(self.path), Location.parse(str(self.path)), {})

    def contents(self) -> list[dict[str, Any]]:
        table = pa.table(PeerTable(str(self.path)).scan(columns=_SCHEMA.names))
        return sorted(table.to_pylist(), key=lambda row: row["n"])

    def orphans(self) -> list[str]:
        return unreferenced_files(self.path)

    def arm(self) -> None:
        put = refusing(
            Storage.put_if_absent, Failpoint.BATCH_ABSENT, AccessDeniedError("no commits today")
        )
        Storage.put_if_absent = dying_after(dying_before(put, COMMIT_STAGED), COMMIT_ANSWERED)
