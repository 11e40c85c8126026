"""A home goes with one log: whether it is in the home or in Kafka is remembered.

A home that was begun with the one and is opened with the other would take new events into a log
that nobody reads.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from homeostat.core.errors import HomeostatError

if TYPE_CHECKING:
    from homeostat.declare.kafka import Kafka
    from homeostat.ingest.log import EventLog

__all__ = ["OtherLogPlace", "log_of", "own_log"]

FILE, OWN = "log.json", "log.db"


class OtherLogPlace(HomeostatError):
    """A home was opened with a log elsewhere than it was begun with."""

    def __init__(self, folder: Path, kept: str, said: str) -> None:
        super().__init__(
            f"log of home {folder}: it is in {kept}, and was to be opened in {said}; allowed: the "
            "log that the home was begun with; correct [kafka] log in homeostat.toml, or begin "
            "another home"
        )


def own_log(folder: Path) -> Path:
    """Return the file of the log in a home; raise `OtherLogPlace` if it is in Kafka."""
    kept = _kept(folder)
    if kept is not None:
        raise OtherLogPlace(folder, f"the topics {kept}-SOURCE", OWN)
    return folder / OWN


def log_of(folder: Path, kafka: Kafka | None) -> EventLog | None:
    """Return the log of a home in a cluster, None for the file in it; a new home remembers which.

    Raises `OtherLogPlace` if it was elsewhere so far. No broker is asked before a source is read.
    """
    if kafka is None or kafka.log is None:
        return None
    from homeostat.adapters.kafka_log import KafkaLog

    kept, said = _kept(folder), f"the topics {kafka.log}-SOURCE"
    if (folder / OWN).exists():
        raise OtherLogPlace(folder, OWN, said)
    if kept not in (None, kafka.log):
        raise OtherLogPlace(folder, f"the topics {kept}-SOURCE", said)
    log = KafkaLog(kafka.brokers, kafka.log, kafka.client)
    if kept is None:
        folder.mkdir(parents=True, exist_ok=True)
        waiting = (folder / FILE).with_suffix(".new")
        waiting.write_text(json.dumps({"kafka": kafka.log}))
        waiting.replace(folder / FILE)
    return log


def _kept(folder: Path) -> str | None:
    """Return how the topics begin that a home has its log in, None if it is not in Kafka."""
    file = folder / FILE
    return str(json.loads(file.read_text())["kafka"]) if file.exists() else None
