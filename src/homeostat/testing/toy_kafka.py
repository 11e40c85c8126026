"""A system fed by a topic: the process that crash tests kill, and what is left of it.

Run it as `python -m homeostat.testing.toy_kafka HOME BROKERS TOPIC RECORDS [LOG]`. It prints
"running" when it begins, reads until the log has that many records, and ends with the digest of the
home. With LOG, the log is in Kafka too, in topics LOG-SOURCE.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from time import monotonic, sleep

import homeostat as hs
from homeostat import count, maximum, mean, sum_
from homeostat.adapters import kafka as adapter
from homeostat.adapters.kafka_log import KafkaLog
from homeostat.core.clock import ManualClock, to_micros
from homeostat.declare.kafka import Kafka, Topic
from homeostat.runtime import live
from homeostat.runtime.app import App
from homeostat.runtime.consuming import Consuming, unfolded
from homeostat.testing.kafka_cluster import Record

__all__ = ["CARDS", "PARTITIONS", "RECEIVED", "home_digest", "kafka_toy", "run_toy", "toy_records"]

RECEIVED = datetime(2024, 5, 1, 12, tzinfo=UTC)
"""The instant at which the toy's clock stands: when all records are received."""

CARDS = tuple(f"card-{number}" for number in range(50))
PARTITIONS = 4
PATIENCE_S = 300.0
SMALL_BATCH, SMALL_COMMIT = 250, 900
"""Records in a transaction, and in a commit to the lake: so there are many to be killed in."""


class Tap(hs.Event):
    """Somebody taps a card."""

    tap: str
    card: str
    amount: float
    at: hs.Timestamp


def kafka_toy() -> hs.System:
    """Return the system: one source, and one view of it.

    >>> kafka_toy().source("taps").name
    'taps'
    """
    taps = hs.EventSource("taps", Tap, event_id="tap", event_time="at", lateness="2d")
    cards = hs.FeatureView(
        "cards",
        hs.Entity("card", key="card"),
        taps,
        (
            count().over("1h", "1d"),
            sum_("amount").over("6h"),
            mean("amount").over("1d"),
            maximum("amount").over("1d"),
        ),
    )
    return hs.System("toy_kafka", sources=(taps,), views=(cards,))


def toy_records(records: int, seed: int = 7) -> list[Record]:
    """Return records over all partitions, out of order in time between and inside them.

    Some are sent twice (by another partition as well), some are no event (cut off, from the future,
    with other content under an id that came before in their partition, without a value).
    """
    draw = Random(seed)
    found: list[Record] = []
    firsts: list[Record] = []
    for number in range(records):
        partition = draw.randrange(PARTITIONS)
        odd = draw.random()
        before = draw.choice(firsts) if firsts else None
        if before is not None and odd < 0.05:
            found.append(Record(before.value, partition, before.key))  # a duplicate, anywhere
            continue
        if before is not None and odd < 0.06:
            changed = (before.value or b"").replace(b'"amount": ', b'"amount": 9')
            found.append(Record(changed, before.partition, before.key))  # a conflict
            continue
        key = draw.choice(CARDS).encode()
        if odd < 0.07:
            found.append(Record(None, partition, key))
            continue
        ago = timedelta(seconds=-600 if odd < 0.08 else draw.uniform(0, 90_000))
        said = {
            "tap": f"t{number:06d}",
            "card": key.decode(),
            "amount": round(draw.lognormvariate(3, 1), 2),
            "at": (RECEIVED - ago).isoformat(),
        }
        value = json.dumps(said).encode()
        firsts.append(Record(value[:-3] if 0.08 < odd < 0.09 else value, partition, key))
        found.append(firsts[-1])
    return found


def run_toy(
    folder: Path, brokers: str, topic: str, records: int, log: str | None = None
) -> dict[str, str]:
    """Read the topic as a member of its group until the log has `records` records."""
    adapter.BATCH, live.FLUSH_EVENTS = SMALL_BATCH, SMALL_COMMIT
    # A mock's session may be short, so that the next member need not wait for a killed one.
    client = {"session.timeout.ms": 1000, "heartbeat.interval.ms": 100}
    kept = None if log is None else KafkaLog(brokers, log, {"fetch.wait.max.ms": 5})
    kafka = Kafka(
        brokers=brokers,
        topics=(Topic(source="taps", topic=topic),),
        group=f"group-{folder.name}",
        client=client,
    )
    with App(kafka_toy(), folder, ManualClock(to_micros(RECEIVED)), kept) as app:
        reading = Consuming(kafka, app.home, app.clock, lambda words: print(words, file=sys.stderr))  # noqa: T201
        reading.start()
        began = monotonic()
        try:
            while app.home.log.end("taps").next_offset < records or unfolded(app.home, "taps"):
                if not app.live.fold().counts["taps"].total:
                    sleep(0.005)
                if monotonic() - began > PATIENCE_S:
                    raise hs.HomeostatError(f"{topic}: not all of {records} records came in time")
        finally:
            reading.stop()
        app.live.flush()
        return home_digest(app)


def home_digest(app: App) -> dict[str, str]:
    """Return what must not depend on the interleaving of partitions, and the numbers it has."""
    events = app.home.lake.read("taps").drop("_offset").sort("_id")
    log = app.home.log
    payloads = log.read("taps", -1, log.end("taps").next_offset).payloads
    letters = app.home.letters.list("taps", limit=2**31)
    values = app.read("cards", {"card": list(CARDS)})
    return {
        "log": f"{len(payloads)} {_sha(sorted(payloads))}",
        "lake": f"{events.height} {_sha(repr(row).encode() for row in events.iter_rows())}",
        "ids": str(events["_id"].n_unique()),
        "features": _sha(repr(row).encode() for row in values.iter_rows()),
        "letters": str(len(letters)),
        "letters by content": _sha(
            sorted(f"{found.letter.reason} ".encode() + found.letter.payload for found in letters)
        ),
        "positions": repr(log.positions("taps")),
    }


def _sha(parts: Iterable[bytes]) -> str:
    running = hashlib.sha256()
    for part in parts:
        running.update(len(part).to_bytes(8, "big") + part)
    return running.hexdigest()


def main(folder: str, brokers: str, topic: str, records: str, log: str | None = None) -> None:
    """Say that the work begins, do it, and write the digest as JSON."""
    sys.stdout.write("running\n")
    sys.stdout.flush()
    found = run_toy(Path(folder), brokers, topic, int(records), log)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
