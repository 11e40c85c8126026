"""Rows of SQLite and PostgreSQL become events: all or what changed, each once, typed or refused."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

import homeostat as hs
from homeostat.adapters.sqlalchemy import DatabaseFailed, SqlDatabase, UrlInvalid
from homeostat.core.clock import ManualClock, to_micros
from homeostat.core.errors import MissingExtra
from homeostat.ingest.feed import Landing
from homeostat.ingest.rows import CursorInvalid, ResultInvalid
from homeostat.ingest.snapshot import QueryFeed
from homeostat.ingest.sqlite_log import SqliteLog

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
SECOND = 1_000_000


class Order(hs.Event):
    order_id: str
    placed_at: hs.Timestamp
    amount: float
    items: int | None
    gift: bool | None
    note: str = "none"


ORDERS = hs.EventSource(
    "orders", Order, event_id="order_id", event_time="placed_at", lateness="52w", clock_skew="52w"
)


@dataclass
class Shop:
    """A database with a table of orders."""

    url: str

    def run(self, statement: str, *rows: dict[str, Any]) -> None:
        engine = create_engine(self.url, poolclass=NullPool)
        with engine.begin() as connection:
            connection.execute(text(statement), list(rows) or None)
        engine.dispose()

    def add(self, *names: str, minute: int, amount: float = 1.5) -> None:
        """Insert orders that were placed and changed so many minutes after noon."""
        at = NOON.replace(tzinfo=None) + timedelta(minutes=minute)
        self.run(
            "INSERT INTO orders VALUES (:order_id, :at, :amount, 2, NULL, :at)",
            *({"order_id": name, "at": f"{at}", "amount": amount} for name in names),
        )


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    if request.param == "sqlite":
        found = Shop(f"sqlite:///{tmp_path / 'shop.db'}")
    else:
        found = Shop(request.getfixturevalue("postgres"))
        found.run("DROP TABLE IF EXISTS orders")
    found.run(
        "CREATE TABLE orders (order_id TEXT, placed_at TIMESTAMP, amount NUMERIC(12, 2), "
        "items INTEGER, gift BOOLEAN, updated_at TIMESTAMP)"
    )
    return found


def query(shop: Shop, **given: Any) -> hs.Query:
    said = {"table": "orders", "every": "1h", "timezone": "UTC", "batch": 3, **given}
    return hs.Query(url=shop.url, **said)


@dataclass
class Taker:
    """A log and a feed into it, made anew for each take."""

    feed: hs.Query
    log: SqliteLog
    clock: ManualClock
    notes: list[str]

    def take(self, *, commits: int | None = None, due: bool = False) -> list[str]:
        """Take what there is, at most so many commits of it; return the ids that came."""
        before = self.log.end("orders").next_offset
        landing = Landing(replace(ORDERS, feed=self.feed), self.log, self.clock, self.notes.append)
        took = QueryFeed(self.feed, SqlDatabase(self.feed), landing).take(force=not due)
        for number, _ in enumerate(took, 1):
            if number == commits:
                took.close()
                break
        return [json.loads(p)["order_id"] for p in self.log.read("orders", before - 1, 99).payloads]

    def wait(self, hours: float) -> None:
        self.clock.advance_to(self.clock.now() + int(hours * 3600 * SECOND))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    found = SqliteLog(tmp_path / "log.db")
    yield found
    found.close()


def taker(feed: hs.Query, log: SqliteLog) -> Taker:
    return Taker(feed, log, ManualClock(to_micros(NOON)), [])


def test_every_run_reads_all_rows_where_there_is_no_cursor(shop: Shop, tmp_path: Path) -> None:
    shop.add("b", "a", "c", "e", "d", minute=0)
    source = replace(ORDERS, feed=query(shop))
    system = hs.System("shop", sources=(source,))
    clock = ManualClock(to_micros(NOON) + 3600 * SECOND)
    with hs.open(system, tmp_path / "home", clock) as app:
        first = app.pull("orders")
        assert (first.records, first.notes) == (5, ("orders: no column fills 'note'",))
        assert first.counts is not None
        assert (first.counts.accepted, first.counts.duplicates) == (5, 0)
        shop.run("UPDATE orders SET amount = 9 WHERE order_id = 'c'")
        shop.run("DELETE FROM orders WHERE order_id = 'a'")
        second = app.pull("orders").counts
        assert second is not None
        assert (second.accepted, second.duplicates, second.rejected) == (0, 3, 1)
        assert app.home.letters.counts() == {("orders", "conflict"): 1}
        rows = app.sql("SELECT order_id, placed_at, amount, items, gift, note FROM orders").rows()
        assert rows == [(name, NOON, 1.5, 2, None, "none") for name in "abcde"]


def test_with_a_cursor_only_what_changed_is_read(shop: Shop, log: SqliteLog) -> None:
    orders = taker(query(shop, cursor="updated_at"), log)
    shop.add("a", "b", minute=0)
    shop.add("c", minute=1)
    assert orders.take() == ["a", "b", "c"]
    assert orders.take() == []
    shop.add("d", minute=2)
    shop.add("0", minute=1)
    assert orders.take() == ["0", "d"], "another row at the boundary is not missed"
    assert orders.take() == []
    shop.run("UPDATE orders SET amount = 3, updated_at = '2024-03-01 12:05:00' "
             "WHERE order_id = 'a'")  # fmt: skip
    assert orders.take() == ["a"]
    assert log.end("orders").next_offset == 6, "nothing was appended twice"


def test_rows_that_become_visible_late_need_an_overlap(shop: Shop, log: SqliteLog) -> None:
    hasty = taker(query(shop, cursor="updated_at"), log)
    shop.add("a", minute=0)
    shop.add("b", minute=10)
    assert hasty.take() == ["a", "b"]
    shop.add("late", minute=6)
    assert hasty.take() == []
    patient = taker(query(shop, cursor="updated_at", overlap="5m"), log)
    assert patient.take() == ["late"]
    assert patient.take() == []
    shop.add("too late", minute=4)
    shop.add("c", minute=11)
    assert patient.take() == ["c"]


def test_a_transaction_that_commits_late_is_taken(postgres: str, log: SqliteLog) -> None:
    shop = Shop(postgres)
    shop.run("DROP TABLE IF EXISTS counted")
    shop.run("CREATE TABLE counted (n SERIAL, order_id TEXT, placed_at TIMESTAMPTZ DEFAULT now(), "
             "amount REAL DEFAULT 1)")  # fmt: skip
    orders = taker(query(shop, table="public.counted", cursor="n", overlap=10), log)
    engine = create_engine(postgres, poolclass=NullPool)
    with engine.connect() as slow:
        slow.execute(text("INSERT INTO counted (order_id) VALUES ('slow')"))
        shop.run("INSERT INTO counted (order_id) VALUES ('fast')")
        assert orders.take() == ["fast"]
        slow.commit()
    engine.dispose()
    assert orders.take() == ["slow"]
    assert orders.take() == []


@pytest.mark.parametrize("cursor", [None, "updated_at"])
@pytest.mark.parametrize("seed", range(4))
def test_takers_that_are_cut_off_bring_what_one_that_was_not_brings(
    shop: Shop, log: SqliteLog, tmp_path: Path, cursor: str | None, seed: int
) -> None:
    draw = random.Random(seed)
    for number in range(40):
        shop.add(f"o{draw.randrange(1000)}-{number}", minute=draw.randrange(6))
    whole = SqliteLog(tmp_path / "whole.db")
    taker(query(shop, cursor=cursor), whole).take()
    orders = taker(query(shop, cursor=cursor), log)
    while log.end("orders").next_offset < 40:
        orders.take(commits=draw.randint(1, 3))
    orders.take(commits=99)
    came, expected = log.read("orders", -1, 99).payloads, whole.read("orders", -1, 99).payloads
    assert came[:40] == expected
    assert came[40:] in ([], expected if cursor is None else []), "another run, or none"
    whole.close()


def test_values_become_what_the_fields_hold_or_are_refused_with_a_reason(
    postgres: str, tmp_path: Path
) -> None:
    shop = Shop(postgres)
    rows = {
        "fine": "'0e37df36-f698-11e6-8dd4-cb9ced3df976'::uuid, 'today'::date, 1.25::numeric, 3.0",
        "nan": "gen_random_uuid(), 'today'::date, 'NaN'::numeric, 3",
        "odd": "gen_random_uuid(), 'today'::date, 1, 2.5",
        "null": "gen_random_uuid(), 'today'::date, NULL, 1",
        "nobody": "NULL, 'today'::date, 1, 1",
        "huge": "gen_random_uuid(), 'today'::date, 1, 1e30",
    }
    select = " UNION ALL ".join(
        f"SELECT {values} , '2024-03-01 11:00'::timestamp, '{name}', '\\x00ff'::bytea"
        for name, values in rows.items()
    )
    columns = "order_id, day, amount, items, placed_at, note, odd"
    feed = query(shop, table=None, sql=f"SELECT * FROM ({select}) AS q ({columns}) -- all;")
    for zone, accepted in (("UTC", ["fine"]), (None, [])):
        source = replace(ORDERS, feed=replace(feed, timezone=zone))
        system = hs.System("shop", sources=(source,))
        with hs.open(system, tmp_path / f"{zone}", ManualClock(to_micros(NOON))) as app:
            pulled = app.pull("orders")
            assert pulled.records == 6
            found = app.sql("SELECT order_id, placed_at, amount, items, note FROM orders").rows()
            assert [row[4] for row in found] == accepted
            reasons = {
                json.loads(x.letter.payload)["note"]: x.letter.reason
                for x in app.home.letters.list("orders")
            }
        if zone is None:
            assert set(reasons.values()) >= {"invalid_field:placed_at"}
            continue
        assert found == [
            ("0e37df36-f698-11e6-8dd4-cb9ced3df976", NOON - timedelta(hours=1), 1.25, 3, "fine")
        ]
        assert reasons == {
            "nan": "not_finite:amount", "odd": "invalid_field:items",
            "null": "missing_field:amount", "nobody": "missing_field:order_id",
            "huge": "invalid_field:items",
        }  # fmt: skip


def test_text_that_is_none_reaches_quarantine_from_sqlite(tmp_path: Path) -> None:
    shop = Shop(f"sqlite:///{tmp_path / 'odd.db'}")
    shop.run("CREATE TABLE orders (order_id, placed_at, amount, items, gift, updated_at)")
    shop.run(
        "INSERT INTO orders VALUES ('a', '2024-03-01 11:00:00', 1, 1, 1, 1), "
        "(CAST(x'fffe' AS TEXT), '2024-03-01 11:00:00', 1, 1, 0, 2), "
        "('c', 'yesterday', 1, 1, 0, 3), ('d', '2024-03-01T11:00:00Z', 'much', 1, 0, 4)"
    )
    source = replace(ORDERS, feed=query(shop))
    with hs.open(
        hs.System("s", sources=(source,)), tmp_path / "h", ManualClock(to_micros(NOON))
    ) as app:
        app.pull("orders")
        assert app.sql("SELECT order_id, gift FROM orders").rows() == [("a", True)]
        assert app.home.letters.counts() == {
            ("orders", "invalid_field:amount"): 1, ("orders", "invalid_field:order_id"): 1,
            ("orders", "invalid_field:placed_at"): 1,
        }  # fmt: skip


def test_runs_are_made_when_they_are_due_and_remembered(shop: Shop, log: SqliteLog) -> None:
    shop.add("a", minute=0)
    orders = taker(query(shop, cursor="updated_at"), log)
    assert orders.take(due=True) == ["a"], "a new source runs at once"
    shop.add("b", minute=1)
    orders.wait(0.9)
    assert orders.take(due=True) == []
    orders.wait(0.1)
    assert orders.take(due=True) == ["b"]
    shop.add("c", minute=2)
    orders.wait(0.5)
    assert orders.take(due=True) == []
    assert orders.take() == ["c"], "by hand at any time"


@pytest.mark.parametrize(("catch_up", "expected"), [("once", ["15"]), ("each", ["13", "14", "15"])])
def test_runs_that_were_missed_are_caught_up_as_declared(
    shop: Shop, log: SqliteLog, catch_up: str, expected: list[str]
) -> None:
    hour = "strftime('%H', :planned)" if shop.url.startswith("sqlite") else (
        "to_char(CAST(:planned AS timestamptz) AT TIME ZONE 'UTC', 'HH24')"
    )  # fmt: skip
    sql = f"SELECT {hour} AS order_id, '2024-03-01 11:00:00' AS placed_at, 1 AS amount"
    feed = query(shop, table=None, sql=sql, every=None, cron="0 * * * *", catch_up=catch_up)
    orders = taker(feed, log)
    assert orders.take(due=True) == [], "the first instant is yet to come"
    orders.wait(3.5)
    came = [name for _ in range(4) for name in orders.take(due=True)]
    assert came == expected


def test_another_cursor_or_table_is_read_from_its_beginning(shop: Shop, log: SqliteLog) -> None:
    shop.add("a", "b", minute=5)
    assert taker(query(shop, cursor="updated_at"), log).take() == ["a", "b"]
    assert taker(query(shop, cursor="order_id"), log).take() == ["a", "b"]
    select = "SELECT * FROM orders WHERE order_id = 'b'"
    assert taker(query(shop, table=None, sql=select, cursor="updated_at"), log).take() == ["b"]
    assert taker(query(shop, cursor="updated_at"), log).take() == []


def test_a_run_that_is_cut_off_is_still_due(shop: Shop, log: SqliteLog) -> None:
    shop.add(*"abcdefg", minute=0)
    orders = taker(query(shop), log)
    assert orders.take(commits=1, due=True) == ["a", "b", "c"]
    assert orders.take(due=True) == ["d", "e", "f", "g"]
    assert orders.take(due=True) == []


def test_rows_without_a_cursor_are_told_of(shop: Shop, log: SqliteLog) -> None:
    shop.add("a", minute=0)
    shop.run("INSERT INTO orders VALUES ('b', '2024-03-01 12:00:00', 1, 1, NULL, NULL)")
    orders = taker(query(shop, cursor="updated_at"), log)
    assert orders.take() == ["a"]
    about = [note for note in orders.notes if "rows without 'updated_at'" in note]
    assert len(about) == 1
    shop.run("UPDATE orders SET updated_at = placed_at WHERE order_id = 'b'")
    orders.take()
    shop.run("INSERT INTO orders VALUES ('c', '2024-03-01 12:00:00', 1, 1, NULL, NULL)")
    assert sum("rows without 'updated_at'" in note for note in orders.notes) == 1
    orders.take()  # they came later, and are told of again
    assert sum("rows without 'updated_at'" in note for note in orders.notes) == 2


def test_a_large_result_is_not_held(postgres: str, log: SqliteLog) -> None:
    million = (
        "SELECT lpad(n::text, 9, '0') AS order_id, now() AS placed_at, 1 AS amount, "
        "repeat('x', 200) AS note FROM generate_series(1, 1000000) AS n"
    )
    feed = query(Shop(postgres), table=None, sql=million, batch=1000)
    took = QueryFeed(
        feed, SqlDatabase(feed), Landing(replace(ORDERS, feed=feed), log, ManualClock(9), print)
    ).take(force=True)
    before = _resident()
    assert [next(took) for _ in range(3)] == [1000] * 3
    assert _resident() - before < 100e6
    took.close()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_secrets_come_from_the_environment_and_are_told_to_nobody(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "p@ss/w:rd"
    monkeypatch.setenv("SHOP_PASSWORD", secret)
    server = postgres.rpartition("?")[2]
    Shop(postgres).run("DROP TABLE IF EXISTS orders")
    url = "postgresql+psycopg://toy:${SHOP_PASSWORD}@/postgres?" + server
    source = replace(ORDERS, feed=hs.Query(url=url, table="orders", every="1h"))
    system = hs.System("shop", sources=(source,))
    assert secret not in repr(system)
    with (
        hs.open(system, tmp_path / "home", ManualClock(0)) as app,
        pytest.raises(DatabaseFailed, match='relation "orders" does not exist') as failed,
    ):
        app.pull("orders")
    assert "p@ss" not in str(failed.value)
    assert failed.value.__cause__ is None
    kept = b"".join(p.read_bytes() for p in (tmp_path / "home").rglob("*") if p.is_file())
    assert b"p@ss" not in kept
    monkeypatch.setenv("SHOP_URL", f"postgresql+psycopg://toy:{secret}@127.0.0.1:1/shop")
    away = hs.Query(url="${SHOP_URL}", table="orders", every="1h")
    with pytest.raises(DatabaseFailed) as failed:
        list(_fetched(away))
    assert secret not in str(failed.value)
    monkeypatch.setenv("SHOP_FOLDER", str(tmp_path))
    with pytest.raises(DatabaseFailed, match="there is no such file") as failed:
        list(_fetched(hs.Query(url="sqlite:///${SHOP_FOLDER}/no.db", table="orders", every="1h")))
    assert str(tmp_path) not in str(failed.value)
    monkeypatch.delenv("SHOP_PASSWORD")
    with pytest.raises(UrlInvalid, match="there is no variable SHOP_PASSWORD"):
        list(_fetched(hs.Query(url=url, table="orders", every="1h")))


def _fetched(feed: hs.Query) -> Iterator[object]:
    from homeostat.ingest.snapshot import Asked

    yield from SqlDatabase(feed).fetch(Asked(("order_id",), ("order_id",), None, True, 0, 10))


def test_mistakes_are_told_with_the_way_out(shop: Shop, log: SqliteLog) -> None:
    shop.add("a", minute=0)
    with pytest.raises(ResultInvalid, match=r"no column 'order_id'.*Did you mean 'orderid'\?"):
        taker(query(shop, table=None, sql="SELECT 'a' AS orderid, 1 AS amount"), log).take()
    with pytest.raises(DatabaseFailed, match="allowed: a database that answers"):
        taker(query(shop, cursor="changed_at"), log).take()
    with pytest.raises(CursorInvalid, match="allowed: a number, for an overlap of 5"):
        taker(query(shop, cursor="updated_at", overlap=5), log).take()
    for url, said in (("nonsense", "none of SQLAlchemy's"), ("oracle://a/b", "not installed")):
        with pytest.raises(UrlInvalid, match=said):
            taker(hs.Query(url=url, table="orders", every="1h"), log).take()


def test_nothing_is_written_into_a_database(postgres: str, log: SqliteLog) -> None:
    Shop(postgres).run("CREATE SEQUENCE IF NOT EXISTS visits")
    select = "SELECT nextval('visits')::text AS order_id, now() AS placed_at, 1 AS amount"
    with pytest.raises(DatabaseFailed, match="in a read-only transaction"):
        taker(query(Shop(postgres), table=None, sql=select), log).take()


def test_without_the_extra_the_error_says_what_to_install(
    log: SqliteLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sqlalchemy.exc", None)
    with pytest.raises(MissingExtra, match=r"pip install 'homeostat\[database\]'"):
        taker(hs.Query(url="sqlite://", table="orders", every="1h"), log).take()
