"""Who pushes waits while the fold is behind, for as long as the fold needs."""

from __future__ import annotations

from pathlib import Path

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.clock import ManualClock
from homeostat.runtime.backlog import ALLOWED, Backlog
from homeostat.runtime.worker import CHUNK
from homeostat.serve.http import Application
from homeostat.serve.seam import Behind
from homeostat.serve.server import serving
from homeostat.testing.payments import NOON, tap


@given(
    st.integers(0, 10_000),
    st.integers(1, 5_000),
    st.lists(st.tuples(st.integers(0, 5_000), st.just(0.0) | st.floats(1e-9, 10)), max_size=5),
)
def test_the_wait_is_what_the_fold_needs(
    waiting: int, allowed: int, passes: list[tuple[int, float]]
) -> None:
    backlog = Backlog(lambda source: waiting, allowed)
    rates = [records / seconds for records, seconds in passes if records and seconds > 0]
    for records, seconds in passes:
        backlog.folded("taps", records, seconds)
    backlog.folded("others", 1, 1e-3)
    if waiting < allowed:
        backlog.admit("taps")
        return
    with pytest.raises(Behind, match="records wait to be folded") as refused:
        backlog.admit("taps")
    wait = refused.value.retry_after_s
    assert 1 <= wait <= 60
    ahead = waiting - allowed // 2
    if not rates:
        assert wait == 60
    elif wait < 60:
        assert ahead <= wait * max(rates) * (1 + 1e-9), "not too short"
        assert wait == 1 or (wait - 1) * min(rates) <= ahead, "and not too long"


class Tap(hs.Event):
    tap_id: str
    card: str
    tapped_at: hs.Timestamp


TAPS = hs.EventSource("taps", Tap, event_id="tap_id", event_time="tapped_at")


def test_a_home_that_is_behind_takes_nothing_until_it_has_folded(tmp_path: Path) -> None:
    event = msgspec.json.encode(tap())
    with hs.open(hs.System("s", sources=(TAPS,)), tmp_path, ManualClock(NOON)) as app:
        assert app.live.ingest("taps", [event]).first_offset == 0
        app.home.log.append("taps", [NOON] * ALLOWED, [event] * ALLOWED)
        with pytest.raises(Behind, match="200,001 records wait"):
            app.live.ingest("taps", [event])
        assert app.home.log.end("taps").next_offset == ALLOWED + 1
        app.live.fold()
        shown = f'homeostat_backlog_records{{source="taps"}} {max(ALLOWED + 1 - CHUNK, 0)}'
        assert shown in app.live.metrics.text({})
        assert app.live.ingest("taps", [event]).first_offset == ALLOWED + 1
        app.live.drain()
        told = 'homeostat_folded_records_total{source="taps",result="duplicates"} 200001'
        assert told in app.live.metrics.text({})


def test_over_http_the_wait_is_told_and_then_over(tmp_path: Path) -> None:
    event = msgspec.json.encode(tap())
    system = hs.System("s", sources=(TAPS,))
    with hs.open(system, tmp_path, ManualClock(NOON)) as app:
        live = app.live
        live.ingest("taps", [event])
        live.drain()  # and so it is known how fast the fold is
        app.home.log.append("taps", [NOON] * ALLOWED, [event] * ALLOWED)
        with (
            serving(Application(system, live.service, live.metrics)) as address,
            httpx.Client(base_url=address, trust_env=False, timeout=30) as client,
        ):
            refused = client.post("/events/taps", content=event)
            assert refused.status_code == 429
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert "200,000 records wait to be folded" in refused.json()["error"]["message"]
            live.drain()
            assert client.post("/events/taps", content=event).status_code == 202
