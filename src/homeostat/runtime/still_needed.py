"""Request fields by which versions in service differ: what the champion needs, and who waits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from homeostat.declare.system import System
from homeostat.runtime.in_service import Serving, until
from homeostat.serve.needs import Needs, beyond, needs_of

__all__ = ["AwaitedField", "StillNeeded", "awaited_fields", "still_needed"]

TODAY = "the model as it is declared"


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


@dataclass(frozen=True, slots=True)
class AwaitedField:
    """A field that a request need not bring, and who is not asked without it."""

    model: str
    field: str
    readers: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"model": self.model, "field": self.field, "for": list(self.readers)}


def still_needed(system: System, served: Iterable[Serving]) -> tuple[StillNeeded, ...]:
    """Return the fields that requests must bring for champions, beside what is declared today.

    A field that the model of today takes as null, and a champion does not, is one of them. Other
    versions in service that need it so are named, too: each of them may be champion later.
    """
    known = tuple(_needs(system, served))
    found = []
    for champion, needs in known:
        if champion.role != "champion":
            continue
        today = _today(system, champion.model)
        others = [
            (one, set(beyond(theirs, today)))
            for one, theirs in known
            if one.model == champion.model and one is not champion
        ]
        for name in beyond(needs, today):
            if name in _defaults(system, champion.model):
                continue
            users = (champion, *(one for one, theirs in others if name in theirs))
            names = tuple(one.name for one in users)
            found.append(StillNeeded(champion.model, name, names, until(users), needs[name]))
    return tuple(found)


def awaited_fields(system: System, served: Iterable[Serving]) -> tuple[AwaitedField, ...]:
    """Return the fields that requests need not bring, because no champion reads them.

    Versions that do, and the model as it is declared, are asked for no request without them.
    """
    known = tuple(_needs(system, served))
    readers: dict[tuple[str, str], list[str]] = {}
    for champion, required in known:
        if champion.role != "champion":
            continue
        name = champion.model
        others = [(one.name, needs) for one, needs in known if one.model == name]
        for who, needs in (*others, (TODAY, _today(system, name))):
            for field in beyond(needs, required):
                if field not in _defaults(system, name):
                    readers.setdefault((name, field), []).append(who)
    return tuple(AwaitedField(*key, tuple(who)) for key, who in readers.items())


def _needs(system: System, served: Iterable[Serving]) -> Iterable[tuple[Serving, Needs]]:
    for one in served:
        if one.bound is not None:
            yield one, needs_of(one.bound.system, one.bound.model)


def _today(system: System, model: str) -> Needs:
    return needs_of(system, system.model(model))


def _defaults(system: System, model: str) -> set[str]:
    fields = system.model(model).label.predicts.schema.fields
    return {field.name for field in fields if field.default is not None}
