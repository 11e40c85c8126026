"""Every mistake is found where it is made, and says where, what, what is allowed and what next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import homeostat as hs
from homeostat.core.errors import DeclarationError, HomeostatError, SystemInvalid, UnknownName
from homeostat.declare.mistakes import collecting

loose: Any = hs
"""The package without its types: what a file nobody checked can say."""


def source(world: Any, **changes: Any) -> Any:
    given = {"event_id": "tap_id", "event_time": "at", **changes}
    return loose.EventSource("taps", world.taps.event, **given)


def query(**changes: Any) -> Any:
    return loose.Query(**{"url": "sqlite:///shop.db", "every": "1h", **changes})


def view(world: Any, *aggregations: Any, **changes: Any) -> Any:
    given = {"entity": world.card, "source": world.taps, **changes}
    return loose.FeatureView("view", aggregations=aggregations or (hs.count(),), **given)


def label(world: Any, **changes: Any) -> Any:
    return replace(world.label, **changes)


def on_demand(*inputs: Any) -> Any:
    return hs.on_demand(*inputs)(lambda amount: amount)


def costs(positive: float, negative: float) -> Any:
    return hs.Requirements(false_positive_cost=positive, false_negative_cost=negative)


def seeded(world: Any, target: str, **parameters: Any) -> Any:
    return replace(world.model, estimator=hs.Estimator(target, parameters))


def split(**changes: Any) -> Any:
    return loose.Split(**{"validation": "7d", "test": "7d", **changes})


MISTAKES: list[tuple[Callable[[Any], Any], str]] = [
    # names and keys
    (lambda w: hs.Entity("my card", key="card"), "entity 'my card': .*letters, digits and _"),
    (lambda w: hs.Entity("1st", key="card"), "beginning with a letter"),
    (lambda w: hs.Entity("card", key=()), "one or more different field names"),
    (lambda w: hs.Entity("card", key=("card", "card")), "one or more different field names"),
    (lambda w: replace(w.taps, name="taps/.."), "event source 'taps/..'"),
    (lambda w: replace(w.model, name="late-arrival"), "model 'late-arrival'"),
    (lambda w: replace(w.system, name=""), "system ''"),
    # sources
    (lambda w: source(w, event_id="tap"), r"no field named 'tap'. Did you mean 'tap_id'\?"),
    (lambda w: source(w, event_id="amount"), "event_id 'amount' is an optional float"),
    (lambda w: source(w, event_time="amount"), "clock 'amount' is an optional float"),
    (lambda w: source(w, event_time="att"), "Did you mean 'at'"),
    (lambda w: source(w, known_time="shop"), "clock 'shop' is a string"),
    (lambda w: source(w, known_time="at", delay="1h"), "both known_time and delay"),
    (lambda w: source(w, feed="incoming"), "feed=str; allowed: homeostat.Folder or"),
    # feeds
    (
        lambda w: loose.Folder("in", files="../*.csv"),
        "folder 'in': files='../\\*.csv'; allowed: globs",
    ),
    (lambda w: loose.Folder("in", files=("*.csv", "/tmp/*")), "files='/tmp/\\*'"),
    (lambda w: loose.Folder("in", every="soon"), "every='soon' is no duration"),
    (lambda w: loose.Folder("in", every="0s"), "every of nothing"),
    (lambda w: loose.Folder("in", every="1h", cron="0 * * * *"), "both every and cron"),
    (
        lambda w: loose.Folder("in", cron="0 * * *"),
        "cron='0 \\* \\* \\*': 4 fields; allowed: minute",
    ),
    (lambda w: loose.Folder("in", catch_up="eech"), r"catch_up='eech'. Did you mean 'each'\?"),
    (lambda w: query(), "query of 'sql': neither table nor sql; allowed: one of them"),
    (lambda w: query(table="t", sql="SELECT 1"), "both table and sql"),
    (lambda w: query(table="t", every=None), "neither every nor cron"),
    (lambda w: query(table="t", overlap="1m"), "an overlap without a cursor"),
    (lambda w: query(table="t", cursor="c", overlap="-1m"), "overlap='-1m' is no duration"),
    (lambda w: query(table="t", batch=0), "batch=0; allowed: 1 or more"),
    (lambda w: query(table="t", timezone="Mars/Base"), "timezone='Mars/Base'; allowed: a name"),
    (lambda w: source(w, lateness="1 day"), "lateness='1 day' is no duration"),
    (lambda w: source(w, dedup="0s"), "dedup of nothing"),
    (lambda w: source(w, dedup="forever"), "dedup='forever' is no duration"),
    (lambda w: source(w, clock_skew=-5), "clock_skew=-5; allowed: at least 0"),
    (lambda w: loose.EventSource("x", dict, event_id="a", event_time="b"), "is no event class"),
    (lambda w: loose.EventSource("x", hs.Event, event_id="a", event_time="b"), "is no event class"),
    # views
    (lambda w: view(w, hs.mean("amuont").over("1h")), "Did you mean 'amount'"),
    (lambda w: view(w, hs.mean("shop").over("1h")), "mean of a string"),
    (lambda w: view(w, hs.last("at").over("1h")), "last of a timestamp"),
    (lambda w: view(w, replace(hs.mean("amount"), operation="meen")), "Did you mean 'mean'"),
    (lambda w: view(w, hs.count(), hs.count()), "features named twice: count"),
    (lambda w: loose.FeatureView("view", w.card, w.taps, ()), "no aggregations"),
    (lambda w: view(w, entity=hs.Entity("city", key="citty")), "no field named 'citty'"),
    (lambda w: view(w, entity=hs.Entity("sum", key="amount")), "key 'amount' is a float"),
    (lambda w: view(w, where=hs.col("shp") == "a"), "Did you mean 'shop'"),
    (lambda w: view(w, hs.count(where=hs.col("shp") == "a")), "Did you mean 'shop'"),
    (lambda w: view(w, where="shop == 'a'"), "is no condition"),
    (lambda w: w.by_card["count_1hour"], r"Did you mean 'count_1h'\?"),
    # windows
    (lambda w: hs.mean("amount").over(), "one or more different windows"),
    (lambda w: hs.mean("amount").over("1h", "60m"), "one or more different windows"),
    (lambda w: hs.mean("amount").over("0s"), "one or more different windows"),
    (lambda w: hs.mean("amount").over("1h", "1d", hop="2h"), "hop='2h' is longer than a window"),
    (lambda w: hs.mean("amount").over("1 hour"), "window='1 hour' is no duration"),
    # expressions
    (lambda w: view(w, where=hs.col("amount")), "a number; allowed: a condition"),
    (lambda w: view(w, where=hs.col("shop") > 15), "greater of number and string"),
    (lambda w: view(w, where=hs.col("shop") + 1 > 2), "add of number and string"),
    (lambda w: view(w, where=hs.col("contactless") & hs.col("amount")), "and of boolean and num"),
    (lambda w: view(w, where=~hs.col("amount")), "not of number"),
    (lambda w: view(w, where=hs.col("retries").is_in("one")), "is_in of number and string"),
    (lambda w: hs.col("a") > 1 and hs.col("b") > 1, "no truth value while it is declared"),
    (lambda w: 0 < hs.col("a") < 1, "no truth value while it is declared"),
    (lambda w: hs.col("a").is_in(["x", "y"]), r"write several values one by one"),  # type: ignore[arg-type]
    # on demand
    (lambda w: on_demand(), "no inputs"),
    (lambda w: on_demand("amount", "retries"), "one argument per input"),
    # labels
    (lambda w: label(w, join_on="fraud"), "join_on in predicts 'taps': no field named 'fraud'"),
    (lambda w: label(w, value=hs.col("froud")), "Did you mean 'fraud'"),
    (lambda w: label(w, value=hs.col("loss")), "a number; allowed: a condition"),
    (lambda w: label(w, delay="0s"), "delay of nothing"),
    (lambda w: label(w, delay="soon"), "delay='soon' is no duration"),
    (lambda w: label(w, name="is fraud"), "label 'is fraud'"),
    # models
    (lambda w: replace(w.model, features=()), "no features"),
    (lambda w: seeded(w, "lightgbm:LGBMClassifier", seed=3), r"seed=3 beside seed=0.*, seed=3\)"),
    (lambda w: seeded(w, "lightgbm:LGBMRanker", random_seed=3), "random_seed=3 beside seed=0"),
    (lambda w: seeded(w, "mine:Own", random_state=None), r"random_state=None beside.*, seed=0\)"),
    (lambda w: seeded(w, "mine:Own", random_state=True), "random_state=True beside seed=0"),
    (lambda w: replace(w.model, features=("amount", "amount")), "features given twice: amount"),
    (lambda w: replace(w.model, features=("amuont",)), "Did you mean 'amount'"),
    (lambda w: hs.Estimator("LGBMClassifier"), "write 'lightgbm:LGBMClassifier'"),
    (lambda w: hs.Estimator("a:B", {"x": {"y": 1}}), r"parameter\(s\) x that can change"),
    (lambda w: split(by="row"), "rows of the future must not teach the past"),
    (lambda w: split(validation="0s"), "validation of nothing"),
    (lambda w: split(history="14d"), "a history that validation and test use up"),
    (lambda w: costs(0, 1), "costs 0 and 1"),
    (lambda w: costs(1, float("inf")), "costs 1 and inf"),
    (lambda w: costs(float("nan"), 1), "costs nan and 1"),
    (lambda w: hs.Gate("acu", at_least=0.6), "no metric named 'acu'. Did you mean 'auc'"),
    (lambda w: hs.Gate("auc"), "0 bounds"),
    (lambda w: hs.Gate("auc", at_least=0.6, within=0.1), "2 bounds"),
    (
        lambda w: replace(w.model, requirements=replace(costs(1, 1), slices=("shp",))),
        "model 'fraud_model', slices: no field named 'shp'",
    ),
    (
        lambda w: replace(
            w.model,
            requirements=replace(costs(1, 1), gates=(hs.Gate("auc", at_least=0.5, slices="x"),)),  # type: ignore[arg-type]
        ),
        "slices: no field named 'x'",
    ),
    # deployments
    (lambda w: replace(w.deployment, rollout=()), "no rollout"),
    (
        lambda w: replace(w.deployment, rollout=(hs.Shadow("1d"), hs.Shadow("2d"))),
        "a kind of stage twice",
    ),
    (lambda w: replace(w.deployment, max_in_flight=-1), "max_in_flight=-1"),
    (lambda w: replace(w.deployment, deadline="0s"), "deadline of nothing"),
    (lambda w: hs.Canary((0.5, 0.1), every="1d"), "growing shares between 0 and 1"),
    (lambda w: hs.Canary((0.5, 1.0), every="1d"), "growing shares between 0 and 1"),
    (lambda w: hs.Canary((), every="1d"), "growing shares between 0 and 1"),
    (lambda w: hs.Canary((0.5,), every="0s"), "every of nothing"),
    (lambda w: hs.Shadow("2 days"), "span='2 days' is no duration"),
    (lambda w: hs.BlueGreen("x"), "keep='x' is no duration"),
    (lambda w: hs.Guard("err_rate", at_most=0), "Did you mean 'error_rate'"),
    (lambda w: hs.Guard("cost"), "0 bounds"),
    (lambda w: hs.Guard("cost", within=0.1, rows=0), "rows=0"),
    (lambda w: hs.Degradation(score=1.5), "score=1.5; allowed: 0 to 1"),
    (lambda w: hs.Degradation(score=0.5, model_broken=("previous",)), "ends in 'score'"),
    (lambda w: hs.Degradation(score=0.5, overloaded=("scor", "score")), "Did you mean 'score'"),
    (lambda w: hs.Degradation(score=0.5, store_down="mising"), "'missing' or 'score'"),
    # monitors, retraining, policies
    (lambda w: hs.Freshness(w.taps, "0s"), "within of nothing"),
    (lambda w: hs.Drift(w.model, psi=0), "psi=0; allowed: above 0"),
    (lambda w: hs.Drift(w.model, features=0), "features=0"),
    (lambda w: hs.Drift(w.model, window="0s"), "window of nothing"),
    (lambda w: hs.Skew(w.model, share=0), "share=0"),
    (lambda w: hs.Skew(w.model, at_most=0), "at_most=0; allowed: a whole number, 1 or more"),
    (lambda w: hs.Skew(w.model, at_most=0.5), "at_most=0.5"),  # type: ignore[arg-type]
    (lambda w: hs.Skew(w.model, at_most=True), "at_most=True"),
    (lambda w: replace(w.model.requirements, explain="yes"), "explain='yes'"),
    (
        lambda w: replace(
            w.model,
            estimator=hs.Estimator("sklearn.svm:SVC"),
            requirements=replace(w.model.requirements, explain=True),
        ),
        "'sklearn.svm:SVC' has no contributions",
    ),
    (lambda w: hs.Quality(w.model, "auk", worse_by=0.1), "Did you mean 'auc'"),
    (lambda w: hs.Quality(w.model, "auc", worse_by=0), "worse_by=0"),
    (lambda w: hs.Quality(w.model, "auc", worse_by=0.1, rows=0), "rows=0"),
    (lambda w: hs.Retrain(w.model, on=("drifft",)), "Did you mean 'drift'"),
    (lambda w: hs.Retrain(w.model, on=()), "no occasion"),
    (lambda w: hs.Retrain(w.model, every="0s"), "every of nothing"),
    (lambda w: hs.Retention(w.taps, "0s"), "keep of nothing"),
    (lambda w: hs.Erasure(w.taps, "shop"), "subject 'shop' is not tagged"),
    (lambda w: hs.Erasure(w.taps, "crd"), "Did you mean 'card'"),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES, ids=[m[1][:40] for m in MISTAKES])
def test_a_mistake_is_found_on_its_line(
    world: Any, mistake: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(HomeostatError, match=message) as raised:
        mistake(world)
    error = raised.value
    assert isinstance(error, DeclarationError | UnknownName | SystemInvalid)
    if isinstance(error, DeclarationError):
        parts = (error.where, error.found, error.allowed, error.next_step)
        assert all(part.strip() and "\n" not in part for part in parts)


@pytest.mark.parametrize(("mistake", "message"), MISTAKES, ids=[m[1][:40] for m in MISTAKES])
def test_one_mistake_is_told_once(world: Any, mistake: Callable[[Any], Any], message: str) -> None:
    """A mistake that is collected leaves something to go on with, and is not told as two."""
    raised: list[HomeostatError] = []
    with collecting() as found:
        try:
            mistake(world)
        except HomeostatError as error:
            raised.append(error)
    assert len(found) + len(raised) == 1, [str(f) for f in found]


def test_annotations_that_are_no_columns_are_refused() -> None:
    with pytest.raises(DeclarationError, match="field 'items' has type"):
        type("Odd", (hs.Event,), {"__annotations__": {"items": list[int]}})
    with pytest.raises(DeclarationError, match="field 'either' has type"):
        type("Odd", (hs.Event,), {"__annotations__": {"either": int | str}})
    with pytest.raises(DeclarationError, match="event 'Odd': no fields"):
        type("Odd", (hs.Event,), {})
    with pytest.raises(DeclarationError, match="a field named '_offset'"):
        type("Odd", (hs.Event,), {"__annotations__": {"_offset": int}})
    with pytest.raises(DeclarationError, match="a field named 'schema'"):
        type("Odd", (hs.Event,), {"__annotations__": {"schema": str}})
    with pytest.raises(DeclarationError, match="names 'Timestmp', which cannot be found"):
        type("Odd", (hs.Event,), {"__annotations__": {"at": "Timestmp"}})


def test_all_mistakes_are_collected_at_once(world: Any) -> None:
    with collecting() as found:
        hs.Entity("a b", key="x")
        source(world, lateness="never", event_id="tap")
        hs.mean("amount").over("1 hour", hop="x")
        label(world, delay="-1h", value=hs.col("froud"))
        hs.Gate("acu")
    assert [str(f).split(":")[0] for f in found] == [
        "entity 'a b'",
        "event source 'taps'",
        "event source 'taps', event_id",
        "aggregation 'amount_mean'",
        "aggregation 'amount_mean'",
        "label 'fraud'",
        "label 'fraud', value",
        "gate",
        "gate 'acu'",
    ]
    with pytest.raises(DeclarationError):
        hs.Entity("a b", key="x")


def test_collecting_may_be_nested() -> None:
    with collecting() as outer:
        with collecting() as inner:
            hs.Entity("a b", key="x")
        hs.Entity("c d", key="x")
    assert (len(inner), len(outer)) == (1, 1)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://app:s3cret@db/shop",
        "postgresql+psycopg://app:s3@cret@db:5432/shop",
        "postgresql+psycopg://db/shop?user=app&password=s3cret",
        "postgresql+psycopg://app:${A}s3cret@db/shop",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(DeclarationError, match="a password in the url; allowed: passwords") as told:
        query(table="orders", url=url)
    assert "cret" not in str(told.value)
    for fine in ("postgresql+psycopg://app:${PASSWORD}@db/shop", "${URL}", "sqlite:////a:b/c@d"):
        assert query(table="orders", url=fine).url == fine
