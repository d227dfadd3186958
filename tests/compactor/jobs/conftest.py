"""Hudi tables that merges go into, for all tests of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compactor.jobs.hudi_merges import Merges, each_kind


@pytest.fixture(params=each_kind((6, False), (9, True)))
def merges(tmp_path: Path, request: pytest.FixtureRequest) -> Merges:
    version, merges_on_read = request.param
    return Merges(tmp_path, version, merges_on_read=merges_on_read)


@pytest.fixture
def newest(tmp_path: Path) -> Merges:
    return Merges(tmp_path, 9, merges_on_read=True)
