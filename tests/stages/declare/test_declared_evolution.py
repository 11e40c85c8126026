"""Defaults, earlier names and compatibility modes: what they declare, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any

import pytest

import homeostat as hs
from homeostat.core.errors import DeclarationError
from homeostat.core.hashing import content_hash
from homeostat.declare.schema import Field
from homeostat.declare.sources import COMPATIBILITY_MODES

NOON = datetime(2013, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))


class Tap(hs.Event):
    tap: str
    at: hs.Timestamp
    currency: str = "EUR"
    items: int = 0
    amount: float = 1
    is_refund: bool = False
    seen_at: hs.Timestamp = NOON
    note: str | None = None
    rate: float | None = 0.5
    reader: Annotated[str, hs.Alias("terminal"), hs.Alias("gate")]
    holder: Annotated[str | None, hs.Personal, hs.Alias("person")]


class Plain(hs.Event):
    """Nothing new."""

    tap: str
    at: hs.Timestamp
    amount: float | None


def test_values_of_the_class_are_defaults() -> None:
    assert Tap.schema.fields[2:9] == (
        Field("currency", "string", default="EUR"),
        Field("items", "integer", default=0),
        Field("amount", "float", default=1.0),
        Field("is_refund", "boolean", default=False),
        Field("seen_at", "timestamp", default="2013-01-01T10:00:00Z"),
        Field("note", "string", nullable=True),
        Field("rate", "float", nullable=True, default=0.5),
    )
    assert isinstance(Tap.schema.field("amount", "test").default, float)
    assert Tap.schema.field("seen_at", "test").filler == NOON
    assert Tap.schema.field("seen_at", "test").filler.tzinfo is UTC
    assert [f.name for f in Tap.schema.fields if not f.is_optional] == ["tap", "at", "reader"]


def test_earlier_names_are_aliases() -> None:
    assert Tap.schema.field("reader", "test").aliases == ("terminal", "gate")
    assert Tap.schema.field("holder", "test") == Field(
        "holder", "string", True, frozenset({"personal"}), aliases=("person",)
    )


def test_a_subclass_inherits_and_replaces_defaults() -> None:
    class Dollars(Tap):
        currency: str = "USD"

    assert Dollars.schema.field("currency", "test").default == "USD"
    assert Dollars.schema.field("items", "test").default == 0


def test_what_declares_nothing_new_has_the_hash_it_had() -> None:
    source = hs.EventSource("taps", Plain, event_id="tap", event_time="at")
    assert content_hash(source)[:16] == "6964d36717ddf7f0"
    changed = hs.EventSource("taps", Plain, event_id="tap", event_time="at", compatibility="FULL")
    assert content_hash(changed) != content_hash(source)
    assert content_hash(Field("a", "float", default=0.0)) != content_hash(Field("a", "float"))
    assert content_hash(Field("a", "float", aliases=("b",))) != content_hash(Field("a", "float"))


@pytest.mark.parametrize("mode", COMPATIBILITY_MODES)
def test_every_mode_can_be_declared(mode: str) -> None:
    source = hs.EventSource("taps", Plain, event_id="tap", event_time="at", compatibility=mode)
    assert source.compatibility == mode


def event(annotation: Any, *default: Any, more: dict[str, Any] | None = None) -> Any:
    body: dict[str, Any] = {"__annotations__": {"field": annotation, **(more or {})}}
    return type("Odd", (hs.Event,), {**body, **dict(zip(["field"], default, strict=False))})


@pytest.mark.parametrize(
    ("annotation", "default"),
    [
        (str, 1), (str, None), (str, "\ud800"), (int, 1.0), (int, True), (int, 2**63), (int, "1"),
        (float, True), (float, float("nan")), (float, float("inf")), (float, 10**400),
        (bool, 0), (hs.Timestamp, NOON.replace(tzinfo=None)), (hs.Timestamp, "2013-01-01T00:00Z"),
        (hs.Timestamp, datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
        (int | None, "x"), (list, None),
    ],
)  # fmt: skip
def test_a_default_its_field_cannot_hold_is_refused(annotation: Any, default: Any) -> None:
    with pytest.raises(DeclarationError, match="event 'Odd'") as refused:
        event(annotation, default)
    assert "allowed: " in str(refused.value)


@pytest.mark.parametrize(
    ("annotation", "more", "why"),
    [
        (Annotated[str, hs.Alias("other")], {"other": str}, "is also another field or alias"),
        (Annotated[str, hs.Alias("field")], {}, "is also another field or alias"),
        (Annotated[str, hs.Alias("old"), hs.Alias("old")], {}, "is also another field or alias"),
        (Annotated[str, hs.Alias("old")], {"other": Annotated[str, hs.Alias("old")]}, "is also"),
        (Annotated[str, hs.Alias("not a name")], {}, "letters, digits and _"),
        (Annotated[str, hs.Alias("")], {}, "letters, digits and _"),
        (Annotated[str, hs.Alias("_offset")], {}, "beginning with a letter"),
    ],
)
def test_an_alias_is_a_name_of_one_field(annotation: Any, more: dict[str, Any], why: str) -> None:
    with pytest.raises(DeclarationError, match=why):
        event(annotation, more=more)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"event_id": "currency"}, "'currency' has a default"),
        ({"event_time": "seen_at"}, "'seen_at' has a default"),
        ({"known_time": "seen_at"}, "'seen_at' has a default"),
        ({"compatibility": "backward"}, "Did you mean 'BACKWARD'"),
        ({"compatibility": "ANY"}, "allowed: BACKWARD, BACKWARD_TRANSITIVE, .*, NONE"),
    ],
)
def test_a_source_refuses(changes: dict[str, Any], why: str) -> None:
    given: dict[str, Any] = {"event_id": "tap", "event_time": "at", **changes}
    with pytest.raises(DeclarationError, match=why):
        hs.EventSource("taps", Tap, **given)
