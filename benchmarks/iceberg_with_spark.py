"""What Spark does with an Iceberg table of many files and deletes; runs in the judges' environment.

Usage: iceberg_with_spark.py DIRECTORY start
       iceberg_with_spark.py DIRECTORY rewrite
       iceberg_with_spark.py DIRECTORY rewrite-in MEMORY
"""

import sys
from pathlib import Path

from pyspark.sql import SparkSession

directory, what, *memory = sys.argv[1:]
prefix = Path(sys.prefix)
jars = [*(prefix / "jars").glob("iceberg-spark-*.jar")]
jars += (prefix / "rest-catalog").glob("sqlite-jdbc-*.jar")
settings = {
    "spark.jars": ",".join(map(str, jars)),
    "spark.driver.extraClassPath": ":".join(map(str, jars)),
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": memory[0] if memory else "3g",
    "spark.local.dir": directory,
    "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
    "spark.sql.catalog.bench": "org.apache.iceberg.spark.SparkCatalog",
    "spark.sql.catalog.bench.type": "jdbc",
    "spark.sql.catalog.bench.uri": f"jdbc:sqlite:{directory}/catalog.db",
    "spark.sql.catalog.bench.warehouse": f"file://{directory}/warehouse",
    "spark.sql.catalog.bench.jdbc.schema-version": "V1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
session = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
session.sparkContext.setLogLevel("ERROR")
if what == "start":
    # What every program of Spark does before it reads a row.
    session.range(1).count()
else:
    options = "map('rewrite-all', 'true', 'partial-progress.enabled', 'false')"
    statement = f"CALL bench.system.rewrite_data_files(table => 'ns.t', options => {options})"
    print(session.sql(statement).collect())
gateway = session.sparkContext._gateway  # noqa: SLF001 - nothing else knows the process
session.stop()
# What the virtual machine has used is counted only once it was waited for.
gateway.shutdown()
gateway.proc.stdin.close()
gateway.proc.wait()
