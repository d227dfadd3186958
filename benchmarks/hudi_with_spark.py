"""What Spark does with a Hudi table whose slices have logs; runs in the judges' environment.

Usage: hudi_with_spark.py start
       hudi_with_spark.py compact TABLE
"""

import sys
import tempfile
from pathlib import Path

from pyspark.sql import SparkSession

what, *arguments = sys.argv[1:]
scratch = tempfile.mkdtemp(prefix="compact-hudi-spark-")
settings = {
    "spark.jars": ",".join(map(str, sorted(Path(sys.prefix, "hudi").glob("*.jar")))),
    "spark.serializer": "org.apache.spark.serializer.KryoSerializer",
    "spark.kryo.registrator": "org.apache.spark.HoodieSparkKryoRegistrar",
    "spark.sql.extensions": "org.apache.spark.sql.hudi.HoodieSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.hudi.catalog.HoodieCatalog",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "3g",
    "spark.driver.extraJavaOptions": f"-Duser.timezone=UTC -Dderby.system.home={scratch}/derby",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.warehouse.dir": f"{scratch}/warehouse",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
session = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
session.sparkContext.setLogLevel("ERROR")
# What every program of Spark does before it reads a row.
session.range(1).count()
if what == "compact":
    told = "hoodie.compact.inline.max.delta.commits=1,hoodie.metadata.enable=false"
    for step in ("schedule", "run"):
        found = session.sql(
            f"CALL run_compaction(op => '{step}', path => '{arguments[0]}', options => '{told}')"
        ).collect()
        print(step, found)
        if not found:
            raise SystemExit(f"there was nothing to {step}")
gateway = session.sparkContext._gateway  # noqa: SLF001 - nothing else knows the process
session.stop()
# What the virtual machine has used is counted only once it was waited for.
gateway.shutdown()
gateway.proc.stdin.close()
gateway.proc.wait()
