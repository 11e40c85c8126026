"""A number without an exact sum is accepted, and missing in the sums of its entity alone."""

from __future__ import annotations

from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import homeostat as hs
from homeostat.core.clock import ManualClock, from_micros, to_micros
from homeostat.runtime.app import App
from homeostat.runtime.applying import apply_changes
from homeostat.runtime.building import Builder
from homeostat.runtime.doctor import examine
from homeostat.runtime.home import Home
from homeostat.testing.toy import TOY_START, toy_events, toy_system

DAY = 86_400_000_000


def payment(name: str, card: str, amount: float, at: int) -> dict[str, Any]:
    asked = from_micros(at)
    return {"payment_id": name, "card": card, "merchant": "kiosk", "amount": amount,
            "asked_at": asked}  # fmt: skip


@pytest.mark.parametrize("amount", [2.0**52, -(2.0**60), 1e300])
def test_a_huge_amount_is_accepted_and_only_its_own_sum_is_missing(
    tmp_path: Path, amount: float
) -> None:
    clock = ManualClock(to_micros(TOY_START))
    rows = [payment("a", "c", amount, clock.now()), payment("b", "d", 5.0, clock.now())]
    with App(toy_system(), tmp_path, clock) as app:
        counts = app.ingest("payments", rows)
        clock.advance_to(clock.now() + 1)
        live = app.read("cards", {"card": ["c", "d"]})
        answers = app.predict("fraud", [payment("q", "c", 1.0, clock.now()),
                                        payment("r", "d", 1.0, clock.now())])  # fmt: skip
        told = app.live.metrics.text({})
        assert not app.home.letters.list()
    assert (counts.accepted, counts.rejected) == (2, 0)
    huge, usual = live["amount_sum_1d"].to_list()
    assert isnan(huge)
    assert usual == 5.0
    assert live["count_1d"].to_list() == [1.0, 1.0]
    assert [answer.degraded for answer in answers[1:]] == [answers[0].degraded]
    counter = 'homeostat_faults_total{part="not_exact:cards.amount_sum_1d",error="NotExact"} 1'
    assert counter in told.splitlines()
    checks = {check.name: check for check in examine(toy_system(), tmp_path)}
    assert checks["sums of payments.amount"].status == "note"
    assert checks["sums of payments.amount"].found.startswith("1 values of 2^52 or more")


def told_of(home: Path, rows: list[dict[str, Any]]) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """Return live features and training rows of others, and the decisions, beside some rows."""
    system, clock = toy_system(), ManualClock(to_micros(TOY_START) + 13 * DAY)
    with App(system, home, clock) as app:
        for source, events in toy_events().items():
            app.ingest(source, events.drop("known_at", strict=False), history=True)
        app.ingest("payments", [{**row} for row in rows])
        clock.advance_to(clock.now() + 8 * 3_600_000_000)
        cards = [f"card-{n}" for n in range(20)]
        live = app.read("cards", {"card": cards})
        decisions = [str(decision.action) for decision in app.step()]
        of_others = ~pl.col("payment_id").str.starts_with("rich")
        table = app.training_set("fraud").filter(of_others)
        builder = Builder(system, app.home.lake.events)
        instant = pl.from_epoch(pl.Series("at", [clock.now()]), "us").dt.replace_time_zone("UTC")
        builder.views(["cards"], pl.DataFrame({"card": ["rich"], "at": instant}))
        names = {"cards.amount_sum_1d", "cards.amount_mean_1d"} if rows else set()
        assert set(builder.not_exact) == names
    with App(system, home, clock) as again:
        assert again.read("cards", {"card": cards}).equals(live)
    return live, table, decisions


def test_payments_without_an_exact_sum_change_nothing_for_others(tmp_path: Path) -> None:
    at = to_micros(TOY_START) + 13 * DAY
    rich = [
        payment(f"rich{n}", "rich", amount, at)
        for n, amount in enumerate((2.0**51, 2.0**51, 1e300))
    ]
    live, table, decisions = told_of(tmp_path / "with", rich)
    others, same, before = told_of(tmp_path / "without", [])
    assert live.equals(others)
    assert table.equals(same)
    assert "train" in decisions
    assert "train" in before


@pytest.mark.parametrize("change", ["windowed", "without large values"])
def test_a_sum_of_the_whole_history_is_there_again_once_it_is_declared_otherwise(
    tmp_path: Path, change: str
) -> None:
    """Until then it is missing for good, whatever comes later."""
    toy = toy_system()
    cards, small = toy.views[0], (hs.col("amount") < 4e15) & (hs.col("amount") > -4e15)

    def system(view: hs.FeatureView) -> hs.System:
        return hs.System("sums", sources=toy.sources[:1], views=(view,))

    whole = replace(cards, aggregations=(hs.sum_("amount").named("spent"),))
    again = {
        "windowed": replace(cards, aggregations=(hs.sum_("amount").named("spent").over("2d"),)),
        "without large values": replace(whole, where=small),
    }[change]
    clock = ManualClock(to_micros(TOY_START))

    def spent(app: App) -> float:
        clock.advance_to(clock.now() + DAY)
        (found,) = app.read("cards", {"card": ["c"]}).select(pl.col("^spent.*$")).to_series()
        return float(found)

    with App(system(whole), tmp_path, clock) as app:
        app.ingest("payments", [payment("a", "c", 1e300, clock.now())])
        for number in range(3):
            assert isnan(spent(app))
            app.ingest("payments", [payment(f"b{number}", "c", 5.0, clock.now())])
    home = Home(tmp_path, system(again), sync=False)
    apply_changes(home, system(again))
    home.close()
    with App(system(again), tmp_path, clock) as app:
        assert spent(app) == (15.0 if change == "without large values" else 10.0)
