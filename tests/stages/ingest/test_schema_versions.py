"""Versions are kept for good; the step to a new one says what changes and what would break."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pytest

import homeostat as hs
from homeostat.declare.schema import EventSchema, Field
from homeostat.ingest.schema_compatibility import Incompatibility, compatible
from homeostat.ingest.schema_evolution import SchemaIncompatible, evolution
from homeostat.ingest.schema_versions import SchemaVersion, UnknownSchemaVersion, content_of
from homeostat.ingest.sqlite_schemas import SqliteSchemas
from homeostat.testing.laws import LawBroken
from homeostat.testing.schema_checks import schema_registry_checks

NAMES = [name for name, _ in schema_registry_checks(lambda name: SqliteSchemas(Path(name)))]


@pytest.mark.parametrize("name", NAMES)
def test_the_embedded_registry_keeps_the_law(name: str, tmp_path: Path) -> None:
    dict(schema_registry_checks(lambda file: SqliteSchemas(tmp_path / file)))[name]()


class CountsFromZero(SqliteSchemas):
    def register(self, source: str, schema: EventSchema) -> int:
        return super().register(source, schema) - 1


class AddsEachTime(SqliteSchemas):
    def register(self, source: str, schema: EventSchema) -> int:
        odd = Field(f"extra{len(self.list(source))}", "string", nullable=True)
        return super().register(source, replace(schema, fields=(*schema.fields, odd)))


class ForgetsDefaults(SqliteSchemas):
    def register(self, source: str, schema: EventSchema) -> int:
        bare = tuple(replace(field, default=None) for field in schema.fields)
        return super().register(source, replace(schema, fields=bare))


class ListsTheNewestFirst(SqliteSchemas):
    def list(self, source: str) -> tuple[SchemaVersion, ...]:
        return super().list(source)[::-1]


class InventsVersions(SqliteSchemas):
    def get(self, source: str, version: int) -> SchemaVersion:
        try:
            return super().get(source, version)
        except UnknownSchemaVersion:
            return SchemaVersion(source, version, EventSchema("Tap", ()))


class HasOneSource(SqliteSchemas):
    def register(self, source: str, schema: EventSchema) -> int:
        return super().register("all", schema)

    def list(self, source: str) -> tuple[SchemaVersion, ...]:
        return tuple(replace(found, source=source) for found in super().list("all"))


@pytest.mark.parametrize(
    ("broken", "laws"),
    [
        (CountsFromZero, {"versions count from one and are listed in order"}),
        (AddsEachTime, {"registering the schema in force changes nothing"}),
        (ForgetsDefaults, {"a version is what was registered"}),
        (ListsTheNewestFirst, {"versions count from one and are listed in order"}),
        (InventsVersions, {"a new source has no version"}),
        (HasOneSource, {"sources are separate"}),
    ],
)
def test_a_check_notices(
    broken: Callable[[Path], SqliteSchemas], laws: set[str], tmp_path: Path
) -> None:
    checks = dict(schema_registry_checks(lambda file: broken(tmp_path / file)))
    for law in laws:
        with pytest.raises(LawBroken):
            checks[law]()


class Tap(hs.Event):
    """A card was held to a reader."""

    tap: str
    at: hs.Timestamp
    amount: int
    shop: str | None


class Tap2(hs.Event):
    """The same, otherwise told."""

    shop: str | None
    tap: str
    at: hs.Timestamp
    amount: int


class Tap3(hs.Event):
    tap: str
    at: hs.Timestamp
    amount: float
    merchant: Annotated[str | None, hs.Alias("shop")]
    currency: str = "EUR"
    reader: str | None


class Tap4(hs.Event):
    tap: str
    at: hs.Timestamp
    amount: str
    merchant: str
    terminal: str


def source(event: type[hs.Event], compatibility: str = "BACKWARD") -> hs.EventSource:
    return hs.EventSource(
        "taps", event, event_id="tap", event_time="at", compatibility=compatibility
    )


def versions(*events: type[hs.Event]) -> list[SchemaVersion]:
    return [SchemaVersion("taps", i, event.schema) for i, event in enumerate(events, 1)]


def test_what_readers_do_not_depend_on_is_no_new_version() -> None:
    assert content_of(Tap.schema) == content_of(Tap2.schema)
    assert evolution(source(Tap2), versions(Tap)).is_change is False


def test_a_version_that_comes_back_is_a_version_of_its_own(tmp_path: Path) -> None:
    registry = SqliteSchemas(tmp_path / "meta.db")
    found = [registry.register("taps", event.schema) for event in (Tap, Tap3, Tap)]
    assert found == [1, 2, 3]
    assert registry.list("taps")[-1].schema == Tap.schema


def test_an_evolution_says_field_by_field_what_changes() -> None:
    step = evolution(source(Tap3), versions(Tap))
    assert (step.previous, step.version, step.is_change) == (1, 2, True)
    assert step.changes == (
        "amount: integer -> float",
        "merchant: was shop",
        "currency: added, string, default 'EUR'",
        "reader: added, optional string",
    )
    assert step.conflicts == ()
    step.require()
    back = evolution(source(Tap, "NONE"), versions(Tap, Tap3))
    assert back.changes == (
        "amount: float -> integer",
        "shop: added, optional string",
        "merchant: removed",
        "currency: removed",
        "reader: removed",
    )
    assert json.loads(json.dumps(step.as_json()))["changes"] == list(step.changes)


def test_a_refused_evolution_says_the_compatible_way() -> None:
    step = evolution(source(Tap4), versions(Tap, Tap3))
    with pytest.raises(SchemaIncompatible) as refused:
        step.require()
    assert str(refused.value) == (
        "event source 'taps': its schema cannot follow version 2 under compatibility BACKWARD:\n"
        "  - field 'amount': events of version 2 have it as float, which is no string; keep it "
        "float, and add the string as a field of another name, with a default or optional\n"
        "  - field 'merchant': events of version 2 may have it without a value; keep it optional "
        "('merchant: str | None')\n"
        "  - field 'terminal': events of version 2 do not have it; give it a default "
        "('terminal: str = \"\"') or make it optional ('terminal: str | None')\n"
        "allowed: changes that the readers and writers of its events can follow; change the event "
        "class as said above, or declare another EventSource(compatibility=...)."
    )
    found = step.as_json()["conflicts"][0]
    assert (found["version"], found["direction"], found["field"]) == (2, "backward", "amount")


def test_what_the_lake_cannot_hold_is_refused_under_any_mode() -> None:
    held = Incompatibility(0, "lake", "amount", "the lake holds Int64", "give it another name")
    step = evolution(source(Tap4, "NONE"), versions(Tap), [held])
    assert step.conflicts == (held,)
    with pytest.raises(SchemaIncompatible, match="field 'amount': the lake holds Int64"):
        step.require()


HINTS: list[tuple[str, tuple[Field, ...], tuple[Field, ...], str]] = [
    ("BACKWARD", (Field("shop", "string"),), (Field("merchant", "string"),),
     "if it is the old 'shop', write 'merchant: Annotated[str, Alias(\"shop\")]'"),
    ("BACKWARD", (), (Field("seen_at", "timestamp"),),
     "'seen_at: Timestamp = datetime(1970, 1, 1, tzinfo=UTC)'"),
    ("BACKWARD", (Field("a", "string"), Field("b", "string")),
     (Field("b", "string", aliases=("a",)),), "drop the alias, and keep both fields"),
    ("FORWARD", (Field("shop", "string"),), (),
     "first give it a default ('shop: str = \"\"'), and drop it in the version after that"),
    ("FORWARD", (Field("shop", "string"),), (Field("merchant", "string", aliases=("shop",)),),
     "keep it and send 'merchant' beside it until its readers know that name"),
    ("FORWARD", (Field("n", "integer"),), (Field("n", "float"),),
     "keep it integer, and add the float as a field of another name"),
    ("FORWARD", (Field("n", "integer"),), (Field("n", "integer", nullable=True),),
     "keep it required ('n: int')"),
    ("FORWARD", (Field("b", "string", aliases=("a",)),),
     (Field("a", "string"), Field("b", "string")), "choose a name that was none of its aliases"),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "old", "new", "hint"), HINTS)
def test_every_conflict_has_a_way_out(
    mode: str, old: tuple[Field, ...], new: tuple[Field, ...], hint: str
) -> None:
    before = SchemaVersion("taps", 1, EventSchema("Tap", old))
    [found] = compatible(mode, EventSchema("Tap", new), [before])
    assert hint in found.instead
    assert str(found) == f"field {found.field!r}: {found.why}; {found.instead}"


def test_no_hint_at_a_rename_where_two_fields_are_gone() -> None:
    before = EventSchema("Tap", (Field("a", "string"), Field("b", "string")))
    after = EventSchema("Tap", (Field("c", "string"),))
    [found] = compatible("BACKWARD", after, [SchemaVersion("taps", 1, before)])
    assert "Alias" not in found.instead
