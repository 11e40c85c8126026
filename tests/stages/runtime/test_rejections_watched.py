"""A home counts its records by the hour, exactly once, and alerts when more are no events."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.clock import ManualClock, to_micros
from homeostat.monitor.rejections import HOUR
from homeostat.runtime.app import App
from homeostat.runtime.tallies import add_refused, add_tallies, tallies_of
from homeostat.serve.http import Application
from homeostat.serve.server import serving
from homeostat.testing.memory_store import MemoryStore

NOON = datetime(2024, 3, 4, 12, tzinfo=UTC)


class Sale(hs.Event):
    sale: str
    at: hs.Timestamp
    amount: float


SALES = hs.EventSource("sales", Sale, event_id="sale", event_time="at")
SYSTEM = hs.System("shop", sources=(SALES,), monitors=(hs.Rejections(SALES, window="2h"),))


def sell(app: App, name: str, good: int, bad: int) -> None:
    at = datetime.fromtimestamp(app.clock.now() / 1e6, UTC).isoformat()
    rows = [{"sale": f"{name}-{n}", "at": at, "amount": 1.0} for n in range(good)]
    rows += [{"sale": f"{name}-bad-{n}", "at": at, "amount": "1.0"} for n in range(bad)]
    known = [app.clock.now()] * len(rows)
    app.home.log.append("sales", known, [json.dumps(row).encode() for row in rows])


def test_a_rise_opens_an_alert_once_and_closes_it(tmp_path: Path) -> None:
    clock = ManualClock(to_micros(NOON))
    told = []
    script = [(500, 1), (500, 0), (500, 2), (400, 60), (400, 60), (500, 0), (500, 1), (500, 1)]
    for step, (good, bad) in enumerate(script):
        with hs.open(SYSTEM, tmp_path, clock) as app:  # a process of its own for each
            sell(app, str(step), good, bad)
            told += [(step, d.action, d.reason) for d in app.step()]
            clock.advance_to(clock.now() + 2 * HOUR)
    assert [(step, action) for step, action, _ in told] == [(3, "alert"), (5, "clear")]
    reason = told[0][2]
    assert "0.0644 of 962 records of 2h are no events (invalid_field:amount 62)" in reason
    assert "against 0.000999 of 1,001 before" in reason


def push(address: str, at: str, good: int, bad: int) -> int:
    rows: list[object] = [{"sale": f"{at}-{n}", "at": at, "amount": 1.0} for n in range(good)]
    rows += [{"sale": f"{at}-bad-{n}", "at": at, "amount": "1 EUR"} for n in range(bad)]
    body = "\n".join(map(json.dumps, rows)).encode()
    request = Request(f"{address}/events/sales", body, {"Content-Type": "application/x-ndjson"})
    with urlopen(request) as answer:
        return int(answer.status)


def test_what_is_refused_at_the_door_counts(tmp_path: Path) -> None:
    clock = ManualClock(to_micros(NOON))
    alerts = []
    for hour, (good, bad) in enumerate([(500, 1), (500, 0), (140, 60), (500, 60), (0, 1)]):
        with hs.open(SYSTEM, tmp_path, clock) as app:  # a process of its own for each
            with serving(Application(SYSTEM, app.live.service, app.live.metrics)) as address:
                at = datetime.fromtimestamp(clock.now() / 1e6, UTC).isoformat()
                if good:
                    assert push(address, at, good, bad) == 202
                else:
                    with pytest.raises(HTTPError, match="400"):
                        urlopen(f"{address}/events/sales", b"no JSON")
            alerts += [(hour, d) for d in app.step() if d.action == "alert"]
            app.live.fold()
            with app.home.store.reader() as reader:
                last = tallies_of(reader, "sales", 0)[-1]
            clock.advance_to(clock.now() + 2 * HOUR)
        assert (last.records, last.rejected, sum(last.refused.values())) == (good + bad, bad, bad)
    ((hour, alert),) = alerts
    assert hour == 2
    assert alert.evidence["reasons"] == {"invalid_field:amount": 60}
    assert "0.0857 of 700 records of 2h are no events (invalid_field:amount 60)" in alert.reason
    assert last.refused == {"malformed": 1}


def test_records_are_counted_once_whatever_is_cut_off(tmp_path: Path) -> None:
    clock = ManualClock(to_micros(NOON))
    with hs.open(SYSTEM, tmp_path, clock) as app:
        for hour in range(3):
            sell(app, f"h{hour}", 20, hour)
            sell(app, f"h{hour}", 20, hour)  # the good ones again: duplicates are records, too
            clock.advance_to(clock.now() + HOUR)
        worker = app.live._engine.worker
        try:
            with app.home.store.writer() as writer:
                worker.load(writer, SALES, None, limit=30).finish(writer)
                raise InterruptedError  # killed before the commit: nothing of it counts
        except InterruptedError:
            pass
        while True:
            with app.home.store.writer() as writer:
                pending = worker.load(writer, SALES, None, limit=7)
                pending.finish(writer)
            if not len(pending.log_offsets):
                break
        with app.home.store.reader() as reader:
            found = tallies_of(reader, "sales", 0)
        letters = Counter(letter.letter.known // HOUR for letter in app.home.letters.list(limit=-1))
    assert [(t.records, t.rejected) for t in found] == [(40, 0), (42, 2), (44, 4)]
    assert [t.rejected for t in found] == [letters[t.begin // HOUR] for t in found]


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(-5 * HOUR, 5 * HOUR), st.booleans()), max_size=60),
    st.integers(1, 9),
    st.integers(-6 * HOUR, 6 * HOUR),
    st.lists(st.tuples(st.integers(-5 * HOUR, 5 * HOUR), st.sampled_from("ab")), max_size=20),
)
def test_hours_are_counted_as_one_by_one(
    records: list[tuple[int, bool]], size: int, since: int, refused: list[tuple[int, str]]
) -> None:
    records = sorted(records)
    store = MemoryStore()
    with store.writer() as writer:
        for begin in range(0, len(records), size):
            part = records[begin : begin + size]
            known = np.array([at for at, _ in part], np.int64)
            add_tallies(writer, "sales", known, [at for at, bad in part if bad])
        for at, reason in refused:
            add_refused(writer, at, {("sales", reason): 2, ("sale", "c"): 1})
        found = tallies_of(writer, "sales", since)
    away = Counter((at // HOUR, reason) for at, reason in refused for _ in range(2))
    counts = Counter(at // HOUR for at, _ in records)
    bad = Counter(at // HOUR for at, is_bad in records if is_bad)
    for (hour, _), n in away.items():
        counts[hour] += n
        bad[hour] += n
    assert [(t.begin // HOUR, t.records, t.rejected, t.refused) for t in found] == [
        (hour, n, bad[hour], {reason: away[hour, reason] for h, reason in away if h == hour})
        for hour, n in sorted(counts.items())
        if (hour + 1) * HOUR > since
    ]
