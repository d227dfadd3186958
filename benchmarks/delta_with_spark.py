"""What Spark does with a Delta table of many small files; runs in the judges' environment.

Usage: delta_with_spark.py CODEC start
       delta_with_spark.py CODEC optimize TABLE TARGET_BYTES
       delta_with_spark.py CODEC coalesce TABLE OUTPUT FILES
"""

import sys
from pathlib import Path

from pyspark.sql import SparkSession

codec, what, *arguments = sys.argv[1:]
settings = {
    "spark.jars": ",".join(map(str, sorted(Path(sys.prefix, "delta").glob("*.jar")))),
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "3g",
    "spark.sql.parquet.compression.codec": codec,
    "spark.databricks.delta.snapshotPartitions": "2",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
session = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
session.sparkContext.setLogLevel("ERROR")
if what == "start":
    # What every program of Spark does before it reads a row.
    session.range(1).count()
elif what == "optimize":
    session.conf.set("spark.databricks.delta.optimize.minFileSize", arguments[1])
    session.conf.set("spark.databricks.delta.optimize.maxFileSize", arguments[1])
    session.sql(f"OPTIMIZE delta.`{arguments[0]}`")
else:
    rows = session.read.format("delta").load(arguments[0])
    rows.coalesce(int(arguments[2])).write.format("delta").save(arguments[1])
gateway = session.sparkContext._gateway  # noqa: SLF001 - nothing else knows the process
session.stop()
# What the virtual machine has used is counted only once it was waited for.
gateway.shutdown()
gateway.proc.stdin.close()
gateway.proc.wait()
