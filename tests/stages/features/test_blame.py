"""The rules of blame, one by one, on a few predictions and with evidence made to order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import comb
from typing import Any

import numpy as np
import polars as pl
import pytest

from homeostat.core.ids import event_tie
from homeostat.declare.aggregations import count, mean
from homeostat.declare.expressions import col
from homeostat.declare.models import Estimator, Label, Model, Requirements, Split
from homeostat.declare.schema import Event, Timestamp
from homeostat.declare.sources import Entity, EventSource
from homeostat.declare.summaries import custom
from homeostat.declare.system import System
from homeostat.declare.views import FeatureView, on_demand
from homeostat.features.audit import SkewAudit, audit
from homeostat.features.confidence import upper_bound
from homeostat.features.definitions import Definitions
from homeostat.features.draw import drawn
from homeostat.features.evidence import LogEvents
from homeostat.features.requests import requests_of
from homeostat.features.table import features_of
from homeostat.testing.generators import START, TICK, events_frame, readings


class Ask(Event):
    id: str
    asked: Timestamp
    place: str
    weight: float


asks = EventSource("asks", Ask, event_id="id", event_time="asked")
view = FeatureView(
    "recent", Entity("place", "place"), readings, (count().over("5m"), mean("amount").over("5m"))
)


@on_demand("weight", view["amount_mean_5m"])
def ratio(weight: Any, amount: Any) -> Any:
    return weight / amount


def model_of(*features: Any) -> Model:
    label = Label(
        "l", predicts=asks, outcome=readings, join_on="id", value=col("amount") > 1, delay="1h",
        when_absent=False,
    )  # fmt: skip
    return Model(
        "m", features=features, label=label, estimator=Estimator("x:Y"),
        split=Split(validation="1d", test="1d"),
        requirements=Requirements(false_positive_cost=1, false_negative_cost=1),
    )  # fmt: skip


model = model_of(*view.all(), ratio, "weight")
system = System("s", sources=(readings, asks), views=(view,), models=(model,))
COUNT, MEAN, RATIO, WEIGHT = range(4)


def reading(number: int) -> dict[str, Any]:
    known = START + number * TICK
    return {
        "id": f"e{number}", "at": known, "place": "ab"[number % 2], "site": 1,
        "amount": float(number), "small": 1.0, "units": 1, "level": 1, "flag": True,
        "_offset": number, "_known_time": known, "_event_time": known, "_id": f"e{number}",
        "_tie": event_tie(f"e{number}"), "_too_late": number == 7,
    }  # fmt: skip


EVENTS = events_frame([reading(n) for n in range(40)])
OFFSETS = [10, 20, 30]
LAG = 3 * TICK
AMOUNTS_ALTERED = pl.when(pl.col("_offset") == 20).then(7.5).otherwise("amount")


@dataclass
class Told:
    """Evidence made to order; by default the log holds what the lake holds, and all is well."""

    made_under: Definitions | None = field(default_factory=lambda: Definitions.of(system, model))
    others: dict[str, Definitions] = field(default_factory=dict)
    log: pl.DataFrame | None = field(default_factory=lambda: EVENTS)
    unread: frozenset[int] = frozenset()
    given: bool | None = True

    def definitions(self, digest: str) -> Definitions | None:
        return self.others.get(digest, self.made_under)

    def events(self, source: str, known_from: int | None, until: int) -> LogEvents | None:
        return None if self.log is None else LogEvents(self.log, self.unread)

    def live_agrees(self, view: FeatureView, key: Sequence[Any]) -> bool | None:
        return None

    def was_given(self, predictions: pl.DataFrame) -> list[bool | None]:
        return [self.given] * predictions.height


def answers(*wrong: tuple[int, int, float]) -> pl.DataFrame:
    """Predictions right after the events of `OFFSETS`, with some values as the store never had."""
    at = pl.Series("at", [START + o * TICK + 1 for o in OFFSETS]).cast(pl.Datetime("us", "UTC"))
    rows = [
        {"id": f"r{n}", "asked": "2024-01-01T00:00:00Z", "place": "a", "weight": 3.0 + n}
        for n in range(len(OFFSETS))
    ]
    texts = pl.Series([json.dumps(row) for row in rows])
    spine = requests_of(asks.schema, texts).with_columns(at=at)
    found = features_of(
        system, model, spine, lambda name: EVENTS, offsets=lambda name: np.array(OFFSETS)
    ).matrix
    for row, column, value in wrong:
        found[row, column] = value
    return pl.DataFrame(
        {
            "prediction_id": [f"p{n}" for n in range(len(OFFSETS))],
            "at": at,
            "degraded": [""] * len(OFFSETS),
            "offset_readings": OFFSETS,
            "features": found.tolist(),
            "definitions": ["d"] * len(OFFSETS),
            "request": texts,
        }
    )


def made_of(events: pl.DataFrame, *rows: int) -> tuple[tuple[int, int, float], ...]:
    """The values of some predictions, as a store that had folded such events would give them."""
    asked = answers()
    spine = requests_of(asks.schema, asked["request"]).with_columns(at=asked["at"])
    made = features_of(
        system, model, spine, lambda name: events, offsets=lambda name: np.array(OFFSETS)
    ).matrix
    return tuple((row, c, float(made[row, c])) for row in rows for c in (COUNT, MEAN, RATIO))


def causes(
    told: Told, *wrong: tuple[int, int, float], lake: pl.DataFrame = EVENTS
) -> dict[tuple[str, str], str]:
    found = audit(system, model, answers(*wrong), lambda name: lake, told)
    assert sum(found.causes.values()) == found.different
    return {(d.prediction_id, d.feature): d.cause for d in found.differing}


MISREAD = ((1, COUNT, 99.0), (1, MEAN, 0.5), (1, RATIO, 8.0))
"""Another entity's record: 4.0 / 0.5 is what the function gives of it."""
OF_P1 = {("p1", name) for name in ("recent__count_5m", "recent__amount_mean_5m", "ratio")}


