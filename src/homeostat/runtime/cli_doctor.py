"""Says whether a home is in order, and what to do where it is not."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from homeostat.runtime.cli_shared import FOUND, Command, session

if TYPE_CHECKING:
    from rich.console import Console

    from homeostat.runtime.doctor import Check

__all__ = ["doctor"]

SIGNS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "broken": ("broken", "bold red")}


@click.command(cls=Command, short_help="Look the home over, and say what to do.")
@click.pass_context
def doctor(context: click.Context) -> None:
    """Look the home over: files, offsets, lake, journal and packages. Nothing is changed.

    Exit status: 0 if nothing is broken, 3 otherwise.
    """
    from homeostat.runtime.doctor import examine

    here = session()
    system = here.system()
    found: list[Check] = []
    with here.console(notes=True).status("reading everything once"):
        found.extend(examine(system, here.folder, partial(here.opened, system)))
    broken = sum(check.status == "broken" for check in found)

    def show(to: Console) -> None:
        from rich.text import Text

        for check in found:
            word, style = SIGNS[check.status]
            to.print(
                Text.assemble((f"{word:<7}", style), f"{check.name}: {check.found}"), soft_wrap=True
            )
            if check.advice:
                to.print(Text(f"       {check.advice}", style="dim"))
        words = f"{broken} broken" if broken else "nothing is broken"
        to.print(words, style="bold red" if broken else "green")

    here.answer({"healthy": not broken, "checks": found}, show)
    context.exit(FOUND if broken else 0)
