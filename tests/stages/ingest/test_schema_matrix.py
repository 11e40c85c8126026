"""Which schema may follow which: Confluent's documented table, Avro's own judgement, and our data.

The table ("Schema Evolution and Compatibility", docs.confluent.io): BACKWARD allows to delete
fields and to add optional ones; FORWARD to add fields and to delete optional ones; FULL to add and
to delete optional ones; each is checked against the latest version, the transitive ones against
all; NONE allows everything. What it leaves open (types, aliases, null) is Avro's schema resolution.
"""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import avro.compatibility
import avro.errors
import avro.io
import avro.schema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.core.clock import to_micros
from homeostat.declare.schema import EventSchema, Field
from homeostat.declare.sources import COMPATIBILITY_MODES
from homeostat.ingest.decode import PayloadDecoder
from homeostat.ingest.schema_compatibility import compatible
from homeostat.ingest.schema_export import to_avro
from homeostat.ingest.schema_versions import SchemaVersion

KINDS = ("string", "integer", "float", "boolean", "timestamp")
DEFAULTS: dict[str, Any] = {
    "string": "none", "integer": 3, "float": 0.5, "boolean": True,
    "timestamp": "2013-01-01T00:00:00Z",
}  # fmt: skip
VALUES: dict[str, Any] = {
    "string": "x", "integer": 7, "float": 1.5, "boolean": False,
    "timestamp": "2014-01-01T00:00:00Z",
}  # fmt: skip


def schema(text: str, name: str = "E") -> EventSchema:
    """Return the schema of words such as `a:float?=~old`: optional, with a default, an alias."""
    fields = []
    for word in text.split():
        name_and_kind, *aliases = word.split("~")
        field, _, kind = name_and_kind.partition(":")
        bare = kind.rstrip("?=")
        default = DEFAULTS[bare] if "=" in kind else None
        fields.append(Field(field, bare, "?" in kind, frozenset(), default, tuple(aliases)))
    return EventSchema(name, tuple(fields))


# What the new schema may do: B reads the old events, F the old schema reads its events.
MATRIX: list[tuple[str, str, str, str]] = [
    *((f"add a required {kind}", "id:string", f"id:string a:{kind}", "F") for kind in KINDS),
    *((f"add an optional {kind}", "id:string", f"id:string a:{kind}?", "BF") for kind in KINDS),
    *((f"add a {kind} with a default", "id:string", f"id:string a:{kind}=", "BF")
      for kind in KINDS),
    *((f"delete a required {kind}", f"id:string a:{kind}", "id:string", "B") for kind in KINDS),
    *((f"delete an optional {kind}", f"id:string a:{kind}?", "id:string", "BF") for kind in KINDS),
    *((f"delete a {kind} with a default", f"id:string a:{kind}=", "id:string", "BF")
      for kind in KINDS),
    *((f"make a {kind} optional", f"a:{kind}", f"a:{kind}?", "B") for kind in KINDS),
    *((f"make an optional {kind} required", f"a:{kind}?", f"a:{kind}", "F") for kind in KINDS),
    *((f"{old} to {new}", f"a:{old}", f"a:{new}", "")
      for old in KINDS for new in KINDS if old != new and {old, new} != {"integer", "float"}),
    ("add an optional one with a default", "id:string", "id:string a:float?=", "BF"),
    ("delete an optional one with a default", "id:string a:float?=", "id:string", "BF"),
    ("add a required and an optional one", "id:string", "id:string a:float b:float?", "F"),
    ("delete a required and an optional one", "id:string a:float b:float?", "id:string", "B"),
    ("a required one for a required one", "a:string", "b:string", ""),
    ("an optional one for an optional one", "a:string?", "b:string?", "BF"),
    ("an optional one for a required one", "a:string", "b:string?", "B"),
    ("a required one for an optional one", "a:string?", "b:string", "F"),
    ("rename a required one by alias", "a:string", "b:string~a", "B"),
    ("rename an optional one by alias", "a:string?", "b:string?~a", "BF"),
    ("rename one with a default by alias", "a:string=", "b:string=~a", "BF"),
    ("rename twice", "a:string", "c:string~b~a", "B"),
    ("rename two", "a:string b:float", "c:string~a d:float~b", "B"),
    ("rename and widen", "a:integer", "b:float~a", "B"),
    ("rename and narrow", "a:float", "b:integer~a", ""),
    ("rename and make optional", "a:string", "b:string?~a", "B"),
    ("rename and make required", "a:string?", "b:string~a", "F"),
    ("add an alias that no event has", "a:string", "a:string~z", "BF"),
    ("drop an alias", "b:string~a", "b:string", "BF"),
    ("one of two, by alias", "a:string b:string", "b:string~a", ""),
    ("widen", "a:integer", "a:float", "B"),
    ("narrow", "a:float", "a:integer", "F"),
    ("widen an optional one", "a:integer?", "a:float?", "B"),
    ("narrow an optional one", "a:float?", "a:integer?", "F"),
    ("widen and make optional", "a:integer", "a:float?", "B"),
    ("narrow and make required", "a:float?", "a:integer", "F"),
    ("widen and make required", "a:integer?", "a:float", ""),
    ("narrow and make optional", "a:float", "a:integer?", ""),
    ("give a required one a default", "a:float", "a:float=", "BF"),
    ("take the default away", "a:float=", "a:float", "BF"),
    ("give an optional one a default", "a:float?", "a:float?=", "BF"),
    ("an optional one gets a default instead", "a:float?", "a:float=", "F"),
    ("one with a default gets optional", "a:float=", "a:float?", "B"),
    ("nothing", "a:float? b:string", "a:float? b:string", "BF"),
    ("another order", "a:float? b:string", "b:string a:float?", "BF"),
]  # fmt: skip
NAMES = [name for name, *_ in MATRIX]

