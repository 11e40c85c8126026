"""Reading requests: what is declared gets through, everything else is refused by name."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from math import isfinite
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.serve.needs import needs_of
from homeostat.serve.requests import RequestInvalid, RequestMalformed, RequestReader
from homeostat.testing.payments import payments, tap

SYSTEM = payments()
READER = RequestReader(SYSTEM, SYSTEM.models[0], limit=3)
NEEDED = {"card", "shop", "amount", "items", "online"}


def read(value: Any) -> tuple[list[dict[str, Any]], bool]:
    return READER.read(json.dumps(value).encode())


def refusal(value: Any) -> list[tuple[str, str]]:
    with pytest.raises(RequestInvalid) as refused:
        read(value)
    return [(p.field, p.found) for p in refused.value.problems]


def test_a_request_is_typed_and_absent_ids_and_clocks_are_left_to_the_service() -> None:
    rows, is_list = read(tap(tap_id=..., tapped_at=..., amount=3))
    assert not is_list
    assert rows == [{"card": "c1", "shop": "bakery", "amount": 3.0, "items": 2, "online": False}]
    assert isinstance(rows[0]["amount"], float)
    assert set(needs_of(SYSTEM, SYSTEM.models[0])) == NEEDED


def test_instants_become_utc() -> None:
    rows, _ = read(tap(tapped_at="2013-07-01T14:00:00+02:00"))
    assert rows[0]["tapped_at"].isoformat() == "2013-07-01T12:00:00+00:00"


@pytest.mark.parametrize(
    ("said", "read_as"),
    [
        ({"tapped_at": "2013-07-01T23:59:59.9999999Z"}, {"tapped_at": "23:59:59.999999"}),
        ({"tapped_at": "2013-07-01T14:00:00.123456789+02"}, {"tapped_at": "12:00:00.123456"}),
        ({"tapped_at": "2013-07-01T14:00:00+02"}, {"tapped_at": "12:00:00"}),
        ({"items": 3.0}, {"items": 3}),
        ({"items": 2e3, "tapped_at": "2013-07-01T00:00:00.0000009Z"},
         {"items": 2000, "tapped_at": "00:00:00"}),
    ],
)  # fmt: skip
def test_values_have_the_forms_that_events_may_have(said: Any, read_as: Any) -> None:
    asked = tap(**said)
    for rows in (
        read(asked)[0], read({"requests": [tap(), asked]})[0][1:], READER.rows([asked]),
    ):  # fmt: skip
        for name, value in read_as.items():
            found = rows[0][name]
            assert (
                f"{found:%H:%M:%S.%f}".removesuffix(".000000") if name == "tapped_at" else found
            ) == value
    twice = json.dumps(asked)[:-1] + ', "items": 1, "items": 2.0}'
    with pytest.raises(RequestInvalid, match="given twice"):
        READER.read(twice.encode())


@pytest.mark.parametrize("said", ["1.5", "2.0"])
@pytest.mark.parametrize("at", ["2013-07-01T00:00:00Z", "2013-07-01T00:00:00.1234567Z"])
def test_a_body_that_is_too_deep_is_refused_whatever_its_forms(said: str, at: str) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    body = json.dumps(tap(tapped_at=at))[:-1] + f', "items": {said}, "x": {deep}}}'
    with pytest.raises((RequestInvalid, RequestMalformed)):
        READER.read(body.encode())


def test_a_list_is_read_as_a_list() -> None:
    rows, is_list = read({"requests": [tap(tap_id="a"), tap(tap_id="b")]})
    assert is_list
    assert [row["tap_id"] for row in rows] == ["a", "b"]


def test_a_text_that_says_requests_is_no_list() -> None:
    rows, is_list = read(tap(shop="requests"))
    assert (rows[0]["shop"], is_list) == ("requests", False)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"amount": "12"}, ("amount", 'text "12"')),
        ({"amount": True}, ("amount", "a boolean true")),
        ({"amount": None}, ("amount", "null")),
        ({"amount": ...}, ("amount", "missing")),
        ({"items": 1.5}, ("items", "a number 1.5")),
        ({"items": 2**63}, ("items", f"a number {2**63}")),
        ({"online": 1}, ("online", "a number 1")),
        ({"shop": ["x"]}, ("shop", 'a list ["x"]')),
        ({"tapped_at": "2013-07-01T12:00:00"}, ("tapped_at", 'text "2013-07-01T12:00:00"')),
        ({"tapped_at": 5}, ("tapped_at", "a number 5")),
        ({"tapped_at": "0001-01-01T00:00:00+23:00"},
         ("tapped_at", 'text "0001-01-01T00:00:00+23:00"')),
        ({"tapped_at": "9999-12-31T00:00:00Z"}, ("tapped_at", 'text "9999-12-31T00:00:00Z"')),
        ({"amuont": 1}, ("amuont", "an unknown field")),
        ({"card": 1234567890}, ("card", "a number")),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field_and_what_was_found(changes: Any, expected: Any) -> None:
    assert refusal(tap(**changes)) == [expected]


def test_a_refusal_says_what_is_allowed() -> None:
    with pytest.raises(RequestInvalid) as refused:
        read(tap(amuont=1, amount=..., items="x"))
    text = str(refused.value)
    assert "amuont: an unknown field; allowed: Did you mean 'amount'? Known: tap_id, card" in text
    assert "amount: missing; allowed: a finite number" in text
    assert 'items: text "x"; allowed: a whole number of 64 bits, or null' in text
    assert text.startswith("request to 'fraud': ")


def test_personal_values_are_never_repeated() -> None:
    with pytest.raises(RequestInvalid) as refused:
        read(tap(card=[4111111111111111]))
    assert "4111" not in str(refused.value)


def test_lists_are_refused_by_place() -> None:
    found = refusal({"requests": [tap(), tap(amount="x"), 5]})
    assert [field for field, _ in found] == ["requests[1].amount", "requests[2]"]
    assert refusal({"requests": []}) == [("requests", "0 of them")]
    assert refusal({"requests": [tap()] * 4}) == [("requests", "4 of them")]
    assert refusal({"requests": 5}) == [("requests", "a number")]
    assert refusal({"requests": [tap()], "x": 1}) == [("x", "beside 'requests'")]
    assert refusal([tap()]) == [("body", "a list")]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 400])
def test_numbers_that_are_not_finite_are_refused_by_name(text: str) -> None:
    body = json.dumps(tap(amount="HERE")).replace('"HERE"', text).encode()
    with pytest.raises(RequestInvalid, match="amount: not a finite number"):
        READER.read(body)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b'{"a":1}x', b"[" * 100_000, b"9" * 5000, '{"a":1}'.encode("utf-16")],
    ids=["empty", "cut", "bytes", "more", "deep", "long", "utf16"],
)
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(RequestMalformed, match="allowed: "):
        READER.read(body)


def test_half_a_surrogate_pair_is_refused_by_name() -> None:
    body = json.dumps(tap()).replace("bakery", "\\ud800").encode()
    with pytest.raises(RequestInvalid, match="shop: half a surrogate pair"):
        READER.read(body)


HOSTILE = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5),
    st.lists(st.integers(), max_size=2), st.just({}),
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5))])).map(
        datetime.isoformat
    ),
    st.datetimes().map(datetime.isoformat),
)  # fmt: skip
ROWS = st.dictionaries(
    st.sampled_from([*SYSTEM.sources[0].schema.names(), "other"]), HOSTILE
) | st.builds(lambda extra: {**tap(), **extra}, st.dictionaries(st.sampled_from(
    SYSTEM.sources[0].schema.names()), HOSTILE, max_size=2))  # fmt: skip


def is_declared(row: dict[str, Any]) -> bool:
    """Whether a request is right: a plain reading of the rules."""
    for field in SYSTEM.sources[0].schema.fields:
        value = row.get(field.name)
        if field.name not in row:
            if field.name in NEEDED:
                return False
        elif value is None:
            if field.name in NEEDED and not field.nullable:
                return False
        elif field.kind == "string":
            if not isinstance(value, str):
                return False
        elif field.kind == "boolean":
            if not isinstance(value, bool):
                return False
        elif field.kind == "integer":
            if type(value) is not int or not -(2**63) <= value < 2**63:
                return False
        elif field.kind == "float":
            if type(value) not in (int, float) or not isfinite(value):
                return False
        elif not is_instant(value):
            return False
    return "other" not in row


def is_instant(value: object) -> bool:
    if not isinstance(value, str) or "T" not in value:
        return False
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        return False
    return instant.tzinfo is not None and 2 <= instant.year <= 9998


@given(ROWS)
def test_exactly_the_declared_requests_are_read(row: dict[str, Any]) -> None:
    if is_declared(row):
        rows, _ = read(row)
        assert set(rows[0]) == set(row)
        for name, value in row.items():
            if name != "tapped_at":
                assert rows[0][name] == value
    else:
        assert refusal(row)


@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda t: t.encode("utf-8", "replace")))
def test_no_bytes_get_through_or_break_it(body: bytes) -> None:
    with pytest.raises((RequestMalformed, RequestInvalid)):
        READER.read(body)


def written(row: dict[str, Any], twice: list[str], escaped: bool) -> str:
    """Return a request as JSON in which some names come twice, the second time with an escape."""
    pairs = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in row.items()]
    for name in twice:
        shown = f'"\\u{ord(name[0]):04x}{name[1:]}"' if escaped else f'"{name}"'
        pairs.append(f"{shown}:{json.dumps(row[name])}")
    return "{" + ", ".join(pairs) + "}"


NOTES = st.sampled_from(["amount", "shop", '"amount":', "requests", "café", None, ...])


@given(
    st.lists(
        st.tuples(NOTES, st.lists(st.sampled_from(["amount", "shop", "items"]), max_size=2)),
        min_size=1, max_size=3,
    ),
    st.booleans(),
    st.booleans(),
)  # fmt: skip
def test_a_name_that_comes_twice_is_refused_by_its_place(
    rows: list[tuple[Any, list[str]]], escaped: bool, listed: bool
) -> None:
    rows = rows if listed else rows[:1]
    texts = [written(tap(note=note, items=None), twice, escaped) for note, twice in rows]
    body = '{"requests": [' + ",".join(texts) + "]}" if listed else texts[0]
    right = {
        (f"requests[{i}].{name}" if listed else name, "given twice")
        for i, (_, twice) in enumerate(rows)
        for name in twice
    }
    if not right:
        found, is_list = READER.read(body.encode())
        assert (is_list, len(found)) == (listed, len(rows))
        return
    with pytest.raises(RequestInvalid) as refused:
        READER.read(body.encode())
    assert {(p.field, p.found) for p in refused.value.problems} == right


def test_a_body_with_two_lists_of_requests_is_refused() -> None:
    one = json.dumps(tap())
    with pytest.raises(RequestInvalid, match="requests: given twice; allowed: each field once"):
        READER.read(f'{{"requests": [{one}], "requests": [{one}]}}'.encode())
