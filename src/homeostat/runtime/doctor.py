"""Looks a home over: whether its files can be read, and whether its parts agree."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from homeostat.aggregate.exact import LARGEST
from homeostat.aggregate.layout import summed_columns
from homeostat.core.clock import from_micros
from homeostat.core.errors import HomeostatError
from homeostat.core.storage import cannot_be_written, room_of
from homeostat.declare.feeds import Folder
from homeostat.declare.system import System
from homeostat.deploy.state import RolloutState, replayed
from homeostat.features.folded import folded_offset
from homeostat.ingest.file_parts import Reached, mark_of
from homeostat.ingest.folder import files_in, stream_of
from homeostat.ingest.schedules import SCHEDULE
from homeostat.lake.raw import RawRecords
from homeostat.monitor.findings import open_alerts
from homeostat.runtime.applying import serving, views_to_fill
from homeostat.runtime.feed_health import feed_states
from homeostat.runtime.home import Home
from homeostat.runtime.lock import owner_of
from homeostat.runtime.log_place import FILE as ELSEWHERE
from homeostat.runtime.log_place import OWN
from homeostat.runtime.plan import applied, plan
from homeostat.runtime.restart import restart_note
from homeostat.runtime.service_health import advice_on, problems, silent, unfilled
from homeostat.runtime.worker import CHUNK

__all__ = ["Check", "examine", "service_checks"]

DATABASES = ("meta.db", "predictions.db")

LEAST_ROOM = 1 << 20
"""With fewer bytes free, a transaction may not fit."""

ROOM = "make room there, or make it writable: what is kept is whole, and a server goes on by itself"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `advice` says what to do unless it is fine."""

    name: str
    status: Literal["ok", "note", "broken"]
    found: str
    advice: str = ""


def examine(
    system: System, folder: Path, opened: Callable[[], Home] | None = None
) -> Iterator[Check]:
    """Yield what is found, part by part; nothing is changed.

    `opened` opens the home where its log or its lake is elsewhere.
    """
    if not folder.is_dir():
        advice = "fill one with `homeostat ingest`, or name another with --home"
        yield Check("home", "broken", f"{folder} is no folder", advice)
        return
    owner = owner_of(folder)
    yield Check("home", "ok", f"{folder}, {f'{owner} runs it' if owner else 'nobody runs it'}")
    yield _disk(folder)
    sound = True
    for name in DATABASES if (folder / ELSEWHERE).exists() else (OWN, *DATABASES):
        check = _database(folder / name)
        sound &= check.status != "broken"
        yield check
    if not sound:
        return
    try:
        home = Home(folder, system) if opened is None else opened()
    except Exception as broken:  # noqa: BLE001 - whatever is wrong is the finding
        yield Check(
            "home", "broken", str(broken), _advice(broken, "restore the folder from a copy")
        )
        return
    try:
        for part in (
            _log,
            _offsets,
            _lake,
            _sums,
            _journal,
            _jobs,
            _packages,
            service_checks,
            _declarations,
            _letters,
            _feeds,
        ):
            yield from _guarded(part, system, home)
    finally:
        home.close()


def _guarded(
    part: Callable[[System, Home], Iterator[Check]], system: System, home: Home
) -> Iterator[Check]:
    try:
        yield from part(system, home)
    except Exception as broken:  # noqa: BLE001 - whatever is wrong is the finding
        words = f"{type(broken).__name__}: {broken}"
        advice = _advice(broken, "restore this part from a copy")
        yield Check(part.__name__.strip("_"), "broken", words, advice)


def _advice(broken: Exception, otherwise: str) -> str:
    """Return what to do where nothing can be written, and otherwise."""
    return ROOM if cannot_be_written(broken) else otherwise


def _disk(folder: Path) -> Check:
    """Say whether the file system of the home has room."""
    try:
        free = room_of(folder)
    except OSError as broken:
        return Check("disk", "broken", str(broken), ROOM)
    if free < LEAST_ROOM:
        return Check("disk", "broken", f"{free / 1e6:,.1f} MB are free for {folder}", ROOM)
    return Check("disk", "ok", f"{free / 1e6:,.0f} MB are free")


def _database(path: Path) -> Check:
    if not path.exists():
        advice = "it is made when events come; if it was there, restore it from a copy"
        return Check(path.name, "note", "not there yet", advice)
    try:
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30.0)
        try:
            said = [str(row[0]) for row in database.execute("PRAGMA quick_check(3)")]
        finally:
            database.close()
    except sqlite3.Error as broken:
        said = [str(broken)]
    if said != ["ok"]:
        return Check(path.name, "broken", "; ".join(said), "restore the file from a copy")
    return Check(path.name, "ok", f"{path.stat().st_size / 1e6:,.1f} MB, whole")


