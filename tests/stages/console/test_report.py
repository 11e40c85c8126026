"""The report holds what the summary says, needs nothing else, and survives what is missing."""

from __future__ import annotations

import copy
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.console.charts import Series, Span, line_chart, nice_ticks
from homeostat.console.decisions import evidence
from homeostat.console.report import render
from homeostat.console.rollout import marks, stays
from homeostat.console.summary import Summary

VOID = {"meta"}


class Page(HTMLParser):
    """Collects tags and text, and insists that every tag is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data + " "


def read(page: str) -> Page:
    parser = Page()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    parser.words = re.sub(r"\s+", " ", parser.words)
    return parser


def test_the_page_needs_no_network_and_no_script(full: dict[str, Any]) -> None:
    page = read(render(full))
    names = {tag for tag, _ in page.tags}
    assert names.isdisjoint({"script", "link", "img", "iframe", "object", "audio", "video"})
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert not {"src", "href"} & attributes.keys()
    assert "url(" not in render(full)
    assert "@import" not in render(full)


def test_the_page_says_what_the_summary_holds(full: dict[str, Any]) -> None:
    words = read(render(full)).words
    for expected in (
        "Flights, 1 May to 31 December 2013",
        "226,041",
        "0 of 7,233,312 logged feature values differ",
        "+0.075",
        "trained 3 challengers",
        "promoted 3 models",
        "Version 4 was stopped on 1 September.",
        "It never answered more than 5% of the requests.",
        "cost is 0.318 against 0.171 of the champion",
        "invalid_field:delay_minutes",
        "336,776",
        "origin_departures__delay_minutes_mean_1h",
        "homeostat sql",
        full["journal_hash"],
    ):
        assert expected in words, expected


def test_every_decision_is_on_the_page_with_its_evidence(full: dict[str, Any]) -> None:
    page = read(render(full))
    for decision in full["decisions"]:
        assert decision["reason"] in page.words
    told = sum(1 for decision in full["decisions"] if decision["evidence"])
    assert sum(1 for tag, _ in page.tags if tag == "details") == told + 1
    assert "broken" in page.words
    assert "30 Apr 2013, 21:20" in page.words  # last_trained, an instant in microseconds
    assert "2d" in page.words  # span_us


def test_the_page_follows_the_scheme_and_the_width_of_the_reader(full: dict[str, Any]) -> None:
    page = render(full)
    assert "prefers-color-scheme:dark" in page
    assert 'name="viewport"' in page
    assert page.count("<title>") > 100  # every point can be hovered


def test_the_same_summary_gives_the_same_page(full: dict[str, Any]) -> None:
    assert render(full) == render(copy.deepcopy(full))


def test_a_wrong_number_would_be_seen(full: dict[str, Any]) -> None:
    before = render(full)
    full["skew_different"] = 3
    assert "tile bad" not in before
    assert "tile bad" in render(full)


def keys(value: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict) or len(path) > 1:
        return []
    return [
        found
        for key in value
        for found in [(*path, key), *keys(value[key], (*path, key))]
    ]  # fmt: skip


def test_any_part_may_be_missing(full: dict[str, Any]) -> None:
    for path in keys(full):
        less = copy.deepcopy(full)
        holder = less
        for key in path[:-1]:
            holder = holder[key]
        del holder[path[-1]]
        page = read(render(less))
        assert "Homeostat" in page.words
        assert "nan" not in page.words.lower().split(), path


def test_an_empty_summary_is_a_page() -> None:
    assert "A replay of the whole loop" in read(render({})).words


@given(st.data())
def test_odd_values_are_left_out_and_never_an_error(data: st.DataObject) -> None:
    odd: st.SearchStrategy[Any] = st.sampled_from(
        [None, [], {}, "x", "<b>", 0, -1.5, float("nan"), [[]], [None], {"a": 1}]
    )
    names = [
        "system", "period", "seconds", "auc", "cost", "base_rate", "weekly", "decisions",
        "quarantined", "counts", "drift", "latency", "rollout", "importance", "reliability",
        "costs", "commands", "model_hashes", "journal_hash", "predictions", "skew_different",
    ]  # fmt: skip
    summary = data.draw(st.dictionaries(st.sampled_from(names), odd))
    read(render(summary))


def test_text_from_outside_is_escaped(full: dict[str, Any]) -> None:
    hostile = '<script>alert("x")</script>'
    full["system"] = hostile
    full["commands"] = [hostile]
    full["quarantined"] = {hostile: {hostile: 3}}
    full["importance"] = [[hostile, 0.5]]
    full["latency"] = {hostile: {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0}}
    full["decisions"][0] |= {"reason": hostile, "action": hostile, "evidence": {hostile: hostile}}
    full["model_hashes"] = {hostile: hostile}
    assert "<script" not in render(full)


def test_stays_follow_the_moves(full: dict[str, Any]) -> None:
    summary = Summary(full)
    period = summary.period()
    assert period is not None
    held = stays(summary.moves(), period[1])
    told = [(stay.version, stay.stage, stay.share, stay.fate) for stay in held]
    assert told == [
        ("1", "champion", 1.0, ""),
        ("2", "shadow", 0.0, ""),
        ("2", "canary", 0.05, ""),
        ("2", "canary", 0.5, ""),
        ("2", "champion", 1.0, ""),
        ("4", "shadow", 0.0, ""),
        ("4", "canary", 0.05, "withdrawn"),
        ("5", "shadow", 0.0, ""),
        ("5", "canary", 0.05, ""),
        ("5", "canary", 0.5, ""),
        ("5", "champion", 1.0, ""),
    ]
    champions = [stay for stay in held if stay.stage == "champion"]
    assert [a.end for a in champions[:-1]] == [b.start for b in champions[1:]]
    assert champions[-1].end == period[1]


def test_moves_are_told_by_the_decisions_where_no_rollout_is_given(full: dict[str, Any]) -> None:
    del full["rollout"]
    moves = Summary(full).moves()
    assert [(m.version, m.stage) for m in moves] == [
        ("1", "promote"), ("2", "shadow"), ("2", "canary"), ("2", "canary"), ("2", "promote"),
        ("4", "shadow"), ("4", "canary"), ("4", "rollback"),
        ("5", "shadow"), ("5", "canary"), ("5", "promote"),
    ]  # fmt: skip
    assert [m.share for m in moves[2:4]] == [0.05, 0.5]
    assert "rolled back" in render(full)


def test_a_champion_that_is_taken_back_leads_no_more() -> None:
    def decided(day: int, action: str, version: int, **evidence: Any) -> dict[str, Any]:
        at = f"2013-05-{day:02d}"
        return {"at": at, "model": "m", "action": action, "version": version, "evidence": evidence}

    decisions = [
        decided(1, "promote", 1),
        decided(2, "promote", 2),
        decided(3, "rollback", 2, back_to=1),
        decided(4, "canary", 3, share=0.1),
        decided(5, "rollback", 3, back_to=1),
    ]
    moves = Summary({"decisions": decisions}).moves()
    held = stays(moves, datetime(2013, 5, 6, tzinfo=UTC))
    assert [(s.version, s.stage, s.start.day, s.end.day) for s in held] == [
        ("1", "champion", 1, 2),
        ("2", "champion", 2, 3),
        ("1", "champion", 3, 6),
        ("3", "canary", 4, 5),
    ]
    assert [(mark.at.day, mark.style) for mark in marks(moves)] == [
        (2, "up"), (3, "down"), (5, "down"),
    ]  # fmt: skip


@given(
    st.floats(-1e6, 1e6),
    st.floats(1e-6, 1e6),
    st.integers(2, 8),
)
def test_ticks_span_the_values_with_few_round_steps(low: float, span: float, about: int) -> None:
    high = low + span
    ticks = nice_ticks(low, high, about)
    assert 2 <= len(ticks) <= 2 * about + 4
    slack = (ticks[1] - ticks[0]) * 1e-3
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert ticks == sorted(set(ticks))


def test_a_line_is_broken_where_a_value_is_missing() -> None:
    span = Span(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 2, 1, tzinfo=UTC))
    days = [datetime(2013, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4)]
    values = [1.0, float("nan"), 2.0, 3.0]
    chart = line_chart(
        [Series("a", "s0", list(zip(days, values, strict=True)))], span, "a", "{:.1f}".format
    )
    path = re.search(r'class="line s0" d="([^"]*)"', chart)
    assert path is not None
    assert (path[1].count("M"), path[1].count("L")) == (2, 1)
    assert "nan" not in chart


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"rows": 1200}, "1,200"),
        ({"auc": 0.123456}, "0.1235"),
        ({"auc": None}, "–"),
        ({"ready": True}, "yes"),
        ({"span_us": 3_600_000_000}, "1h"),
        ({"guards": [{"signal": "cost", "rows": 3}, {"signal": "auc"}]}, "signal rows cost 3 auc"),
        ({"names": ["a", "b"]}, "a, b"),
        ({"nothing": []}, "none"),
    ],
)
def test_evidence_reads_as_tables(found: object, words: str) -> None:
    assert words in read(evidence(found)).words