AVRO_DIFFERS = {
    "integer to timestamp": "BF",
    "timestamp to integer": "BF",
    "timestamp to float": "B",
    "float to timestamp": "F",
    "one of two, by alias": "B",
}
"""Where the avro package allows more: it does not look at logical types, nor at a second match of
an alias, which Java's Avro, and so Confluent's registry, refuses."""

WE_READ_MORE = {
    "timestamp to string": "B",
    "string to timestamp": "F",
    "one of two, by alias": "B",
}
"""Refused although JSON would be read: instants are texts there, and of two fields that become one
the other is lost."""


def judged(mode: str, new: EventSchema, *old: EventSchema) -> bool:
    versions = [SchemaVersion("e", i, schema) for i, schema in enumerate(old, 1)]
    return not compatible(mode, new, versions)


def both_ways(reads: Any, old: EventSchema, new: EventSchema) -> str:
    """Return B and F where `reads(reader, writer)` holds."""
    return ("B" if reads(new, old) else "") + ("F" if reads(old, new) else "")


def avro_allows(reader: EventSchema, writer: EventSchema) -> bool:
    reads, wrote = (avro.schema.parse(json.dumps(to_avro(s, "e"))) for s in (reader, writer))
    checker = avro.compatibility.ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    found = checker.get_compatibility(reads, wrote)
    return found.compatibility is avro.compatibility.SchemaCompatibilityType.compatible


def events_of(written: EventSchema) -> list[dict[str, Any]]:
    """Return the events that tell readers apart; like Avro, they leave no field with a default."""
    complete = {f.name: VALUES[f.kind] for f in written.fields}
    empty = {f.name: None if f.nullable else VALUES[f.kind] for f in written.fields}
    return [complete, empty]


def avro_reads(reader: EventSchema, writer: EventSchema) -> bool:
    """Return whether the avro package reads its own bytes of the writer's events."""
    wrote, reads = (avro.schema.parse(json.dumps(to_avro(s, "e"))) for s in (writer, reader))
    for event in events_of(writer):
        record = {
            f.name: instant_of(event[f.name]) if f.kind == "timestamp" else event[f.name]
            for f in writer.fields
        }
        body = io.BytesIO()
        avro.io.DatumWriter(wrote).write(record, avro.io.BinaryEncoder(body))
        body.seek(0)
        try:
            avro.io.DatumReader(wrote, reads).read(avro.io.BinaryDecoder(body))
        except avro.errors.SchemaResolutionException:
            return False
    return True


