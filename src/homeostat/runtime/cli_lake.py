"""The commands on the lake, as a group; each is in a file of its own."""

from __future__ import annotations

import click

from homeostat.runtime.cli_shared import Group

__all__ = ["lake"]


@click.group("lake", cls=Group, short_help="Events at rest: what they take, where they are.")
def lake() -> None:
    """Look after the tables of the lake."""
