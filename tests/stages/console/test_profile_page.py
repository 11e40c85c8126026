"""The page of a profile draws what was counted, needs nothing else, and keeps what is personal."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Annotated

import numpy as np
import polars as pl
import pytest

from homeostat.console.distributions import written
from homeostat.console.profile import render_profile
from homeostat.declare.schema import Event, Personal, Timestamp
from homeostat.features.profile import Profile, profile

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
N = 400
VOID = {"meta"}


class Page(HTMLParser):
    """Collects tags and text, and insists that every tag is closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.titles: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data + " "
        if self.open and self.open[-1] == "title":
            self.titles.append(data)


def table() -> pl.DataFrame:
    draw = random.Random(1)
    return pl.DataFrame(
        {
            "at": [NOON + timedelta(hours=i) for i in range(N)],
            "hour": [i % 24 for i in range(N)],
            "amount": [None if i % 5 == 0 else draw.lognormvariate(3, 1) for i in range(N)],
            "fee": [None if i % 5 == 0 else -999.0 if i % 81 == 1 else draw.gauss(5, 1)
                    for i in range(N)],
            "shop": [f"<b>{'abc'[i % 3]}&" for i in range(N)],
            "hour_again": [float(i % 24) for i in range(N)],
            "always": [7] * N,
            "outcome": [float(i % 3 == 0) * 50 + draw.gauss(0, 1) for i in range(N)],
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def found() -> Profile:
    return profile(table(), label=np.arange(N) % 3 == 0, at="at")


@pytest.fixture(scope="module")
def page(found: Profile) -> str:
    return render_profile("taps", found)


def test_the_page_stands_alone(page: str) -> None:
    tags = {tag for tag, _ in Page(page).tags}
    assert tags.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert not re.search(r"https?://|@import|url\(", page)
    assert "prefers-color-scheme:dark" in page


def test_every_bar_is_what_was_counted(page: str, found: Profile) -> None:
    titles = Page(page).titles
    hour = found.column("hour").numbers
    assert hour is not None
    assert len(hour.counts) == 24
    first, *middle, last = (f"{rows} rows" for rows in hour.counts)
    assert f"0 and less: {first}" in titles
    assert f"23 and more: {last}" in titles
    for value, told in enumerate(middle, 1):
        assert f"{value}: {told}" in titles
    amount = found.column("amount").numbers
    assert amount is not None
    assert sum(amount.counts) == N - N // 5
    for begin, end, rows in zip(amount.edges[1:-2], amount.edges[2:-1], amount.counts[1:-1],
                                strict=True):  # fmt: skip
        said = f"{written(begin, 'float')} to {written(end, 'float')}: {rows} rows"
        assert said in titles
    assert sum(int(t.split(": ")[1].split()[0]) for t in titles if t.startswith("<b>")) == N


def test_bars_are_as_tall_as_their_counts(page: str, found: Profile) -> None:
    picture = page[page.index('aria-label="Distribution of hour"') :].partition("</svg>")[0]
    tall = [float(h) for h in re.findall(r'<rect[^>]* height="([\d.]+)"', picture)]
    numbers = found.column("hour").numbers
    assert numbers is not None
    most = max(numbers.counts)
    assert tall == pytest.approx([rows / most * max(tall) for rows in numbers.counts], abs=0.06)


def test_it_says_what_wants_attention(page: str) -> None:
    words = Page(page).words
    assert "outcome alone it ranks the label" in re.sub(r"\s+", " ", words)
    assert "-999 repeats" in words
    assert "always has one value in every row" in re.sub(r"\s+", " ", words)
    assert "hour_again" in words
    assert "equal in every row" in words
    assert "Impute('amount'" in words
    assert "20.0% · 80" in words  # amount and fee are missing together


def test_text_of_a_table_is_no_html(page: str) -> None:
    assert "<b>a&" not in page
    assert "&lt;b&gt;a&amp;" in page
    assert "<i>" not in render_profile("<i>", profile(pl.DataFrame({"<i>": ["<i>", "<i>"]})))


class Tap(Event):
    """A card is used."""

    card: Annotated[str, Personal]
    born: Annotated[int, Personal]
    at: Timestamp


def test_personal_values_are_not_on_the_page() -> None:
    frame = pl.DataFrame(
        {
            "card": ["4242", "4242", "1717"] * 20,
            "born": [*range(1931, 1990), 99_999_999],
            "at": [NOON] * 60,
        }
    )
    found = profile(frame, Tap.schema)
    page = render_profile("taps", found.masked())
    data = str(found.masked().as_json())
    for secret in ("4242", "1717", "1931", "99999999", "1e+08", "99,999,999"):
        assert secret not in page
        assert secret not in data
    assert page.count("its values are not shown") == 2
    open_page = render_profile("taps", found)
    assert "4242" in open_page
    assert "1,931" in open_page


def test_a_table_without_rows_has_a_page() -> None:
    for frame in (pl.DataFrame(), pl.DataFrame(schema={"x": pl.Float64, "t": pl.String})):
        assert "Columns" in Page(render_profile("nothing", profile(frame))).words or not frame.width


def test_hostile_numbers_are_drawn() -> None:
    frame = pl.DataFrame(
        {
            "huge": [-1e308, 1e308, 0.0, float("inf")] * 5,
            "tiny": [5e-324, 0.0, 1e-300, None] * 5,
            "same": [1e300] * 19 + [None],
            "long": [str(10**n) for n in range(20)],
        }
    )
    page = render_profile("odd", profile(frame))
    assert Page(page)
    assert "nan" not in page.partition("</style>")[2]
    assert 'height="inf' not in page
