"""A home in which an earlier release remembered ids one by one still knows every event."""

from __future__ import annotations

from pathlib import Path

import homeostat as hs
from homeostat.core.clock import ManualClock, to_micros
from homeostat.core.ids import id_digest
from homeostat.testing.seen_entries import remembered
from homeostat.testing.toy import TOY_START, toy_events, toy_system


def test_ids_are_carried_over_from_the_log(tmp_path: Path) -> None:
    system, events = toy_system(), toy_events()["payments"].head(40).drop("known_at")
    clock = ManualClock(to_micros(TOY_START) + 86_400_000_000 * 30)
    with hs.open(system, tmp_path, clock) as app:
        app.ingest("payments", events, history=True)
        with app.home.store.writer() as writer:
            kept = remembered(writer, "payments")
            for key, _ in list(writer.scan(b"ids/")):
                writer.delete(key)
            for tie, offset, _, _ in kept:
                key = b"seen/payments/" + tie.to_bytes(8, "big", signed=True)
                writer.put(key, bytes(8) + offset.to_bytes(8, "big", signed=True))
            assert not remembered(writer, "payments")
    with hs.open(system, tmp_path, clock) as app:
        with app.home.store.writer() as writer:
            assert remembered(writer, "payments") == kept
            assert not list(writer.scan(b"seen/"))
        again = app.ingest("payments", events, history=True)
        assert (again.accepted, again.duplicates) == (0, 40)
    assert {tie for tie, *_ in kept} == {id_digest(name) for name in events["payment_id"]}
