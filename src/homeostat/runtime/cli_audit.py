"""The command that audits logged features for skew, and blames what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from homeostat.runtime.cli_shared import FOUND, Command, Session, session
from homeostat.runtime.cli_types import INSTANT

if TYPE_CHECKING:
    from rich.console import Console

    from homeostat.core.durations import Micros
    from homeostat.features.audit import SkewAudit

__all__ = ["audit"]


@click.command(cls=Command, short_help="Compute logged features again, and compare the bits.")
@click.argument("model")
@click.option("--sample", type=click.IntRange(min=1), metavar="N",
              help="Only N predictions, drawn by a hash of their ids (default: all).")  # fmt: skip
@click.option("--since", type=INSTANT, help="Only predictions asked then or later.")
@click.pass_context
def audit(context: click.Context, model: str, sample: int | None, since: Micros | None) -> None:
    """Compute the features of the logged predictions of MODEL again, and compare the bits.

    Every difference is blamed on its cause: a changed definition or function, an event that was
    erased or altered in the lake or counted too late, or a fault of the live store. Declarations
    that are not applied are no cause: predictions are computed by those they were made under.

    Exit status: 0 if all are the same, 3 if some differ.
    """
    here = session()
    with here.home() as (system, home):
        from homeostat.features.draw import drawn
        from homeostat.runtime.auditing import Auditor
        from homeostat.runtime.cli_home import predictions_of
        from homeostat.runtime.reading import Reading

        declared = system.deployment(model).model
        asked = predictions_of(home, declared, since)
        rows = drawn(asked, sample)
        with _progress(here, rows.height) as told:
            events_of = cache(Reading(system, home).events)
            auditor = Auditor(system, home)
            found = auditor.audit(declared, rows, events_of, told)
    body = {
        "asked": asked.height,
        "predictions": found.predictions,
        "compared": found.compared,
        "different": found.different,
        "affected": found.affected,
        "bound": found.bound,
        "confidence": 0.95,
        "causes": found.causes,
        "lagging": found.lagging,
        "skipped": found.skipped,
        "differing": found.differing,
        "notes": auditor.notes,
    }

    def show(to: Console) -> None:
        for note in auditor.notes:
            to.print(note, style="yellow", soft_wrap=True)
        _show(to, found, asked.height)

    here.answer(body, show)
    context.exit(FOUND if found.different else 0)


@contextmanager
def _progress(here: Session, predictions: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many predictions are done."""
    from rich.progress import Progress

    notes = here.console(notes=True)
    quiet = here.json or not notes.is_terminal
    with Progress(console=notes, transient=True, disable=quiet) as shown:
        task = shown.add_task("auditing", total=predictions)
        yield lambda done: shown.update(task, completed=done)


def _show(to: Console, found: SkewAudit, asked: int) -> None:
    from rich.text import Text

    from homeostat.runtime.cli_output import table

    to.print(found.told, style="bold red" if found.different else "green", soft_wrap=True)
    drawn = found.predictions + found.skipped
    if drawn < asked:
        to.print(f"{drawn:,} predictions drawn from {asked:,}", style="dim")
    to.print(
        f"{found.lagging:,} values had not yet seen an event that was known before their "
        f"instant; {found.skipped:,} predictions had no features to compare",
        style="dim",
        soft_wrap=True,
    )
    if not found.different:
        return
    to.print()
    table(to, [{"cause": _words(cause), "values": n} for cause, n in found.causes.items()])
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for d in found.differing:
        logged, recomputed = _apart(d.logged, d.recomputed)
        row = {
            "prediction": d.prediction_id, "feature": d.feature, "logged": logged,
            "recomputed": recomputed,
        }  # fmt: skip
        rows.setdefault((d.cause, d.evidence), []).append(row)
    for (cause, evidence), listed in rows.items():
        to.print()
        to.print(Text.assemble((_words(cause), "bold"), f": {evidence}"), soft_wrap=True)
        table(to, listed)
    if found.different > len(found.differing):
        to.print(f"\n{len(found.differing):,} of {found.different:,} are listed", style="dim")


def _apart(logged: float, recomputed: float) -> tuple[float | str, float | str]:
    """Return two values as a table shows them: with all digits if they would look the same."""
    if f"{logged:.4g}" == f"{recomputed:.4g}":
        return repr(logged), repr(recomputed)
    return logged, recomputed


def _words(cause: str) -> str:
    return cause.replace("_", " ")
