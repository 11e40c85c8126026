"""SQL over the lake answers questions, and only that."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from homeostat.lake.sql import QueryRefused, connect, query
from homeostat.lake.tables import Lake

INSTANT = pl.Datetime("us", "UTC")
SCHEMA = pl.Schema({"_known_time": INSTANT, "origin": pl.String(), "delay": pl.Float64()})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    found = Lake(tmp_path, {"departures": SCHEMA, "to-day": SCHEMA, "weather": SCHEMA})
    frame = pl.DataFrame(
        {
            "_known_time": [datetime(2013, 1, day, 23, tzinfo=UTC) for day in (1, 2, 3)],
            "origin": ["JFK", "EWR", "JFK"],
            "delay": [1.0, None, 4.0],
        },
        schema=SCHEMA,
    )
    found.append("departures", frame, "fold", 2)
    return found


def test_questions_are_answered(lake: Lake) -> None:
    answer = query(lake, "SELECT origin, sum(delay) AS d FROM departures GROUP BY 1 ORDER BY 1")
    assert answer.rows() == [("EWR", None), ("JFK", 5.0)]
    whole = query(lake, "SELECT * FROM departures ORDER BY _known_time")
    assert whole.drop("_day").equals(lake.read("departures"))
    assert whole["_day"].to_list() == [date(2013, 1, day) for day in (1, 2, 3)]


def test_instants_are_utc_and_counts_are_integers(lake: Lake) -> None:
    answer = query(lake, "SELECT max(_known_time) AS t, sum(1) AS n FROM departures")
    assert answer.schema == {"t": INSTANT, "n": pl.Int64}
    assert answer.row(0) == (datetime(2013, 1, 3, 23, tzinfo=UTC), 3)
    text = query(lake, "SELECT CAST(max(_known_time) AS VARCHAR) AS t FROM departures")
    assert text.item() == "2013-01-03 23:00:00+00"


def test_a_table_answers_as_it_was_known(lake: Lake) -> None:
    asked = "SELECT count(*) FROM departures_known_at(TIMESTAMPTZ '2013-01-02 23:00:00+00')"
    assert query(lake, asked).item() == 1


def test_tables_without_rows_answer_too(lake: Lake) -> None:
    answer = query(lake, "SELECT * FROM weather")
    assert answer.schema == {**SCHEMA, "_day": pl.Date}
    assert answer.is_empty()
    lake.append("weather", pl.DataFrame(schema=SCHEMA), "fold", 1)
    assert query(lake, "SELECT * FROM weather").schema == answer.schema


def test_frames_can_be_added(lake: Lake) -> None:
    decisions = pl.DataFrame({"action": ["promote"], "scores": [[0.5, 0.25]]})
    answer = query(lake, "SELECT d.* FROM decisions d, departures", {"decisions": decisions})
    assert answer.rows() == [("promote", [0.5, 0.25])] * 3


def test_a_new_column_is_missing_in_older_rows(lake: Lake) -> None:
    frame = lake.read("departures").with_columns(gate=pl.lit("B7"))
    lake.append("departures", frame, "fold", 5)
    assert query(lake, "SELECT count(*), count(gate) FROM departures").row(0) == (6, 3)


@pytest.mark.parametrize(
    "sql",
    ["DROP VIEW departures", "SELECT 1; SELECT 2", "", "COPY departures TO 'x.csv'",
     "ATTACH 'x.db'", "INSERT INTO weather SELECT * FROM weather", "SET threads = 1"],
)  # fmt: skip
def test_only_questions_are_allowed(lake: Lake, sql: str) -> None:
    with pytest.raises(QueryRefused, match="allowed: one SELECT"):
        query(lake, sql)


@pytest.mark.parametrize(
    "sql",
    ["EXPLAIN ANALYZE COPY departures TO '{lake}/x.parquet'", "EXPLAIN COPY (SELECT 1) TO 'x'",
     "EXPLAIN (ANALYZE) COPY departures TO '{lake}/x.parquet'",
     "EXPLAIN/**/ANALYZE COPY departures TO '{lake}/x.parquet'",
     "SELECT * FROM read_text('{lake}/../secret.txt')", "SELECT * FROM '{lake}/../secret.txt'",
     "SELECT * FROM glob('{lake}/../*')", "SELECT * FROM read_csv('/etc/hostname')",
     "SELECT * FROM read_parquet('https://example.org/x.parquet')", "EXPLAIN EXPLAIN SELECT 1"],
)  # fmt: skip
def test_no_file_is_read_or_written_beside_the_lake(tmp_path: Path, sql: str) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    lake = Lake(tmp_path / "lake", {"departures": SCHEMA})
    with pytest.raises(QueryRefused):
        query(lake, sql.format(lake=lake.folder))
    with connect(lake) as connection, pytest.raises((QueryRefused, duckdb.Error)):
        connection.execute(sql.format(lake=lake.folder)).fetchall()
    assert [path.name for path in lake.folder.iterdir()] == []


@pytest.mark.parametrize(
    "sql",
    ["COPY departures TO '{lake}/x.parquet'", "ATTACH '{lake}/x.db'", "INSTALL httpfs",
     "EXPORT DATABASE '{lake}/x'", "SET enable_external_access = true", "LOAD httpfs",
     "PREPARE p AS COPY departures TO '{lake}/x.parquet'", "RESET lock_configuration",
     "SELECT 1; COPY departures TO '{lake}/x.parquet'", "CHECKPOINT",
     "SET allowed_directories = ['/']", "CREATE PERSISTENT SECRET s (TYPE s3)"],
)  # fmt: skip
def test_a_connection_writes_nothing(lake: Lake, sql: str) -> None:
    before = sorted(lake.folder.rglob("*"))
    with connect(lake) as connection:
        for ask in (connection.execute, connection.sql, connection.cursor().execute):
            with pytest.raises((QueryRefused, duckdb.Error)):
                ask(sql.format(lake=lake.folder))
        for other in ("query", "from_query", "executemany"):
            with pytest.raises(AttributeError, match="use `sql` or `execute`"):
                getattr(connection, other)
        assert connection.execute("SELECT count(*) FROM departures").fetchone() == (3,)
        connection.execute("SET TimeZone = 'Europe/Berlin'; SET threads = 1")
    assert sorted(lake.folder.rglob("*")) == before


def test_parameters_are_values(lake: Lake) -> None:
    asked = "SELECT count(*) FROM departures WHERE origin = $origin AND delay > $least"
    assert query(lake, asked, None, {"origin": "JFK", "least": 2}).item() == 1
    assert query(lake, asked, None, {"origin": "' OR true --", "least": 0}).item() == 0
    with pytest.raises(QueryRefused, match="parameters: least"):
        query(lake, asked, None, {"origin": "JFK"})
    with connect(lake) as connection:
        assert connection.sql(asked, params={"origin": "JFK", "least": 2}).fetchall() == [(1,)]


def test_a_connection_is_refreshed(lake: Lake) -> None:
    counted = "SELECT count(*) FROM {}"
    with connect(lake, {"notes": pl.DataFrame({"n": [1]})}) as connection:
        connection.execute("CREATE VIEW mine AS SELECT * FROM departures WHERE delay > 0")
        lake.append("weather", lake.read("departures"), "fold", 1)
        lake.append("departures", lake.read("departures"), "fold", 9)
        found = [
            connection.execute(counted.format(t)).fetchone() for t in ("departures", "weather")
        ]
        assert found == [(3,), (0,)]
        connection.refresh({"notes": pl.DataFrame({"n": [1, 2]})})
        for table, rows in (("departures", 6), ("weather", 3), ("mine", 4), ("notes", 2)):
            assert connection.cursor().execute(counted.format(table)).fetchone() == (rows,)
        known = "weather_known_at(TIMESTAMPTZ '2013-01-02')"
        assert connection.execute(counted.format(known)).fetchone() == (1,)


def test_mistakes_name_the_tables(lake: Lake) -> None:
    with pytest.raises(QueryRefused, match=r"(?s)departurs.*tables: departures, to-day, weather"):
        query(lake, "SELECT * FROM departurs")
    with pytest.raises(QueryRefused, match="syntax error"):
        query(lake, "SELEC 1")


def test_a_connection_is_an_ordinary_one(lake: Lake) -> None:
    with connect(lake) as connection:
        assert connection.execute('SELECT count(*) FROM "to-day"').fetchone() == (0,)
        connection.execute("CREATE TABLE mine AS SELECT * FROM departures")
        assert connection.execute("SELECT count(*) FROM mine").fetchone() == (3,)
