"""Events come in, bad ones are put right, and the lake answers questions."""

from __future__ import annotations

import io
import json
from pathlib import Path

import polars as pl
import pytest

from homeostat.testing.toy_home import Commands


@pytest.fixture
def taken(fresh: Commands) -> Commands:
    """Return the commands of a home that has taken in events, and done nothing yet."""
    fresh.ingest()
    return fresh


def lines(folder: Path, *rows: dict[str, object] | str) -> Path:
    path = folder / "more.ndjson"
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows))
    return path


def payment(number: int, **changes: object) -> dict[str, object]:
    base = {
        "payment_id": f"x{number}", "card": "card-1", "merchant": "kiosk", "amount": 5.0,
        "asked_at": "2024-03-13T12:00:00Z",
    }  # fmt: skip
    return {**base, **changes}


def test_ingest_counts_what_became_of_every_record(fresh: Commands) -> None:
    file = fresh.folder / "payments.parquet"
    found = fresh("ingest", "payments", file, "--known-column", "known_at", "--json").json
    assert found["files"] == [
        {
            "file": str(file), "records": 1850, "accepted": 1820, "duplicates": 20,
            "too_late": 10, "quarantined": 10, "raised": 0, "notes": [],
        }
    ]  # fmt: skip
    assert (found["dead_letters"], found["waiting"]) == ({"future": 10}, 0)
    again = fresh("ingest", "payments", file, "--known-column", "known_at")
    # By now the ten that came too early are in the past.
    assert again.out.splitlines()[1].split()[1:] == ["1850", "10", "1840", "10", "0"]
    assert "older than what 'payments' already knew" in again.err
    counts = fresh("ingest", "payments", lines(fresh.folder, "{"), "--received-now")
    assert "dead-letters list --source payments" in counts.err


def test_taking_events_in_decides_nothing(taken: Commands) -> None:
    assert taken("journal", "--json").json == {"decisions": [], "hash": ""}
    assert taken("models", "--json").json == []
    assert taken("status", "--json").json["models"][0]["champion"] is None


def test_only_one_rule_says_when_events_were_known(fresh: Commands) -> None:
    file = fresh.folder / "payments.parquet"
    words = ("ingest", "payments", file, "--known-column", "known_at")
    assert fresh(*words, "--received-now").status == 2
    assert fresh(*words, "--known-at", "2024-03-01").status == 2
    assert not (fresh.folder / "state").exists()


def test_events_can_be_known_at_one_instant_or_now(fresh: Commands) -> None:
    before = lines(fresh.folder, payment(1, asked_at="2024-03-01T00:00:00Z"))
    fresh("ingest", "payments", before, "--known-at", "2024-03-01T02:00:00+02:00")
    fresh("ingest", "payments", lines(fresh.folder, payment(2)), "--received-now")
    rows = fresh("sql", "select _id, _known_time, _too_late from payments", "--json").json
    assert rows[0] == {
        "_id": "x1", "_known_time": "2024-03-01T00:00:00+00:00", "_too_late": False,
    }  # fmt: skip
    assert rows[1]["_known_time"] > "2025"
    assert rows[1]["_too_late"] is True


def test_an_event_of_the_far_future_holds_up_no_other(fresh: Commands) -> None:
    ahead = payment(1, asked_at="2199-01-01T00:00:00Z")
    found = fresh("ingest", "payments", lines(fresh.folder, ahead, payment(2)), "--json").json
    counts = found["files"][0]
    assert (counts["accepted"], counts["quarantined"], found["waiting"]) == (1, 1, 0)
    assert found["dead_letters"] == {"future": 1}
    more = lines(fresh.folder, payment(3, asked_at="2024-03-14T12:00:00Z"))
    fresh("ingest", "payments", more)
    rows = fresh("sql", "select _id, _known_time from payments order by 1", "--json").json
    assert rows == [
        {"_id": "x2", "_known_time": "2024-03-13T12:00:00+00:00"},
        {"_id": "x3", "_known_time": "2024-03-14T12:00:00+00:00"},
    ]
    refused = fresh("ingest", "payments", more, "--known-at", "2199-01-01")
    assert (refused.status, "allowed: an instant that was" in refused.err) == (1, True)


