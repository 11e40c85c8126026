"""`homeostat features export`: the features for another feature store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from homeostat.runtime.cli_shared import Command, session

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["export"]

ADDRESS = re.compile(r"https?://[\w.:\[\]-]+(/[\w./-]*)?")


@click.command("export", cls=Command)
@click.option(
    "--feast",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to: the folder of the Feast repository.",
)
@click.option(
    "--server",
    default="http://127.0.0.1:8000",
    show_default=True,
    help="Where `homeostat run` answers.",
)
def export(folder: Path, server: str) -> None:
    """Write a Feast repository: live features from `homeostat run`, history and events as Parquet.

    The Parquet files are of this moment; export again for later ones.
    """
    if not ADDRESS.fullmatch(server):
        raise click.BadParameter(
            f"{server!r}; write an address such as http://127.0.0.1:8000", param_hint="--server"
        )
    here = session()
    with here.home() as (system, home):
        from homeostat.adapters.feast_repository import write_repository
        from homeostat.runtime.reading import Reading

        rows = write_repository(system, folder, Reading(system, home).events, server)

    def show(to: Console) -> None:
        for kind, found in rows.items():
            told = ", ".join(f"{name} ({n:,} rows)" for name, n in found.items())
            to.print(f"{kind}: {told}", soft_wrap=True)
        to.print(f"cd {folder} && feast apply", style="cyan", soft_wrap=True)

    here.answer({"written": str(folder), **rows}, show)
