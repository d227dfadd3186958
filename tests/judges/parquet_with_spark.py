"""Write Parquet files with parquet-java, or read them through its page indexes and filters.

Usage: parquet_with_spark.py write DIRECTORY
       parquet_with_spark.py read FILE...
"""

import json
import sys

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - its own convention

ROWS = 3000
FILES = 2
WRITER = {
    "parquet.bloom.filter.enabled#id": "true",
    "parquet.bloom.filter.enabled#name": "true",
    "parquet.bloom.filter.expected.ndv#id": str(ROWS),
    "parquet.bloom.filter.expected.ndv#name": str(ROWS),
    "parquet.block.size": "40000",
    "parquet.page.size": "2000",
    "parquet.block.size.row.check.min": "100",
}


def rows(session: SparkSession, index: int) -> DataFrame:
    number = F.col("id")
    return (
        session.range(index * ROWS, (index + 1) * ROWS)
        .coalesce(1)
        .select(
            "id",
            F.concat(F.lit("name-"), number).alias("name"),
            (number / 7).alias("double"),
            F.when(number % 7 != 3, number.cast("decimal(12,2)")).alias("price"),
            F.when(number % 5 != 1, F.timestamp_seconds("id")).alias("at"),
            F.array("id", "id").alias("list"),
            F.struct("id", F.lit("x").alias("y")).alias("struct"),
            F.create_map(F.lit("k"), number).alias("map"),
        )
    )


def write(session: SparkSession, directory: str) -> None:
    for version in ("v1", "v2"):
        for index in range(FILES):
            frame = rows(session, index).write.options(**WRITER)
            frame.option("parquet.writer.version", version).parquet(
                f"{directory}/{version}/{index}"
            )


def read(session: SparkSession, path: str) -> dict[str, object]:
    frame = session.read.parquet(path)
    wanted = [
        "id = 777",
        "id = 4242",
        "name = 'name-777'",
        "name = 'nobody'",
        "id between 290 and 620",
    ]
    return {
        "count": frame.count(),
        "hash": frame.select(F.sum(F.xxhash64("id", "name"))).first()[0],
        "filtered": [
            sorted(row.id for row in frame.where(one).select("id", "name").collect())
            for one in wanted
        ],
    }


settings = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.sql.session.timeZone": "UTC",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.ansi.enabled": "false",
}
session = SparkSession.builder.master("local[1]").config(map=settings).getOrCreate()
if sys.argv[1] == "write":
    write(session, sys.argv[2])
else:
    sys.stdout.write(json.dumps([read(session, path) for path in sys.argv[2:]]) + "\n")
session.stop()
