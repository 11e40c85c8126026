"""The commands on the lake's files: what there is, put in order, and thrown away.

Those that report and move days are in files of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from homeostat.core.errors import UnknownName
from homeostat.runtime.cli_shared import Command, Group, session

if TYPE_CHECKING:
    from rich.console import Console

    from homeostat.lake.tables import Lake

__all__ = ["lake"]


@click.group(cls=Group, short_help="The lake's files: status, report, compact, archive, tier.")
def lake() -> None:
    """Look at the files of the lake, put them in order, move days, delete what nobody needs."""


@lake.command(cls=Command, short_help="Rows, files, bytes and versions of each table.")
@click.argument("tables", nargs=-1)
def status(tables: tuple[str, ...]) -> None:
    """Show what TABLES (all, if none is named) are made of.

    Sorted is the share of the rows that compaction has sorted by entity and time. Cold days are
    counted in; `homeostat lake report` tells them apart.
    """
    here = session()
    with here.home() as (_, home):
        found = [home.lake.status(table) for table in _named(home.lake, tables)]

    def show(to: Console) -> None:
        from homeostat.runtime.cli_output import size, table

        table(
            to,
            [
                {
                    "table": one.table, "rows": one.rows, "files": one.files,
                    "size": size(one.bytes), "days": one.days,
                    "version": None if one.version < 0 else one.version,
                    "sorted": None if one.sorted_share is None else f"{one.sorted_share:.0%}",
                }
                for one in found
            ],
        )  # fmt: skip

    here.answer([asdict(one) for one in found], show)


@lake.command(cls=Command, short_help="Sort closed days, and join small files.")
@click.argument("tables", nargs=-1)
def compact(tables: tuple[str, ...]) -> None:
    """Write closed days of TABLES (all, if none is named) again, sorted by entity and time.

    The files of the day that still grows are joined. Rows and earlier versions stay as they are.
    `homeostat run` does this by itself, a piece at every step of its loop.
    """
    from homeostat.runtime.upkeep import compact_all

    here = session()
    rows: list[dict[str, Any]] = []
    with here.app() as app:
        named = _named(app.home.lake, tables)
        notes = here.console(notes=True)
        quiet = here.json or not notes.is_terminal
        with nullcontext() if quiet else notes.status("compacting"):
            for table, done in compact_all(app.home.lake, named):
                rows.append({"table": table, **asdict(done)})
    here.answer(rows, lambda to: _show_rows(to, rows))


@lake.command(cls=Command, short_help="Write received records into raw tables, as they came.")
@click.argument("sources", nargs=-1)
def archive(sources: tuple[str, ...]) -> None:
    """Write what the logs of SOURCES (all, if none is named) have into their raw tables.

    A raw table, raw_SOURCE, has each record as it was received: its offset, when it became known,
    and its bytes. Where the profile says [lake] raw = true, or lets the log go of records,
    `homeostat run` does this by itself.
    """
    from homeostat.declare.storage import raw_table
    from homeostat.runtime.archiving import Archiver

    here = session()
    with here.app() as app:
        named = [app.system.source(name) for name in sources] or app.system.sources
        archiver = Archiver(app.home, [source.name for source in named])
        written = archiver.finish()
    rows = [
        {"table": raw_table(name), "records_written": number} for name, number in written.items()
    ]
    here.answer(rows, lambda to: _show_rows(to, rows))


@lake.command(cls=Command, short_help="Delete files that no version in use needs.")
@click.argument("tables", nargs=-1)
@click.option("--hours", type=click.IntRange(min=0), default=168, show_default=True,
              help="Versions that were current less than so long ago stay.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
def vacuum(tables: tuple[str, ...], hours: int, dry_run: bool) -> None:
    """Delete files of TABLES (all, if none is named) that no version in use needs.

    In use are the current version, the versions that registered models were trained on, and those
    younger than --hours. To read any other one is an error afterwards.
    """
    from homeostat.runtime.upkeep import vacuum_all

    here = session()
    with here.app() as app:
        named = _named(app.home.lake, tables)
        rows: list[dict[str, Any]] = [
            {
                "table": table,
                "kept_versions": sorted(kept),
                "files_deleted": done.files,
                "bytes_deleted": done.bytes,
            }
            for table, kept, done in vacuum_all(app.home, named, hours=hours, dry=dry_run)
        ]

    def show(to: Console) -> None:
        from homeostat.runtime.cli_output import size

        shown = [
            {
                "table": row["table"],
                "versions_of_models": len(row["kept_versions"]),
                "files_deleted": row["files_deleted"],
                "size": size(row["bytes_deleted"]),
            }
            for row in rows
        ]
        _show_rows(to, shown)

    here.answer({"dry_run": dry_run, "tables": rows}, show)
    if dry_run:
        here.note("nothing was deleted: a dry run")


def _named(lake: Lake, tables: tuple[str, ...]) -> tuple[str, ...]:
    known = lake.tables()
    for table in tables:
        if table not in known:
            raise UnknownName("table", table, known, "lake")
    return tables or known


def _show_rows(to: Console, rows: Sequence[dict[str, Any]]) -> None:
    from homeostat.runtime.cli_output import table

    table(to, rows)
