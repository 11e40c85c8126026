"""What odd data become by every way in, against the table of docs/sources.md.

Run as a script, this file writes the table.
"""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import homeostat as hs
from homeostat.adapters.kafka import Inlet, drain
from homeostat.core.clock import ManualClock, to_micros
from homeostat.core.errors import HomeostatError
from homeostat.declare.kafka import Kafka, Topic
from homeostat.runtime.app import App
from homeostat.runtime.feeding import Puller
from homeostat.serve.http import Application
from homeostat.testing.kafka_cluster import Record, kafka_cluster
from homeostat.testing.toy_home import Commands

PAGE = Path(__file__).parents[2] / "docs" / "sources.md"
AT, SECOND = "2024-03-04T09:00:00Z", 1_000_000
NOW = to_micros(datetime(2024, 3, 5, tzinfo=UTC))
COLUMNS = ("CSV", "JSON file", "frame, Parquet", "mappings", "HTTP", "Kafka", "database")
TAKEN, NONE = "taken", "-"


class Sale(hs.Event):
    sale: str
    at: hs.Timestamp
    n: int | None
    amount: float | None


SALES = hs.EventSource("sales", Sale, event_id="sale", event_time="at", lateness="520w")


@dataclass(frozen=True)
class Odd:
    """One oddity: what each way in is given, in the order of `COLUMNS` (None: it cannot be so),
    what it becomes there, and the values of the events that come of it, without their ids.

    `{i}` in a text stands for a prefix of ids that no other test has.
    """

    what: str
    given: tuple[Any, ...]
    becomes: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...] = ((AT, 3, None),)


def csv(body: str, header: str = "sale,at,n") -> str:
    return f"{header}\n{body}\n"


def obj(rest: str = '"n":3', at: str = AT, sale: str = "{i}a") -> str:
    return f'{{"sale":"{sale}","at":"{at}",{rest}}}'


def lines(*events: str) -> tuple[str, str]:
    return "\n".join(events), "application/x-ndjson"


def one(event: str) -> tuple[Any, ...]:
    """JSON as a file, as a push and as a record."""
    return event, (event, "application/json"), event


def frame(*columns: tuple[str, Any], at: Any = AT) -> Callable[[str], Any]:
    def made(prefix: str) -> pa.Table:
        ids = [f"{prefix}a"] * len(columns[0][1])
        held = [pa.array(values) for _, values in columns]
        at_ = pa.array([at]) if isinstance(at, str) else at
        return pa.table([pa.array(ids), at_, *held], names=["sale", "at", *(n for n, _ in columns)])

    return made


def maps(at: Any = AT, **said: Any) -> Callable[[str], Any]:
    names = said.pop("names", None) or said
    return lambda prefix: [{"sale": f"{prefix}a", "at": at, **names}]


def sql(columns: str, at: str = f"'{AT}'") -> str:
    return f"SELECT '{{i}}a' AS sale, {at} AS at, {columns}"


def everywhere(what: str, value: str, held: tuple[Any, ...], becomes: str, **given: Any) -> Odd:
    """One value of `n` that is the same by every way in."""
    return Odd(what, (
        csv(f"{{i}}a,{AT},{value}"), obj(f'"n":{value}'), given["frame"], given["mapping"],
        (obj(f'"n":{value}'), "application/json"), obj(f'"n":{value}'), given["database"],
    ), (becomes,) * 7, held)  # fmt: skip


def instants(what: str, at: str, micros: str, **given: Any) -> Odd:
    said = obj('"n":3', at=at)
    return Odd(
        what,
        (csv(f"{{i}}a,{at},3"), said, given["frame"], given["mapping"], (said, "application/json"),
         said, sql("3 AS n", f"'{at}'")),
        (TAKEN,) * 7, ((micros, 3, None),),
    )  # fmt: skip