def test_a_dead_letter_is_listed_repaired_and_sent_again(taken: Commands) -> None:
    file = lines(
        taken.folder,
        payment(1, amount="five"),
        payment(2, merchant=None),
        "{broken\n",
        payment(3),
    )
    counts = taken("ingest", "payments", file, "--received-now", "--json").json["files"][0]
    assert (counts["accepted"], counts["quarantined"]) == (1, 3)
    listed = taken("dead-letters", "list", "--reason", "malformed", "--json").json
    assert listed["counts"] == [{"source": "payments", "reason": "malformed", "letters": 1}]
    broken = str(listed["letters"][0]["offset"])
    first = str(int(broken) - 2)
    shown = taken("dead-letters", "show", "payments", first, "--json").json
    assert shown["reason"] == "invalid_field:amount"
    assert json.loads(shown["payload"])["amount"] == "five"

    still = taken("dead-letters", "repair", "payments", first, "--set", "amount=much")
    assert (still.status, "invalid_field:amount" in still.err) == (1, True)
    assert taken("dead-letters", "repair", "payments", first, "--set", "amont=5").status == 1
    assert taken("dead-letters", "repair", "payments", first).status == 2
    assert taken("dead-letters", "repair", "payments", first, "--set", "amount=5").status == 0
    second = str(int(broken) - 1)
    whole = json.dumps(payment(2))
    typed = taken("dead-letters", "repair", "payments", second, "--payload", "-", typed=whole)
    assert typed.status == 0

    sent = taken("dead-letters", "replay", "payments", "--json").json
    assert sent["sent"] == 2
    assert sent["sources"][0]["accepted"] == 2
    answer = taken("sql", "select amount from payments where _id in ('x1', 'x2')", "--json")
    assert answer.json == [{"amount": 5.0}, {"amount": 5.0}]
    assert taken("dead-letters", "show", "payments", first, "--json").json["state"] == "replayed"
    closed = taken("dead-letters", "drop", "payments", first)
    assert (closed.status, "is replayed" in closed.err) == (1, True)
    assert taken("dead-letters", "drop", "payments", broken).status == 0
    left = taken("dead-letters", "list", "--json").json["counts"]
    assert left == [{"source": "payments", "reason": "future", "letters": 10}]
    every = taken("dead-letters", "list", "--state", "all", "--json").json["counts"]
    assert sum(row["letters"] for row in every) == 13


def test_personal_fields_of_a_dead_letter_are_masked(fresh: Commands) -> None:
    (fresh.folder / "system.py").write_text(
        "from homeostat.testing.payments import payments\n\nsystem = payments()\n"
    )
    tap: dict[str, object] = {"tap_id": "t1", "card": "4242", "shop": "bakery", "amount": "x"}
    fresh("ingest", "taps", lines(fresh.folder, tap, '{"card": "4242"'), "--received-now")
    for offset in ("0", "1"):
        shown = fresh("dead-letters", "show", "taps", offset)
        assert "4242" not in shown.out
        revealed = fresh("dead-letters", "show", "taps", offset, "--reveal")
        assert "4242" in revealed.out
    assert '"card": "***"' in fresh("dead-letters", "show", "taps", "0").out


def test_sql_answers_in_four_forms(lived: Commands, tmp_path: Path) -> None:
    query = "select merchant, count(*) as n from verdicts group by 1 order by 1"
    rows = lived("sql", query, "--json").json
    assert sum(row["n"] for row in rows) == 1800
    assert pl.read_csv(io.StringIO(lived("sql", query, "--csv").out)).to_dicts() == rows
    file = tmp_path / "answer.parquet"
    assert lived("sql", query, "--parquet", file).status == 0
    assert pl.read_parquet(file).to_dicts() == rows
    table = lived("sql", "-", typed=query).out.splitlines()
    assert [line.split() for line in table] == [
        ["merchant", "n"], *([row["merchant"], str(row["n"])] for row in rows)
    ]  # fmt: skip
    nothing = lived("sql", "select _id from payments where false").out
    assert nothing == "no rows; columns: _id\n"


def test_sql_knows_predictions_and_decisions(lived: Commands) -> None:
    found = lived(
        "sql",
        "select action, count(*) as n from decisions group by 1 order by 1",
        "--json",
    ).json
    assert {row["action"]: row["n"] for row in found} == {
        "alert": 1, "canary": 2, "promote": 3, "shadow": 2, "train": 3,
    }  # fmt: skip
    answered = lived("sql", "select count(*) as n from predictions_fraud", "--json").json
    assert answered[0]["n"] > 900


def test_sql_takes_parameters_and_knows_what_is_beside_the_lake(lived: Commands) -> None:
    asked = "select count(*) as n from verdicts where merchant = $shop and $least <= 3"
    one = lived("sql", asked, "--param", "shop=casino", "--param", "least=2.5", "--json").json
    every = lived("sql", "select count(*) as n from verdicts", "--json").json
    assert 0 < one[0]["n"] < every[0]["n"]
    text = lived("sql", "select typeof($a) as a, $a as v", "--param", 'a="7"', "--json").json
    assert text == [{"a": "VARCHAR", "v": "7"}]
    missing = lived("sql", asked, "--param", "shop=casino")
    assert (missing.status, "least" in missing.err) == (1, True)
    metrics = lived(
        "sql", "select version, value from metrics where span = 'test' and metric = 'auc'", "--json"
    ).json
    assert {row["version"] for row in metrics} >= {1, 2}
    assert all(0.5 < row["value"] <= 1 for row in metrics)
    letters = lived("sql", "select count(*) as n from dead_letters", "--json").json
    assert letters[0]["n"] == sum(
        row["letters"]
        for row in lived("dead-letters", "list", "--state", "all", "--json").json["counts"]
    )


def test_sql_changes_nothing(lived: Commands) -> None:
    found = lived("sql", "drop table payments")
    assert (found.status, "allowed: one SELECT" in found.err) == (1, True)


def test_sql_tells_of_the_quotes_around_at(lived: Commands) -> None:
    found = lived("sql", "select action from decisions order by at desc")
    assert (found.status, 'write the column as "at"' in found.err) == (1, True)
    assert lived("sql", 'select action from decisions order by "at" desc').status == 0
