"""Summaries and trends are declared as other aggregations are; nonsense is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from homeostat.core.errors import DeclarationError
from homeostat.core.hashing import content_hash
from homeostat.declare.aggregations import (
    Aggregation,
    count,
    first,
    last,
    maximum,
    mean,
    minimum,
    share,
    standard_deviation,
    sum_,
    time_since_last,
    variance,
)
from homeostat.declare.expressions import col
from homeostat.declare.schema import Event, Timestamp
from homeostat.declare.sources import Entity, EventSource
from homeostat.declare.summaries import (
    decayed_sum,
    distinct_count,
    last_n,
    quantile,
    top_share,
    top_values,
    trend,
)
from homeostat.declare.views import FeatureView


class Tap(Event):
    """A card is used."""

    id: str
    card: str
    at: Timestamp
    amount: float
    merchant: str | None


TAPS = EventSource("taps", Tap, event_id="id", event_time="at")
CARD = Entity("card", "card")


def view_of(*made: Aggregation) -> FeatureView:
    return FeatureView("taps", CARD, TAPS, made)


def names(made: Aggregation) -> list[str]:
    return [spec.name for spec in view_of(made).features()]


def test_names_say_what_a_feature_is() -> None:
    assert names(last_n("amount", 2)) == ["amount_last_2_1", "amount_last_2_2"]
    assert names(distinct_count("merchant").over("1h")) == ["merchant_distinct_count_1h"]
    assert names(quantile("amount", 0.5, 0.999).over("1h", "1d")) == [
        "amount_p50_1h", "amount_p50_1d", "amount_p99_9_1h", "amount_p99_9_1d",
    ]  # fmt: skip
    assert names(top_share("merchant", 3)) == ["merchant_top_3_share"]
    assert names(top_values("amount", 2)) == ["amount_top_2_1", "amount_top_2_2"]
    assert names(decayed_sum("amount", "1h").over("7d")) == ["amount_decayed_sum_1h_7d"]
    assert names(trend(count(), "ratio").over("1h")) == ["count_trend_ratio_1h"]
    assert names(trend(share(col("amount") > 5).named("big")).over("1h")) == ["big_trend_1h"]
    assert names(last_n("amount", 2).named("spent")) == ["spent_1", "spent_2"]


def test_a_view_looks_back_as_far_as_its_trends() -> None:
    assert view_of(count().over("1h")).longest_window == 3_600_000_000
    assert view_of(trend(count()).over("1h", hop="1m")).longest_window == 7_260_000_000


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "no events": (lambda: last_n("amount", 0), r"n=0; allowed: a whole number from 1 to 1,000"),
    "one value": (lambda: distinct_count("amount", 1), r"k=1; allowed: a whole number from 2"),
    "no quantile": (lambda: quantile("amount"), r"no q; allowed: one or more shares"),
    "the maximum": (lambda: quantile("amount", 1.0), r"q=1\.0; allowed: shares between 0 and 1"),
    "too fine": (lambda: quantile("amount", 1 / 3), r"at most six decimals"),
    "no error": (lambda: quantile("amount", 0.5, error=0.0), r"a relative error from 0\.0005"),
    "no sample": (lambda: top_share("amount", capacity=1), r"capacity=1; allowed"),
    "none of them": (lambda: top_values("amount", 0), r"k=0; allowed"),
    "half a second": (lambda: decayed_sum("amount", "500ms"), r"whole seconds, one or more"),
    "of a maximum": (lambda: trend(maximum("amount")), r"a trend of max; allowed: one of count"),
    "of a trend": (lambda: trend(trend(count())), r"a trend of count; allowed"),
    "by percent": (lambda: trend(count(), "percent"), r"by='percent'"),  # type: ignore[arg-type]
    "whole trend": (lambda: view_of(trend(count())), r"a trend of the whole history.*\.over\("),
    "last text": (lambda: view_of(last_n("merchant", 2)), r"last_n of a string"),
    "text quantile": (lambda: view_of(quantile("merchant", 0.5)), r"quantile of a string"),
    "top text": (lambda: view_of(top_values("merchant")), r"top_values of a string"),
    "fading text": (lambda: view_of(decayed_sum("merchant", "1h")), r"decayed_sum of a string"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake: str) -> None:
    make, said = MISTAKES[mistake]
    with pytest.raises(DeclarationError, match=said):
        make()


def test_text_may_be_counted() -> None:
    view_of(distinct_count("merchant"), top_share("merchant"), distinct_count("at"))


def test_options_are_part_of_the_hash() -> None:
    made = [last_n("amount", 2), last_n("amount", 3), quantile("amount", 0.5),
            quantile("amount", 0.5, error=0.02), distinct_count("amount"),
            distinct_count("amount", 16), decayed_sum("amount", "1h"), decayed_sum("amount", "2h"),
            trend(count()).over("1h"), trend(count(), "ratio").over("1h"),
            count().over("1h")]  # fmt: skip
    assert len({content_hash(view_of(one.named("same"))) for one in made}) == len(made)


def test_definitions_from_before_summaries_have_the_hash_they_had() -> None:
    # An online state is found by this hash: another one would mean an empty store after an upgrade.
    large = col("amount") > 1
    view = view_of(
        count(), count(large).named("c").over("1h", hop="10s"), share(large).named("s").over("1h"),
        sum_("amount").over("1h"), mean("amount"), minimum("amount"), maximum("amount"),
        variance("amount").over("2h"), standard_deviation("amount"), first("amount"),
        last("amount").over("1d"), time_since_last().over("3h"),
    )  # fmt: skip
    # What leaves own events out, as all do by default since, is filled again.
    assert content_hash(replace(view, exclude_own=False))[:16] == "9012d16015ec7fee"
