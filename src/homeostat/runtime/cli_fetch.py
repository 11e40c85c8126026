"""The command that fetches: from watched folders and databases, now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from homeostat.core.errors import HomeostatError
from homeostat.runtime.cli_shared import BESIDE, Command, session, told

if TYPE_CHECKING:
    from rich.console import Console

    from homeostat.declare.sources import EventSource
    from homeostat.runtime.cli_shared import Taking

__all__ = ["fetch"]


@click.command(cls=Command, short_help="Fetch what folders and databases have, now.")
@click.argument("sources", nargs=-1)
@click.option("--due", is_flag=True, help="Only what the schedules say is due now.")
def fetch(sources: tuple[str, ...], due: bool) -> None:
    """Take in what the folders and databases of SOURCES have, as `run` does on its schedule.

    Without SOURCES, of all that declare a feed. Each record is taken once: a fetch that was cut off
    goes on where it was. With --due another scheduler may call this as often as it likes. A source
    that cannot be fetched holds up no other; the exit status is then 1.
    """
    here = session()
    with here.taking(new=True) as taking:
        declared = [source for source in taking.home.system.sources if source.feed is not None]
        if sources:
            declared = [taking.home.system.source(name) for name in sources]
        rows = [_pull(taking, source, due) for source in declared]

    def show(to: Console) -> None:
        from homeostat.runtime.cli_output import table

        table(to, [{k: v for k, v in row.items() if k not in ("notes", "failed")} for row in rows])
        if not rows:
            to.print("no source declares a feed; see homeostat.Folder and homeostat.Query")

    here.answer({"sources": rows, "folded": taking.folds}, show)
    for row in rows:
        for note in row["notes"]:
            here.note(note)
        if row["quarantined"]:
            here.note(f"see why: homeostat dead-letters list --source {row['source']}")
    if not taking.folds:
        here.note(BESIDE)
    if any(row["failed"] for row in rows):
        click.get_current_context().exit(1)


def _pull(taking: Taking, source: EventSource, due: bool) -> dict[str, Any]:
    """Fetch for one source, and return what became of its records."""
    from homeostat.core.clock import ManualClock
    from homeostat.runtime.feeding import Pulled, Puller

    failed = False
    try:
        taking.require_present(source.name)
        puller = Puller(source, taking.home, ManualClock(taking.now))
        pulled = puller.pull(taking.fold, force=not due)
    except HomeostatError as problem:
        failed, pulled = True, Pulled(0, None, (f"{source.name}: {told(problem)}",))
    counts = pulled.counts
    return {
        "source": source.name,
        "records": pulled.records,
        "accepted": None if counts is None else counts.accepted,
        "duplicates": None if counts is None else counts.duplicates,
        "too_late": None if counts is None else counts.too_late,
        "quarantined": None if counts is None else counts.rejected,
        "failed": failed,
        "notes": list(pulled.notes),
    }
