"""Request fields that only versions in service read: clients go on sending them until then."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from homeostat.declare.system import System
from homeostat.runtime.in_service import Serving, until
from homeostat.serve.needs import needs_of

__all__ = ["StillNeeded", "still_needed"]


@dataclass(frozen=True, slots=True)
class StillNeeded:
    """A field that a request must bring beside what the model of today needs, and until when.

    `may_be_null` says whether null will do, where the model of today would take it.
    """

    model: str
    field: str
    versions: tuple[str, ...]
    until: str
    may_be_null: bool

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "model": self.model, "field": self.field, "for": list(self.versions),
            "until": self.until, "may_be_null": self.may_be_null,
        }  # fmt: skip


def still_needed(system: System, served: Iterable[Serving]) -> tuple[StillNeeded, ...]:
    """Return the fields that requests must bring for versions in service alone.

    A field that the model of today takes as null, and one of them does not, is one of them.
    """
    users: dict[tuple[str, str], list[tuple[Serving, bool]]] = {}
    for one in served:
        if one.bound is None:
            continue
        today = needs_of(system, system.model(one.model))
        for name, nullable in needs_of(one.bound.system, one.bound.model).items():
            if name not in today or (today[name] and not nullable):
                users.setdefault((one.model, name), []).append((one, nullable))
    return tuple(
        StillNeeded(
            model,
            name,
            tuple(one.name for one, _ in found),
            until(tuple(one for one, _ in found)),
            all(nullable for _, nullable in found),
        )
        for (model, name), found in users.items()
    )