NS = pa.array([to_micros(datetime(2024, 3, 5, tzinfo=UTC)) * 1000 - 100]).cast(
    pa.timestamp("ns", "UTC")
)
REFUSED = "refused"
MISSPELT = "`misspelled_field:n`"
ROWS = (
    Odd(
        "lines that end with a return alone",
        ("sale,at,n\r{i}a," + AT + ',3\r"{i}b",' + AT + ",4\r",
         obj() + "\r" + obj('"n":4', sale="{i}b") + "\r", None, None,
         (obj() + "\r" + obj('"n":4', sale="{i}b") + "\r", "application/x-ndjson"), None, None),
        (TAKEN, TAKEN, NONE, NONE, TAKEN, NONE, NONE), ((AT, 3, None), (AT, 4, None)),
    ),
    Odd(
        "blanks, no-break spaces around a name",
        (csv("{i}a," + AT + ",3", "sale , at,\u00a0n "), obj('"\u00a0n":3'),
         frame((" n\u00a0", [3])), maps(names={"n ": 3}), (obj('" n":3'), "application/json"),
         obj('"n\\u00a0":3'), sql('3 AS "n "')),
        (TAKEN, MISSPELT, TAKEN, MISSPELT, MISSPELT, MISSPELT, TAKEN),
    ),
    Odd(
        "another case in the name of a field that may be missing",
        (csv("{i}a," + AT + ",3", "sale,at,N"), obj('"N":3'), frame(("N", [3])),
         maps(N=3), (obj('"N":3'), "application/json"), obj('"N":3'), sql('3 AS "N"')),
        (REFUSED, MISSPELT, REFUSED, MISSPELT, MISSPELT, MISSPELT, REFUSED), (),
    ),
    Odd(
        "two letters of such a name that changed places",
        (csv("{i}a," + AT + ",3", "sale,at,amuont"), obj('"amuont":3'), frame(("amuont", [3])),
         maps(amuont=3), (obj('"amuont":3'), "application/json"), obj('"amuont":3'),
         sql("3 AS amuont")),
        tuple(REFUSED if way in (0, 2, 6) else "`misspelled_field:amount`" for way in range(7)), (),
    ),
    Odd(
        "a field that may be missing, and nothing fills or resembles",
        (csv("{i}a," + AT + ",3"), obj(), frame(("n", [3])), maps(n=3),
         (obj(), "application/json"), obj(), sql("3 AS n")),
        ("taken, said", TAKEN, "taken, said", TAKEN, TAKEN, TAKEN, "taken, said"),
    ),
    Odd(
        "a name like that of such a field (`amt`, `amount`)",
        (csv("{i}a," + AT + ",3,4", "sale,at,n,amt"), obj('"n":3,"amt":4'),
         frame(("n", [3]), ("amt", [4])), maps(n=3, amt=4),
         (obj('"n":3,"amt":4'), "application/json"), obj('"n":3,"amt":4'), sql("3 AS n, 4 AS amt")),
        ("taken, said",) * 4 + (TAKEN, TAKEN, "taken, said"),
    ),
    Odd(
        "a name twice",
        (csv("{i}a," + AT + ",2,3", "sale,at,n,n"), obj('"n":2,"n":3'),
         frame(("n", [2]), ("n", [3])), None, (obj('"n":2,"n":3'), "application/json"),
         obj('"n":2,"n":3'), sql("2 AS n, 3 AS n")),
        (REFUSED, "the last counts", REFUSED, NONE, "the last counts", "the last counts", REFUSED),
    ),
    Odd(
        "a row, a record cut off",
        (csv("{i}a," + AT + ",3") + "{i}b,2024-03", obj() + '\n{"sale":"{i}b","at', None, None,
         lines(obj(), '{"sale":"{i}b","at'), '{"sale":"{i}b","at', None),
        ("`malformed`", "`malformed`", NONE, NONE, "`malformed`", "`malformed`", NONE),
    ),
    Odd(
        "a blank line",
        (csv("\n \n{i}a," + AT + ",3"), f"\n \n{obj()}\n\n", None, None,
         lines("", obj(), " ", ""), None, None),
        ("no record", "no record", NONE, NONE, "no record", NONE, NONE),
    ),
    Odd(
        "an array of objects",
        (None, f"[\n  {obj()},\n  {obj(sale='{i}b')}\n]\n", None, maps(n=3),
         (f"[{obj()},{obj(sale='{i}b')}]", "application/json"), f"[{obj()}]", None),
        (NONE, "its objects", NONE, "its elements", "its objects", "`malformed`", NONE),
        ((AT, 3, None), (AT, 3, None)),
    ),
    Odd(
        "one object over several lines",
        (None, json.dumps(json.loads(obj()), indent=2), None, None,
         (json.dumps(json.loads(obj()), indent=2), "application/json"),
         json.dumps(json.loads(obj()), indent=2), None),
        (NONE, TAKEN, NONE, NONE, TAKEN, TAKEN, NONE),
    ),
    Odd(
        "a byte order mark at the beginning",
        ("\ufeff" + csv("{i}a," + AT + ",3"), "\ufeff" + obj(), None, None,
         ("\ufeff" + obj(), "application/json"), "\ufeff" + obj(), None),
        (TAKEN, TAKEN, NONE, NONE, TAKEN, TAKEN, NONE),
    ),
    Odd(
        "a byte order mark at a later line or record",
        (None, obj() + "\n\ufeff" + obj('"n":4', sale="{i}b"), None, None,
         lines(obj(), "\ufeff" + obj('"n":4', sale="{i}b")), None, None),
        (NONE, TAKEN, NONE, NONE, TAKEN, NONE, NONE), ((AT, 3, None), (AT, 4, None)),
    ),
    Odd(
        "a cell, a column, a key too many",
        (csv("{i}b," + AT + ",3,7") + "{i}a," + AT + ",3\n", obj('"n":3,"zip":7'),
         frame(("n", [3]), ("zip", [7])), maps(n=3, zip=7),
         (obj('"n":3,"zip":7'), "application/json"), obj('"n":3,"zip":7'), sql("3 AS n, 7 AS zip")),
        ("`malformed`", *("not looked at",) * 6),
    ),
    everywhere(
        "`3.0` for an integer", "3.0", ((AT, 3, None),), TAKEN, frame=frame(("n", [3.0])),
        mapping=maps(n=3.0), database=sql("3.0::double precision AS n"),
    ),
    everywhere(
        "`9007199254740993.0` for an integer", "9007199254740993.0",
        ((AT, 2**53 + 1, None),), TAKEN, frame=frame(("n", [Decimal("9007199254740993.0")])),
        mapping=maps(n=Decimal("9007199254740993.0")), database=sql("9007199254740993.0 AS n"),
    ),
    everywhere(
        "`3.5` for an integer", "3.5", (), "`invalid_field:n`", frame=frame(("n", [3.5])),
        mapping=maps(n=3.5), database=sql("3.5 AS n"),
    ),
    everywhere(
        "`9223372036854775808` for an integer", "9223372036854775808", (), "`invalid_field:n`",
        frame=frame(("n", [2.0**63])), mapping=maps(n=2**63),
        database=sql("9223372036854775808 AS n"),
    ),
    Odd(
        "DECIMAL(38,0) for an integer",
        (None, None, frame(("n", pa.array([Decimal(2**53 + 1)], pa.decimal128(38, 0)))),
         maps(n=Decimal(2**53 + 1)), None, None, sql(f"{2**53 + 1}::decimal(38,0) AS n")),
        (NONE, NONE, TAKEN, TAKEN, NONE, NONE, TAKEN), ((AT, 2**53 + 1, None),),
    ),
    Odd(
        "float32 for a float: the same number",
        (None, None, frame(("amount", pa.array([0.1], pa.float32()))),
         maps(amount=np.float32(0.1)), None, None, sql("0.1::real AS amount")),
        (NONE, NONE, TAKEN, TAKEN, NONE, NONE, TAKEN), ((AT, None, 0.10000000149011612),),
    ),
    instants(
        "an offset of two digits", "2024-03-04T10:00:00+01", AT,
        frame=frame(("n", [3]), at="2024-03-04T10:00:00+01"),
        mapping=maps("2024-03-04T10:00:00+01", n=3),
    ),
    instants(
        "nanoseconds: cut off", "2024-03-04T23:59:59.9999999Z", "2024-03-04T23:59:59.999999Z",
        frame=frame(("n", [3]), at=NS), mapping=maps("2024-03-04T23:59:59.9999999Z", n=3),
    ),
)  # fmt: skip


