"""Labels of generated histories against a plain reading of the rule, in training and monitoring."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.clock import to_micros
from homeostat.core.errors import HomeostatError
from homeostat.monitor.labels import matured
from homeostat.train.dataset import labelled
from homeostat.train.outcomes import outcome_columns, outcomes_known

HOUR = 3_600_000_000
START = datetime(2026, 1, 1, tzinfo=UTC)
AT = to_micros(START)
DELAY = 4
INSTANT = pl.Datetime("us", "UTC")


class Check(hs.Event):
    """A machine is asked about."""

    check: str
    machine: str | None
    at: hs.Timestamp


class Failure(hs.Event):
    """Something happened to a machine, or was found out about a check."""

    failure: str
    machine: str | None
    check: str | None
    failed_at: hs.Timestamp
    breakdown: bool | None


checks = hs.EventSource("checks", Check, event_id="check", event_time="at", lateness="60d")
failures = hs.EventSource(
    "failures", Failure, event_id="failure", event_time="failed_at", lateness="60d"
)


def label(join_on: str = "machine", **given: object) -> hs.Label:
    found = hs.Label(
        "fails",
        predicts=checks,
        outcome=failures,
        join_on=join_on,
        value=hs.col("breakdown") == True,  # noqa: E712
        delay=f"{DELAY}h",
        when_absent=False,
    )
    return replace(found, **given)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Asked:
    """A request: the hour it is asked in, a machine, and how long before that it happened."""

    hour: int
    machine: str | None
    lag: int = 0


@dataclass(frozen=True)
class Told:
    """An outcome: its id, what it is about, when it happened and was known, and its value."""

    number: int
    about: str | None
    hour: int
    lag: int
    value: bool | None

    @property
    def known(self) -> int:
        return self.hour + self.lag


def read_plainly(
    rule: hs.Label, asked: Asked, key: str | None, history: list[Told], until: int
) -> bool | str | None:
    """Return the label by the words of `Label`; "open" before it is final."""
    if not asked.hour + DELAY < until:
        return "open"
    counting = []
    for told in history:
        if told.about is None or told.about != key or told.value is None:
            continue
        if told.known > asked.hour + DELAY:
            continue
        if rule.join_on == "check" and told.known < asked.hour - DELAY:
            continue
        follows = asked.hour - (asked.lag if rule.join_on == "check" else 0)
        if not (told.hour > follows or (rule.at_once and told.hour == follows)):
            continue
        counting.append(told)
    counting.sort(key=lambda told: (told.hour, f"f{told.number}"))
    if not counting:
        return rule.when_absent
    if rule.which == "any":
        return any(told.value for told in counting)
    return counting[-1 if rule.which == "last" else 0].value


def instants(hours: list[int]) -> pl.Series:
    return pl.Series([START + timedelta(hours=h) for h in hours], dtype=INSTANT)


def requests_frame(requests: list[Asked]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "check": pl.Series([f"c{n}" for n in range(len(requests))], dtype=pl.String),
            "machine": pl.Series([r.machine for r in requests], dtype=pl.String),
            "_known_time": instants([r.hour for r in requests]),
            "_event_time": instants([r.hour - r.lag for r in requests]),
        }
    )


def log_frame(requests: list[Asked]) -> pl.DataFrame:
    """Return the same requests as the monitor has them: logged with their predictions."""
    machines = ["null" if r.machine is None else f'"{r.machine}"' for r in requests]
    happened = [(START + timedelta(hours=r.hour - r.lag)).isoformat() for r in requests]
    texts = [
        f'{{"check":"c{n}","machine":{m},"at":"{at}"}}'
        for n, (m, at) in enumerate(zip(machines, happened, strict=True))
    ]
    return pl.DataFrame(
        {
            "request_id": pl.Series([f"c{n}" for n in range(len(requests))], dtype=pl.String),
            "at": instants([r.hour for r in requests]),
            "request": pl.Series(texts, dtype=pl.String),
        }
    )


def outcomes_frame(rule: hs.Label, history: list[Told]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "failure": pl.Series([f"f{t.number}" for t in history], dtype=pl.String),
            rule.join_on: pl.Series([t.about for t in history], dtype=pl.String),
            "breakdown": pl.Series([t.value for t in history], dtype=pl.Boolean),
            "_event_time": instants([t.hour for t in history]),
            "_known_time": instants([t.known for t in history]),
        }
    ).select(outcome_columns(rule))


hours = st.integers(0, 12)
rules = st.builds(
    lambda join_on, which, at_once, absent: label(
        join_on, which=which, at_once=at_once, when_absent=absent
    ),
    st.sampled_from(["machine", "check"]),
    st.sampled_from([None, "first", "last", "any"]),
    st.booleans(),
    st.sampled_from([True, False, None]),
)
asked_lists = st.lists(
    st.builds(Asked, hours, st.sampled_from(["c0", "c1", None]), st.sampled_from([0, 0, 1, 4])),
    max_size=5,
)
# Machines are named like checks, so that the same outcomes serve both ways of joining.
histories = st.lists(
    st.builds(
        Told,
        st.integers(0, 99),
        st.sampled_from(["c0", "c1", "c2", None]),
        hours,
        st.sampled_from([0, 0, 1, 3, 5, 30]),
        st.sampled_from([True, False, None]),
    ),
    max_size=10,
    unique_by=lambda told: told.number,
)


@given(rules, asked_lists, histories, st.integers(0, 20))
@example(label(), [Asked(0, "c0")], [Told(0, "c0", 0, 1, True)], 9)
@example(label(), [Asked(0, "c0")], [Told(0, "c0", 4, 0, True)], 9)
@example(label(), [Asked(0, "c0")], [Told(0, "c0", 1, 4, True), Told(1, "c0", 2, 0, False)], 9)
@example(label(), [Asked(3, "c0")], [Told(9, "c0", 4, 0, False), Told(10, "c0", 4, 0, True)], 9)
@example(
    label(which="last"),
    [Asked(0, "c0")],
    [Told(0, "c0", 1, 0, True), Told(1, "c0", 2, 0, False)],
    9,
)
@example(
    label(which="any"), [Asked(0, "c0")], [Told(0, "c0", 1, 0, False), Told(1, "c0", 2, 0, True)], 9
)
@example(label(), [Asked(3, "c0")], [Told(10, "c0", 4, 0, True), Told(9, "c0", 4, 0, False)], 9)
@example(label("check"), [Asked(3, "c0", 2)], [Told(0, "c0", 2, 0, True)], 9)
@example(label("check"), [Asked(3, "c0", 1)], [Told(0, "c0", 2, 2, True)], 9)
def test_labels_are_those_of_a_plain_reading(
    rule: hs.Label, requests: list[Asked], history: list[Told], until: int
) -> None:
    expected = []
    for number, asked in enumerate(requests):
        key = asked.machine if rule.join_on == "machine" else f"c{number}"
        truth = read_plainly(rule, asked, key, history, until)
        if truth != "open" and truth is not None:
            expected.append((f"c{number}", truth))
    known = [told for told in history if told.known < until]
    trained = labelled(
        rule, requests_frame(requests), outcomes_frame(rule, known), AT + until * HOUR
    )
    assert list(trained.select("check", "label").iter_rows()) == expected
    log = log_frame(requests)
    judged = matured(log, outcomes_frame(rule, known), rule, AT + until * HOUR)
    assert list(judged.select("request_id", "label").iter_rows()) == expected


@given(rules, asked_lists, histories, st.lists(st.integers(0, 20), max_size=4))
def test_labels_found_as_time_passes_are_those_found_at_the_end(
    rule: hs.Label, requests: list[Asked], history: list[Told], stops: list[int]
) -> None:
    """Predictions are judged once, when final, from the outcomes that `outcomes_known` names."""
    waiting, found = log_frame(requests), dict[str, bool]()
    for stop in [*sorted(stops), 40]:
        now = AT + stop * HOUR
        final = waiting.filter(pl.col("at").dt.epoch("us") + rule.delay_us < now)
        waiting = waiting.filter(pl.col("at").dt.epoch("us") + rule.delay_us >= now)
        if not final.height:
            continue
        first, last = final["at"].dt.epoch("us").min(), final["at"].dt.epoch("us").max()
        assert isinstance(first, int)
        assert isinstance(last, int)
        begin, end = outcomes_known(rule, first, last)
        at_hand = [t for t in history if begin <= AT + t.known * HOUR <= end]
        rows = matured(final, outcomes_frame(rule, at_hand), rule, now)
        found |= dict(rows.select("request_id", "label").iter_rows())
    whole = matured(log_frame(requests), outcomes_frame(rule, history), rule, AT + 40 * HOUR)
    assert found == dict(whole.select("request_id", "label").iter_rows())


def test_a_failure_makes_only_the_checks_before_it_true() -> None:
    requests = [Asked(hour, "c0") for hour in range(12)]
    found = labelled(
        label(),
        requests_frame(requests),
        outcomes_frame(label(), [Told(0, "c0", 6, 1, True)]),
        AT + 99 * HOUR,
    )
    assert [n for n, truth in enumerate(found["label"]) if truth] == [3, 4, 5]


def test_another_choice_is_refused() -> None:
    with pytest.raises(HomeostatError, match="Did you mean 'first'"):
        label(which="frist")


def test_the_hash_of_a_label_that_says_nothing_new_is_what_it_was() -> None:
    from homeostat.core.hashing import plain

    assert {"which", "at_once"}.isdisjoint(plain(label()))
    assert plain(label(which="last"))["which"] == "last"
