"""What tests of several modules share: Spark, which is started once."""

from __future__ import annotations

import pytest

from tests.judges.spark_session import SparkSession, shared_session


@pytest.fixture(scope="session")
def spark() -> SparkSession:
    return shared_session()