@dataclass
class Outcome:
    """What became of what one way was given."""

    accepted: int
    reasons: Counter[str]
    is_refused: bool = False
    notes: tuple[str, ...] = ()


Send = Callable[[str, Any], Outcome]
"""Sends what an oddity gives to a way, under a prefix of ids."""


class Ways:
    """A home per way in; what was taken is asked of each home's lake."""

    def __init__(self, stack: ExitStack, folder: Path, postgres: str) -> None:
        self._stack, self._folder, self._postgres = stack, folder, postgres
        self._apps: dict[str, App] = {}
        self._cluster = stack.enter_context(kafka_cluster())
        self._commands = Commands(folder / "cli")
        self._commands.folder.mkdir()
        (self._commands.folder / "system.py").write_text(
            "import homeostat as hs\n\n\nclass Sale(hs.Event):\n    sale: str\n"
            "    at: hs.Timestamp\n    n: int | None\n    amount: float | None\n\n\n"
            'SALES = hs.EventSource(\n    "sales", Sale, event_id="sale", event_time="at", '
            'lateness="520w"\n)\nSYSTEM = hs.System("shop", sources=(SALES,))\n'
        )
        self._letters: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def of(self, column: str, given: Any) -> dict[str, Send]:
        """Return the ways by which a column's data come, by name."""
        if column in ("CSV", "JSON file"):
            return {"app": self._app_file, "cli": self._cli, "folder": self._pulled}
        if column == "frame, Parquet":
            tables: dict[str, Send] = {"frame": self._app_frame}
            if len(set(given("x").column_names)) == given("x").num_columns:
                tables |= {"app": self._app_file, "cli": self._cli, "folder": self._pulled}
            return tables
        others: dict[str, dict[str, Send]] = {
            "mappings": {"mappings": self._app_frame}, "HTTP": {"http": self._push},
            "Kafka": {"kafka": self._topic}, "database": {"database": self._query},
        }  # fmt: skip
        return others[column]

    def values(self, way: str, prefix: str) -> list[tuple[Any, ...]]:
        """Return what the lake has of the events with a prefix."""
        asked = f"SELECT \"at\", n, amount FROM sales WHERE sale LIKE '{prefix}%' ORDER BY sale"
        if way == "cli":
            found = hs.connect(self._commands.folder / "system.py", self._commands.folder / "state")
            with found:
                rows: list[tuple[Any, ...]] = found.execute(asked).fetchall()
                return rows
        return self._apps[way].sql(asked).rows()

    def _app(self, way: str, feed: Any = None) -> App:
        if way not in self._apps:
            system = hs.System("shop", sources=(replace(SALES, feed=feed),))
            app = hs.open(system, self._folder / f"home-{way}", ManualClock(NOW))
            self._apps[way] = self._stack.enter_context(app)
        return self._apps[way]

    def _file(self, folder: Path, prefix: str, given: Any) -> Path:
        folder.mkdir(exist_ok=True)
        if isinstance(given, str):
            is_csv = given.lstrip("\ufeff").startswith("sale")
            path = folder / f"{prefix}.{'csv' if is_csv else 'json'}"
            path.write_bytes(given.encode())
        else:
            path = folder / f"{prefix}.parquet"
            pl.DataFrame(given).write_parquet(path)
        return path

    def _counted(self, way: str, act: Callable[[App], Any]) -> Outcome:
        app = self._app(way)
        letters = app.home.letters
        before = Counter({reason: n for (_, reason), n in letters.counts().items()})
        try:
            found = act(app)
        except HomeostatError:
            return Outcome(0, Counter(), is_refused=True)
        reasons = Counter({reason: n for (_, reason), n in letters.counts().items()}) - before
        return Outcome(found.accepted, reasons, notes=found.notes)

    def _app_file(self, prefix: str, given: Any) -> Outcome:
        path = self._file(self._folder / "files", prefix, given)
        return self._counted("app", lambda app: app.ingest("sales", path))

    def _app_frame(self, prefix: str, given: Any) -> Outcome:
        way = "mappings" if isinstance(given, list) else "frame"
        return self._counted(way, lambda app: app.ingest("sales", given))

    def _cli(self, prefix: str, given: Any) -> Outcome:
        path = self._file(self._folder / "typed", prefix, given)
        said = self._commands("ingest", "sales", path, "--received-now", "--json")
        if said.status not in (0, 3):
            return Outcome(0, Counter(), is_refused=True)
        [file] = said.json["files"]
        letters = Counter(said.json["dead_letters"])
        reasons, self._letters = letters - self._letters, letters
        assert said.status == (3 if reasons else 0)
        return Outcome(file["accepted"], reasons, notes=tuple(file["notes"]))

    def _pulled(self, prefix: str, given: Any) -> Outcome:
        folder = self._folder / "incoming"
        self._app("folder", hs.Folder(str(folder), quiet="0s"))
        path = self._file(folder, prefix, given)

        def act(app: App) -> Any:
            pulled = app.pull("sales")
            told = [note for note in pulled.notes if path.name in note]
            assert pulled.counts is not None
            pulled.counts.notes = tuple(
                note for note in told if re.search("no column fills|is nearest", note)
            )
            if not pulled.records and told:
                raise HomeostatError(told[0])
            return pulled.counts

        found = self._counted("folder", act)
        path.unlink()
        return found

    def _push(self, prefix: str, given: Any) -> Outcome:
        body, kind = given
        self._app("http")

        def act(app: App) -> Any:
            served = Application(app.system, app.live.service, app.live.metrics)
            answer = asked(httpx.ASGITransport(served), body, kind)
            counts = app.live.drain()["sales"]
            said = answer.json()
            problems = said.get("refused") or said.get("error", {}).get("problems", [])
            self._refused = Counter(problem["reason"] for problem in problems)
            return counts

        found = self._counted("http", act)
        assert not found.reasons  # what cannot be read is turned away at once
        return replace(found, reasons=self._refused)

    def _topic(self, prefix: str, given: Any) -> Outcome:
        topic = Topic(source="sales", topic=self._cluster.topic(1))
        self._cluster.send(topic.topic, [Record(given.encode())])
        quick = {"session.timeout.ms": 1000, "heartbeat.interval.ms": 100}
        kafka = Kafka(
            brokers=self._cluster.brokers, topics=(topic,), group=f"g-{prefix}", client=quick
        )

        def act(app: App) -> Any:
            drain(kafka, topic, Inlet(app.home.log, SALES, app.clock))
            return app.live.drain()["sales"]

        return self._counted("kafka", act)

    def _query(self, prefix: str, given: Any) -> Outcome:
        query = hs.Query(url=self._postgres, sql=given, every="1h", timezone="UTC")

        def act(app: App) -> Any:
            pulled = Puller(replace(SALES, feed=query), app.home, app.clock).pull(
                app.live.drain, force=True
            )
            assert pulled.counts is not None
            pulled.counts.notes = pulled.notes
            return pulled.counts

        return self._counted("database", act)


