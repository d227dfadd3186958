"""The small facts of one version of a Delta table: everything but its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from catalog.delta.actions import CommitInfo, Metadata, Protocol
from catalog.errors import CorruptTableError

ROW_TRACKING_DOMAIN = "delta.rowTracking"


@dataclass(frozen=True, slots=True)
class TableState:
    """One version.

    Attributes:
        version: its number.
        timestamp_ms: when it was committed: in-commit timestamp where the table keeps them, else
            the modification time of the commit's file.
        protocol: what it asks of readers and writers.
        metadata: schema, partition columns, properties.
        domain_metadata: configuration by domain, those that were removed left out.
        txns: version by application id.
        commit_info: of the commit of this very version; empty when that is gone.
    """

    version: int
    timestamp_ms: int
    protocol: Protocol
    metadata: Metadata
    domain_metadata: Mapping[str, str]
    txns: Mapping[str, int]
    commit_info: CommitInfo

    @property
    def row_id_high_water_mark(self) -> int | None:
        """The highest row id that was ever given out; None before the first.

        Raises:
            CorruptTableError: it cannot be read.
        """
        text = self.domain_metadata.get(ROW_TRACKING_DOMAIN)
        if text is None:
            return None
        try:
            return int(json.loads(text)["rowIdHighWaterMark"])
        except (ValueError, KeyError, TypeError, RecursionError) as fault:
            raise CorruptTableError(f"the domain {ROW_TRACKING_DOMAIN} is malformed") from fault
