"""Goal: 100,000 events per second come from Kafka into the lake and the live features.

JSON events of 156 bytes in eight partitions of librdkafka's mock cluster, which runs in a process
of its own. Into the log: read, appended with the positions, synced. Through the fold: also
validated, deduplicated, folded into one view of three windows, and committed to the lake. Beside
them what the client alone costs: the same records read and thrown away.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np

from benchmarks.card_payments import NOW, PAYMENTS, SYSTEM
from benchmarks.contest import Benchmark, Case, Work
from benchmarks.kafka_broker import broker
from homeostat.adapters.kafka import Inlet, drain
from homeostat.core.clock import ManualClock, from_micros
from homeostat.declare.kafka import Kafka, Topic
from homeostat.ingest.sqlite_log import SqliteLog
from homeostat.runtime.app import App
from homeostat.runtime.consuming import drain_topic

__all__ = ["BENCHMARK"]

PARTITIONS = 8
"""The mock forgets records above 5 MB in a partition."""


def cases(small: bool, folder: Path) -> Sequence[Case]:
    """One size: as much as the mock's partitions hold."""
    events = 4_000 if small else 200_000
    return [Case(f"{events / 1000:g} k events", folder / f"kafka-{events}", {"events": events})]


def prepare(case: Case) -> None:
    """Write the events, one a line."""
    draw = np.random.default_rng(1)
    n = case["events"]
    cards, amounts = draw.integers(0, 10_000, n), draw.lognormal(3, 1, n).round(2)
    ago = np.sort(draw.integers(0, 3_600_000_000, n))[::-1]
    with (case.folder / "events.ndjson").open("w") as file:
        for i in range(n):
            said = {
                "payment_id": f"payment-{i:012d}",
                "card": f"card-{cards[i]:08d}",
                "merchant": f"merchant-{i % 997:06d}",
                "amount": float(amounts[i]),
                "paid_at": from_micros(NOW - int(ago[i])).isoformat(timespec="milliseconds"),
            }
            file.write(json.dumps(said) + "\n")


def _measured(case: Case, into: Work, opened: ExitStack) -> Work:
    def work() -> dict[str, float]:
        with opened:
            began, used = perf_counter(), process_time()
            into()
            wall, cpu = perf_counter() - began, process_time() - used
        return {"events_per_s": case["events"] / wall, "events_per_cpu_s": case["events"] / cpu}

    return work


def _opened(case: Case) -> tuple[ExitStack, Kafka, Topic, Path]:
    opened = ExitStack()
    brokers, name = opened.enter_context(broker(case.folder / "events.ndjson", PARTITIONS))
    topic = Topic(source="payments", topic=name)
    folder = opened.enter_context(TemporaryDirectory(dir=case.folder))
    return opened, Kafka(brokers=brokers, topics=(topic,), group="bench"), topic, Path(folder)


def through_the_fold(case: Case) -> Work:
    """From the brokers to the lake and the live features."""
    opened, kafka, _, folder = _opened(case)
    app = opened.enter_context(App(SYSTEM, folder, ManualClock(NOW)))

    def into() -> None:
        drain_topic(kafka, "payments", app.home, app.clock, print)
        counts = app.live.drain()["payments"]
        app.live.flush()
        assert counts.accepted == case["events"], counts

    return _measured(case, into, opened)


def into_the_log(case: Case) -> Work:
    """From the brokers to the log, with the positions."""
    opened, kafka, topic, folder = _opened(case)
    log = SqliteLog(folder / "log.db")
    opened.callback(log.close)

    def into() -> None:
        came = drain(kafka, topic, Inlet(log, PAYMENTS, ManualClock(NOW)))
        assert came == case["events"], came

    return _measured(case, into, opened)


def thrown_away(case: Case) -> Work:
    """The client alone: every value is touched, and forgotten."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    opened, kafka, topic, _ = _opened(case)
    consumer = Consumer({"bootstrap.servers": kafka.brokers, "group.id": "floor"})
    opened.callback(consumer.close)
    consumer.assign([TopicPartition(topic.topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])

    def into() -> None:
        came = 0
        while came < case["events"]:
            came += sum(message.value() is not None for message in consumer.consume(10_000, 0.05))

    return _measured(case, into, opened)


BENCHMARK = Benchmark(
    name="ingest_kafka",
    claim="Kafka: JSON events from the brokers to the lake and the live features, committed",
    module=__name__,
    systems={
        "homeostat, through the fold": "through_the_fold",
        "homeostat, into the log": "into_the_log",
        "confluent-kafka, thrown away": "thrown_away",
    },
    cases=cases,
    prepare=prepare,
    figures=("events_per_s", "events_per_cpu_s"),
    note=(
        "The brokers are librdkafka's mock in another process on the same cores; CPU is the "
        "contender's own, the client's threads included."
    ),
)