def asked(transport: httpx.ASGITransport, body: str, kind: str) -> httpx.Response:
    import asyncio

    async def post() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post(
                "/events/sales", content=body.encode(), headers={"content-type": kind}
            )

    return asyncio.run(post())


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory, postgres: str) -> Iterator[Ways]:
    with ExitStack() as stack:
        yield Ways(stack, tmp_path_factory.mktemp("ways"), postgres)


CELLS = [
    pytest.param(row, column, id=f"{row.what}-{column}")
    for row in ROWS
    for column, given in zip(COLUMNS, row.given, strict=True)
    if given is not None
]


@pytest.mark.parametrize(("row", "column"), CELLS)
def test_a_cell_of_the_table(ways: Ways, row: Odd, column: str) -> None:
    place = COLUMNS.index(column)
    given, becomes = row.given[place], row.becomes[place]
    prefix = f"r{ROWS.index(row)}c{place}"
    sent = given(prefix) if callable(given) else filled(given, prefix)
    for way, send in ways.of(column, given).items():
        found = send(prefix, sent)
        reason = re.fullmatch(r"`(.*)`", becomes)
        wanted = Counter({reason[1]: 1}) if reason else Counter()
        assert found.is_refused == (becomes == REFUSED), (way, found)
        assert found.reasons == wanted, (way, found)
        assert bool(found.notes) == (becomes == "taken, said" or is_noted(row, column)), way
        if found.is_refused or not found.accepted:
            assert becomes == REFUSED or reason, (way, found)
            continue
        values = ways.values(way, prefix)
        expected = [(instant(at), n, amount) for at, n, amount in row.values][: len(values)]
        assert len(values) == found.accepted
        assert values == expected, way
        assert reason or len(values) in (len(row.values), 1)