def instant_of(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def we_read(reader: EventSchema, writer: EventSchema) -> bool:
    payloads = [json.dumps(event).encode() for event in events_of(writer)]
    return not PayloadDecoder(reader).decode(payloads).faults


@pytest.mark.parametrize(("old", "new", "expected"), [row[1:] for row in MATRIX], ids=NAMES)
def test_each_change_is_judged_as_documented(old: str, new: str, expected: str) -> None:
    found = {mode: judged(mode, schema(new), schema(old)) for mode in COMPATIBILITY_MODES}
    assert found == {
        "BACKWARD": "B" in expected,
        "BACKWARD_TRANSITIVE": "B" in expected,
        "FORWARD": "F" in expected,
        "FORWARD_TRANSITIVE": "F" in expected,
        "FULL": expected == "BF",
        "FULL_TRANSITIVE": expected == "BF",
        "NONE": True,
    }


def test_the_matrix_is_as_large_as_we_say() -> None:
    assert len(MATRIX) >= 60
    assert len(set(NAMES)) == len({row[1:3] for row in MATRIX}) == len(MATRIX)
    assert {row[3] for row in MATRIX} == {"", "B", "F", "BF"}


@pytest.mark.parametrize(("name", "old", "new", "expected"), MATRIX, ids=NAMES)
def test_avro_judges_the_same(name: str, old: str, new: str, expected: str) -> None:
    found = both_ways(avro_allows, schema(old), schema(new))
    assert found == AVRO_DIFFERS.get(name, expected)
    assert (name in AVRO_DIFFERS) == (found != expected)


# The package's reader knows no aliases.
WITHOUT_ALIASES = [row for row in MATRIX if "~" not in row[1] + row[2]]


@pytest.mark.parametrize(("name", "old", "new", "expected"), WITHOUT_ALIASES)
def test_avro_reads_its_bytes_accordingly(name: str, old: str, new: str, expected: str) -> None:
    found = both_ways(avro_reads, schema(old), schema(new))
    assert found == AVRO_DIFFERS.get(name, expected)


@pytest.mark.parametrize(("name", "old", "new", "expected"), MATRIX, ids=NAMES)
def test_we_read_payloads_accordingly(name: str, old: str, new: str, expected: str) -> None:
    found = both_ways(we_read, schema(old), schema(new))
    assert found == WE_READ_MORE.get(name, expected)
    assert (name in WE_READ_MORE) == (found != expected)


def test_a_default_that_is_taken_away_is_missed_by_events_that_counted_on_it() -> None:
    """Avro writes every field, so Confluent allows it; JSON events may have left the field out."""
    assert judged("BACKWARD", schema("a:float"), schema("a:float="))
    assert not PayloadDecoder(schema("a:float=")).decode([b"{}"]).faults
    [fault] = PayloadDecoder(schema("a:float")).decode([b"{}"]).faults
    assert fault.reason == "missing_field:a"


ONE, TWO, THREE = schema("f1:string"), schema("f1:string f2:string="), schema("f1:string f2:string")
EIGHT = schema("f1:string f2:string= f3:string=")
HISTORIES: list[tuple[str, list[EventSchema], EventSchema, str]] = [
    ("add fields with defaults one by one", [ONE, TWO], EIGHT, "B BT F FT"),
    ("delete fields with defaults one by one", [EIGHT, TWO], ONE, "B BT F FT"),
    ("take away a default that a version before needs", [ONE, TWO], THREE, "B F FT"),
    ("the same in another order", [TWO, ONE], THREE, "F FT"),
    ("delete what a version before required", [THREE, TWO], ONE, "B BT F"),
    ("the latest requires it", [TWO, THREE], ONE, "B BT"),
    ("bring back a field under another type", [schema("a:string b:string"), schema("a:string")],
     schema("a:string b:float?"), "B F"),
    ("no version yet", [], THREE, "B BT F FT"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), [row[1:] for row in HISTORIES])
def test_transitive_modes_look_at_every_version(
    old: list[EventSchema], new: EventSchema, expected: str
) -> None:
    words = expected.split()
    assert {mode: judged(mode, new, *old) for mode in COMPATIBILITY_MODES} == {
        "BACKWARD": "B" in words,
        "BACKWARD_TRANSITIVE": "BT" in words,
        "FORWARD": "F" in words,
        "FORWARD_TRANSITIVE": "FT" in words,
        "FULL": {"B", "F"} <= set(words),
        "FULL_TRANSITIVE": {"BT", "FT"} <= set(words),
        "NONE": True,
    }


words = st.builds(
    "{}:{}{}{}".format,
    st.sampled_from("abcd"),
    st.sampled_from([kind for kind in KINDS if kind != "timestamp"]),
    st.sampled_from(["", "?"]),
    st.sampled_from(["", "="]),
)
texts = st.lists(words, min_size=1, max_size=4, unique_by=lambda word: word[0]).map(" ".join)


@given(texts, texts)
@settings(max_examples=200, deadline=None)
def test_any_two_schemas_are_judged_as_by_avro_and_by_our_data(old: str, new: str) -> None:
    before, after = schema(old), schema(new)
    ours = both_ways(lambda r, w: judged("BACKWARD", r, w), before, after)
    assert ours == both_ways(avro_allows, before, after)
    assert ours == both_ways(we_read, before, after)
    assert ("F" in ours) == judged("FORWARD", after, before)


def test_an_instant_is_the_same_in_avro_and_here() -> None:
    seen = schema("at:timestamp=").field("at", "test")
    assert to_micros(seen.filler) == to_avro(schema("at:timestamp="), "e")["fields"][0]["default"]
    assert seen.filler == datetime(2013, 1, 1, tzinfo=UTC)
