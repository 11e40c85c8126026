"""`homeostat features profile` tells what a source and a training set hold."""

from __future__ import annotations

from homeostat.testing.toy_home import Commands


def test_a_source_is_described(lived: Commands) -> None:
    body = lived("features", "profile", "payments", "--json").json
    columns = {column["name"]: column for column in body["columns"]}
    assert columns["merchant"]["distinct"] == 4
    assert columns["amount"]["kind"] == "float"
    assert body["rows"] == lived("sql", "select count(*) as n from payments", "--json").json[0]["n"]


def test_a_training_set_is_held_against_its_label(lived: Commands) -> None:
    body = lived("features", "profile", "fraud", "--json").json
    assert body["knowledge"]["amount"] is not None
    told = lived("features", "profile", "fraud").out
    assert "merchant" in told
    assert "rows" in told.splitlines()[-1]


def test_a_name_that_is_neither_is_refused(lived: Commands) -> None:
    found = lived("features", "profile", "paiments")
    assert found.status == 1
    assert "Did you mean 'payments'" in found.err
