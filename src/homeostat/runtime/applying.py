"""Makes the present declarations hold in a home: what changed is filled, then written down."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from homeostat.core.decisions import Decision
from homeostat.core.errors import HomeostatError
from homeostat.core.store import Snapshot
from homeostat.declare.system import System
from homeostat.declare.views import FeatureView
from homeostat.deploy.state import replayed
from homeostat.features.folded import folded_offset
from homeostat.features.keys import view_stem
from homeostat.ingest.schema_evolution import Evolution, evolution
from homeostat.runtime.backfill import backfill, unfilled
from homeostat.runtime.filled import (
    filled_stems,
    is_marked,
    mark_filled,
    retire,
    retire_unmarked,
    state_size,
    stems_of,
    sweep,
)
from homeostat.runtime.giving_up import GivingUp, as_decisions, journal_given_up
from homeostat.runtime.home import Home
from homeostat.runtime.in_service import (
    NotDeployed,
    Serving,
    in_service,
    kept_views,
    undeployed,
    until,
    views_needed,
)
from homeostat.runtime.plan import Change, applied, has_state_format, plan, record_applied
from homeostat.runtime.trainable import require_trainable
from homeostat.runtime.worker import FoldWorker

__all__ = [
    "Applied",
    "Kept",
    "NotApplied",
    "ServiceLost",
    "apply_changes",
    "at_stake",
    "ensure_applied",
    "kept_beside",
    "lost_lines",
    "require_applicable",
    "require_service",
    "schema_steps",
    "serving",
    "views_to_fill",
]

NOTHING_GIVEN_UP = GivingUp()

NAMED = 4
"""At most this many changes are named in an error."""

APART = 3
"""So many features that a version loses for one reason have a line each."""


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


class ServiceLost(HomeostatError):
    """Versions in service that could not answer any more under new declarations."""

    def __init__(self, lost: tuple[Serving, ...]) -> None:
        self.lost = lost
        lines = lost_lines(lost)
        more = f"; and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
        told = "; ".join(lines[:NAMED]) + more
        names = " ".join(f"--give-up {one.name}" for one in lost)
        self.advice = (
            f"{_mended(lost[0])}; or give up what cannot be kept with `homeostat apply "
            f"{names} --reason WHY`: a champion's fallback then answers until a challenger, or "
            "the next version that is trained, takes its place"
        )
        super().__init__(
            f"declarations: {told}; allowed: those that every version in service can be given its "
            f"features by; {self.advice}"
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """A definition that only versions in service read, what it takes, and until when."""

    view: str
    versions: tuple[str, ...]
    until: str
    entities: int
    bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "view": self.view, "for": list(self.versions), "until": self.until,
            "entities": self.entities, "bytes": self.bytes,
        }  # fmt: skip


def kept_beside(home: Home, system: System) -> tuple[Kept, ...]:
    """Return the definitions that are kept beside the declared ones, for versions in service."""
    served, found = serving(home, system), []
    for view in kept_views(system, (one.bound for one in served)):
        stem = view_stem(view)
        users = [s for s in served if s.bound and stem in map(view_stem, s.bound.views)]
        with home.store.reader() as reader:
            entities, size = state_size(reader, stem)
        names = tuple(one.name for one in users)
        found.append(Kept(view.name, names, until(users), entities, size))
    return tuple(found)


def lost_lines(served: Iterable[Serving]) -> list[str]:
    """Return a line per feature that a version in service cannot be given any more.

    Where one reason takes more than three features from a version, they share a line.
    """
    served = tuple(served)
    lines = [
        f"{one.name} ({one.role}) leaves service: {str(one.problem).partition(';')[0]}"
        for one in served
        if isinstance(one.problem, NotDeployed)
    ]
    for one in served:
        by_reason: dict[str, list[str]] = {}
        for lost in one.lost:
            by_reason.setdefault(lost.why, []).append(repr(lost.feature))
        for why, names in by_reason.items():
            if len(names) > APART:
                lines.append(f"{one.name} ({one.role}) loses {_listed(names)}: {why}")
            else:
                lines += [f"{one.name} ({one.role}) loses feature {name}: {why}" for name in names]
    return lines


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} features: {', '.join(names[:NAMED])}{more}"


def _mended(one: Serving) -> str:
    return one.problem.advice if isinstance(one.problem, NotDeployed) else one.lost[0].advice


@dataclass(frozen=True, slots=True)
class Applied:
    """The changes that now hold, and how many events each filled view was offered.

    `given_up` are the decisions on versions that may stop answering.
    """

    changes: tuple[Change, ...]
    filled: dict[str, int] = field(default_factory=dict)
    given_up: tuple[Decision, ...] = ()


def serving(home: Home, system: System) -> tuple[Serving, ...]:
    """Return the versions in service, bound to declarations that may not be applied yet."""
    states = replayed(home.journal.decisions())
    return in_service(system, home.registry, states)


def at_stake(home: Home, system: System) -> tuple[Serving, ...]:
    """Return the versions in service, and the champions that would leave it, undeployed."""
    states = replayed(home.journal.decisions())
    left = undeployed(system, applied(home.folder), states)
    return (*in_service(system, home.registry, states), *left)


def views_to_fill(home: Home, system: System) -> tuple[FeatureView, ...]:
    """Return the views whose live state was not folded from all events under this definition.

    Those of the declarations, and those that versions in service read by definitions of their own.
    """
    needed = views_needed(system, serving(home, system))
    with home.store.reader() as reader:
        there = _there(reader, home)
        folded = {v.source.name: folded_offset(reader, v.source.name) for v in needed}
        if there is None:
            return unfilled(reader, needed)
    return tuple(
        view for view in needed if folded[view.source.name] >= 0 and view_stem(view) not in there
    )


def _there(reader: Snapshot, home: Home) -> set[bytes] | None:
    """Return the stems of the definitions whose state is whole, None if nothing says so."""
    old = applied(home.folder)
    if old is not None and not has_state_format(old):
        return set()
    if is_marked(reader):
        return filled_stems(reader)
    return None if old is None else stems_of(old.get("views", ()))  # a release without marks


def require_applicable(
    home: Home, system: System, giving_up: Collection[str] = ()
) -> tuple[Serving, ...]:
    """Return the versions at stake if declarations can be applied: what applies them asks first.

    Raises:
        SchemaIncompatible: a source's new schema would break readers.
        ServiceLost: a version in service, which is not given up, cannot be given its features.
        NotTrainable: a new or changed estimator is one that no training could use.
    """
    for step in schema_steps(home, system):
        step.require()
    require_trainable(applied(home.folder), system)
    stake = at_stake(home, system)
    require_service(stake, giving_up)
    return stake


def ensure_applied(home: Home, system: System) -> None:
    """Let a home be run by the declarations that were applied to it; a new home begins to.

    What a version in service runs is no part of the declarations that are compared: code that
    `kept=` names, or that a kept function calls. So this asks what `apply_changes` asks, whether
    the declarations differ or not. A package that is damaged is no such loss.

    Raises:
        NotApplied: the declarations differ from those applied, and could be applied.
        SchemaIncompatible, NotTrainable: they differ, and could not.
        ServiceLost: a version in service, which is not given up, cannot be given its features.
    """
    old = applied(home.folder)
    changes = plan(old, system)
    is_new = bool(changes) and _is_new(home, system)
    if changes and not is_new:
        require_applicable(home, system)
    else:  # the schemas are those registered, or the first ones
        require_service(at_stake(home, system))
    if is_new:
        require_trainable(old, system)
        _register(home, system)
        _mark(home, system.views)
        record_applied(home.folder, system)
    elif changes and old is not None:
        raise NotApplied(system.name, [f"{c.subject} {c.kind}" for c in changes])
    elif changes:
        bare = [view for view in views_to_fill(home, system) if view in system.views]
        if bare:
            raise NotApplied(system.name, [f"view {view.name!r} has no state" for view in bare])
        _mark(home, system.views)
        record_applied(home.folder, system)
    else:
        with home.store.reader() as reader:
            marked = is_marked(reader)
        if not marked:
            _mark(home, system.views)


def apply_changes(
    home: Home,
    system: System,
    progress: Callable[[str, int], None] = lambda view, events: None,
    *,
    giving_up: GivingUp = NOTHING_GIVEN_UP,
) -> Applied:
    """Fill new and changed views from the lake, and write down that the declarations hold.

    What versions in service read by older definitions is filled, too, where it is not there. State
    is taken away only after the declarations are written down: killed at any point, it is simply
    run again, or undone by the former `system.py`. The caller holds the home's lock. `giving_up`
    names versions that may stop answering; that is a decision, journaled before anything is done.

    Raises:
        SchemaIncompatible: a source's new schema would break readers; nothing was written.
        ServiceLost: a version in service cannot be given its features; nothing was written.
        NotTrainable: no training could use a new or changed estimator; nothing was written.
    """
    changes = plan(applied(home.folder), system)
    stake = require_applicable(home, system, giving_up.versions)
    given_up = as_decisions(home, stake, giving_up, system.hash)
    journal_given_up(home, given_up)
    served, wanted = serving(home, system), views_to_fill(home, system)
    needed = views_needed(system, served)
    worker = FoldWorker(system, home.log, home.lake, home.letters, home.schemas)
    with home.store.writer() as writer:
        worker.resume(writer)
        worker.lake.flush()
        for source in system.sources:
            home.lake.evolve(source.name)
        kept = kept_views(system, (one.bound for one in served))
        filled = backfill(writer, home.lake, wanted, progress, kept=kept)
        if not is_marked(writer):
            retire_unmarked(writer, needed)
        for view in needed:
            mark_filled(writer, view_stem(view))
    _register(home, system)
    record_applied(home.folder, system)
    with home.store.writer() as writer:
        retire(writer, needed)
    more = True
    while more:
        with home.store.writer() as writer:
            more = sweep(writer)
    return Applied(changes, filled, given_up)


def require_service(served: Iterable[Serving], giving_up: Collection[str] = ()) -> None:
    """Raise `ServiceLost` if a version in service would stop answering, unless it is given up."""
    lost = tuple(
        one
        for one in served
        if (one.lost or isinstance(one.problem, NotDeployed))
        and one.name not in giving_up
        and not one.given_up
    )
    if lost:
        raise ServiceLost(lost)


def _mark(home: Home, views: Iterable[FeatureView]) -> None:
    with home.store.writer() as writer:
        for view in views:
            mark_filled(writer, view_stem(view))


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
