"""Schemas: their versions are listed, and others can read them."""

from __future__ import annotations

import json
from pathlib import Path

import avro.schema
import jsonschema  # type: ignore[import-untyped]

from homeostat.testing.toy_home import Commands

SYSTEM = """\
import homeostat as hs


class Tap(hs.Event):
    tap: str
    at: hs.Timestamp
    amount: {amount}
    note: str | None


taps = hs.EventSource("taps", Tap, event_id="tap", event_time="at")
system = hs.System("taps", sources=(taps,))
"""


def declare(folder: Path, amount: str) -> Commands:
    (folder / "system.py").write_text(SYSTEM.format(amount=amount))
    return Commands(folder)


def test_versions_are_listed_with_what_they_changed(tmp_path: Path) -> None:
    run = declare(tmp_path, "int")
    listed = {
        "source": "taps", "versions": 0, "compatibility": "BACKWARD", "fields": 4,
        "declared": "to be applied",
    }  # fmt: skip
    assert run("schemas", "list", "--json").json == [listed]
    assert not (tmp_path / "state").exists()
    assert run("apply").status == 0
    assert run("schemas", "list", "--json").json == [
        {**listed, "versions": 1, "declared": "in force"}
    ]
    run = declare(tmp_path, "float")
    assert run("apply").status == 0
    run = declare(tmp_path, "str")
    assert run("schemas", "list", "--json").json[0]["declared"] == "refused"

    shown = run("schemas", "show", "taps", "--version", "2", "--json").json
    assert shown["versions"] == {"1": ["first version"], "2": ["amount: integer -> float"]}
    kinds = {row["field"]: row["kind"] for row in shown["fields"]}
    assert kinds == {"tap": "string", "at": "timestamp", "amount": "float", "note": "string"}
    assert "version 2: amount: integer -> float" in run("schemas", "show", "taps").out
    gone = run("schemas", "show", "taps", "--version", "7")
    assert (gone.status, "allowed: 1, 2" in gone.err) == (1, True)


def test_a_schema_is_exported_for_others(tmp_path: Path) -> None:
    run = declare(tmp_path, "int")
    run("apply")
    run = declare(tmp_path, "float")
    found = run("schemas", "export", "taps")
    assert found.status == 0, found.err
    record = avro.schema.parse(found.out)
    assert [str(field.type) for field in record.fields][2] == '"double"'  # type: ignore[attr-defined]
    first = run("schemas", "export", "taps", "--version", "1", "--json").json
    assert first["fields"][2] == {"name": "amount", "type": "long"}

    out = tmp_path / "taps.json"
    assert run("schemas", "export", "taps", "--format", "json-schema", "--out", out).out == ""
    schema = json.loads(out.read_text())
    event = {"tap": "a", "at": "2024-03-04T09:00:00Z", "amount": 1.5}
    jsonschema.validate(event, schema)
    assert not jsonschema.Draft202012Validator(schema).is_valid({**event, "amount": "1.5"})
    odd = run("schemas", "export", "tap")
    assert (odd.status, "Did you mean 'taps'?" in odd.err) == (1, True)


def test_the_plan_says_what_would_be_refused(tmp_path: Path) -> None:
    declare(tmp_path, "int")("apply")
    run = declare(tmp_path, "str")
    planned = run("plan")
    assert planned.status == 3
    assert "schema of 'taps': version 2 (BACKWARD) is refused" in planned.out
    assert planned.out.endswith("`homeostat apply` refuses it\n")
    assert "keep it integer, and add the string as a field of another name" in planned.out
    refused = run("apply")
    assert (refused.status, "cannot follow version 1" in refused.err) == (1, True)
    run = declare(tmp_path, "float")
    allowed = run("plan")
    assert (allowed.status, "makes it hold in" in allowed.out) == (0, True)
