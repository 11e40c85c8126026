"""Moves days that are no longer hot, and deletes those that are kept no longer."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import click

from homeostat.runtime.cli_shared import Command, session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from homeostat.runtime.lifecycle import Planned

__all__ = ["tier"]


@click.command("tier", cls=Command, short_help="Move cold days, delete old ones, as declared.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
def tier(dry_run: bool) -> None:
    """Carry out the retention policies now; `homeostat run` does so at every step.

    Models whose training data is deleted are named: they cannot be rebuilt afterwards.
    """
    from homeostat.runtime.lifecycle import Lifecycle

    here = session()
    if dry_run:
        from homeostat.runtime.reading import present

        with here.home() as (system, home):
            planned = Lifecycle(system, home).plan(present(home))
            freed: Mapping[str, int] = {}
    else:
        with here.app() as app:
            app.live.flush()
            lifecycle = Lifecycle(app.system, app.home)
            planned = lifecycle.plan(app.clock.now())
            for one in planned:
                lifecycle.carry_out(one)
            freed = lifecycle.sweep()
    rows = [_row(one, freed) for one in planned]
    here.answer(rows, lambda to: _show(to, rows, dry_run))


def _row(planned: Planned, freed: Mapping[str, int]) -> dict[str, Any]:
    found = planned.leaving
    return {
        "table": found.table,
        "move": [day.isoformat() for day in found.move],
        "delete": [day.isoformat() for day in found.delete],
        "held": [day.isoformat() for day in found.held],
        "held_by": planned.held_by,
        "stays": planned.stays,
        "models_without_data": list(planned.referenced),
        "bytes_freed": freed.get(found.table, 0),
    }


def _show(to: Any, rows: Sequence[Mapping[str, Any]], dry_run: bool) -> None:
    from homeostat.runtime.cli_output import size, table

    if not rows:
        to.print("No retention policy is declared; write hs.Retention(source, keep=, hot=).")
        return
    moved, deleted = ("would move", "would delete") if dry_run else ("moved", "deleted")
    table(
        to,
        [
            {
                "table": row["table"],
                moved: _days(row["move"]),
                deleted: _days(row["delete"]),
                "held": _days(row["held"]),
                "freed": size(row["bytes_freed"]),
            }
            for row in rows
        ],
    )
    for row in rows:
        if row["held"]:
            to.print(f"{row['table']}: days are held, for {row['held_by']} needs them")
        if row["stays"]:
            to.print(f"{row['table']}: {row['stays']}")
        if row["models_without_data"]:
            names = ", ".join(row["models_without_data"])
            verb = "would lose" if dry_run else "lost"
            to.print(f"{row['table']}: {names} {verb} training data, and cannot be rebuilt")


def _days(days: Sequence[str]) -> str:
    if not days:
        return ""
    first, last = date.fromisoformat(days[0]), date.fromisoformat(days[-1])
    return f"{first}" if len(days) == 1 else f"{len(days)}: {first} to {last}"