def _log(system: System, home: Home) -> Iterator[Check]:
    """Read every record: each stretch of the log has a checksum."""
    for source in system.sources:
        first = home.log.end(source.name).first_offset
        at, before, falls = first - 1, None, False
        while True:
            batch = home.log.read(source.name, at, CHUNK)
            if not len(batch):
                break
            known = batch.known
            falls |= bool((known[1:] < known[:-1]).any())
            falls |= before is not None and int(known[0]) < before
            at, before = int(batch.offsets[-1]), int(known[-1])
        if falls:
            yield Check(f"log of {source.name}", "broken", "known times go back", "restore the log")
        else:
            found = f"{at + 1 - first:,} records, all readable"
            found += f"; {first:,} before them were let go" if first else ""
            yield Check(f"log of {source.name}", "ok", found)


def _offsets(system: System, home: Home) -> Iterator[Check]:
    """Log, online store and lake may each be behind the one before, and never ahead of it."""
    for source in system.sources:
        name = source.name
        end = home.log.end(name).next_offset - 1
        with home.store.reader() as reader:
            folded = folded_offset(reader, name)
        kept = home.lake.application_version(name, f"fold/{name}")
        raw = RawRecords(home.lake, name).last_offset
        found = f"log to {end:,}, online store to {folded:,}, lake to {kept:,}"
        found += f", raw table to {raw:,}" if raw >= 0 else ""
        if max(folded, kept, raw) > end:
            advice = "the log was cut or replaced: restore the newest copy there is"
            yield Check(f"offsets of {name}", "broken", found, advice)
        elif folded < end or kept < folded:
            advice = "nothing to do: the next `homeostat run` takes up the rest"
            yield Check(f"offsets of {name}", "note", found, advice)
        else:
            yield Check(f"offsets of {name}", "ok", found)


def _lake(system: System, home: Home) -> Iterator[Check]:
    for table in home.lake.tables():
        columns = ["_offset"] if "_offset" in home.lake.schema(table) else ["prediction_id"]
        rows = home.lake.read(table, columns)
        twice = rows.height - rows.n_unique()
        if twice:
            advice = "it was written by two processes: make the home again from its log"
            yield Check(f"table {table}", "broken", f"{twice:,} rows are there twice", advice)
        else:
            yield Check(f"table {table}", "ok", f"{rows.height:,} rows")


def _sums(system: System, home: Home) -> Iterator[Check]:
    """Count values of summed columns that are too large for an exact sum."""
    there = home.lake.tables()
    for source in system.sources:
        names = sorted(summed_columns(view for view in system.views if view.source == source))
        if not names or source.name not in there:
            continue
        events = home.lake.read(source.name, names)
        for name in names:
            numbers = events[name].cast(pl.Float64)
            beyond = int(((numbers >= LARGEST) | (numbers <= -LARGEST)).sum())
            if beyond:
                yield Check(
                    f"sums of {source.name}.{name}", "note",
                    f"{beyond:,} values of 2^52 or more: what is made of their sums is missing "
                    "for their entities (not_exact)",
                    "change the unit of the column, or leave them out (where=)",
                )  # fmt: skip


def _journal(system: System, home: Home) -> Iterator[Check]:
    decisions = home.journal.decisions()
    broken = home.journal.broken()
    if broken is not None:
        found = f"entry {broken[1]} of step {broken[0]} is not the one that was written"
        yield Check("journal", "broken", found, "restore meta.db: somebody changed the journal")
        return
    try:
        replayed(decisions)
    except HomeostatError as illegal:
        yield Check("journal", "broken", str(illegal), "restore meta.db from a copy")
        return
    digest = home.journal.hash()[:12] or "none"
    yield Check("journal", "ok", f"{len(decisions)} decisions, chain verified, hash {digest}")


def _jobs(system: System, home: Home) -> Iterator[Check]:
    """Say of each deployed model what became of its last training, and which alerts are open."""
    decisions = home.journal.decisions()
    states = replayed(decisions)
    for deployment in system.deployments:
        model = deployment.model.name
        name, state = f"training of {model}", states.get(model, RolloutState())
        stands = (
            "no version answers: the fallback does"
            if state.champion is None
            else f"version {state.champion} answers"
        )
        if state.stage == "training" and owner_of(home.folder) is None:
            advice = "nothing to do: the next `homeostat run` begins it again"
            yield Check(name, "note", f"it was cut off with its process; {stands}", advice)
        elif state.failures:
            since = f"{state.failures} in a row failed" if state.failures > 1 else "it failed"
            advice = f"put the cause right, then run `homeostat train {model}`"
            yield Check(name, "note", f"{since}: {state.failure}; {stands}", advice)
        else:
            yield Check(name, "ok", stands if state.stage != "training" else f"goes on; {stands}")
    for alert in open_alerts(decisions).values():
        kind = alert.evidence.get("kind")
        if kind in ("unjudged", "upkeep"):
            advice = (
                "put the cause right: it is tried again by itself, at the next step of the loop"
            )
            yield Check(str(alert.evidence["key"]), "note", alert.reason, advice)


