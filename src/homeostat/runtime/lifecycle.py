"""Carries out how long events are hot and kept: moves days, deletes days, sweeps their files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

from homeostat.core.durations import Micros
from homeostat.declare.needs import Need, needed_span
from homeostat.declare.policies import Retention
from homeostat.declare.storage import raw_table
from homeostat.declare.system import System
from homeostat.lake.lifecycle import Ages, Leaving, leaving
from homeostat.runtime.home import Home

__all__ = ["Done", "Lifecycle", "Planned"]

AT_ONCE = 8
"""Days of a table that one step of the loop moves at most: the loop has other things to do."""

GRACE_HOURS = 1
"""Files of days that left stay for so long, for readers that began before."""

SWEEP_EVERY = GRACE_HOURS * 3_600_000_000


@dataclass(frozen=True, slots=True)
class Planned:
    """What leaves a table, why days are held, and whom it costs data.

    `stays` says why days stay hot that could move; `referenced` names models, as MODEL@VERSION,
    that were trained on versions with days that are deleted: they cannot be rebuilt any more.
    """

    leaving: Leaving
    held_by: str
    stays: str
    referenced: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """What was carried out on a table: days and rows moved, days deleted, bytes swept."""

    table: str
    moved: tuple[date, ...]
    rows: int
    deleted: tuple[date, ...]
    freed: int


class Lifecycle:
    """Keeps the retention policies of a system on its lake."""

    def __init__(self, system: System, home: Home) -> None:
        self._system, self._home = system, home
        self._swept: Micros | None = None

    def plan(self, now: Micros) -> tuple[Planned, ...]:
        """Return what leaves each table that a policy is about, at an instant."""
        return tuple(self._plans(now))

    def _plans(self, now: Micros) -> Iterator[Planned]:
        for source in self._system.sources:
            name = source.name
            policy = self._system.retention(name)
            if policy is None:
                continue
            # Nothing that is live asks for what was received, once it is folded.
            for table, need in (
                (name, needed_span(self._system, name)), (raw_table(name), Need(0, "")),
            ):  # fmt: skip
                if self._home.lake.version(table) >= 0:
                    yield self._planned(table, policy, need, now)

    def _planned(self, table: str, policy: Retention, need: Need, now: Micros) -> Planned:
        lake, ages = self._home.lake, Ages(policy.hot_us, policy.keep_us, need.span)
        found, stays = leaving(table, lake.days(table), lake.days(table, "cold"), ages, now), ""
        if found.move and lake.cold is None:
            stays = 'no cold place is named: write cold = "..." under [lake] in the profile'
            found = replace(found, move=())
        return Planned(found, need.why if found.held else "", stays, self._losers(found))

    def _losers(self, found: Leaving) -> tuple[str, ...]:
        """Return the models whose training data a deletion takes from."""
        if not found.delete:
            return ()
        names = []
        for registered in self._home.registry.list():
            tables = self._home.registry.load(registered.model, registered.version).lineage.tables
            version = tables.get(found.table, -1)
            if version >= 0 and self._home.lake.loses(found.table, version, found.delete[-1]):
                names.append(f"{registered.model}@{registered.version}")
        return tuple(names)

    def carry_out(self, planned: Planned, most: int | None = None) -> Done:
        """Move and delete what is planned; of the days that move only the first `most`."""
        lake, found = self._home.lake, planned.leaving
        if found.delete:
            lake.delete(found.table, found.delete[-1])
        moved = found.move[:most]
        rows = lake.move(found.table, moved[-1]) if moved else 0
        return Done(found.table, moved, rows, found.delete, 0)

    def sweep(self, grace_hours: int = GRACE_HOURS) -> dict[str, int]:
        """Remove the files of days that left at least so long ago; return the bytes by table."""
        names = [s.name for s in self._system.sources if self._system.retention(s.name)]
        tables = (table for name in names for table in (name, raw_table(name)))
        there = [table for table in tables if self._home.lake.version(table) >= 0]
        return {table: self._home.lake.sweep(table, grace_hours) for table in there}

    def step(self, now: Micros) -> list[Done]:
        """Do what is due, a few days at a time; files are swept once an hour."""
        done = [self.carry_out(planned, AT_ONCE) for planned in self.plan(now)]
        if self._swept is None or now - self._swept >= SWEEP_EVERY:
            self.sweep()
            self._swept = now
        return done
