"""Iceberg tables keep the rules of every table, in each format version and catalog."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.catalog.changing import ChangedLineage, Changing
from tests.catalog.conformance import RowLineage, TableConformance
from tests.catalog.iceberg.lakes import IcebergLake, in_memory_catalog
from tests.catalog.iceberg.version3 import Version3Lake


class TestFormatVersion1(TableConformance):
    @pytest.fixture
    def lake(self, tmp_path: Path) -> IcebergLake:
        return IcebergLake(tmp_path, 1)


class TestFormatVersion2(TableConformance):
    @pytest.fixture
    def lake(self, tmp_path: Path) -> IcebergLake:
        return IcebergLake(tmp_path, 2)


class TestFormatVersion3(TableConformance, RowLineage, ChangedLineage):
    @pytest.fixture
    def lake(self, tmp_path: Path) -> Version3Lake:
        return Version3Lake(tmp_path)

    @pytest.fixture
    def lineage_lake(self, lake: Version3Lake) -> Version3Lake:
        return lake


@pytest.mark.slow  # for the library it is an SQL catalog, too
class TestInMemoryCatalog(TableConformance):
    @pytest.fixture
    def lake(self, tmp_path: Path) -> IcebergLake:
        return IcebergLake(tmp_path, 2, in_memory_catalog(tmp_path))


@pytest.mark.slow  # what is different from version 2 is tested by itself
class TestChangesInFormatVersion1(Changing):
    @pytest.fixture
    def lake(self, tmp_path: Path) -> IcebergLake:
        return IcebergLake(tmp_path, 1)


class TestChangesInFormatVersion2(Changing):
    @pytest.fixture
    def lake(self, tmp_path: Path) -> IcebergLake:
        return IcebergLake(tmp_path, 2)


@pytest.mark.slow  # what is different from version 2 is tested by itself
class TestChangesInFormatVersion3(Changing):
    @pytest.fixture
    def lake(self, tmp_path: Path) -> Version3Lake:
        return Version3Lake(tmp_path)