def _packages(system: System, home: Home) -> Iterator[Check]:
    from homeostat.train.servable import Servable

    versions = home.registry.list()
    sound = 0
    for found in versions:
        try:
            Servable(home.registry.load(found.model, found.version))
        except HomeostatError as damaged:
            name = f"{found.model}@{found.version}"
            advice = f"restore packages/{name} from a copy, or prove it with `homeostat rebuild`"
            yield Check(f"package {name}", "broken", str(damaged), advice)
        else:
            sound += 1
    if sound or not versions:
        yield Check("packages", "ok", f"{sound} of {len(versions)} load with the hash they had")


def service_checks(system: System, home: Home) -> Iterator[Check]:
    """Say which versions in service are given their features, and which answer."""
    served = serving(home, system)
    broken = problems(home, served)
    is_applied = not plan(applied(home.folder), system)
    for one in served:
        name = f"{one.role} {one.name}"
        if one.bound is None and not is_applied:
            found = f"could not answer under these declarations, which do not hold: {one.problem}"
            yield Check(name, "note", found, "see `homeostat plan`; `apply` and `run` refuse them")
            continue
        if one.bound is not None and not is_applied and unfilled(home, one.bound):
            found = "answers when the declarations are applied, which fills its live features"
            yield Check(name, "note", found, "run `homeostat apply`")
            continue
        if one.lost and not one.given_up:
            found = f"not by these declarations, which `apply` and `run` refuse: {one.problem}"
            yield Check(name, "broken", found, advice_on(one, served, broken))
            continue
        if one.name in broken:
            advice = advice_on(one, served, broken)
            yield Check(name, "broken", f"answers nothing: {broken[one.name]}", advice)
            continue
        is_asked = one.role == "champion"
        unanswered = silent(home.predictions, one.model, one.version) if is_asked else 0
        if unanswered:
            advice = "look at the faults in /metrics, and correct the code that raises"
            found = f"gave none of the last {unanswered} answers: its fallbacks did"
            yield Check(name, "broken", found, advice)
        else:
            yield Check(name, "ok", "is given the features it was trained with")


def _declarations(system: System, home: Home) -> Iterator[Check]:
    before = applied(home.folder)
    changes = () if before is None else plan(before, system)
    bare = [view.name for view in views_to_fill(home, system)]
    if changes or bare:
        names = [change.subject for change in changes] or [f"view {name!r}" for name in bare]
        found = f"not applied yet: {', '.join(names[:4])}"
        yield Check("declarations", "note", found, "see `homeostat plan`, then `homeostat apply`")
    else:
        yield Check("declarations", "ok", f"applied, hash {system.hash[:12]}")
    told = restart_note(home.folder)
    if told:
        advice = "start the process again (stop it, then `homeostat run`)"
        yield Check("running process", "note", told, advice)


def _letters(system: System, home: Home) -> Iterator[Check]:
    number = sum(home.letters.counts("open").values())
    if number:
        advice = "look at them with `homeostat dead-letters list`"
        yield Check("dead letters", "note", f"{number:,} open", advice)
    else:
        yield Check("dead letters", "ok", "none open")


def _feeds(system: System, home: Home) -> Iterator[Check]:
    """Say how far folders and databases were read, and what fails; none is asked anything."""
    for name, state in feed_states(home.folder).items():
        if state.told:
            advice = "put the cause right: it is tried again by itself while `homeostat run` runs"
            yield Check(f"feed of {name}", "note", state.told, advice)
    for source in system.sources:
        if isinstance(source.feed, Folder):
            yield _folder(source.name, source.feed, home)
        elif source.feed is not None:
            at = home.log.positions(source.name).get(SCHEDULE)
            if at is None:
                advice = "nothing to do: `homeostat run` makes its runs, `homeostat fetch` one now"
                yield Check(f"feed of {source.name}", "note", "no run was made yet", advice)
            else:
                found = f"the last run was planned for {from_micros(int(at)):%Y-%m-%d %H:%M} UTC"
                yield Check(f"feed of {source.name}", "ok", found)


def _folder(source: str, feed: Folder, home: Home) -> Check:
    name, positions = f"feed of {source}", home.log.positions(source)
    try:
        files = files_in(source, feed)
    except HomeostatError as problem:
        return Check(name, "note", str(problem), "make the folder, or correct its path or rights")
    unread, behind, rows = [], [], 0
    for file, path in files.items():
        reached = Reached.of(positions.get(stream_of(file)))
        rows += reached.rows
        try:
            if not reached.covers(mark_of(path)):
                behind.append(file)
        except OSError:
            unread.append(file)
    found = (
        f"{len(files) - len(unread) - len(behind)} of {len(files)} files taken, {rows:,} records"
    )
    if unread or behind:
        named = ", ".join([*unread, *behind][:4])
        advice = f"`homeostat fetch {source}` takes the rest, and says what it cannot take: {named}"
        return Check(name, "note", found, advice)
    return Check(name, "ok", found)
