"""Requests by their id: the same one again is no new question, and another under its id is refused.

What is compared is what the event of the request says: a field that is absent, or null where the
model does not need it, says nothing, as it was filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from homeostat.core.errors import HomeostatError
from homeostat.declare.models import Model
from homeostat.declare.schema import Field
from homeostat.serve.needs import Needs
from homeostat.serve.requests import Problem

__all__ = ["RequestConflict", "Same"]

Row = Mapping[str, Any]


class RequestConflict(HomeostatError, ValueError):
    """Requests with the id of another one; `problems` names each field that differs."""

    def __init__(self, where: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(
            f"{where}: " + "; ".join(map(str, self.problems)) + ". Send another request under an "
            "id of its own, or what was sent before to get its answer again."
        )


class Same:
    """Tells whether a request of one model says what came under its id before.

    Args:
        model: the model that is asked.
        needs: what a request must bring now.
    """

    def __init__(self, model: Model, needs: Callable[[], Needs]) -> None:
        source = model.label.predicts
        self.where, self.source = f"request to {model.name!r}", source.name
        self.id_field = source.event_id
        self._needs = needs
        self._fields = {f.name: f for f in source.schema.fields}

    def key(self, request: Row) -> str | None:
        """Return the id of a request as text, None if it has none."""
        given = request.get(self.id_field)
        return None if given is None else str(given)

    def differing(self, first: Row, again: Row) -> tuple[str, ...]:
        """Return the fields in which a request differs from the event that has its id."""
        needs = self._needs()
        return tuple(
            name
            for name, field in self._fields.items()
            if name in first
            and not (again.get(name) is None and name not in needs)
            and _said(field, again) != first[name]
        )

    def refuse(self, rows: Sequence[Row], conflicts: Sequence[tuple[int, Row, str]]) -> None:
        """Raise `RequestConflict` if there are conflicts.

        Args:
            rows: the requests of a body.
            conflicts: the place of each, what came first under its id, and how that came.
        """
        if conflicts:
            problems = [
                problem
                for place, first, how in conflicts
                for problem in self._problems(rows, place, first, how)
            ]
            raise RequestConflict(self.where, problems[:20])

    def _problems(self, rows: Sequence[Row], place: int, first: Row, how: str) -> Iterator[Problem]:
        row = rows[place]
        prefix = f"requests[{place}]." if len(rows) > 1 else ""
        named = self._shown(self.id_field, row[self.id_field])
        for name in self.differing(first, row):
            yield Problem(
                prefix + name,
                f"{self._shown(name, row.get(name))}, and {self._shown(name, first[name])} {how} "
                f"under the id {named}",
                "the same content under an id",
            )

    def _shown(self, name: str, value: object) -> str:
        if value is None:
            return "nothing"
        if self._fields[name].is_personal:
            return "another value" if name != self.id_field else "***"
        return value.isoformat() if isinstance(value, datetime) else repr(value)


def _said(field: Field, request: Row) -> object:
    """Return what the event of a request says in a field: its default where that says nothing."""
    value = request.get(field.name)
    says = value is not None or (field.name in request and field.nullable)
    return value if says else field.filler
