"""Run SQL with Spark and the reference implementations of Delta Lake and Iceberg, line by line.

Usage: delta_with_spark.py SCRATCH

Reads JSON lines and answers each with one JSON line, `{}` or `{"error": …}`:

- `{"sql": …}` runs a statement.
- `{"iceberg": metadata location, "snapshot": id}` reads a table that is in no catalog of Spark's.

Rows go to the `"output"` of the request as an Arrow file, if it has one. One session serves a whole
test run, for it takes as long to start as most statements together.
"""

import json
import os
import sys
from pathlib import Path

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

scratch = sys.argv[1]
# What the virtual machine says on stdout is no answer.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
jars = [
    *sorted(Path(sys.prefix, "delta").glob("*.jar")),
    *Path(sys.prefix, "jars").glob("iceberg-*.jar"),
]
settings = {
    "spark.jars": ",".join(map(str, jars)),
    "spark.sql.extensions": (
        "io.delta.sql.DeltaSparkSessionExtension,"
        "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"
    ),
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    # Tables of Iceberg are called `lake.<namespace>.<table>`.
    "spark.sql.catalog.lake": "org.apache.iceberg.spark.SparkCatalog",
    "spark.sql.catalog.lake.type": "hadoop",
    "spark.sql.catalog.lake.warehouse": f"{scratch}/iceberg",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    # Compiled with little effort, interpreted where it can be: each query runs once.
    "spark.driver.extraJavaOptions": (
        "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m "
        f"-Dderby.system.home={scratch}/derby"
    ),
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "1",
    # A vacuum lists with as many tasks.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    "spark.sql.warehouse.dir": f"{scratch}/warehouse",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
session = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
session.sparkContext.setLogLevel("ERROR")


def asked(request):
    if "sql" in request:
        return session.sql(request["sql"])
    snapshot = session.read.format("iceberg").option("versionAsOf", request["snapshot"])
    return snapshot.load(request["iceberg"])


def answer(request):
    try:
        rows = asked(request)
        if "output" in request:
            table = rows.toArrow()
            with (
                pa.OSFile(request["output"], "wb") as sink,
                pa.ipc.new_file(sink, table.schema) as w,
            ):
                w.write_table(table)
    except (PySparkException, Py4JError) as error:
        return {"error": str(error)}
    return {}


for line in sys.stdin:
    answers.write(json.dumps(answer(json.loads(line))) + "\n")
    answers.flush()
session.stop()
