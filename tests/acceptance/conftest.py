"""What tests of several modules share: Spark, which is started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.judges.spark_session import SparkSession, spark_session


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    with spark_session(tmp_path_factory.mktemp("spark")) as session:
        yield session
