"""Hudi tables are read by the rules that all formats share, in every version."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.catalog.conformance import Reading
from tests.catalog.hudi.lake import HudiLake


@pytest.fixture(params=[6, 8, 9])
def lake(tmp_path: Path, request: pytest.FixtureRequest) -> HudiLake:
    return HudiLake(tmp_path / "table", request.param)


class TestReading(Reading):
    pass