def test_nothing_is_blamed_where_nothing_differs() -> None:
    assert causes(Told()) == {}


def test_what_nothing_else_explains_is_a_fault_of_the_store() -> None:
    assert causes(Told(), *MISREAD) == dict.fromkeys(OF_P1, "store_fault")


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(Told(made_under=None), id="it is not known under which definitions"),
        pytest.param(Told(log=None), id="the log cannot be read"),
        pytest.param(Told(given=False), id="the model was given something else"),
    ],
)
def test_what_is_not_known_is_unexplained(told: Told) -> None:
    assert causes(told, *MISREAD) == dict.fromkeys(OF_P1, "unexplained")


def test_another_version_of_a_library_comes_before_the_store() -> None:
    now = Definitions.of(system, model)
    told = Told(made_under=replace(now, libraries={**now.libraries, "numpy": "1.0"}))
    assert causes(told, *MISREAD) == dict.fromkeys(OF_P1, "code_changed")
    found = audit(system, model, answers(*MISREAD), lambda name: EVENTS, told)
    assert f"numpy 1.0 -> {now.libraries['numpy']} since then" in found.differing[0].evidence


def test_an_altered_event_is_blamed_though_a_library_is_of_another_version() -> None:
    now = Definitions.of(system, model)
    told = Told(made_under=replace(now, libraries={**now.libraries, "numpy": "1.0"}))
    lake = EVENTS.with_columns(amount=AMOUNTS_ALTERED)
    found = causes(told, lake=lake)
    assert set(found.values()) == {"event_altered"}
    assert ("p1", "recent__amount_mean_5m") in found
    assert not any(name == "p0" for name, _ in found)


def test_a_record_that_is_gone_from_log_and_lake_may_be_the_cause_of_what_saw_it() -> None:
    without = EVENTS.filter(pl.col("_offset") != 20)
    found = causes(Told(log=without, unread=frozenset({20})), lake=without)
    assert set(found.values()) == {"event_erased"}
    assert {name for name, _ in found} == {"p1", "p2"}


def test_a_record_that_is_gone_is_not_blamed_for_what_was_asked_before_it() -> None:
    without = EVENTS.filter(pl.col("_offset") != 20)
    found = causes(Told(log=without, unread=frozenset({20})), (0, COUNT, 99.0), lake=without)
    assert found.pop(("p0", "recent__count_5m")) == "store_fault"
    assert set(found.values()) == {"event_erased"}


def test_an_erased_and_an_altered_event_of_one_value_are_both_named() -> None:
    lake = EVENTS.with_columns(amount=AMOUNTS_ALTERED).filter(pl.col("_offset") != 18)
    found = audit(system, model, answers()[1:2], lambda name: lake, Told())
    (mean_of_p1,) = [d for d in found.differing if d.feature == "recent__amount_mean_5m"]
    assert mean_of_p1.cause == "event_altered"
    assert "offset 18 of 'readings' is in the log and not in the lake" in mean_of_p1.evidence
    assert "offset 20 of 'readings' is not what the log holds (amount)" in mean_of_p1.evidence


