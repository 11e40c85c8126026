"""The journal as a table: when, what, which version, why, and the evidence to unfold."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from homeostat.console.page import raw, table
from homeostat.console.summary import written_instant
from homeostat.core.durations import format_duration

__all__ = ["SIGNS", "decision_tables", "evidence", "is_sign", "plain_value", "version_name"]

SIGNS = frozenset({"alert", "clear", "finding_opened", "finding_closed", "finding"})
"""Actions that only tell; everything else changes what runs."""
EARLIEST = 10**14
"""Microseconds since 1970 are above this since 1973: an integer that large is an instant."""


def is_sign(decision: Mapping[str, Any]) -> bool:
    """Return whether a decision only tells that a finding came or went."""
    return str(decision.get("action", "")) in SIGNS


def version_name(version: object) -> str:
    """Return a version as people read it.

    >>> version_name(3), version_name(None)
    ('v3', '')
    """
    return "" if version is None or version == "" else f"v{version}"


def plain_value(name: str, value: object) -> str:
    """Return one value of evidence as text; the name tells instants and spans from counts.

    >>> plain_value("span_us", 5_400_000_000), plain_value("auc", 0.71234567)
    ('1h30m', '0.7123')
    """
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        if name.endswith("_us") and value >= 0:
            return format_duration(value)
        if value > EARLIEST:
            return written_instant(value)
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "undefined"
    return str(value)


def evidence(found: object, name: str = "") -> str:
    """Return evidence as HTML: mappings as rows, lists of mappings as tables."""
    if isinstance(found, Mapping):
        rows = [
            (escape(str(key).replace("_", " ")), evidence(value, str(key)))
            for key, value in found.items()
        ]
        return f"<table><tbody>{''.join(f'<tr>{raw(row)}</tr>' for row in rows)}</tbody></table>"
    if isinstance(found, Sequence) and not isinstance(found, str):
        if found and all(isinstance(item, Mapping) for item in found):
            head = list(dict.fromkeys(key for item in found for key in item))
            cells = [[evidence(item.get(key, ""), key) for key in head] for item in found]
            return table([escape(key.replace("_", " ")) for key in head], cells)
        return ", ".join(evidence(item, name) for item in found) or "none"
    return escape(plain_value(name, found))


def decision_tables(decisions: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return the table of what was done, and the folded table of what was only told."""
    done = [decision for decision in decisions if not is_sign(decision)]
    told = [decision for decision in decisions if is_sign(decision)]
    folded = ""
    if told:
        folded = (
            f'<details class="more"><summary>Findings that opened and closed ({len(told)})'
            f"</summary>{_table(told)}</details>"
        )
    return (_table(done) if done else ""), folded


def _table(decisions: Sequence[Mapping[str, Any]]) -> str:
    models = {str(decision.get("model", "")) for decision in decisions}
    rows = "".join(_row(decision, len(models) > 1) for decision in decisions)
    return (
        '<div class="scroll"><table class="decisions"><thead><tr><th class="words">When (UTC)</th>'
        '<th class="words">What</th><th class="words">Which</th><th class="words">Why</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _row(decision: Mapping[str, Any], names_model: bool) -> str:
    action = str(decision.get("action", "?"))
    which = version_name(decision.get("version"))
    if names_model:
        which = f"{decision.get('model', '')} {which}".strip()
    why = escape(str(decision.get("reason", "")))
    found = decision.get("evidence")
    if found:
        body = evidence(found) if isinstance(found, Mapping) else escape(json.dumps(found))
        why += f'<details><summary>evidence</summary><div class="evidence">{body}</div></details>'
    badge = f'<span class="badge {escape(action)}">{escape(action.replace("_", " "))}</span>'
    when = escape(written_instant(decision.get("at")))
    return f"<tr><td>{when}</td><td>{badge}</td><td>{escape(which)}</td><td>{why}</td></tr>"
