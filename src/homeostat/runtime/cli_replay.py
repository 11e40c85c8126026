"""Lets a home live through its own past, on a virtual clock."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from homeostat.core.clock import SystemClock, from_micros
from homeostat.core.durations import format_duration
from homeostat.core.errors import HomeostatError
from homeostat.runtime.cli_shared import Command, HomeMissing, Session, session
from homeostat.runtime.cli_types import INSTANT, SPAN

if TYPE_CHECKING:
    from rich.console import Console

    from homeostat.core.decisions import Decision
    from homeostat.core.durations import Micros
    from homeostat.declare.system import System
    from homeostat.runtime.home import Home
    from homeostat.runtime.replay import Replayed, Schedule

__all__ = ["replay"]

DAY: Micros = 86_400_000_000
FLUSH_EVERY = 7
"""The lake is committed after so many steps."""


class ReplayRefused(HomeostatError):
    """A home that cannot live through this."""

    def __init__(self, folder: Path, found: str, allowed: str, next_step: str) -> None:
        super().__init__(f"replay in {folder}: {found}; allowed: {allowed}; {next_step}.")


@click.command(cls=Command, short_help="Live through the log as if it came now.")
@click.option("--from", "start", type=INSTANT, help="What was known before is history.")
@click.option("--to", "end", type=INSTANT, help="Where to stop (default: the end of the log).")
@click.option("--every", type=SPAN, help="A step of the loop (default: 1d).")
@click.pass_context
def replay(
    context: click.Context, start: Micros | None, end: Micros | None, every: Micros | None
) -> None:
    """Live through the events of the log, as if they came now.

    Every request is asked at its instant through the code that serves live, models are trained and
    rolled out, and nothing that was known later is seen. Stopped at any moment and run again, it
    goes on where it was; with a later --to it goes on from the end.
    """
    from homeostat.runtime.lock import HomeLock

    here = session()
    system = here.system()
    if not (here.folder / "meta.db").exists():
        raise HomeMissing(here.folder)
    lock = HomeLock(here.folder)
    try:
        with _replaying(here, system) as home:
            schedule = _schedule(home, start, end, every)
            stopped = False
            try:
                done = _live_through(here, home, schedule)
            except KeyboardInterrupt:
                stopped = True
            else:
                _answer(here, home, schedule, done)
    finally:
        lock.release()
    if stopped:
        here.note("stopped; the same command goes on from here")
        context.exit(130)


@contextmanager
def _replaying(here: Session, system: System) -> Iterator[Home]:
    """Open a home whose live state stems from a replay, or is made again from the log."""
    from homeostat.runtime.applying import ensure_applied
    from homeostat.runtime.timeline import Timeline

    home = here.opened(system, sync=False)
    try:
        timeline = Timeline.load(here.folder)
        if timeline is not None and timeline.lived_until is None:
            if _has_lived(home):
                raise ReplayRefused(
                    here.folder,
                    "it has lived in real time",
                    "a home that has only taken in events, or that a replay has filled",
                    "name a new one with --home, and ingest the events there",
                )
            if home.lake.location.url != str((here.folder / "lake").absolute()):
                raise ReplayRefused(
                    here.folder,
                    f"its lake is in {home.lake.location.url}, where nothing is thrown away",
                    "a new home, or one whose lake is inside it",
                    "name a new one with --home, and another location in the profile",
                )
            # It only took events in: the log holds all of that.
            home.close()
            for part in ("online", "lake"):
                shutil.rmtree(here.folder / part)
            (here.folder / "timeline.json").unlink()
            home = here.opened(system, sync=False)
        ensure_applied(home, system)
        yield home
    finally:
        home.close()


def _has_lived(home: Home) -> bool:
    """Return whether a home has decided or answered anything."""
    from homeostat.runtime.cursor import completed

    with home.store.reader() as reader:
        stepped = completed(reader) is not None
    models = [deployment.model.name for deployment in home.system.deployments]
    answered = any(next(home.predictions.newest_first(m), None) is not None for m in models)
    return stepped or answered or home.journal.last_step() is not None


def _schedule(
    home: Home, start: Micros | None, end: Micros | None, every: Micros | None
) -> Schedule:
    """Return the steps asked for, which must be those that the home has begun with."""
    from homeostat.runtime.replay import Schedule
    from homeostat.runtime.timeline import Timeline

    begun = Timeline.load(home.folder)
    if begun is not None:
        same = start in (None, begun.start) and every in (None, begun.every)
        if not same:
            raise ReplayRefused(
                home.folder,
                "it has begun with other steps",
                f"--from {from_micros(begun.start).isoformat()} "
                f"--every {format_duration(begun.every)}",
                "leave both out to go on, or name a new home with --home",
            )
        start, every = begun.start, begun.every
    every = DAY if every is None else every
    ends = [home.log.end(source.name).last_known for source in home.system.sources]
    last = max((known for known in ends if known is not None), default=None)
    if last is None:
        raise ReplayRefused(
            home.folder, "its log is empty", "a log with history", "run `homeostat ingest` first"
        )
    if start is None:
        raise click.UsageError(
            "say where history ends with --from, such as --from "
            f"{from_micros(last - 10 * every):%Y-%m-%d} "
            f"(the log ends at {from_micros(last):%Y-%m-%d %H:%M})"
        )
    if start > last:
        raise ReplayRefused(
            home.folder,
            f"--from {from_micros(start).isoformat()}",
            f"instants before the log's end, {from_micros(last).isoformat()}",
            "choose an earlier one",
        )
    present = SystemClock().now()
    if end is None:
        # A step that is not over is lived through by the machine's clock, with `run`.
        steps = min((last - start) // every + 1, (present - start) // every)
        end = start + steps * every
    if not start < end <= present:
        raise ReplayRefused(
            home.folder,
            f"from {from_micros(start).isoformat()} to {from_micros(end).isoformat()}",
            f"whole steps of {format_duration(every)} that are over, and an end before the present",
            "choose an earlier --from or --to or a shorter --every; `homeostat run` lives through "
            "the rest",
        )
    return Schedule(start, end, every, FLUSH_EVERY)


def _live_through(here: Session, home: Home, schedule: Schedule) -> Replayed:
    from homeostat.console.progress import ReplayDisplay
    from homeostat.runtime.replay import replay as lived_through

    earlier = home.journal.decisions()
    console = here.console(notes=True)
    console.quiet = here.json
    with ReplayDisplay(console) as display:
        display.catch_up(earlier, 0)
        return lived_through(home.system, home, schedule, progress=display.told)


def _answer(here: Session, home: Home, schedule: Schedule, done: Replayed) -> None:
    from homeostat.runtime.cli_home import standing

    decisions = home.journal.decisions()
    states = {d.model.name: standing(home, d.model.name) for d in home.system.deployments}
    body: dict[str, Any] = {
        "from": from_micros(schedule.start),
        "to": from_micros(schedule.end),
        "steps": done.steps,
        "predictions": done.predictions,
        "counts": done.counts,
        "decisions": [decision.as_json() for decision in decisions],
        "champions": {model: state.champion for model, state in states.items()},
        "journal_hash": home.journal.hash(),
    }
    here.answer(body, lambda to: _show(to, body, done, decisions))


def _show(to: Console, body: dict[str, Any], done: Replayed, decisions: Sequence[Decision]) -> None:
    from homeostat.runtime.cli_output import table

    if not done.steps:
        to.print(
            f"nothing left to replay: the home has lived until {body['to']:%Y-%m-%d %H:%M}; "
            "--to goes on beyond",
        )
        return
    to.print(
        f"{body['from']:%Y-%m-%d %H:%M} to {body['to']:%Y-%m-%d %H:%M}: {done.steps:,} steps, "
        f"{done.predictions:,} predictions, {len(decisions)} decisions",
        style="bold",
        soft_wrap=True,
    )
    table(
        to,
        [
            {
                "source": source, "accepted": c.accepted, "duplicates": c.duplicates,
                "too_late": c.too_late, "quarantined": c.rejected,
            }
            for source, c in done.counts.items()
        ],
    )  # fmt: skip
    for model, champion in body["champions"].items():
        words = f"version {champion} answers" if champion else "no version answers yet"
        to.print(f"{model}: {words}")
    to.print(
        "next: homeostat status, homeostat evaluate MODEL, homeostat report, homeostat run",
        style="dim",
        soft_wrap=True,
    )
