"""SQL over the lake answers questions, and only that."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

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