def test_only_events_that_the_value_is_made_of_are_named() -> None:
    """Offset 19 is another place's, and 30 came later."""
    touched = pl.col("_offset").is_in([19, 20, 30])
    lake = EVENTS.with_columns(amount=pl.when(touched).then(7.5).otherwise("amount"))
    found = audit(system, model, answers()[:2], lambda name: lake, Told())
    (difference,) = [d for d in found.differing if d.feature == "recent__amount_mean_5m"]
    assert difference.evidence == (
        "offset 20 of 'readings' is not what the log holds (amount); with that undone it is the "
        "logged value"
    )


def test_what_the_log_cannot_read_it_does_not_deny() -> None:
    """A record that today's schema refuses is in the lake: that is no forged event."""
    without = EVENTS.filter(pl.col("_offset") != 20)
    told = Told(log=without, unread=frozenset({20}))
    assert causes(told, *MISREAD) == dict.fromkeys(OF_P1, "store_fault")


def test_a_forged_event_is_an_altered_one() -> None:
    without = EVENTS.filter(pl.col("_offset") != 20)
    found = causes(Told(log=without), *made_of(without, 1, 2))
    assert set(found.values()) == {"event_altered"}


def test_a_disagreement_that_does_not_give_the_logged_value_explains_nothing() -> None:
    lake = EVENTS.with_columns(amount=AMOUNTS_ALTERED)
    found = causes(Told(), (1, MEAN, 0.25), lake=lake)
    assert found["p1", "recent__amount_mean_5m"] == "unexplained"
    assert found["p1", "ratio"] == "event_altered"  # it was computed from what the log holds


def test_a_late_event_is_found_among_others_by_counting_it_alone() -> None:
    late = EVENTS.with_columns(_too_late=pl.col("_offset").is_in([4, 8]))
    counted = EVENTS.with_columns(_too_late=pl.col("_offset") == 4)
    rows = answers(*made_of(counted, 0))[:1]
    found = audit(system, model, rows, lambda name: late, Told(log=late))
    assert found.causes == {"late_event": 3}
    assert all("offset 8 of 'readings' counted" in d.evidence for d in found.differing)


def test_several_late_events_that_were_counted_together() -> None:
    late = EVENTS.with_columns(_too_late=pl.col("_offset").is_in([4, 8]))
    counted = EVENTS.with_columns(_too_late=pl.lit(False))
    rows = answers(*made_of(counted, 0))[:1]
    found = audit(system, model, rows, lambda name: late, Told(log=late))
    assert found.causes == {"late_event": 3}
    assert "with the events counted that are beyond the lateness" in found.differing[0].evidence


def test_a_lateness_is_tried_only_on_what_was_made_under_it() -> None:
    """Of two predictions with the value of a shorter lateness, one was made under it."""
    lagging = pl.col("_event_time") - pl.duration(microseconds=LAG)
    slow = EVENTS.with_columns(
        _event_time=pl.when(pl.col("_offset") == 8).then(lagging).otherwise("_event_time")
    )
    short_of_it = slow.with_columns(_too_late=pl.col("_offset").is_in([7, 8]))
    now = Definitions.of(system, model)
    then = replace(now, lateness={"readings": LAG - 1})
    rows = answers(*made_of(short_of_it, 0, 1)).with_columns(
        definitions=pl.Series(["then", "now", "now"])
    )
    told = Told(log=slow, others={"then": then})
    found = audit(system, model, rows[:2], lambda name: slow, told)
    assert found.causes == {"late_event": 3, "store_fault": 3}
    assert {d.prediction_id for d in found.differing if d.cause == "late_event"} == {"p0"}


def test_a_function_whose_inputs_are_the_same_is_not_the_stores_fault() -> None:
    assert causes(Told(), (2, RATIO, 5.0)) == {("p2", "ratio"): "unexplained"}


def test_request_fields_do_not_come_from_the_store() -> None:
    assert causes(Told(), (2, WEIGHT, 9.0)) == {("p2", "weight"): "unexplained"}
    (found,) = audit(
        system, model, answers((2, WEIGHT, 9.0)), lambda name: EVENTS, Told()
    ).differing
    assert "request fields alone" in found.evidence


