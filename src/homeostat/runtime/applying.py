"""Makes the present declarations hold in a home: what changed is filled, then written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import content_hash
from homeostat.declare.system import System
from homeostat.declare.views import FeatureView
from homeostat.features.folded import folded_offset
from homeostat.ingest.schema_evolution import Evolution, evolution
from homeostat.runtime.backfill import backfill, unfilled
from homeostat.runtime.home import Home
from homeostat.runtime.plan import Change, applied, has_state_format, plan, record_applied
from homeostat.runtime.worker import FoldWorker

__all__ = [
    "Applied",
    "NotApplied",
    "apply_changes",
    "ensure_applied",
    "schema_steps",
    "views_to_fill",
]

NAMED = 4
"""At most this many changes are named in an error."""


class NotApplied(HomeostatError):
    """The declarations differ from those a home runs on."""

    def __init__(self, system: str, changes: Sequence[str]) -> None:
        self.changes = tuple(changes)
        named = ", ".join(self.changes[:NAMED])
        more = f" and {len(changes) - NAMED} more" if len(changes) > NAMED else ""
        super().__init__(
            f"system {system!r}: not applied to this home yet: {named}{more}; allowed: the "
            "declarations that were applied; see `homeostat plan`, then run `homeostat apply`"
        )


@dataclass(frozen=True, slots=True)
class Applied:
    """The changes that now hold, and how many events each filled view was offered."""

    changes: tuple[Change, ...]
    filled: dict[str, int] = field(default_factory=dict)


def views_to_fill(home: Home, system: System) -> tuple[FeatureView, ...]:
    """Return the views whose live state was not folded from all events under this definition."""
    old = applied(home.folder)
    with home.store.writer() as writer:
        bare = unfilled(writer, system)
        started = {
            view.name for view in system.views if folded_offset(writer, view.source.name) >= 0
        }
    if old is None:
        return bare
    views = old.get("views", ()) if has_state_format(old) else ()
    before = {view["name"]: content_hash(view) for view in views}
    return tuple(
        view
        for view in system.views
        if view.name in started and before.get(view.name) != content_hash(view)
    )


def ensure_applied(home: Home, system: System) -> None:
    """Raise `NotApplied` unless a home runs on these declarations; a new home begins to."""
    old = applied(home.folder)
    changes = plan(old, system)
    if not changes:
        return
    if _is_new(home, system):
        _register(home, system)
        record_applied(home.folder, system)
    elif old is not None:
        raise NotApplied(system.name, [f"{c.subject} {c.kind}" for c in changes])
    else:
        bare = views_to_fill(home, system)
        if bare:
            raise NotApplied(system.name, [f"view {view.name!r} has no state" for view in bare])
        record_applied(home.folder, system)


def apply_changes(
    home: Home,
    system: System,
    progress: Callable[[str, int], None] = lambda view, events: None,
) -> Applied:
    """Fill new and changed views from the lake, and write down that the declarations hold.

    Killed in between, it is simply run again. The caller holds the home's lock. Raises
    `SchemaIncompatible` before anything is written if a source's new schema would break readers.
    """
    changes = plan(applied(home.folder), system)
    for step in schema_steps(home, system):
        step.require()
    wanted = views_to_fill(home, system)
    worker = FoldWorker(system, home.log, home.lake, home.letters, home.schemas)
    with home.store.writer() as writer:
        worker.resume(writer)
        worker.lake.flush()
        for source in system.sources:
            home.lake.evolve(source.name)
        filled = backfill(writer, system, home.lake, wanted, progress)
    _register(home, system)
    record_applied(home.folder, system)
    return Applied(changes, filled)


def schema_steps(home: Home, system: System) -> tuple[Evolution, ...]:
    """Return, per source, the step from its registered schemas to the declared one."""
    return tuple(
        evolution(source, home.schemas.list(source.name), home.lake.conflicts(source.name))
        for source in system.sources
    )


def _register(home: Home, system: System) -> None:
    for source in system.sources:
        home.schemas.register(source.name, source.schema)


def _is_new(home: Home, system: System) -> bool:
    with home.store.reader() as reader:
        return all(folded_offset(reader, source.name) < 0 for source in system.sources)
