"""A running home keeps what it received in raw tables, and reads it again when the log let go."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from errno import ENOSPC
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

import homeostat as hs
from homeostat.core.clock import ManualClock, to_micros
from homeostat.core.errors import HomeostatError
from homeostat.core.storage import StorageFailed
from homeostat.features.evidence import LogEvents
from homeostat.lake.raw import RawRecords
from homeostat.runtime import archiving, live
from homeostat.runtime.app import App
from homeostat.runtime.archiving import Archiver
from homeostat.runtime.doctor import examine
from homeostat.runtime.evidence import HomeEvidence
from homeostat.runtime.lifecycle import Lifecycle
from homeostat.runtime.profile import read_profile
from homeostat.testing.toy import toy_system
from homeostat.testing.toy_replay import replay_toy, toy_schedule

NOON = to_micros(datetime(2024, 3, 4, 12, tzinfo=UTC))
HOUR = 3_600_000_000
KEEP = hs.LogKeep(keep_bytes=1)


class Sale(hs.Event):
    sale: str
    shop: str
    at: hs.Timestamp


SALES = hs.EventSource("sales", Sale, event_id="sale", event_time="at", lateness="7d")
SHOPS = hs.FeatureView("shops", hs.Entity("shop", key="shop"), SALES, (hs.count().over("2h"),))
SYSTEM = hs.System("shop", sources=(SALES,), views=(SHOPS,))
ODD = [b"", b"\xff\xfe", b"{", b"\x00refused\x00[]", b"x" * 1_000_000]


def sell(app: App, name: str, number: int, *others: bytes) -> list[bytes]:
    at = datetime.fromtimestamp(app.clock.now() / 1e6, UTC).isoformat()
    rows = [{"sale": f"{name}-{n}", "shop": "north", "at": at} for n in range(number)]
    payloads = [*(json.dumps(row).encode() for row in rows), *others]
    app.home.log.append("sales", [app.clock.now()] * len(payloads), payloads)
    return payloads


def kept(app: App) -> list[bytes]:
    raw = RawRecords(app.home.lake, "sales")
    batches = list(raw.read(0, 2**62))
    offsets = [offset for batch in batches for offset in batch.offsets.tolist()]
    assert offsets == list(range(len(offsets)))
    return [payload for batch in batches for payload in batch.payloads]


def test_every_record_is_there_as_it_was_received(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archiving, "BATCH", 7)
    clock, sent = ManualClock(NOON), list[bytes]()
    with hs.open(SYSTEM, tmp_path, clock, keep=KEEP) as app:
        for step in range(4):
            sent += sell(app, str(step), 10, *ODD)
            clock.advance_to(clock.now() + HOUR)
            app.live.tick()
            assert kept(app) == sent
            assert app.home.lake.version("raw_sales") + 1 == 3 * (step + 1), "7, 7 and 1 record"
        app.live.trim()  # what its ticks have left
        assert app.home.log.end("sales").first_offset > 0
        assert kept(app) == sent
        found = app.sql("SELECT _offset, payload FROM raw_sales ORDER BY _offset")
        assert found["payload"].to_list() == sent
        texts = app.sql("SELECT try(decode(payload)) AS said FROM raw_sales ORDER BY _offset")
        assert [None if text is None else text.encode() for text in texts["said"]] == [
            None if payload == b"\xff\xfe" else payload for payload in sent
        ]
        shop = app.sql("SELECT decode(payload)->>'shop' AS shop FROM raw_sales WHERE _offset = 3")
        assert shop["shop"].to_list() == ["north"]
        assert app.home.lake.compact("raw_sales", small=1).files_before > 1
        assert kept(app) == sent
    assert all(check.status != "broken" for check in examine(SYSTEM, tmp_path))


def test_the_log_is_not_trimmed_past_the_raw_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, fails = ManualClock(NOON), True
    append = RawRecords.append

    def broken(raw: RawRecords, batch: Any) -> bool:
        if fails:
            raise HomeostatError("the place is away")
        return append(raw, batch)

    monkeypatch.setattr(RawRecords, "append", broken)
    with hs.open(SYSTEM, tmp_path, clock, keep=KEEP) as app:
        for step in range(3):
            sell(app, str(step), 10)
            clock.advance_to(clock.now() + HOUR)
            assert app.live.tick().counts["sales"].accepted == 10, "events are folded meanwhile"
            app.live.tick()
        assert app.home.log.end("sales").first_offset == 0
        assert app.live.metrics.last_faults["raw"] == "HomeostatError: the place is away"
        fails = False
        sell(app, "last", 10)
        clock.advance_to(clock.now() + HOUR)
        for _ in range(2):  # a step, and the next one trims what the first has written
            app.live.tick()
            clock.advance_to(clock.now() + HOUR)
            app.live.tick()
        assert app.home.log.end("sales").first_offset == 30
        assert len(kept(app)) == 40


def test_a_busy_fold_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archiving, "BATCH", 7)
    monkeypatch.setattr(live, "BUSY", 10)
    monkeypatch.setattr(live, "OVERDUE", 50)
    clock, written = ManualClock(NOON), []
    with hs.open(SYSTEM, tmp_path, clock, keep=KEEP) as app:
        for step, number in enumerate((10, 10, 9, 30, 30, 0, 0)):
            sell(app, str(step), number)
            clock.advance_to(clock.now() + HOUR)
            app.live.tick()
            written.append(len(kept(app)))
        assert written == [0, 0, 14, 14, 49, 56, 63]


@pytest.mark.parametrize(
    ("raw", "keep", "there"),
    [(None, None, False), (True, None, True), (False, KEEP, False), (None, KEEP, True)],
)
def test_when_there_is_one(
    tmp_path: Path, raw: bool | None, keep: hs.LogKeep | None, there: bool
) -> None:
    clock = ManualClock(NOON)
    with hs.open(SYSTEM, tmp_path, clock, keep=keep, storage=hs.Storage(raw=raw)) as app:
        for step in range(2):
            sell(app, str(step), 3)
            clock.advance_to(clock.now() + HOUR)
            app.live.tick()
        assert ("raw_sales" in app.home.lake.tables()) is there
        app.live.trim()
        assert (app.home.log.end("sales").first_offset > 0) is (keep is not None)


def test_the_profile_says_so() -> None:
    assert read_profile("[lake]\nraw = true", SYSTEM).storage == hs.Storage(raw=True)
    assert read_profile("", SYSTEM).storage.raw is None
    with pytest.raises(HomeostatError, match="raw='yes'; allowed: true or false"):
        read_profile("[lake]\nraw = 'yes'", SYSTEM)


def test_it_begins_where_the_log_does(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    with hs.open(SYSTEM, tmp_path, clock, keep=KEEP, storage=hs.Storage(raw=False)) as app:
        for name in "abc":
            sell(app, name, 10)
            app.live.drain()
        app.live.trim()
        first = app.home.log.end("sales").first_offset
        assert Archiver(app.home, ["sales"]).finish() == {"sales": 30 - first}
        assert RawRecords(app.home.lake, "sales").first_offset == first
        evidence = HomeEvidence(SYSTEM, app.home)
        assert evidence.events("sales", None, 29) is None, "what went is kept nowhere"
        sell(app, "d", 10)
        app.live.drain()
        app.live.trim()  # what the archiver of before does not have goes
        assert Archiver(app.home, ["sales"]).finish()["sales"] == 10
        assert evidence.events("sales", NOON, 29) is None


def test_what_the_log_let_go_of_can_testify(tmp_path: Path) -> None:
    replay_toy(tmp_path)
    clock = ManualClock(toy_schedule().end)
    begins = [None, 0, clock.now() - 200 * HOUR, clock.now() - 24 * HOUR]

    def testified(app: App) -> list[LogEvents | None]:
        evidence, last = HomeEvidence(app.system, app.home), app.home.log.end("payments")
        untils = (5, last.next_offset // 2, last.next_offset - 1)
        return [evidence.events("payments", at, until) for at in begins for until in untils]

    asked = {"payment_id": "asked", "card": "card-1", "merchant": "kiosk", "amount": 5.0}
    with App(toy_system(), tmp_path, clock) as app:
        app.predict("fraud", asked)  # a segment of its own in the log
        app.step()
        before = testified(app)
    with App(toy_system(), tmp_path, clock, keep=KEEP) as app:
        app.live.trim()
        ends = app.home.log.end("payments")
        assert ends.next_offset - ends.first_offset < 10
        after = testified(app)
        assert app.audit("fraud").different == 0
        app.home.lake.compact("raw_payments", small=1)
        app.home.lake.delete("raw_payments", app.home.lake.days("raw_payments")[2])
        evidence = HomeEvidence(app.system, app.home)
        assert evidence.events("payments", 0, 5) is None, "what went cannot testify"
        late = clock.now() - 24 * HOUR
        assert evidence.events("payments", late, ends.next_offset - 1) is not None
    for old, new in zip(before, after, strict=True):
        assert old is not None
        assert new is not None
        assert new.unread == old.unread
        # Events before the asked instant may be there too: those that are not folded for long.
        assert_frame_equal(new.frame, old.frame)


def test_it_goes_when_its_events_go(tmp_path: Path) -> None:
    policy = hs.Retention(SALES, keep="3d")
    system = hs.System("shop", sources=(SALES,), views=(SHOPS,), policies=(policy,))
    clock = ManualClock(NOON)
    with hs.open(system, tmp_path, clock, storage=hs.Storage(raw=True)) as app:
        for day in range(9):
            sell(app, str(day), 2)
            clock.advance_to(clock.now() + 24 * HOUR)
            for _ in range(3):
                app.live.tick()
        names = [planned.leaving.table for planned in Lifecycle(system, app.home).plan(clock.now())]
        assert names == ["sales", "raw_sales"]
        assert len(app.home.lake.days("raw_sales")) == 3
        assert len(app.home.lake.days("sales")) == 7, "lateness and window hold them for a week"
        assert app.home.lake.sweep("raw_sales", 0) > 0


def test_a_disk_that_is_full_when_files_are_joined_is_said_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyarrow import parquet

    def full(*_: Any, **__: Any) -> None:
        raise OSError(ENOSPC, "No space left on device")

    clock = ManualClock(NOON)
    with hs.open(SYSTEM, tmp_path, clock, keep=KEEP) as app:
        for step in range(3):
            sell(app, str(step), 10)
            clock.advance_to(clock.now() + HOUR)
            app.live.tick()
        sent, folder = kept(app), tmp_path / "lake" / "raw_sales"
        files = sorted(folder.rglob("*.parquet"))
        with monkeypatch.context() as patched:
            patched.setattr(parquet.ParquetWriter, "write_table", full)
            with pytest.raises(StorageFailed, match="raw_sales"):
                app.home.lake.compact("raw_sales", small=1)
        assert sorted(folder.rglob("*.parquet")) == files
        assert app.home.lake.compact("raw_sales", small=1).files_before == len(files) == 3
        assert kept(app) == sent