def test_a_definition_is_blamed_before_everything_else() -> None:
    narrow = replace(view, where=col("amount") > 3)
    then = System("s", sources=(readings, asks), views=(narrow,), models=(model,))
    told = Told(made_under=Definitions.of(then, model), log=None)
    found = causes(told, *MISREAD, (1, WEIGHT, 9.0))
    assert found == dict.fromkeys(OF_P1, "definition_changed") | {("p1", "weight"): "unexplained"}


@dataclass(frozen=True)
class Spread:
    """A summary of one's own, as somebody once wrote it."""

    parts = ("",)
    reads = "value"
    most = 4

    def state(self, values: Any) -> Any:
        return values

    def merge(self, left: Any, right: Any) -> Any:
        return left

    def value(self, state: Any, at: int) -> Any:
        return 0.0


def test_meaning_and_code_of_a_summary_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def defined() -> Definitions:
        own = replace(view, aggregations=(custom(Spread(), "amount").named("own").over("5m"),))
        made = model_of(*own.all())
        return Definitions.of(
            System("s", sources=(readings, asks), views=(own,), models=(made,)), made
        )

    before = defined().features["recent__own_5m"]
    monkeypatch.setattr(Spread, "value", lambda self, state, at: 1.0)
    after = defined().features["recent__own_5m"]
    assert before.meaning == after.meaning
    assert before.code != after.code


def test_what_decides_no_value_is_no_part_of_a_meaning() -> None:
    meaning = Definitions.of(system, model).features["recent__count_5m"].meaning
    patient = replace(readings, lateness="9d", compatibility="NONE")
    assert meaning_under(replace(view, source=patient)) == meaning
    assert meaning_under(replace(view, entity=Entity("spot", "place"))) == meaning
    assert meaning_under(replace(view, exclude_own=False)) != meaning
    assert meaning_under(replace(view, source=replace(readings, clock_skew="1s"))) != meaning


def meaning_under(other: FeatureView) -> str:
    label = replace(model.label, outcome=other.source)
    mine = replace(model, label=label)
    there = System("s", sources=(other.source, asks), views=(other,), models=(mine,))
    return Definitions.of(there, mine).features["recent__count_5m"].meaning


def test_definitions_survive_being_written_down() -> None:
    made = Definitions.of(system, model)
    again = Definitions.from_json(json.loads(json.dumps(made.as_json())))
    assert (again, again.digest) == (made, made.digest)
    assert tuple(again.features) == model.feature_names()


@pytest.mark.parametrize(("found", "n"), [(0, 1), (0, 50), (1, 50), (7, 200), (199, 200)])
def test_at_the_bound_finding_so_few_has_one_chance_in_twenty(found: int, n: int) -> None:
    share = upper_bound(found, n)
    chance = sum(comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(found + 1))
    assert chance == pytest.approx(0.05, rel=1e-9)


def test_the_bound_of_all_and_of_none() -> None:
    assert upper_bound(5, 5) == upper_bound(0, 0) == 1.0
    assert upper_bound(0, 10_000) == pytest.approx(3 / 10_000, rel=0.002)  # the rule of three


def test_a_draw_is_the_same_whatever_else_was_asked() -> None:
    rows = pl.DataFrame({"prediction_id": [f"p{n}" for n in range(500)]})
    few, many = (set(drawn(rows, n)["prediction_id"]) for n in (20, 60))
    assert len(few) == 20
    assert few < many
    assert set(drawn(rows[::-1], 20)["prediction_id"]) == few
    assert drawn(rows, 500).equals(rows)
    share = drawn(rows, share=0.3)
    assert 110 < share.height < 190
    assert set(drawn(rows, 40, 0.3)["prediction_id"]) < set(share["prediction_id"])
    assert drawn(rows[:0], 5).height == 0


def test_audits_add_up_and_list_some_of_every_cause() -> None:
    one = audit(system, model, answers(*MISREAD), lambda name: EVENTS, Told())
    other = audit(system, model, answers((2, WEIGHT, 9.0)), lambda name: EVENTS, Told())
    both = one + other
    assert (both.predictions, both.compared, both.different, both.affected) == (6, 24, 4, 2)
    assert both.causes == {"store_fault": 3, "unexplained": 1}
    assert both.bound == upper_bound(2, 6)
    many = sum([one] * 30, start=other)
    assert [d.cause for d in many.differing] == ["store_fault"] * 20 + ["unexplained"]
    assert SkewAudit() + one == one
