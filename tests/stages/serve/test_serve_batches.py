"""Several requests in one body: each has its own deadline, and none harms another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.serve.answer import Answer
from homeostat.serve.crew import Crew
from homeostat.serve.lane import LARGEST_PIECE, Lane, Shared
from homeostat.serve.requests import RequestInvalid, RequestReader
from homeostat.serve.routing import Route
from homeostat.testing.drills import Drill, FixedScores, HangingScores
from homeostat.testing.payments import Bench, arm, payments, tap

SECOND = 1_000_000_000
DEADLINE = 60 * SECOND


class Watch:
    """A stopwatch that a slow model moves."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        """Return the present reading."""
        return self.now


class Hostile:
    """A model that takes `amount` seconds for a row, and fails where `items` says so."""

    def __init__(self, watch: Watch) -> None:
        self._watch, self.pieces = watch, list[int]()

    def score(self, features: Any) -> Any:
        """Return a score of the row's own numbers alone."""
        amount, items = features.matrix[:, 2], features.matrix[:, 5]
        self.pieces.append(len(amount))
        self._watch.now += int(amount.sum() * SECOND)
        if (items == 13).any():
            raise Drill("thirteen")
        return np.where(items == 7, np.nan, 1 / (2 + amount + items))

    def contributions(self, features: Any) -> Any:
        """Fail: nothing asks for it."""
        raise Drill("no reasons")


def refuses_eleven(amount: Any, items: Any) -> Any:
    """Return the price of an item; fail for eleven, and ask for the end of all for seventeen."""
    if (items == 11).any():
        raise Drill("eleven")
    if (items == 17).any():
        raise SystemExit(17)
    return amount / items


def asked(rows: Sequence[tuple[float, int]]) -> tuple[list[Answer], Hostile]:
    """Answer rows of (seconds, items) in one body by a stopwatch that only the model moves."""
    watch = Watch()
    model = Hostile(watch)
    system = payments(deadline="60s", on_demand=refuses_eleven)
    made = Bench(system, Route(champion=arm(model, 3)), stopwatch=watch)
    crew, spare = Crew(1, "batches"), Crew(1, "spare")
    shared = Shared(made.service(), made.metrics, crew, spare, watch)
    lane = Lane(system.deployments[0], RequestReader(system, system.models[0]), shared)
    requests = lane.reader.rows(
        [tap(tap_id=f"t{i}", amount=a, items=n) for i, (a, n) in enumerate(rows)]
    )
    try:
        answers = asyncio.run(lane.answers(requests, False, watch()))
    finally:
        crew.close()
        spare.close()
    assert lane.in_flight == 0
    assert made.metrics.flying("fraud") == 0
    logged = [n for batch in made.log.batches for n in batch.request_ids]
    assert logged == [f"t{i}" for i in range(len(rows))]  # each once, in their order
    return answers, model


def told(answer: Answer) -> tuple[Any, ...]:
    return (answer.score, answer.arm, answer.version, answer.decision, answer.degraded)


ROWS = st.tuples(
    st.sampled_from([0.0, 0.0, 0.125, 5.0, 20.0, 59.0, 61.0, 300.0]),
    st.sampled_from([1, 2, 3, 4, 7, 11, 13, 17]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=24))
def test_every_row_of_a_body_is_answered_as_alone(
    rows: list[tuple[float, int]],
) -> None:
    answers, _ = asked(rows)
    assert [told(a) for a in answers] == [told(asked([row])[0][0]) for row in rows]


def test_rows_together_may_take_longer_than_one_deadline() -> None:
    answers, model = asked([(50.0, 1)] * 20)
    assert [a.degraded for a in answers] == [[]] * 20
    assert model.pieces == [1] * 20


def test_pieces_grow_while_they_are_fast() -> None:
    _, model = asked([(0.0, 1)] * 400)
    assert model.pieces == [1, 2, 4, 8, 16, 32, 64, LARGEST_PIECE, LARGEST_PIECE, 17]


def test_one_slow_row_is_the_only_one_that_degrades() -> None:
    rows = [(0.0, 1)] * 9 + [(100.0, 1)] + [(0.0, 1)] * 10
    answers, _ = asked(rows)
    assert [a.degraded for a in answers] == [[]] * 9 + [["overloaded"]] + [[]] * 10


def test_a_row_that_hangs_holds_up_no_other() -> None:
    hanging = HangingScores(0.75)

    def score(features: Any) -> Any:
        if (features.matrix[:, 5] == 13).any():
            hanging.score(features)
        return np.full(len(features.matrix), 0.75)

    made = Bench(payments(deadline="1s"), Route(champion=arm(FixedScores(score))))
    body = {"requests": [tap(tap_id=f"t{i}", items=13 if i == 5 else 1) for i in range(20)]}

    async def go() -> list[dict[str, Any]]:
        transport = httpx.ASGITransport(made.application())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            found = (await client.post("/predict/fraud", json=body)).json()
            return list(found["predictions"])

    try:
        found = asyncio.run(go())
    finally:
        hanging.release.set()
    assert [i for i, answer in enumerate(found) if answer["degraded"]] == [5]


def test_a_caller_without_a_deadline_waits() -> None:
    watch = Watch()
    made = Bench(payments(deadline="1s"), Route(champion=arm(Hostile(watch))), stopwatch=watch)
    requests = [tap(tap_id=f"t{i}", tapped_at=...) for i in range(3)]
    found = made.service().predict("fraud", requests)
    assert [a.degraded for a in found] == [[]] * 3


@settings(max_examples=40, deadline=None)
@given(st.lists(ROWS, min_size=2, max_size=16), st.data())
def test_without_a_deadline_a_hostile_row_changes_no_other(
    rows: list[tuple[float, int]], data: st.DataObject
) -> None:
    out = data.draw(st.integers(0, len(rows) - 1))

    def answered(kept: list[int]) -> dict[int, tuple[Any, ...]]:
        watch = Watch()
        system = payments(deadline="1s", on_demand=refuses_eleven)
        made = Bench(system, Route(champion=arm(Hostile(watch), 3)), stopwatch=watch)
        requests = RequestReader(system, system.models[0]).rows(
            [tap(tap_id=f"t{i}", amount=rows[i][0], items=rows[i][1]) for i in kept]
        )
        return dict(zip(kept, map(told, made.service().predict("fraud", requests)), strict=True))

    together = answered(list(range(len(rows))))
    without = answered([i for i in range(len(rows)) if i != out])
    assert {i: told_of for i, told_of in together.items() if i != out} == without
    fails = {7, 11, 13, 17}
    assert all(
        (found[1] == "champion") == (rows[i][1] not in fails) for i, found in together.items()
    )


def test_what_cannot_be_said_in_json_is_named_by_its_place() -> None:
    system = payments()
    reader = RequestReader(system, system.models[0])
    with pytest.raises(RequestInvalid) as refused:
        reader.rows([tap(), tap(shop="\ud800"), tap(items=2**70), tap(note=object())])
    assert [(p.field, p.allowed) for p in refused.value.problems] == [
        ("requests[1].shop", "text"),
        ("requests[2].items", "a whole number of 64 bits, or null"),
        ("requests[3].note", "text, or null"),
    ]


def test_a_bare_list_is_told_the_form() -> None:
    system = payments()
    reader = RequestReader(system, system.models[0])
    with pytest.raises(RequestInvalid, match=r'several requests are \{"requests": \[\.\.\.\]\}'):
        reader.read(b"[{}]")
