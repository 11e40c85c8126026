"""What `check` says of declarations that the events of the home speak against."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

import homeostat as hs
from homeostat import col, count
from homeostat.core.clock import ManualClock, to_micros
from homeostat.runtime.measured_lints import measured_lints
from homeostat.runtime.reading import last_seen

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Check(hs.Event):
    """A machine is asked about."""

    check: str
    machine: str
    at: hs.Timestamp


class Work(hs.Event):
    """A machine was worked on."""

    work: str
    machine: str
    at: hs.Timestamp
    kind: str


checks = hs.EventSource("checks", Check, event_id="check", event_time="at", lateness="60d")
works = hs.EventSource("works", Work, event_id="work", event_time="at", lateness="60d")
machines = hs.FeatureView(
    "machines", hs.Entity("machine", "machine"), checks, (count().over("1d"),)
)


def system(which: str | None = None, rows: int = 1000, window: str = "1d") -> hs.System:
    label = hs.Label(
        "fails",
        predicts=checks,
        outcome=works,
        join_on="machine",
        value=col("kind") == "breakdown",
        delay="12h",
        when_absent=False,
        which=which,
    )
    model = hs.Model(
        "fails",
        features=machines.all(),
        label=label,
        estimator=hs.Estimator("lightgbm:LGBMClassifier"),
        split=hs.Split(validation="1d", test="1d"),
        requirements=hs.Requirements(false_positive_cost=1, false_negative_cost=9),
    )
    deployment = hs.Deployment(
        model=model, rollout=(hs.Shadow("1d"),), degradation=hs.Degradation(score=0.1)
    )
    return hs.System(
        "plant",
        sources=(checks, works),
        views=(machines,),
        models=(model,),
        deployments=(deployment,),
        monitors=(hs.Quality(model, "auc", worse_by=0.1, window=window, rows=rows),),
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home of six days in which every breakdown follows planned work by two hours."""
    folder = tmp_path_factory.mktemp("plant")
    asked = pl.DataFrame(
        [(f"c{n}", f"m{n % 4}", START + n * HOUR) for n in range(144)],
        schema=["check", "machine", "at"],
        orient="row",
    )
    worked = pl.DataFrame(
        [
            (f"{kind}{n}", f"m{n % 4}", START + (n * 24 + shift) * HOUR, kind)
            for n in range(6)
            for kind, shift in (("planned", 6), ("breakdown", 8))
        ],
        schema=["work", "machine", "at", "kind"],
        orient="row",
    )
    with hs.open(system(), folder, ManualClock(to_micros(START + 200 * HOUR))) as app:
        app.ingest("checks", asked, history=True)
        app.ingest("works", worked, history=True)
        app.live.flush()
    return folder


def found(declared: hs.System, folder: Path) -> dict[str, str]:
    with hs.open(system(), folder, ManualClock(to_micros(START + 200 * HOUR))) as app:
        lints = measured_lints(declared, app.home.lake, last_seen(app.home))
    return {lint.rule: lint.found for lint in lints}


def test_outcomes_that_disagree_are_counted(home: Path) -> None:
    said = found(system(), home)["outcomes-disagree"]
    # By the last or by any, the breakdown tells; by the first, the planned work before it: of the
    # checks of the machine worked on, that is one every four hours.
    truths = [n for n in range(144) if n < 144 - 12]
    breakdowns = {(n % 4, n * 24 + 8) for n in range(6)}
    planned = {(n % 4, n * 24 + 6) for n in range(6)}
    hidden = sum(
        any(n % 4 == m and n < h <= n + 12 for m, h in breakdowns)
        and any(n % 4 == m and n < h <= n + 12 for m, h in planned)
        for n in truths
    )
    assert hidden > 10
    assert f"{hidden} by which='last' and {hidden} by which='any'" in said
    assert f"of {len(truths)} requests" in said
    assert "outcomes-disagree" not in found(system("any"), home)


def test_a_window_that_never_held_enough_requests_is_named(home: Path) -> None:
    assert "no 1d had more than 24 requests" in found(system(), home)["quality-never-judged"]
    assert "quality-never-judged" not in found(system(rows=24), home)
    assert "quality-never-judged" in found(system(rows=25), home)
    wide = system(window="4d")
    assert "quality-never-judged" not in found(wide, home), "six days are too few to tell"
