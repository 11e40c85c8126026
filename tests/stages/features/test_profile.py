"""Profiles: what is counted is right, what is wrong with a table is found, and nothing else is."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

import homeostat as hs
from homeostat.core.errors import UnknownName
from homeostat.declare.schema import Event, Personal, Timestamp
from homeostat.declare.transforms import Transform
from homeostat.features.profile import Profile, ProfileRefused, profile
from homeostat.features.profile_leaks import Knowledge, knowledge_of, too_knowing

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
N = 2_000


def honest(rows: int = N) -> tuple[pl.DataFrame, np.ndarray[Any, Any]]:
    """Return a table of which two columns say a little about the label, and the label."""
    draw = np.random.default_rng(7)
    hour, size = draw.integers(0, 24, rows), draw.lognormal(3.0, 1.0, rows)
    labels = draw.random(rows) < 0.1 + 0.02 * hour
    texts = draw.choice(["AA", "DL", "UA", "B6"], rows, p=[0.5, 0.3, 0.15, 0.05])
    frame = pl.DataFrame(
        {
            "id": [f"f{i}" for i in range(rows)],
            "at": [NOON + timedelta(minutes=i) for i in range(rows)],
            "hour": hour,
            "size": np.where(draw.random(rows) < 0.1, np.nan, size),
            "load": draw.normal(50.0, 5.0, rows),
            "carrier": texts,
            "night": hour < 6,
            "window": draw.random(rows) < 0.5,
        }
    )
    return frame, labels


@pytest.fixture(scope="module")
def found() -> Profile:
    frame, labels = honest()
    return profile(frame, label=labels, at="at")


def test_a_clean_table_has_nothing_to_say(found: Profile) -> None:
    assert found.leaks == ()
    assert found.near_duplicates == ()
    assert found.constant == ()
    assert found.duplicate_rows == 0
    assert [column.name for column in found.columns] == [
        "id", "hour", "size", "load", "carrier", "night", "window"
    ]  # fmt: skip
    assert [column.kind for column in found.columns] == [
        "string", "integer", "float", "float", "string", "boolean", "boolean"
    ]  # fmt: skip


def test_a_profile_is_json(found: Profile) -> None:
    text = json.dumps(found.as_json(), allow_nan=False)
    assert json.loads(text)["rows"] == N


def test_it_is_the_same_every_time(found: Profile) -> None:
    frame, labels = honest()
    assert profile(frame, label=labels, at="at") == found
    assert profile(frame.with_columns(y=labels), label="y", at="at") == found


NUMBERS = st.lists(
    st.one_of(
        st.none(),
        st.floats(allow_nan=True, allow_infinity=True),
        st.sampled_from([0.0, -0.0, 1.0, -1e308, 1e308, 5e-324]),
    ),
    max_size=40,
)


@given(NUMBERS, st.lists(st.none() | st.text(max_size=2), max_size=40))
def test_counts_of_hostile_columns(numbers: list[float | None], texts: list[str | None]) -> None:
    rows = min(len(numbers), len(texts))
    numbers, texts = numbers[:rows], texts[:rows]
    frame = pl.DataFrame(
        {"x": numbers, "t": texts}, schema={"x": pl.Float64, "t": pl.String}, strict=False
    )
    labels = np.arange(rows) % 2 == 0
    found = profile(frame, label=labels)
    json.dumps(found.as_json(), allow_nan=False)
    x, t = found.column("x"), found.column("t")
    given_numbers = [v for v in numbers if v is not None and v == v]
    given_texts = [v for v in texts if v is not None]
    assert (x.rows, x.missing, x.distinct) == (
        rows, rows - len(given_numbers), len(set(given_numbers))
    )  # fmt: skip
    assert (t.missing, t.distinct) == (rows - len(given_texts), len(set(given_texts)))
    if given_texts:
        most = max(given_texts.count(v) for v in given_texts)
        expected = min(v for v in given_texts if given_texts.count(v) == most)
        assert (t.top[0].value, t.top[0].rows) == (expected, most)
    finite = [v for v in given_numbers if np.isfinite(v)]
    if finite:
        assert x.numbers is not None
        assert sum(x.numbers.counts) == len(finite)
        assert len(x.numbers.edges) == len(x.numbers.counts) + 1
        assert x.numbers.infinite == len(given_numbers) - len(finite)
        assert (x.numbers.quantiles[0], x.numbers.quantiles[-1]) == (min(finite), max(finite))
        assert x.numbers.negatives == sum(v < 0 for v in finite)
    holes = [row for row in zip(numbers, texts, strict=True) if row[0] is None or row[0] != row[0]]
    both = sum(text is None for _, text in holes)
    counted = {pattern.columns: pattern.rows for pattern in found.missing_patterns}
    assert counted.get(("x", "t"), 0) == both
    assert counted.get(("x",), 0) == len(holes) - both


def test_duplicate_rows_and_constant_columns_are_counted() -> None:
    frame = pl.DataFrame({"a": [1, 1, 2, 1], "b": ["x", "x", "x", "x"], "c": [None] * 4})
    found = profile(frame.cast({"c": pl.Float64}))
    assert found.duplicate_rows == 2
    assert found.constant == ("b", "c")
    assert [s.action for s in found.suggestions["c"]] == ["leave_out"]


# ------------------------------------------------------------------------------------- leaks


def test_a_column_is_worth_its_area_on_rows_it_was_not_learned_from() -> None:
    frame, labels = honest(20_000)
    known = profile(frame, label=labels).knowledge
    assert known["hour"].auc == pytest.approx(roc_auc_score(labels, frame["hour"]), abs=0.01)
    for name in ("load", "carrier", "id"):
        assert known[name].auc == pytest.approx(0.5, abs=0.02)


def test_a_column_that_is_not_monotone_is_worth_as_much() -> None:
    draw = np.random.default_rng(1)
    x = draw.normal(0.0, 1.0, N)
    known = knowledge_of(pl.Series("x", x), (np.abs(x) > 1.0).astype(float))
    assert known is not None
    assert known.auc > 0.97


@pytest.mark.parametrize("share", [1.0, 0.97])
def test_a_column_that_knows_the_label_is_found(share: float) -> None:
    frame, labels = honest()
    draw = np.random.default_rng(2)
    told = np.where(draw.random(N) < share, labels, ~labels)
    leaking = {
        "amount": pl.Series(told * 10.0 + draw.normal(0, 1, N)),
        "text": pl.Series(np.where(told, "x", "y")),
        "flag": pl.Series(told),
    }
    for name, column in leaking.items():
        found = profile(frame.with_columns(column.alias(name)), label=labels, at="at")
        assert [(leak.column, leak.kind) for leak in found.leaks] == [(name, "knows_the_label")]
        assert [s.action for s in found.suggestions[name]] == ["leave_out"]


def test_a_column_far_ahead_of_the_others_is_suspect() -> None:
    def knowledge(**areas: float) -> dict[str, Knowledge]:
        return {name: Knowledge(auc, 0, None, None) for name, auc in areas.items()}

    found = too_knowing(knowledge(delay=0.90, hour=0.65, day=0.6))
    assert [leak.column for leak in found] == ["delay"]
    assert "0.900, the others 0.650" in found[0].reason
    assert too_knowing(knowledge(hour=0.70, day=0.51)) == []
    assert too_knowing(knowledge(a=0.90, b=0.88, c=0.86)) == []
    assert len(too_knowing(knowledge(a=0.92, b=0.90, c=0.6))) == 2
    assert too_knowing(knowledge(a=0.8)) == []


def test_a_column_that_is_missing_only_with_one_label_is_found() -> None:
    frame, labels = honest()
    hidden = labels & (np.arange(N) % 4 == 0)
    landed = pl.Series("landed", np.where(hidden, np.nan, 1.0 + np.arange(N) % 5))
    found = profile(frame.with_columns(landed), label=labels)
    assert [(leak.column, leak.kind) for leak in found.leaks] == [
        ("landed", "missing_knows_the_label")
    ]
    few = labels & (np.arange(N) < 20)  # too few rows to be sure
    landed = pl.Series("landed", np.where(few, np.nan, 1.0 + np.arange(N) % 5))
    assert profile(frame.with_columns(landed), label=labels).leaks == ()


def test_instants_after_the_prediction_are_found() -> None:
    frame, _ = honest()
    frame = frame.with_columns(
        landed=pl.col("at") + pl.duration(hours=2), booked=pl.col("at") - pl.duration(hours=2)
    )
    leaks = profile(frame, at="at").leaks
    assert [(leak.column, leak.kind) for leak in leaks] == [("landed", "after_the_prediction")]
    assert "100.0% of the rows" in leaks[0].reason


def test_a_value_that_changes_after_the_prediction_is_found() -> None:
    versions = []
    for flight in range(100):
        asked = NOON + timedelta(minutes=flight)
        for known, gate, status in ((-60, "A", "planned"), (-5, "B", "planned"), (30, "B", "late")):
            when = asked + timedelta(minutes=known)
            late = flight % 2 == 0
            versions.append(
                {"_id": f"f{flight}", "_known_time": when, "at": asked, "gate": gate,
                 "status": status if late else "planned"}
            )  # fmt: skip
    random.Random(0).shuffle(versions)
    leaks = profile(pl.DataFrame(versions), at="at").leaks
    assert [(leak.column, leak.kind) for leak in leaks] == [("status", "changes_later")]
    assert "50.0% of the events" in leaks[0].reason
    once = pl.DataFrame(versions).unique("_id", keep="any")
    assert profile(once, at="at").leaks == ()


# ------------------------------------------------------------------------------------- pairs


def test_near_duplicates_are_found_once_with_their_relation() -> None:
    frame, _ = honest()
    frame = frame.with_columns(
        hour_again=pl.col("hour").cast(pl.Float64),
        logarithm=pl.col("size").log(),
        carrier_name=pl.col("carrier").replace_strict(
            {"AA": "American", "DL": "Delta", "UA": "United", "B6": "JetBlue"}
        ),
        morning=~pl.col("night"),
    )
    pairs = {pair.columns: pair.relation for pair in profile(frame).near_duplicates}
    assert pairs == {
        ("hour", "hour_again"): "equal",
        ("size", "logarithm"): "rank_correlated",
        ("carrier", "carrier_name"): "one_to_one",
        ("night", "morning"): "one_to_one",
    }


# ---------------------------------------------------------------------------------- outliers


def verdict(values: Any) -> tuple[str, str] | None:
    outliers = profile(pl.DataFrame({"x": values})).column("x").outliers
    return None if outliers is None else (outliers.verdict, "; ".join(outliers.reasons))


def test_mistakes_are_told_from_long_tails() -> None:
    draw = np.random.default_rng(3)
    normal = draw.normal(50.0, 5.0, N)
    assert verdict(normal) is None
    assert verdict(draw.integers(0, 10, N)) is None
    tail = verdict(draw.lognormal(3.0, 1.0, N))
    assert tail is not None
    assert tail[0] == "genuine"
    for wrong, reason in (
        (np.r_[normal, [-999.0] * 9], "-999 repeats 9 times"),
        (np.r_[normal, [9999.0] * 3], "9999 repeats 3 times"),
        (np.r_[normal, [5e7]], "as far out as the next value"),
        (np.r_[normal, [-1.0]], "1 of 2001 values are negative"),
    ):
        found = verdict(wrong)
        assert found is not None
        assert found[0] == "quality"
        assert reason in found[1]


# ------------------------------------------------------------------------------- suggestions


def test_what_is_suggested_can_be_declared(found: Profile) -> None:
    names = {column.name for column in found.columns}
    for suggestions in found.suggestions.values():
        for suggestion in suggestions:
            assert suggestion.reason
            assert (suggestion.action == "transform") == bool(suggestion.code)
            if suggestion.code:
                made = eval(suggestion.code, vars(hs))
                assert isinstance(made, Transform)
                assert set(made.names) <= names


def test_suggestions_follow_the_distribution() -> None:
    frame, _ = honest()
    words = ["engine", "ice", "crew", "late", "gate", "fog"]
    draw = random.Random(1)
    frame = frame.with_columns(
        note=pl.Series([" ".join(draw.choices(words, k=5)) for _ in range(N)]),
        tail=pl.Series([f"N{draw.randrange(60)}" for _ in range(N)]),
        rare=pl.Series([f"R{draw.randrange(500)}" for _ in range(N)]),
        gone=pl.Series([1.5 if i % 50 == 0 else None for i in range(N)]),
        code=pl.Series(np.r_[np.linspace(0.0, 9.0, N - 5), [999.0] * 5]),
    )
    codes = {
        name: [s.code.partition("(")[0] or s.action for s in suggestions]
        for name, suggestions in profile(frame).suggestions.items()
    }
    assert codes == {
        "id": ["leave_out"],
        "at": ["derive"],
        "hour": ["Scale"],
        "size": ["Impute", "Log", "Scale"],
        "load": ["Scale"],
        "carrier": ["OneHot"],
        "night": ["keep"],
        "window": ["keep"],
        "note": ["Tokens"],
        "tail": ["TargetEncoding"],
        "rare": ["TargetEncoding", "FrequencyEncoding"],
        "gone": ["Impute"],
        "code": ["Clip", "Scale"],
    }


# ------------------------------------------------------------------------------ what is given


class Tap(Event):
    """A card is used."""

    card: Annotated[str, Personal]
    at: Timestamp
    amount: float | None


def test_a_schema_says_which_columns_count() -> None:
    frame = pl.DataFrame(
        {"card": ["a", "b"], "at": [NOON, NOON], "amount": [1.0, None], "_offset": [0, 1],
         "more": [1, 2]}
    )  # fmt: skip
    found = profile(frame, Tap.schema)
    assert [(c.name, c.kind) for c in found.columns] == [
        ("card", "string"), ("at", "timestamp"), ("amount", "float")
    ]  # fmt: skip
    assert found.personal == ("card",)


def test_other_types_are_read_as_the_nearest_kind_or_left_out() -> None:
    frame = pl.DataFrame({"d": [NOON.date()] * 2, "c": ["a", "b"], "n": [[1], [2]], "i": [1, 2]})
    found = profile(frame.cast({"c": pl.Categorical, "i": pl.Int8}))
    assert [(c.name, c.kind) for c in found.columns] == [
        ("d", "timestamp"), ("c", "string"), ("i", "integer")
    ]  # fmt: skip


def test_an_empty_table_has_a_profile() -> None:
    found = profile(
        pl.DataFrame(schema={"x": pl.Float64, "at": pl.Datetime}), label=np.empty(0), at="at"
    )
    assert (found.rows, found.column("x").missing_share, found.leaks) == (0, 0.0, ())
    assert profile(pl.DataFrame()).columns == ()


def test_what_does_not_fit_is_refused() -> None:
    frame = pl.DataFrame({"amount": [1.0, 2.0]})
    with pytest.raises(UnknownName, match="no column named 'amuont'"):
        profile(frame, label="amuont")
    with pytest.raises(ProfileRefused, match=r"label of shape \[3\] for 2 rows"):
        profile(frame, label=np.zeros(3))
    with pytest.raises(UnknownName, match="no column named 'x'"):
        profile(frame).column("x")
