"""Compiled loops read payloads as the decoder of single payloads does, or leave them to it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.clock import to_micros
from homeostat.core.ids import id_digest
from homeostat.ingest.decode import PayloadDecoder
from homeostat.ingest.event_columns import ColumnDecoder, EventColumns
from homeostat.ingest.payloads import Payloads
from homeostat.testing.hostile_payloads import hostile_payloads


class Sale(hs.Event):
    sale: str
    at: hs.Timestamp
    amount: float
    items: int | None
    online: bool | None
    back_at: hs.Timestamp | None
    note: str | None
    currency: str = "EUR"
    rate: float = -0.0
    shop: Annotated[str, hs.Alias("store")] = "main"
    level: int | None = 3
    paid: bool = False
    since: hs.Timestamp = datetime(2020, 1, 1, tzinfo=UTC)


COLUMNS, ROWS = ColumnDecoder(Sale.schema), PayloadDecoder(Sale.schema)
PLAIN: dict[str, Any] = {"sale": "a", "at": "2013-03-01T00:00:00Z", "amount": 1.5}


def values_of(columns: EventColumns, row: int) -> dict[str, Any]:
    places = np.array([row])
    return {name: plain(columns.series(name, places)[0]) for name in columns.schema.names()}


def plain(value: Any) -> Any:
    return to_micros(value) if isinstance(value, datetime) else value


def check(payloads: list[bytes]) -> EventColumns:
    """Both decoders say the same of every payload, and of which ones say the same."""
    found, expected = COLUMNS.decode(Payloads.of(payloads)), ROWS.decode(payloads)
    assert found.faults == expected.faults
    assert np.flatnonzero(found.valid).tolist() == list(expected.places)
    for place, row in zip(expected.places, expected.rows, strict=True):
        wanted = {name: plain(getattr(row, name)) for name in Sale.schema.names()}
        assert repr(values_of(found, place)) == repr(wanted), payloads[place]
    digests = COLUMNS.contents(found)[list(expected.places)].tolist()
    texts = ROWS.canonical(expected.rows)
    assert len(set(digests)) == len(set(texts)) == len(set(zip(digests, texts, strict=True)))
    return found


numbers = st.one_of(
    st.integers(-(2**65), 2**65).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"-?(0|[1-9][0-9]{0,21})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.sampled_from(["-0", "-0.0", "01", "1.", ".5", "1e", "+1", "1e400", "1e-400", "NaN", "0e9"]),
)
instants = st.one_of(
    st.datetimes(timezones=st.just(UTC)).map(lambda at: at.isoformat()),
    st.from_regex(
        r"[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{0,8})?"
        r"(Z|z|[+-][0-2][0-9]:[0-6][0-9])",
        fullmatch=True,
    ),
    st.sampled_from(
        ["2013-02-29T00:00:00Z", "2012-02-29T23:59:59.999999+23:59", "1900-02-29T00:00:00Z",
         "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59.999999-00:01", "2013-03-01",
         "2013-03-01T00:00:00-00:00", "0001-01-01T00:00:00Z", "0000-01-01T00:00:00Z"]
    ),
)  # fmt: skip
texts = st.one_of(
    st.text(max_size=20).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.text(max_size=20).map(json.dumps),
    st.binary(max_size=6).map(lambda raw: '"' + raw.decode("latin-1") + '"'),
    instants.map(json.dumps),
)
values = st.recursive(
    st.one_of(numbers, texts, st.sampled_from(["true", "false", "null", "nul", "True"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: "[" + " , ".join(parts) + "]"),
        st.lists(st.tuples(texts, inner), max_size=3).map(
            lambda parts: "{" + ",".join(f"{name}:{value}" for name, value in parts) + "}"
        ),
    ),
    max_leaves=6,
)


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    names = [
        *Sale.schema.names(),
        "store",
        "unknown",
        "sal",
        "salex",
        "Items",
        "on-line",
        "ontline",
        "ntoe",
        " note",
        "back_at\u00a0",
        "\u00e9note",
        "Store",
        "shpo",
        "SHOP",
        "Amount",
    ]
    members = [(f'"{name}"', json.dumps(value)) for name, value in PLAIN.items()]
    kinds = {"at": instants.map(json.dumps), "back_at": instants.map(json.dumps),
             "since": instants.map(json.dumps), "amount": numbers, "rate": numbers,
             "items": numbers, "level": numbers}  # fmt: skip
    for name in draw(st.lists(st.sampled_from(names), max_size=6)):
        fitting = kinds.get(name, texts)
        members.append((f'"{name}"', draw(fitting | fitting | values)))
    members = draw(st.permutations(members))
    blank = draw(st.sampled_from(["", " ", "\n\t", " \r\n "]))
    text = blank + "{" + ",".join(f"{n}{blank}:{blank}{v}{blank}" for n, v in members) + "}" + blank
    body = bytearray(text.encode("latin-1", "ignore") if draw(st.booleans()) else text.encode())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        place = draw(st.integers(0, len(body)))
        body[place : place + draw(st.integers(0, 1))] = draw(
            st.sampled_from(
                [b"", b'"', b"\\", b",", b"}", b"{", b"\x00", b"\xff", b"9", b"e", b" "]
            )
        )
    return bytes(body)


@settings(max_examples=400, deadline=None)
@given(payloads=st.lists(objects(), max_size=5))
@example(payloads=[b"", b"{}", b"[]", b"{", b'{"sale":', b'{"sale":"a"', b"null", b'{"sale"'])
@example(payloads=[json.dumps({**PLAIN, "x": {"a": [1, {"b": []}, "c", None]}}).encode()])
@example(payloads=[json.dumps({**PLAIN, "x": 1}).encode() + b" ", b"\x00refused\x00"])
def test_any_payload_is_read_as_alone(payloads: list[bytes]) -> None:
    check(payloads)


FORMS = [
    *rb'''
    0 -0 00 01 -01 1 -1 +1 --1 - 1. .1 1.0 1.5 0.5 00.5 -0.0 -0.5 1e5 1E5 1e+5 1e-5 1e 1e+
    1.e5 1e0 0e0 0e99 1e400 1e-400 9007199254740993 9007199254740993.0 9223372036854775807
    9223372036854775808 -9223372036854775808 -9223372036854775809 18446744073709551616
    9999999999999999999 99999999999999999999 1.00000000000000000000000001 0.1e-300 4.9e-324
    3.0 3.00 30e-1 3e2 -3.0 1.5e1 1.25e1 100e-2 123456789012345678.0 9223372036854775808.0
    -9223372036854775808.0 9.3e18 9.1e18 1e18 1e19 0e9999 0e99999 1e9999 0.0e5
    2.2250738585072011e-308 1.7976931348623157e308 1.7976931348623159e308 1_0 0x1 1f NaN
    Infinity -Infinity true false null tru True nul nulll truee [] {} [1] [1,] [,] [1 {"a":1}
    [1} {"a":1] [{"a":1]} {"a":[1}} {"a"} {"a":} {a:1} {"a":1,} [{"a":[]}]
    [] "" "" "a" "\n" "\u00e9" "\ud800" "\"
    "2013-03-01T00:00:00Z" "2013-03-01T00:00:00z" "2013-03-01t00:00:00Z" "2013-03-01T00:00:00"
    "2013-03-01T24:00:00Z" "2013-03-01T23:59:60Z" "2013-03-01T00:00:00.Z"
    "2013-03-01T00:00:00.1234567Z" "2013-03-01T23:59:59.999999999999999999999Z"
    "1969-12-31T23:59:59.9999999Z" "9999-12-31T23:59:59.9999999Z" "2013-03-01T00:00:00.123456x7Z"
    "2013-03-01T00:00:00.123456\u0037Z" "2013-03-01T00:00:00.123456789+01" "2013-03-01T00:00:00-05"
    "2013-03-01T00:00:00.1234567+0100" "2013-03-01T00:00:00.123456+23:59"
    "2013-03-01T00:00:00+24:00" "2013-03-01T00:00:00+01:60" "2013-03-01T00:00:00-00:00"
    "2013-03-01T00:00:00+00:00" "2013-03-01T00:00:00+0100" "2013-02-29T00:00:00Z"
    "2012-02-29T00:00:00Z" "1900-02-29T00:00:00Z" "2000-02-29T00:00:00Z"
    "2013-04-31T00:00:00Z" "2013-00-01T00:00:00Z" "2013-13-01T00:00:00Z"
    "2013-01-00T00:00:00Z" "0000-01-01T00:00:00Z" "0001-01-01T00:00:00Z"
    "0001-01-01T00:00:00+00:01" "9999-12-31T23:59:59.999999Z"
    "9999-12-31T23:59:59.999999-00:01" "1969-12-31T23:59:59.9Z" "2013-3-01T00:00:00Z"
    "+2013-03-01T00:00:00Z" "2013-03-01T0:00:00Z"
    '''.split(),
    b'"\xc2\xa9"', b'"\xc2"', b'"\xc2\xc0"', b'"\xc1\x81"', b'"\x80"', b'"\xff"',
    b'"\xe0\xa0\x80"', b'"\xe0\x9f\x80"', b'"\xe1\x80\x80"', b'"\xe1\x80\xc0"', b'"\xe1\x80"',
    b'"\xed\x9f\xbf"', b'"\xed\xa0\x80"', b'"\xef\xbf\xbf"', b'"\xf0\x90\x80\x80"',
    b'"\xf0\x8f\x80\x80"', b'"\xf1\x80\x80\xc0"', b'"\xf4\x8f\xbf\xbf"', b'"\xf4\x90\x80\x80"',
    b'"\xf5\x80\x80\x80"', b'"\xf0\x90\x80"', b'"a\x1f"', b'"\x7f"', b'"2013-03-01 00:00:00Z"',
    b'"2013-03-01T00:00:00Z "',
]  # fmt: skip
"""Ways to write a value, right and wrong."""


def test_every_form_of_a_value_is_read_as_alone() -> None:
    members = {name: json.dumps(value).encode() for name, value in PLAIN.items()}
    payloads = []
    for name in (
        "sale",
        "at",
        "amount",
        "items",
        "online",
        "note",
        "rate",
        "store",
        "paid",
        "unknown",
    ):
        for form in FORMS:
            said = {**members, name: form}
            pairs = [b'"' + key.encode() + b'":' + value for key, value in said.items()]
            payloads += [
                b"{" + b",".join(pairs) + b"}",
                b"{" + b" , ".join(reversed(pairs)) + b" }",
            ]
    for end in (b"", b" ", b"\n", b",", b"}", b"x", b"\x00"):
        whole = json.dumps(PLAIN).encode()
        payloads += [whole + end, end + whole, whole[:-1] + end, whole[:-1] + b"," + end + b"}"]
    found = check(payloads)
    assert 500 < np.count_nonzero(found.valid) < len(payloads) - 500


@pytest.mark.soak
@settings(max_examples=3_000, deadline=None)
@given(payloads=st.lists(objects(), min_size=20, max_size=30))
def test_many_payloads_are_read_as_alone(payloads: list[bytes]) -> None:
    check(payloads)


def check_spoiled(rounds: int, size: int) -> None:
    for seed in range(rounds):
        said = {
            **PLAIN,
            "amount": seed / 7,
            "note": "naïve",
            "back_at": PLAIN["at"],
            "level": -seed,
        }
        assert not check(hostile_payloads(said, size, seed)).valid.all()


def test_spoiled_payloads_are_read_as_alone() -> None:
    check_spoiled(rounds=4, size=500)


@pytest.mark.soak
def test_a_million_spoiled_payloads_are_read_as_alone() -> None:
    check_spoiled(rounds=500, size=2_000)


def written(texts: list[str]) -> Payloads:
    head = json.dumps({name: value for name, value in PLAIN.items() if name != "amount"})[:-1]
    return Payloads.of([f'{head},"amount":{text}}}'.encode() for text in texts])


def hard_numbers(count: int, seed: int) -> list[str]:
    """Random bits, few digits, many digits, and halves between neighbours."""
    draw = np.random.default_rng(seed)
    bits = draw.integers(0, 2**63, count, dtype=np.int64).view(np.float64)
    found = [repr(float(value)) for value in bits[np.isfinite(bits)]]
    digits = draw.integers(0, 10**18, count)
    powers = draw.integers(-40, 40, count).tolist()
    found += [f"{digit}e{power}" for digit, power in zip(digits.tolist(), powers, strict=True)]
    wholes = (draw.integers(2**53, 2**62, count) >> draw.integers(0, 9, count)).tolist()
    found += [f"{whole}.{'0' * (whole % 3)}5" for whole in wholes] + [f"{w}.0" for w in wholes]
    found += [f"{whole / 64:.6f}" for whole in wholes] + [f"0.{w:019d}"[:21] for w in wholes]
    return found


def check_numbers(count: int, seed: int) -> None:
    texts = hard_numbers(count, seed)
    found = COLUMNS.decode(written(texts))
    expected = np.array([float(text) for text in texts])
    assert np.array_equal(found.numbers("amount").view(np.int64), expected.view(np.int64))


def test_numbers_are_the_nearest_floats() -> None:
    check_numbers(3_000, 1)


@pytest.mark.soak
def test_a_million_numbers_are_the_nearest_floats() -> None:
    for seed in range(20):
        check_numbers(10_000, seed)


def test_what_is_written_plainly_is_read_by_the_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the comparisons above compare a decoder with itself."""

    def refuse(self: PayloadDecoder, payloads: list[bytes]) -> None:
        raise AssertionError(payloads)

    monkeypatch.setattr(PayloadDecoder, "decode", refuse)
    draw = np.random.default_rng(2)
    payloads = [
        json.dumps(
            {**PLAIN, "sale": f"Zoë {i} 店 😀", "amount": float(draw.normal()), "items": -i,
             "online": i % 2 == 0, "note": None, "x": {"a": [1, {"b": []}, "c"]}, "rate": 1e-9},
            ensure_ascii=False,
        ).encode()
        for i in range(50)
    ]  # fmt: skip
    found = COLUMNS.decode(Payloads.of(payloads))
    assert found.valid.all()
    assert values_of(found, 7)["sale"] == "Zoë 7 店 😀"
    COLUMNS.decode(written([repr(float(value)) for value in draw.lognormal(0, 9, 500)]))


