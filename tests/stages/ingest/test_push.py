"""A pushed body is cut into events, each judged by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.ingest.decode import PayloadDecoder
from homeostat.ingest.push import BodyMalformed, Door, cut
from homeostat.testing.payments import payments, tap

TAPS = payments().source("taps")
HOSTILE = st.one_of(
    st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")),
    st.sampled_from([b"{", b"null", b"[]", b'"\xff"', b"{}", b"[" * 5_000, b"\x00refused\x00"]),
    st.fixed_dictionaries({"amount": st.one_of(st.floats(), st.text(max_size=3), st.none())}).map(
        lambda changes: json.dumps(tap(**changes)).encode()
    ),
)


@given(st.lists(HOSTILE, max_size=12))
def test_each_line_is_judged_as_if_it_were_alone(lines: list[bytes]) -> None:
    told = [line.strip(b" \t\r") for line in lines]
    told = [line for line in told if line]
    if not told:
        with pytest.raises(BodyMalformed, match="nothing; allowed: one object"):
            cut("taps", b"\n".join(lines), by_lines=True)
        return
    events = cut("taps", b"\n".join(lines), by_lines=True)
    assert events == told
    judged = Door(TAPS).judge(events)
    alone = [PayloadDecoder(TAPS.schema).decode([event]).faults for event in events]
    assert judged.accepted == [e for e, faults in zip(events, alone, strict=True) if not faults]
    assert [(r.index, r.reason, r.detail) for r in judged.rejected] == [
        (index, faults[0].reason, faults[0].detail) for index, faults in enumerate(alone) if faults
    ]


@given(st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=4))))
def test_a_list_and_lines_hold_the_same_events(values: list[dict[str, Any]]) -> None:
    texts = [json.dumps(value).encode() for value in values]
    for body, by_lines in (
        (b"[" + b" ,\n".join(texts) + b"]", False), (b"\n".join(texts), False),
        (b" \r\n".join(texts) + b"\r\n\r\n", True),
    ):  # fmt: skip
        if texts:
            assert cut("taps", body, by_lines=by_lines) == texts
        else:
            with pytest.raises(BodyMalformed):
                cut("taps", body, by_lines=by_lines)


@pytest.mark.parametrize("body", [b"", b" ", b"[]", b"{", b'[{"a": 1}, ', b"[" * 100_000])
def test_a_body_that_is_no_json_is_refused_whole(body: bytes) -> None:
    with pytest.raises(BodyMalformed, match="send JSON, and application/x-ndjson"):
        cut("taps", body)
