"""`homeostat features build`: features as they were, one row per row of a spine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from homeostat.runtime.cli_shared import Command, Session, session

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from homeostat.declare.models import Model
    from homeostat.runtime.build_plan import BuildPlan
    from homeostat.runtime.building import Told

__all__ = ["WRITERS", "build", "progress", "writer_of"]

WRITERS = {
    ".parquet": "write_parquet", ".csv": "write_csv", ".ndjson": "write_ndjson",
    ".arrow": "write_ipc",
}  # fmt: skip


@click.command(cls=Command, short_help="Features as they were, for a table of keys and instants.")
@click.argument("views", nargs=-1, metavar="VIEW...")
@click.option("--model", help="All features of this model, on-demand ones included.")
@click.option(
    "--spine",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="Keys and `at`, the instant of each row: .parquet, .arrow, .csv or .ndjson. "
    "With --model it may be left out: every request the model's source holds.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help=f"Where to: a {', '.join(WRITERS)} file.",
)
@click.option("--explain", is_flag=True, help="Say what would be read and why; write nothing.")
@click.option(
    "--memory-mb",
    type=click.IntRange(min=1),
    help="Events held at once (default: a quarter of the memory); less means more passes.",
)
def build(
    views: tuple[str, ...],
    model: str | None,
    spine: Path | None,
    out: Path | None,
    explain: bool,
    memory_mb: int | None,
) -> None:
    """Build the features of VIEWs at the instants of a spine, from the lake, point in time.

    There is one row per row of the spine, in its order; its other columns come along.
    """
    if bool(views) == bool(model):
        raise click.UsageError("Name views, or a model: features build VIEW..., or --model MODEL.")
    if spine is None and not model:
        raise click.UsageError("Missing option '--spine': the keys and instants to build for.")
    if out is None and not explain:
        raise click.UsageError("Missing option '--out': where to write, or --explain.")
    writer = None if out is None else writer_of(out)
    here = session()
    with here.home() as (system, home):
        from homeostat.core.clock import from_micros
        from homeostat.runtime.answers import Answers
        from homeostat.runtime.building import Builder, requests_of
        from homeostat.runtime.reading import Reading, present

        of: Model | Sequence[str] = system.model(model) if model else views
        asked: object = spine
        if spine is None and not isinstance(of, Sequence):
            asked = requests_of(of, home.lake, Answers(system, home.lake, home.predictions))
        memory = None if memory_mb is None else memory_mb * 1_000_000
        events = Reading(system, home).table
        if explain:
            plan = Builder(system, events, memory).plan(of, asked, home.lake)
            here.answer(plan, lambda to: _show_plan(to, plan))
            return
        with progress(here) as told:
            builder = Builder(system, events, memory, told)
            rows = (
                builder.views(of, asked) if isinstance(of, Sequence) else builder.model(of, asked)
            )
        later = int((rows["at"] > from_micros(present(home))).sum())
    getattr(rows, str(writer))(out)
    if later:
        are = "row is" if later == 1 else "rows are"
        here.note(f"{later:,} {are} in the future: what they will see may not have come yet")
    for name, values in builder.not_exact.items():
        here.note(
            f"{name}: {values:,} values are missing: sums that leave the exact range (not_exact); "
            "change the unit of the column, shorten the window, or leave large values out (where=)"
        )
    body = {
        "written": str(out), "rows": rows.height, "columns": rows.columns, "future": later,
        "not_exact": builder.not_exact,
    }  # fmt: skip
    here.answer(body, lambda to: _show_written(to, out, rows))


def writer_of(out: Path) -> str:
    """Return the name of the method that writes a frame to such a file."""
    if out.suffix not in WRITERS:
        raise click.BadParameter(
            f"{out.name!r}; write a {', '.join(WRITERS)} file", param_hint="--out"
        )
    return WRITERS[out.suffix]


def _show_written(to: Console, out: Path | None, rows: pl.DataFrame) -> None:
    to.print(f"{rows.height:,} rows of {rows.width} columns in {out}")


@contextmanager
def progress(here: Session) -> Iterator[Told]:
    """Show how far the reading is, on a terminal; it is gone when the work is done."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
    )

    to = here.console(notes=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("events"),
        TimeElapsedColumn(),
        console=to, transient=True, disable=here.json or not to.is_terminal,
    ) as shown:  # fmt: skip
        tasks: dict[str, TaskID] = {}
        passes, last = Counter[str](), dict[str, int]()

        def told(view: str, done: int, of: int) -> None:
            if view not in tasks:
                tasks[view] = shown.add_task(view, total=of)
            if done <= last.get(view, of):  # from the beginning again
                passes[view] += 1
            last[view] = done
            words = f"{view}: keys" if passes[view] == 1 else f"{view}: pass {passes[view] - 1}"
            shown.update(tasks[view], completed=done, description=words)

        yield told


def _show_plan(to: Console, plan: BuildPlan) -> None:
    from homeostat.runtime.cli_output import size

    first, last = (text[:19].replace("T", " ") for text in (plan.first, plan.last))
    to.print(f"{plan.rows:,} rows, {first} to {last} UTC")
    for view in plan.views:
        files = f"{view.files:,} of {view.files_of:,} files"
        waiting = f", and {view.waiting:,} that wait for the lake" if view.waiting else ""
        keyless = f"; rows without a key: {view.keyless:,}" if view.keyless else ""
        passes = "one pass" if view.passes == 1 else f"at most {view.passes} passes"
        lines = {
            "reads": f"{view.events:,} events in {files} of {view.source}{waiting}",
            "because": view.why,
            "columns": f"{', '.join(view.columns)}: {size(view.bytes)}",
            "asked for": f"{view.entities:,} entities{keyless}",
            "memory": f"about {size(view.memory)}, in {passes} after one over the keys",
        }
        to.print(f"\n{view.view}", style="bold")
        for name, text in lines.items():
            to.print(f"  {name:10} {text}", soft_wrap=True)
    to.print(
        f"\n{len(plan.features)} features in about {size(plan.memory)}; nothing was built",
        style="dim",
    )
