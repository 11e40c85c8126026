"""Request fields that a version reads and that clients need not send: who waits for which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from homeostat.declare.models import Model
from homeostat.serve.needs import Needs, beyond, lacking
from homeostat.serve.ports import Broken
from homeostat.serve.routing import Route

__all__ = ["Awaited"]

ENOUGH = 50
"""A field that so many requests in a row have brought is awaited no more."""


class Awaited:
    """Watches whether the requests of one model bring what others than its champion read.

    Args:
        model: the model as it is declared.
        today: what it needs.
    """

    def __init__(self, model: Model, today: Needs) -> None:
        self._today = today
        self._defaults = {
            f.name for f in model.label.predicts.schema.fields if f.default is not None
        }
        self._route: Route | None = None
        self._readers: dict[str, Needs] = {}
        self._in_a_row: dict[tuple[str, bool], int] = {}

    def watch(self, requests: Sequence[Mapping[str, Any]], route: Route) -> None:
        """Count the requests in a row that bring what is awaited."""
        for needs in self._awaiting(route).values():
            for one in needs.items():
                for request in requests:
                    brings = lacking(dict([one]), request) is None
                    self._in_a_row[one] = self._in_a_row.get(one, 0) + 1 if brings else 0

    def notes(self, route: Route) -> Iterator[str]:
        """Yield who waits for which fields, and what only the champion still needs."""
        if route.champion is None:
            return
        only = beyond(route.champion.reads(self._today), self._today)
        if only:
            yield (
                f"the champion (version {route.champion.version}) needs {_named(only)} in every "
                "request, which the model as it is declared does not: one without is refused"
            )
        for who, needs in self._awaiting(route).items():
            fields = [one[0] for one in needs.items() if self._in_a_row.get(one, 0) < ENOUGH]
            if fields:
                role = who.split()[1]
                meanwhile = _MEANWHILE[role]
                if role == "challenger" and isinstance(route.champion.servable, Broken):
                    meanwhile = _WITHOUT_CHAMPION
                yield f"{who} waits for {_named(fields)} in requests, {meanwhile}"

    def _awaiting(self, route: Route) -> dict[str, Needs]:
        """Return what others read beyond the champion, by who they are."""
        if route is not self._route:
            found = {
                f"the {name} (version {arm.version})": arm.reads(self._today)
                for name, arm in (("challenger", route.challenger), ("way back", route.previous))
                if arm is not None
            }
            found["the model as it is declared"] = self._today
            required = route.needs(self._today)
            self._readers = {who: self._beyond(needs, required) for who, needs in found.items()}
            self._route = route
        return self._readers

    def _beyond(self, needs: Needs, required: Needs) -> Needs:
        names = set(beyond(needs, required)) - self._defaults
        return {name: nullable for name, nullable in needs.items() if name in names}


_MEANWHILE = {
    "challenger": "which need not bring it: without, the champion answers, and nothing is promoted",
    "way": "which need not bring it: without, it stands in for nobody; a rollback makes it needed",
    "model": "which need not bring it: a version trained so is asked for none without",
}

_WITHOUT_CHAMPION = (
    "which need not bring it: the champion answers nothing, so a fallback answers until clients "
    "bring it for a whole step of the rollout, or until it is withdrawn with `homeostat rollback` "
    "and another version is trained"
)


def _named(fields: Sequence[str]) -> str:
    return ", ".join(map(repr, fields))
