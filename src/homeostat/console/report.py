"""The report of a replay: one page that holds everything it needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from homeostat.console.decisions import decision_tables
from homeostat.console.operations import drift, importance, intake, latency, rollouts
from homeostat.console.page import document, section, tile
from homeostat.console.quality import meaning, quality, worth
from homeostat.console.summary import ALL, Summary, number
from homeostat.console.wording import clock, days, many, signed

__all__ = ["render"]


def render(summary: Mapping[str, Any]) -> str:
    """Return the HTML page of a replay's summary; parts the summary lacks are left out.

    >>> render({"system": "flights"}).startswith("<!doctype html>")
    True
    """
    found = Summary(summary)
    name = found.text("system") or "system"
    parts = (
        worth, quality, rollouts, _journal, drift, meaning, importance, latency, intake, _next
    )  # fmt: skip
    body = [_head(found, name), *(part(found) for part in parts), _foot(found)]
    return document(f"{name}: a replay by Homeostat", body)


def _head(found: Summary, name: str) -> str:
    period = found.period()
    over = f"Homeostat · {escape(name)}"
    title = "A replay of the whole loop"
    if period:
        title = f"{escape(name.capitalize())}, {days(*period)}"
    return (
        f'<p class="over">{over}</p><h1>{title}</h1><p class="lede">{_lede(found)}</p>'
        f'<div class="tiles">{"".join(_tiles(found))}</div>'
    )


def _lede(found: Summary) -> str:
    done = [str(d.get("action", "")) for d in found.decisions()]
    trained, promoted, back = (done.count(a) for a in ("train", "promote", "rollback"))
    words = "Events came in, became features, trained a model and were judged by it"
    if done:
        words = (
            f"The system trained <b>{many(trained, 'challenger')}</b>, promoted "
            f"<b>{many(promoted, 'model')}</b> and took back <b>{back}</b>"
        )
    answered = found.number("predictions")
    if math.isfinite(answered):
        words += f", while it answered <b>{answered:,.0f}</b> requests"
    return f"{words}, on a virtual clock and through the code that serves live."


def _tiles(found: Summary) -> list[str]:
    tiles: list[str] = []
    auc, gain = found.metric("auc", "final", ALL), found.gain(ALL)
    if math.isfinite(auc):
        words = "ROC-AUC of the system over the whole period"
        tiles.append(tile(f"{auc:.3f}", words))
    if math.isfinite(gain):
        style = "good" if gain > 0 else "bad"
        tiles.append(tile(signed(gain), "AUC gained by streaming features", style))
    ours, frozen = (found.metric("cost", m, ALL) for m in ("final", "frozen"))
    if math.isfinite(ours) and frozen > 0:
        saved = 1 - ours / frozen
        words = "cost per prediction against the first model, frozen"
        tiles.append(
            tile(f"{-saved:+.1%}".replace("-", "−"), words, "good" if saved > 0 else "bad")
        )
    compared, different = found.number("skew_compared"), found.number("skew_different")
    if math.isfinite(compared) and math.isfinite(different):
        words = f"of {compared:,.0f} logged feature values differ from the lake, to the bit"
        tiles.append(tile(f"{different:,.0f}", words, "bad" if different else "good"))
    refused = found.mapping("quarantined")
    bad = sum(
        number(n) for source in refused for n in found.mapping("quarantined", source).values()
    )
    if refused:
        tiles.append(tile(f"{bad:,.0f}", "bad events quarantined, each with its reason"))
    seconds, memory = found.number("seconds"), found.number("peak_rss_mb")
    if math.isfinite(seconds):
        words = "for the replay" + (
            f", at most {memory:,.0f} MB of memory" if math.isfinite(memory) else ""
        )
        tiles.append(tile(clock(seconds), words))
    return tiles


def _journal(found: Summary) -> str:
    done, told = decision_tables(found.decisions())
    words = (
        "The journal: each decision was written down with its evidence before it was carried out."
    )
    return section("Decisions", words, done, told)


def _next(found: Summary) -> str:
    commands = [str(command) for command in found.rows("commands")]
    words = "The end state of the replay is on disk, and serves."
    shown = "\n".join(escape(command) for command in commands)
    return section("What to try next", words, f"<pre>{shown}</pre>" if commands else "")


def _foot(found: Summary) -> str:
    parts = []
    journal = found.text("journal_hash")
    if journal:
        parts.append(f"journal <code>{escape(journal)}</code>")
    for name, digest in found.mapping("model_hashes").items():
        parts.append(f"{escape(str(name))} <code>{escape(str(digest)[:16])}</code>")
    costs = found.mapping("costs")
    if costs:
        named = ", ".join(
            f"{escape(str(k)).replace('_', ' ')} {number(v):g}" for k, v in costs.items()
        )
        parts.append(f"declared costs: {named}")
    said = "The same declarations, events and seed give the same hashes, on every run. "
    return f"<footer>{said}{' · '.join(parts)}</footer>" if parts else ""
