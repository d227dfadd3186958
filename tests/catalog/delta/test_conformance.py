"""Delta tables keep the rules of every table."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.catalog.changing import ChangedLineage, Changing
from tests.catalog.conformance import RowLineage, TableConformance
from tests.catalog.delta.lakes import DeltaLake
from tests.catalog.delta.tracked import TrackedLake


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


class TestChanges(Changing):
    @pytest.fixture
    def lake(self, tmp_path: Path) -> DeltaLake:
        return DeltaLake(tmp_path)


class TestRowTracking(RowLineage, ChangedLineage):
    @pytest.fixture
    def lineage_lake(self, tmp_path: Path) -> TrackedLake:
        return TrackedLake(tmp_path)
