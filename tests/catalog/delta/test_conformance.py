"""Delta tables keep the rules of every table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.catalog.conformance import TableConformance
from tests.catalog.delta.lakes import DeltaLake


class TestDelta(TableConformance):
    @pytest.fixture
    def lake(self, tmp_path: Path) -> DeltaLake:
        return DeltaLake(tmp_path)


class TestDeltaWithoutVectors(TableConformance):
    @pytest.fixture
    def lake(self, tmp_path: Path) -> DeltaLake:
        lake = DeltaLake(tmp_path, configuration={})
        lake.has_deletes = False
        return lake
