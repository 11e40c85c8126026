"""`homeostat features profile`: what a source, or a model's training set, holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from homeostat.runtime.cli_shared import Command, session

if TYPE_CHECKING:
    from rich.console import Console

    from homeostat.features.profile import Profile
    from homeostat.features.profile_columns import ColumnProfile

__all__ = ["profile_command"]

SECRET = "***"
BARS = " ▁▂▃▄▅▆▇█"


@click.command("profile", cls=Command)
@click.argument("name", metavar="SOURCE|MODEL")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write a page with pictures there too.",
)
@click.option("--reveal", is_flag=True, help="Show values of fields that are tagged Personal.")
def profile_command(name: str, html: Path | None, reveal: bool) -> None:
    """Describe the events of SOURCE, or the training rows of MODEL: types, gaps, outliers, leaks.

    For a model, columns are also held against its label: what knows too much is named.
    """
    here = session()
    with here.home() as (system, home):
        from homeostat.features.profile import profile
        from homeostat.runtime.reading import present
        from homeostat.runtime.training import Trainer

        if name in {model.name for model in system.models}:
            model = system.model(name)
            trainer = Trainer(system, home.lake, home.registry, home.predictions)
            frame = trainer.rows(model, present(home))
            found = profile(frame, model.label.predicts.schema, "label", "at")
        else:
            source = system.source(name)
            found = profile(home.lake.read(source.name), source.schema)
    found = found if reveal else found.masked()
    if html is not None:
        from homeostat.console.profile import render_profile

        html.write_text(render_profile(name, found), encoding="utf-8")
        here.note(f"the page is {html}")
    here.answer(found.as_json(), lambda to: _show(to, name, found))


def _show(to: Console, name: str, found: Profile) -> None:
    from rich.text import Text

    from homeostat.runtime.cli_output import table

    table(to, [_row(column) for column in found.columns], wide=("values",))
    said = [("leak", leak.column, leak.reason) for leak in found.leaks]
    said += [
        ("twins", f"{pair.columns[0]}, {pair.columns[1]}", pair.relation.replace("_", " "))
        for pair in found.near_duplicates
    ]
    for kind, column, reason in said:
        to.print(Text.assemble((f"{kind:6}", "yellow"), (column, "bold"), f": {reason}"))
    for column, advice in found.suggestions.items():
        for one in advice:
            if one.code:
                to.print(Text.assemble(("try   ", "green"), (one.code, "bold"), f"  {one.reason}"))
            elif one.action == "leave_out":
                to.print(Text.assemble(("omit  ", "yellow"), (column, "bold"), f": {one.reason}"))
    to.print(f"{name}: {found.rows:,} rows, {found.duplicate_rows:,} repeated", style="dim")


def _row(column: ColumnProfile) -> Mapping[str, Any]:
    numbers = column.numbers
    if numbers is not None and numbers.counts:
        most = max(numbers.counts) or 1
        steps = len(BARS) - 1
        bars = "".join(BARS[-(-count * steps // most)] for count in numbers.counts)
        first, last = numbers.quantiles[0], numbers.quantiles[-1]
        values = f"{first:.6g} {bars} {last:.6g}"
    else:
        values = ", ".join(f"{top.value} ({top.rows:,})" for top in column.top[:3])
        values = values or (SECRET if column.distinct else "")
    return {
        "column": column.name,
        "type": column.kind,
        "missing": f"{column.missing_share:.1%}" if column.missing else "",
        "distinct": column.distinct,
        "values": values,
    }
