"""Bad events among the good ones, as in any real stream; always the same ones.

Nothing here touches an event of a real flight: what is injected is refused, dropped as a duplicate,
too late for any feature, or about an airport that no flight leaves from. So a system that takes
events in as it should learns and answers the same with these events as without them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.clock import from_micros
from homeostat.core.durations import Micros
from homeostat.declare.sources import EventSource
from homeostat.declare.system import System
from homeostat.ingest.files import payloads_of

MINUTE: Micros = 60_000_000
HOUR, DAY = 60 * MINUTE, 24 * 60 * MINUTE

NOWHERE = {"carrier": "ZZ", "origin": "TEB", "dest": "TEB", "tail_number": "N0LATE"}
"""A carrier, airport and aircraft without a single flight in these data."""

# What a source sends wrongly, and how often in the year.
PLAN: Mapping[str, Mapping[str, int]] = {
    "schedule": {"duplicate": 60, "malformed": 24, "missing_field": 24, "conflict": 24},
    "departures": {
        "duplicate": 240, "conflict": 60, "malformed": 48, "wrong_type": 60, "missing_field": 36,
        "future": 36, "too_late": 60, "late": 120,
    },
    "arrivals": {
        "duplicate": 180, "conflict": 48, "malformed": 36, "wrong_type": 36, "not_finite": 24,
        "future": 24, "too_late": 48, "late": 96,
    },
    "weather": {"duplicate": 72, "wrong_type": 24, "not_finite": 24, "too_late": 24, "late": 48},
}  # fmt: skip

Event = dict[str, Any]
Known = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Records:
    """What one source sends: n payloads with their known times, in order of these."""

    source: str
    known: Known
    payloads: list[bytes]


@dataclass(frozen=True, slots=True)
class Sent:
    """A real event that a fault is made of; `number` tells the faults of a kind apart."""

    source: EventSource
    event: Event
    known: Micros
    number: int

    def with_id(self, name: str, **changes: object) -> bytes:
        """Return the event under another id."""
        return _json({**self.event, self.source.event_id: f"{name}-{self.number}", **changes})

    @property
    def field(self) -> str:
        """The field that goes wrong: a number, one that is required if there is any."""
        numbers = [field for field in self.source.schema.fields if field.kind == "float"]
        return min(numbers, key=lambda field: field.nullable).name


def _duplicate(sent: Sent) -> tuple[Micros, bytes]:
    """The same event again, some minutes later; every other time written in another way."""
    event = dict(reversed(sent.event.items())) if sent.number % 2 else sent.event
    return sent.known + (1 + sent.number % 50) * MINUTE, _json(event)


def _conflict(sent: Sent) -> tuple[Micros, bytes]:
    """The same id with other content: which one is true, nobody can tell."""
    return sent.known + 5 * MINUTE, _json({**sent.event, sent.field: 7777.0})


def _malformed(sent: Sent) -> tuple[Micros, bytes]:
    """A payload that was cut off on its way."""
    whole = sent.with_id("cut")
    return sent.known, whole[: len(whole) * 2 // 3]


def _wrong_type(sent: Sent) -> tuple[Micros, bytes]:
    return sent.known, sent.with_id("text", **{sent.field: "n/a"})


def _missing_field(sent: Sent) -> tuple[Micros, bytes]:
    return sent.known, sent.with_id("gap", **{sent.field: None})


def _not_finite(sent: Sent) -> tuple[Micros, bytes]:
    """Infinity, which is no JSON number, though many libraries write it."""
    return sent.known, sent.with_id("infinite", **{sent.field: float("inf")})


def _future(sent: Sent) -> tuple[Micros, bytes]:
    """An event from a clock that is hours ahead."""
    return sent.known, sent.with_id("ahead", **_happened(sent, sent.known + 3 * HOUR))


def _too_late(sent: Sent) -> tuple[Micros, bytes]:
    """An event that is known long after it may still count in features."""
    happened = sent.known - sent.source.lateness_us - (1 + sent.number % 5) * HOUR
    return sent.known, sent.with_id("old", **_happened(sent, happened))


def _late(sent: Sent) -> tuple[Micros, bytes]:
    """An event that is known late, and still counts: about a place where nothing else happens."""
    happened = sent.known - sent.source.lateness_us // 2
    nowhere = {name: value for name, value in NOWHERE.items() if name in sent.event}
    return sent.known, sent.with_id("late", **nowhere, **_happened(sent, happened))


FAULTS: Mapping[str, Callable[[Sent], tuple[Micros, bytes]]] = {
    "duplicate": _duplicate,
    "conflict": _conflict,
    "malformed": _malformed,
    "wrong_type": _wrong_type,
    "missing_field": _missing_field,
    "not_finite": _not_finite,
    "future": _future,
    "too_late": _too_late,
    "late": _late,
}


def disturbed(system: System, tables: Mapping[str, pl.DataFrame]) -> Iterator[Records]:
    """Yield what each source sends in the year: its events, and among them the bad ones.

    Args:
        system: its sources are those of the tables.
        tables: what `examples.flights.data.tables` returns.

    Yields:
        One batch per source; the same tables give the same bytes.
    """
    for name, frame in tables.items():
        source = system.source(name)
        known: list[Known] = []
        payloads: list[bytes] = []
        for instants, chunk in payloads_of(source, frame, known_time="known_at"):
            known.append(instants)
            payloads += chunk
        yield _mixed(Records(name, np.concatenate(known), payloads), source)


def _mixed(clean: Records, source: EventSource) -> Records:
    """Return the clean records with this source's faults sorted in, each after the clean ones."""
    instants: list[Micros] = []
    extra: list[bytes] = []
    for shift, (kind, number) in enumerate(PLAN[clean.source].items()):
        for place, row in enumerate(_spread(len(clean.payloads), number, shift)):
            event = json.loads(clean.payloads[row])
            known, payload = FAULTS[kind](Sent(source, event, int(clean.known[row]), place))
            instants.append(known)
            extra.append(payload)
    known_all = np.concatenate([clean.known, np.array(instants, np.int64)])
    order = np.argsort(known_all, kind="stable")
    mixed = [*clean.payloads, *extra]
    return Records(clean.source, known_all[order], [mixed[i] for i in order.tolist()])


def _spread(rows: int, number: int, shift: int) -> list[int]:
    """Return `number` row numbers that are spread evenly; `shift` keeps the kinds apart."""
    step = rows / number
    return [int((n + 0.07 + 0.1 * shift) * step) % rows for n in range(number)]


def _happened(sent: Sent, instant: Micros) -> Event:
    return {sent.source.event_time: from_micros(instant).isoformat()}


def _json(event: Event) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()