def is_noted(row: Odd, column: str) -> bool:
    """Whether a person is told of a field that nothing fills: each table here lacks one."""
    becomes = row.becomes[COLUMNS.index(column)]
    if column in ("CSV", "frame, Parquet", "database"):
        return becomes != REFUSED
    return column in ("JSON file", "mappings") and "misspelled" in becomes


def filled(given: Any, prefix: str) -> Any:
    if isinstance(given, tuple):
        return tuple(filled(part, prefix) for part in given)
    return given.replace("{i}", prefix)


def instant(at: str) -> datetime:
    return datetime.fromisoformat(at)


def table() -> str:
    """Return the table as docs/sources.md has it."""
    out = io.StringIO()
    print(f"| what comes | {' | '.join(COLUMNS)} |", file=out)
    print("|---" * (len(COLUMNS) + 1) + "|", file=out)
    for row in ROWS:
        print(f"| {row.what} | {' | '.join(row.becomes)} |", file=out)
    return out.getvalue()


MARKS = re.compile(r"(?<=<!-- begin ways in -->\n).*?(?=<!-- end ways in -->)", re.DOTALL)


def test_the_page_has_the_table_that_was_tried() -> None:
    found = MARKS.search(PAGE.read_text("utf-8"))
    assert found is not None
    assert found[0] == table(), "write it again: python tests/adapters/test_ways_in.py"
    for row in ROWS:
        for given, becomes in zip(row.given, row.becomes, strict=True):
            assert (given is None) == (becomes == NONE)


if __name__ == "__main__":
    PAGE.write_text(MARKS.sub(lambda _: table(), PAGE.read_text("utf-8")), "utf-8")
