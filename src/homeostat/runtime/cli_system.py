"""Commands on the declarations: begin, check, see what would change, and make it hold."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from homeostat.runtime.cli_shared import FOUND, Command, Session, session, told

if TYPE_CHECKING:
    from rich.console import Console

    from homeostat.core.errors import HomeostatError
    from homeostat.declare.lints import Lint
    from homeostat.declare.system import System
    from homeostat.ingest.schema_evolution import Evolution
    from homeostat.runtime.applying import Applied, Kept
    from homeostat.runtime.giving_up import GivingUp
    from homeostat.runtime.home import Home
    from homeostat.runtime.lock import HomeBusy
    from homeostat.runtime.plan import Change
    from homeostat.runtime.request_names import FormerName
    from homeostat.runtime.still_needed import AwaitedField, StillNeeded

__all__ = ["apply", "check", "init", "plan"]

PARTS = {
    "sources": "event source",
    "views": "view",
    "models": "model",
    "deployments": "deployment",
    "monitors": "monitor",
    "retraining": "retraining",
    "policies": "policy",
}
COLOURS = {"added": "green", "changed": "yellow", "removed": "red"}


@click.command(cls=Command, short_help="Write a small working system to start from.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def init(folder: Path) -> None:
    """Write a small working system with three weeks of events, to start from.

    FOLDER is made; files that are there already are not touched.
    """
    from homeostat.runtime.scaffold import NEXT, scaffold

    written = scaffold(folder)

    def show(to: Console) -> None:
        for path in written:
            to.print(f"  {path}", style="green")
        to.print("\nNext:", style="bold")
        for command, why in [(f"cd {folder}", ""), *NEXT]:
            to.print(f"  {command:<58}{why}".rstrip())

    session().answer(
        {"written": [str(path) for path in written], "next": [command for command, _ in NEXT]}, show
    )


@click.command(cls=Command, short_help="Show every mistake in the declarations at once.")
@click.option("--strict", is_flag=True, help="Warnings, too, are findings: exit with 3.")
@click.pass_context
def check(context: click.Context, strict: bool) -> None:
    """Show every mistake in the declarations at once, and warn of common ones.

    Estimators are imported and made, so that a misspelt parameter is found before a training is.
    Where a home is there, labels and quality monitors are also held against its events.
    Exit status: 0 for no mistakes, 1 for mistakes, 3 for warnings with --strict.
    """
    from homeostat.declare.lints import lints
    from homeostat.runtime.loading import check_system

    here = session()
    system, mistakes = check_system(here.path)
    if system is not None:
        from homeostat.train.estimators import estimator_mistakes

        mistakes += estimator_mistakes(system.models)
    warnings = () if system is None or mistakes else (*lints(system), *_measured(here))
    body = {
        "system": None if system is None else system.name,
        "hash": None if system is None or mistakes else system.hash,
        "mistakes": [told(mistake) for mistake in mistakes],
        "warnings": [
            {"rule": w.rule, "where": w.where, "found": w.found, "advice": w.advice}
            for w in warnings
        ],
    }
    here.answer(body, lambda to: _show_check(to, here.path, system, mistakes, warnings))
    context.exit(1 if mistakes else FOUND if strict and warnings else 0)


def _measured(here: Session) -> tuple[Lint, ...]:
    """Return the warnings that need events, if there is a home."""
    from homeostat.core.errors import HomeostatError
    from homeostat.declare.lints import Lint

    if not (here.folder / "meta.db").exists():
        return ()
    try:
        with here.home() as (system, home):
            from homeostat.runtime.measured_lints import measured_lints
            from homeostat.runtime.reading import last_seen

            return measured_lints(system, home.lake, last_seen(home))
    except HomeostatError as unread:
        found = f"its events could not be looked at: {unread}"
        return (Lint("home-not-read", f"home {here.folder}", found, "see `homeostat doctor`"),)


def _show_check(
    to: Console,
    path: Path,
    system: System | None,
    mistakes: list[HomeostatError],
    warnings: tuple[Lint, ...],
) -> None:
    from rich.padding import Padding
    from rich.text import Text

    def prose(text: Text, left: int) -> None:
        to.print(Padding(text, (0, 0, 0, left)) if to.is_terminal else " " * left + text.plain)

    for mistake in mistakes:
        prose(Text.assemble(("mistake ", "bold red"), told(mistake)), 0)
    for warning in warnings:
        prose(
            Text.assemble(
                ("warning ", "yellow"), (warning.rule, "bold"), f": {warning.where}: ",
                f"{warning.found}.",
            ),
            0,
        )  # fmt: skip
        prose(Text(f"{warning.advice}.", style="dim"), 8)
    counts = [] if system is None else [_many(system, part) for part in PARTS]
    listed = ", ".join(count for count in counts if count)
    name = str(path) if system is None else f"{system.name} ({path})"
    if mistakes or warnings:
        to.print()
    to.print(Text.assemble((name, "bold"), f": {listed}" if listed else ""))
    verdict = [
        (f"{len(mistakes)} mistake{'' if len(mistakes) == 1 else 's'}", "bold red")
        if mistakes
        else ("no mistakes", "green"),
    ]
    if warnings:
        verdict.append((f"{len(warnings)} warning{'' if len(warnings) == 1 else 's'}", "yellow"))
    to.print(Text(", ").join(Text(words, style) for words, style in verdict))


def _many(system: System, part: str) -> str:
    count, noun = len(getattr(system, part)), PARTS[part]
    if count == 0:
        return ""
    several = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count} {noun if count == 1 else several}"


@click.command(cls=Command, short_help="Show what would change in the home.")
@click.option("--exit-code", is_flag=True, help="Exit with 3 if anything would change.")
@click.pass_context
def plan(context: click.Context, exit_code: bool) -> None:
    """Show what would change if the declarations were applied to the home.

    Says, too, which older definitions are kept beside the new ones for versions in service, until
    when, and what that costs; which request fields only a champion still needs, and which requests
    need not bring though somebody reads them; which names of request fields clients may go on
    sending; which of their features would be lost, and which estimators that are new or changed
    `check` refuses, so that no training of theirs would work: `apply` refuses both.

    Exit status: 0; 3 if `apply` would refuse it, or with --exit-code if there are changes.
    """
    from homeostat.runtime.plan import applied
    from homeostat.runtime.plan import plan as planned
    from homeostat.runtime.trainable import untrainable

    here = session()
    system = here.system()
    changes = planned(applied(here.folder), system)
    mistakes = untrainable(applied(here.folder), system)
    unfilled: list[str] = []
    steps: tuple[Evolution, ...] = ()
    kept: tuple[Kept, ...] = ()
    needed: tuple[StillNeeded, ...] = ()
    awaited: tuple[AwaitedField, ...] = ()
    former: tuple[FormerName, ...] = ()
    lost: list[str] = []
    advice = ""
    if (here.folder / "meta.db").exists():
        from homeostat.runtime.applying import (
            ServiceLost,
            at_stake,
            kept_beside,
            lost_lines,
            require_service,
            schema_steps,
            serving,
            views_to_fill,
        )
        from homeostat.runtime.request_names import former_in_plan
        from homeostat.runtime.still_needed import awaited_fields, still_needed

        with here.home() as (_, home):
            steps = tuple(step for step in schema_steps(home, system) if step.is_change)
            former = former_in_plan(system, home.schemas, [step.source for step in steps])
            unfilled = [view.name for view in views_to_fill(home, system)]
            kept, served = kept_beside(home, system), serving(home, system)
            stake = at_stake(home, system)
            lost = lost_lines(one for one in stake if not one.given_up)
            needed, awaited = still_needed(system, served), awaited_fields(system, served)
            try:
                require_service(stake)
            except ServiceLost as loss:
                advice = loss.advice
    body = {
        "home": str(here.folder),
        "changes": [change.as_json() for change in changes],
        "views_to_fill": unfilled,
        "schemas": [step.as_json() for step in steps],
        "kept": [one.as_json() for one in kept],
        "still_needed": [one.as_json() for one in needed],
        "awaited": [one.as_json() for one in awaited],
        "former_names": [one.as_json() for one in former],
        "lost": lost,
        "advice": advice,
        "untrainable": [told(mistake) for mistake in mistakes],
    }

    def show(to: Console) -> None:
        _show_plan(to, here.folder, changes, steps, bool(lost))
        _show_service(to, kept, lost, advice)
        _show_fields(to, needed, awaited, () if lost else former)
        for mistake in mistakes:
            to.print(
                f"no training would work, so `homeostat apply` refuses it: {mistake}",
                style="bold red",
                soft_wrap=True,
            )

    here.answer(body, show)
    refused = any(step.conflicts for step in steps) or bool(lost) or bool(mistakes)
    context.exit(FOUND if refused or (exit_code and changes) else 0)


def _show_plan(
    to: Console,
    folder: Path,
    changes: tuple[Change, ...],
    steps: tuple[Evolution, ...],
    is_lost: bool,
) -> None:
    from rich.text import Text

    if not changes and is_lost:
        to.print(
            f"{folder}: the declarations are those applied; `homeostat apply` refuses what they "
            "name, and `homeostat run` does not start",
            style="bold red",
            soft_wrap=True,
        )
        return
    if not changes:
        to.print(f"{folder}: nothing would change", style="green")
        return
    signs = {"added": "+", "changed": "~", "removed": "-"}
    for change in changes:
        style = COLOURS[change.kind]
        to.print(
            Text.assemble(
                (f"{signs[change.kind]} {change.subject}", style), f"  {change.consequence}"
            ),
        )
        for detail in change.details:
            to.print(Text(f"    {detail}", style="dim"))
    for step in steps:
        said = f"schema of {step.source!r}: version {step.version} ({step.mode})"
        said += " is refused" if step.conflicts else ""
        to.print(Text(said, style="bold red" if step.conflicts else "bold"))
        for line in (*step.changes, *step.explain()):
            to.print(Text(f"    {line}", style="dim"))
    kinds = Counter(change.kind for change in changes)
    told_counts = ", ".join(f"{kinds[kind]} {kind}" for kind in signs if kinds[kind])
    if is_lost or any(step.conflicts for step in steps):
        to.print(f"\n{told_counts}; `homeostat apply` refuses it", style="bold red")
    else:
        to.print(f"\n{told_counts}; `homeostat apply` makes it hold in {folder}")


def _show_service(
    to: Console,
    kept: tuple[Kept, ...],
    lost: list[str],
    advice: str,
) -> None:
    from rich.text import Text

    for one in kept:
        size = f"{one.entities:,} entities, {one.bytes / 1e6:,.1f} MB"
        names = ", ".join(one.versions)
        to.print(
            f"view {one.view!r} is kept as {names} reads it, {one.until}: {size}",
            style="dim",
            soft_wrap=True,
        )
    for line in lost:
        to.print(Text(line, style="bold red"), soft_wrap=True)
    if advice:
        to.print(Text(f"    {advice}", style="dim"), soft_wrap=True)


def _show_fields(
    to: Console,
    needed: tuple[StillNeeded, ...],
    awaited: tuple[AwaitedField, ...],
    former: tuple[FormerName, ...],
) -> None:
    for field in needed:
        null = ", and may be null" if field.may_be_null else ", and may not be null"
        to.print(
            f"requests to {field.model!r} still need {field.field!r} for "
            f"{', '.join(field.versions)}, {field.until}{null}",
            style="dim",
            soft_wrap=True,
        )
    for one in awaited:
        to.print(
            f"requests to {one.model!r} need not bring {one.field!r}; without it, "
            f"{' and '.join(one.readers)} {'is' if len(one.readers) == 1 else 'are'} not asked",
            style="dim",
            soft_wrap=True,
        )
    for name in former:
        what = f"is read as {name.read_as!r}" if name.read_as else "is no field any more: ignored"
        to.print(
            f"requests to {name.model!r} may go on bringing {name.field!r}, which {what}",
            style="dim",
            soft_wrap=True,
        )


@click.command(cls=Command, short_help="Make the declarations hold in the home.")
@click.option(
    "--give-up",
    "giving_up",
    multiple=True,
    metavar="MODEL@VERSION",
    help="A version in service that may stop answering, because its features cannot be kept.",
)
@click.option(
    "--reason",
    default="",
    help="Why a version is given up, for the journal; --give-up needs it.",
)
def apply(giving_up: tuple[str, ...], reason: str) -> None:
    """Make the declarations hold in the home, and fill new and changed views from the lake.

    Versions in service keep their features as they were trained with; where that cannot be,
    nothing is changed unless they are given up, which is a decision in the journal. Where a process
    runs the home, that process fills the views while it folds and answers; its next start is by the
    new declarations.
    """
    from homeostat.runtime.applying import apply_changes
    from homeostat.runtime.giving_up import ReasonMissing
    from homeostat.runtime.lock import HomeBusy, HomeLock

    if giving_up and not reason.strip():
        raise ReasonMissing(giving_up)
    here = session()
    system = here.system()
    try:
        lock = HomeLock(here.folder)
    except HomeBusy as busy:
        _apply_beside(here, system, giving_up, reason, busy)
        return
    try:
        home = here.opened(system)
        try:
            asked = _given_up(home, giving_up, reason)
            done = apply_changes(home, system, giving_up=asked)
        finally:
            home.close()
    finally:
        lock.release()
    body: dict[str, Any] = {
        "home": str(here.folder),
        "changes": [change.as_json() for change in done.changes],
        "filled": done.filled,
        "given_up": _names(done),
    }

    def show(to: Console) -> None:
        _show_given_up(to, giving_up, done)
        for view, events in done.filled.items():
            to.print(f"filled view {view!r} from {events:,} events")
        number = len(done.changes)
        words = f"{number} change{'' if number == 1 else 's'}" if number else "nothing changed"
        to.print(f"{words}: {here.folder} runs on {here.path}", style="green")

    here.answer(body, show)


def _given_up(home: Home, versions: tuple[str, ...], reason: str) -> GivingUp:
    from getpass import getuser

    from homeostat.runtime.giving_up import GivingUp
    from homeostat.runtime.reading import present

    return GivingUp(versions, present(home), f"{getuser()}, by homeostat apply", reason)


def _apply_beside(
    here: Session, system: System, giving_up: tuple[str, ...], reason: str, busy: HomeBusy
) -> None:
    from homeostat.runtime.applying_beside import asked_of_the_process
    from homeostat.runtime.cli_home import ordered
    from homeostat.runtime.restart import restart_note

    with here.home() as (_, home):
        asked = _given_up(home, giving_up, reason)
        done, order = asked_of_the_process(home, system, asked)
    ordered(here, "apply", system.name, order, busy)
    number = len(done.changes)
    words = f"{number} change{'' if number == 1 else 's'} applied beside {busy.owner}"

    def show(to: Console) -> None:
        _show_given_up(to, giving_up, done)
        to.print(f"{words}, which serves and trains by them after its next start")
        note = restart_note(here.folder)
        if note:
            to.print(note, style="yellow", soft_wrap=True)

    body = {
        "home": str(here.folder),
        "changes": [change.as_json() for change in done.changes],
        "given_up": _names(done),
        "beside": busy.owner,
        "restart": restart_note(here.folder),
    }
    here.answer(body, show)


def _names(done: Applied) -> list[str]:
    return [f"{one.model}@{one.version}" for one in done.given_up]


def _show_given_up(to: Console, asked: tuple[str, ...], done: Applied) -> None:
    """Say which versions are given up, and that nothing was written about the others."""
    names = _names(done)
    for name in dict.fromkeys(asked):
        if name in names:
            to.print(f"gave up {name}: it may stop answering", style="yellow")
        else:
            to.print(f"{name} is not given up by this: it was before, or it can answer")