@given(texts=st.lists(st.text(max_size=200)))
@example(texts=["x" * n for n in (0, 1, 127, 128, 129, 255, 256, 257, 600)])
def test_digests_of_texts_are_those_of_ids(texts: list[str]) -> None:
    from homeostat.ingest.digests import text_digests

    held = Payloads.of([text.encode() for text in texts])
    found = np.empty(len(texts), np.int64)
    text_digests(held.body, held.body, held.starts, held.lengths, found, 0, len(texts))
    assert found.tolist() == [id_digest(text) for text in texts]


@given(strings=st.lists(st.binary(max_size=5)), picks=st.data())
def test_payloads_are_a_sequence_of_bytes(strings: list[bytes], picks: st.DataObject) -> None:
    held = Payloads.of(strings)
    assert held == strings
    assert list(held) == strings
    assert held.packed() == b"".join(strings)
    if strings:
        places = picks.draw(st.lists(st.integers(0, len(strings) - 1)))
        some = held.take(np.array(places, np.int64))
        assert list(some) == [strings[place] for place in places]
        assert some.packed() == b"".join(some)
        both = Payloads.joined([some, held[1:]])
        assert list(both) == [*some, *strings[1:]]


@given(text=st.lists(st.sampled_from([b"a", b" ", b"\n", b"\r", b"\t", b"bc"])).map(b"".join))
def test_lines_are_those_that_say_something(text: bytes) -> None:
    assert list(Payloads.lines(text)) == [line for line in text.split(b"\n") if line.strip()]


def test_an_instant_is_read_to_the_microsecond() -> None:
    text = "1969-12-31T23:59:59.999999-11:30"
    found = COLUMNS.decode(Payloads.of([json.dumps({**PLAIN, "at": text}).encode()]))
    assert found.numbers("at").tolist() == [to_micros(datetime.fromisoformat(text))]
