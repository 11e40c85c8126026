"""`homeostat features profile` tells what a source and a training set hold."""

from __future__ import annotations

import json
from pathlib import Path

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


def test_a_page_is_written_too(lived: Commands, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for name in ("payments", "fraud"):
        body = lived("features", "profile", name, "--html", page, "--json").json
        text = page.read_text(encoding="utf-8")
        assert f"<h1>{name}</h1>" in text
        assert f"<b>{body['rows']:,}</b><span>rows" in text
        assert ("What each column knows about the label" in text) == (name == "fraud")
        assert "ジム" in text
    assert f"the page is {page}" in lived("features", "profile", "fraud", "--html", page).err


def test_personal_values_are_masked(fresh: Commands, tmp_path: Path) -> None:
    (fresh.folder / "system.py").write_text(
        "from homeostat.testing.payments import payments\n\nsystem = payments()\n"
    )
    events = tmp_path / "taps.ndjson"
    tap = {
        "card": "4242", "shop": "bakery", "amount": 3.0, "online": False,
        "tapped_at": "2013-07-01T12:00:00Z",
    }  # fmt: skip
    lines = [json.dumps({"tap_id": f"t{number}", **tap}) for number in range(3)]
    events.write_text("\n".join(lines))
    fresh("ingest", "taps", events, "--known-at", "2013-07-01T12:00:00Z")
    page = tmp_path / "page.html"
    for words in ((), ("--json",)):
        told = fresh("features", "profile", "taps", "--html", page, *words).out
        assert "bakery" in told
        assert "4242" not in told + page.read_text()
        revealed = fresh("features", "profile", "taps", "--html", page, "--reveal", *words).out
        assert "4242" in revealed
        assert "4242" in page.read_text()


def test_a_name_that_is_neither_is_refused(lived: Commands) -> None:
    found = lived("features", "profile", "paiments")
    assert found.status == 1
    assert "Did you mean 'payments'" in found.err
