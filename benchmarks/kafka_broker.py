"""A mock cluster in a process of its own, so that its work is not counted as a contender's.

`python -m benchmarks.kafka_broker FILE PARTITIONS` sends the lines of the file, prints the brokers
and the topic, and lives until its input ends.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contest import ROOT
from homeostat.testing.kafka_cluster import MockCluster, Record

__all__ = ["broker", "main"]


@contextmanager
def broker(lines: Path, partitions: int) -> Iterator[tuple[str, str]]:
    """Yield the brokers and the topic that has the lines of a file."""
    command = [sys.executable, "-m", "benchmarks.kafka_broker", str(lines), str(partitions)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        brokers, topic = process.stdout.readline().split()
        try:
            yield brokers, topic
        finally:
            process.communicate()


def main(file: str, partitions: str) -> None:
    """Serve the lines of a file."""
    number = int(partitions)
    with MockCluster() as cluster:
        topic = cluster.topic(number)
        lines = Path(file).read_bytes().splitlines()
        cluster.send(topic, (Record(line, place % number) for place, line in enumerate(lines)))
        print(cluster.brokers, topic, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
