"""Read a snapshot with Spark and the reference implementation of Iceberg into a Parquet file.

Usage: read_with_spark.py METADATA_LOCATION SNAPSHOT_ID OUTPUT
"""

import sys
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import SparkSession

metadata_location, snapshot_id, output = sys.argv[1:]
jar = next(Path(sys.prefix, "jars").glob("iceberg-spark-runtime-*.jar"))
settings = {
    "spark.jars": str(jar),
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.sql.session.timeZone": "UTC",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
session = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
frame = session.read.format("iceberg").option("versionAsOf", snapshot_id).load(metadata_location)
pq.write_table(frame.toArrow(), output)
session.stop()
