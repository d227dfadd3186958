"""Run SQL, writes and table services with Spark and the reference implementation of Hudi.

Usage: hudi_with_spark.py SCRATCH [ENDPOINT]

Given the endpoint of an S3 server, `s3a` means that one. Jars in the scratch directory are loaded.

Reads JSON lines and answers each with one JSON line, `{}` or `{"error": …}`:

- `{"sql": …, "output": path or null}` runs a statement; rows go to the output as an Arrow file.
- `{"read": path, "options": {…}, "where": …, "output": path}` reads rows of a table.
- `{"write": path, "rows": query, "options": {…}, "mode": …}` writes what a query returns.
- `{"java": expression, "output": path}` evaluates an expression over the names `jvm`, `jsc` and
  `spark`; its text goes to the output.

One session serves a whole test run, for it takes as long to start as most requests together.
"""

import json
import os
import sys
from pathlib import Path

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

scratch = sys.argv[1]
# What the virtual machine says on stdout is no answer.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
jars = [one for place in (f"{sys.prefix}/hudi", scratch) for one in Path(place).glob("*.jar")]
settings = {
    "spark.jars": ",".join(map(str, jars)),
    "spark.serializer": "org.apache.spark.serializer.KryoSerializer",
    "spark.kryo.registrator": "org.apache.spark.HoodieSparkKryoRegistrar",
    "spark.sql.extensions": "org.apache.spark.sql.hudi.HoodieSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.hudi.catalog.HoodieCatalog",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "2g",
    # Compiled with little effort: each query runs once.
    "spark.driver.extraJavaOptions": (
        "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m "
        "-Duser.timezone=UTC "
        f"-Dderby.system.home={scratch}/derby"
    ),
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "1",
    "spark.default.parallelism": "1",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    "spark.sql.warehouse.dir": f"{scratch}/warehouse",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
if len(sys.argv) > 2:
    endpoint = sys.argv[2]
    settings["spark.jars"] = ",".join(map(str, [*jars, *Path(sys.prefix, "s3").glob("*.jar")]))
    settings["spark.driver.extraJavaOptions"] += f" -Dlock.endpoint={endpoint}"
    settings |= {
        "spark.hadoop.fs.s3a.endpoint": endpoint,
        "spark.hadoop.fs.s3a.path.style.access": "true",
        # What reads the metadata table does not give its connections back.
        "spark.hadoop.fs.s3a.connection.maximum": "1000",
        "spark.hadoop.fs.s3a.aws.credentials.provider": (
            "com.amazonaws.auth.EnvironmentVariableCredentialsProvider"
        ),
    }
session = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
session.sparkContext.setLogLevel("WARN")


def keep(rows, output):
    schema = to_arrow_schema(rows.schema)
    with pa.OSFile(output, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in rows._collect_as_arrow():
            writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))


def run(request):
    if "java" in request:
        names = {"jvm": session._jvm, "jsc": session._jsc, "spark": session}
        Path(request["output"]).write_text(str(eval(request["java"], names)))
    elif "read" in request:
        rows = session.read.format("hudi").options(**request["options"]).load(request["read"])
        if request["where"]:
            rows = rows.where(request["where"])
        keep(rows, request["output"])
    elif "write" in request:
        rows = session.sql(request["rows"]).coalesce(1)
        writer = rows.write.format("hudi").options(**request["options"]).mode(request["mode"])
        writer.save(request["write"])
    else:
        rows = session.sql(request["sql"])
        if request["output"]:
            keep(rows, request["output"])


def reasons(trace):
    lines = trace.splitlines()
    return lines[:4] + [line for line in lines[4:] if line.startswith("Caused by")]


def answer(request):
    try:
        run(request)
    except (PySparkException, Py4JError) as error:
        return {"error": "\n".join(reasons(str(error)))}
    return {}


for line in sys.stdin:
    answers.write(json.dumps(answer(json.loads(line))) + "\n")
    answers.flush()
session.stop()
