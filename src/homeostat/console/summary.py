"""Reads the summary of a replay; what is missing or odd is left out, never an error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from homeostat.core.clock import from_micros

__all__ = [
    "ALL",
    "MODELS",
    "Move",
    "Summary",
    "instant",
    "number",
    "written_instant",
]

MODELS: Mapping[str, str] = {
    "final": "the system",
    "frozen": "first model, frozen",
    "without_streaming": "without streaming features",
}
"""The compared models by their key in the summary, and what the report calls them."""
ALL = "all"
ENDS = ("rollback", "rolled_back", "reject", "rejected")
STAGES = ("shadow", "canary", "blue_green")
LEADS = ("champion", "promote", "promoted", "idle", "stable")


def number(value: object) -> float:
    """Return a number as it is, anything else as not a number.

    >>> number(3), number(None), number("x")
    (3.0, nan, nan)
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return math.nan


def instant(value: object) -> datetime | None:
    """Return ISO text, or microseconds since 1970, as an aware instant; None if it is neither.

    >>> instant("2013-05-01").isoformat()
    '2013-05-01T00:00:00+00:00'
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return from_micros(value)
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def written_instant(value: object) -> str:
    """Return an instant as people read it, to the minute, in UTC.

    >>> written_instant("2013-05-03T04:05:06+00:00")
    '3 May 2013, 04:05'
    """
    found = instant(value)
    return "" if found is None else f"{found.day} {found:%b %Y, %H:%M}"


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a rollout: from `at` on, `version` is in `stage` with `share` of the requests."""

    at: datetime
    stage: str
    version: str
    share: float

    @property
    def leads(self) -> bool:
        """Whether the version is the champion from here on."""
        return self.stage in LEADS

    @property
    def ends(self) -> bool:
        """Whether the version was withdrawn here."""
        return self.stage in ENDS


class Summary:
    """The mapping a replay leaves, with every access polite.

    >>> Summary({"auc": {"final": {"all": 0.75}}}).metric("auc", "final", "all")
    0.75
    """

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = raw

    def mapping(self, *path: str) -> Mapping[str, Any]:
        """Return the mapping at a path, empty if there is none."""
        here: Any = self._raw
        for key in path:
            here = here.get(key) if isinstance(here, Mapping) else None
        return here if isinstance(here, Mapping) else {}

    def rows(self, *path: str) -> list[Any]:
        """Return the list at a path, empty if there is none."""
        *folder, last = path
        found = self.mapping(*folder).get(last)
        return list(found) if isinstance(found, Sequence) and not isinstance(found, str) else []

    def text(self, key: str) -> str:
        """Return a text, empty if there is none."""
        found = self._raw.get(key)
        return found if isinstance(found, str) else ""

    def number(self, *path: str) -> float:
        """Return a number, not a number if there is none."""
        *folder, last = path
        return number(self.mapping(*folder).get(last))

    def metric(self, name: str, model: str, month: str) -> float:
        """Return a metric of a model in a month ("all": the whole period)."""
        return self.number(name, model, month)

    def months(self) -> list[str]:
        """Return the months that any metric knows, in order, without "all"."""
        found: set[str] = set(self.mapping("base_rate"))
        for name in ("auc", "cost", "calibration_error"):
            for model in self.mapping(name):
                found |= set(self.mapping(name, model))
        return sorted(found - {ALL})

    def models(self) -> list[str]:
        """Return the keys of the models that are compared, ours first."""
        named = {m for name in ("auc", "cost", "calibration_error") for m in self.mapping(name)}
        named |= set(self.mapping("weekly"))
        return [m for m in MODELS if m in named] + sorted(named - set(MODELS))

    def gain(self, month: str) -> float:
        """Return the AUC that the streaming features are worth in a month."""
        return self.metric("auc", "final", month) - self.metric("auc", "without_streaming", month)

    def decisions(self) -> list[Mapping[str, Any]]:
        """Return the decisions, oldest first as given."""
        return [d for d in self.rows("decisions") if isinstance(d, Mapping)]

    def moves(self) -> list[Move]:
        """Return the steps of the rollout in order of time, told by the decisions if need be."""
        if not self.rows("rollout"):
            return self._decided_moves()
        found: list[Move] = []
        for row in self.rows("rollout"):
            if isinstance(row, Sequence) and len(row) >= 4:
                at, stage, version, share = row[:4]
                when, part = instant(at), number(share)
                if when is not None and version is not None:
                    found.append(Move(when, str(stage), str(version), part))
        return sorted(found, key=lambda move: move.at)

    def _decided_moves(self) -> list[Move]:
        """Return the steps of the model about which most was decided."""
        followed = (*STAGES, "promote", "rollback")
        acts = [
            (at, d)
            for d in self.decisions()
            if d.get("action") in followed
            and d.get("version") is not None
            and (at := instant(d.get("at"))) is not None
        ]
        names = [str(d.get("model", "")) for _, d in acts]
        most = max(names, key=names.count, default="")
        found: list[Move] = []
        champion = ""
        for at, decision in sorted(acts, key=lambda act: act[0]):
            if str(decision.get("model", "")) != most:
                continue
            action, version = str(decision["action"]), str(decision["version"])
            seen = decision.get("evidence")
            evidence = seen if isinstance(seen, Mapping) else {}
            share = number(evidence.get("share"))
            found.append(Move(at, action, version, share if math.isfinite(share) else 0.0))
            back = evidence.get("back_to")
            if action == "promote":
                champion = version
            elif action == "rollback" and back is not None and str(back) != champion:
                champion = str(back)
                found.append(Move(at, "champion", champion, 1.0))
        return found

    def period(self) -> tuple[datetime, datetime] | None:
        """Return start and end; where they are not given, those of what happened."""
        start, end = (instant(self.mapping("period").get(side)) for side in ("start", "end"))
        seen = [move.at for move in self.moves()]
        for model in self.mapping("weekly"):
            for row in self.rows("weekly", model):
                when = instant(row[0]) if isinstance(row, Sequence) and row else None
                seen += [when] if when else []
        if start is None or end is None:
            if len(seen) < 2:
                return None
            start, end = start or min(seen), end or max(seen)
        return (start, end) if start < end else None
