"""What Spark's `MERGE INTO` does with the same table and changes; runs in the judges' environment.

Usage: merge_with_spark.py iceberg|delta start
       merge_with_spark.py iceberg DIRECTORY CHANGES MODE
       merge_with_spark.py delta TABLE CHANGES MODE

MODE is copy-on-write or merge-on-read.
"""

import sys
from pathlib import Path

from pyspark.sql import SparkSession

engine, *arguments = sys.argv[1:]
prefix = Path(sys.prefix)
settings = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "3g",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.sql.shuffle.partitions": "8",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
if engine == "delta":
    jars = sorted((prefix / "delta").glob("*.jar"))
    settings |= {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.databricks.delta.snapshotPartitions": "2",
    }
else:
    jars = [*(prefix / "jars").glob("iceberg-spark-*.jar")]
    jars += (prefix / "rest-catalog").glob("sqlite-jdbc-*.jar")
    directory = arguments[0] if len(arguments) > 1 else "/tmp"
    settings |= {
        "spark.driver.extraClassPath": ":".join(map(str, jars)),
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.catalog.bench": "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.catalog.bench.type": "jdbc",
        "spark.sql.catalog.bench.uri": f"jdbc:sqlite:{directory}/catalog.db",
        "spark.sql.catalog.bench.warehouse": f"file://{directory}/warehouse",
        "spark.sql.catalog.bench.jdbc.schema-version": "V1",
    }
settings["spark.jars"] = ",".join(map(str, jars))
session = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
session.sparkContext.setLogLevel("ERROR")
if arguments == ["start"]:
    # What every program of Spark does before it reads a row.
    session.range(1).count()
else:
    place, changes, mode = arguments
    table = f"delta.`{place}`" if engine == "delta" else "bench.ns.t"
    if engine == "iceberg":
        kinds = ", ".join(f"'write.{kind}.mode'='{mode}'" for kind in ("merge", "update", "delete"))
        session.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ('format-version'='2', {kinds})")
    session.read.parquet(changes).createOrReplaceTempView("changes")
    columns = list(session.table(table).columns)
    updates = ", ".join(f"t.{name} = c.{name}" for name in columns)
    session.sql(
        f"MERGE INTO {table} AS t USING changes AS c ON t.id = c.id"
        " WHEN MATCHED AND c.op = 'D' THEN DELETE"
        f" WHEN MATCHED THEN UPDATE SET {updates}"
        f" WHEN NOT MATCHED AND c.op <> 'D' THEN INSERT ({', '.join(columns)})"
        f" VALUES ({', '.join('c.' + name for name in columns)})"
    )
gateway = session.sparkContext._gateway  # noqa: SLF001 - nothing else knows the process
session.stop()
# What the virtual machine has used is counted only once it was waited for.
gateway.shutdown()
gateway.proc.stdin.close()
gateway.proc.wait()
