"""The lake's files: looked at, put in order, and thrown away, while models stay rebuildable."""

from __future__ import annotations

import csv
import io
import json

import pytest

from homeostat.testing.toy_home import Commands


def test_a_lake_is_compacted_and_vacuumed_and_models_are_rebuilt(own: Commands) -> None:
    before = {row["table"]: row for row in own("lake", "status", "--json").json}
    assert set(before) == {"payments", "predictions_fraud", "verdicts"}
    asked = "select payment_id, card, amount from payments order by payment_id"
    rows = own("sql", asked, "--json").json
    done = {row["table"]: row for row in own("lake", "compact", "--json").json}
    assert done["payments"]["files_before"] > done["payments"]["files_after"]
    after = {row["table"]: row for row in own("lake", "status", "--json").json}
    for table, found in after.items():
        assert found["rows"] == before[table]["rows"]
        assert found["files"] <= found["days"] + 1
    assert after["payments"]["sorted_share"] > 0.9
    tried = own("lake", "vacuum", "--hours", "0", "--dry-run", "--json").json
    assert tried["dry_run"]
    assert sum(row["files_deleted"] for row in tried["tables"]) > 0
    said = own("lake", "vacuum", "--hours", "0", "--json").json
    assert said["tables"] == tried["tables"]
    assert all(row["kept_versions"] for row in said["tables"] if row["table"] == "payments")
    assert own("sql", asked, "--json").json == rows
    for model in ("fraud@1", "fraud@2"):
        assert own("rebuild", model).status == 0


def test_tables_are_printed(own: Commands) -> None:
    out = own("lake", "status", "payments").out.splitlines()
    assert out[0].split() == ["table", "rows", "files", "size", "days", "version", "sorted"]
    assert out[1].split()[0] == "payments"
    assert len(out) == 2
    assert "days" in own("lake", "compact", "payments").out
    tried = own("lake", "vacuum", "--dry-run")
    assert "versions_of_models" in tried.out
    assert "nothing was deleted: a dry run" in tried.err


@pytest.mark.parametrize("command", ["status", "compact", "vacuum"])
def test_a_table_that_is_none_is_refused(own: Commands, command: str) -> None:
    said = own("lake", command, "paymnts")
    assert said.status == 1
    assert "no table named 'paymnts'. Did you mean 'payments'?" in said.err


def test_what_was_received_is_archived_and_read(fresh: Commands) -> None:
    fresh.ingest()
    done = fresh("lake", "archive", "--json").json
    assert [row["table"] for row in done] == ["raw_payments", "raw_verdicts"]
    records = done[0]["records_written"]
    assert records > 1000
    again = fresh("lake", "archive", "payments")
    assert again.out.split() == ["table", "records_written", "raw_payments", "0"]
    assert "no event source named 'paymnts'" in fresh("lake", "archive", "paymnts").err
    status = {row["table"]: row for row in fresh("lake", "status", "--json").json}
    assert status["raw_payments"]["rows"] == records
    report = fresh("lake", "report", "--json").json["tables"]
    [raw] = [table for table in report if table["table"] == "raw_payments"]
    assert raw["columns"][0]["column"] == "payload"
    asked = "SELECT _offset, payload FROM raw_payments ORDER BY _offset LIMIT 2"
    first = fresh("sql", asked, "--json").json[0]
    assert set(json.loads(first["payload"])) >= {"payment_id", "card", "amount"}
    assert first["payload"] in fresh("sql", asked).out
    rows = csv.DictReader(io.StringIO(fresh("sql", asked, "--csv").out))
    assert next(rows)["payload"] == first["payload"]
    for words in (("compact",), ("vacuum", "--hours", "0")):
        assert fresh("lake", *words, "raw_payments").status == 0
    assert fresh("sql", asked, "--json").json[0] == first
    assert fresh("doctor").status == 0
