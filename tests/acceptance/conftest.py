"""What tests of several modules share: Spark, which is started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.spark_house import House, spark_house
from tests.judges.spark_session import SparkSession, shared_session


@pytest.fixture(scope="session")
def spark() -> SparkSession:
    return shared_session()


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, spark: SparkSession) -> Iterator[House]:
    with spark_house(tmp_path_factory.mktemp("house"), spark) as opened:
        yield opened
