"""Commands on the features: what there is, how it is now, as it was, and whether it is the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from homeostat.core.errors import HomeostatError, UnknownName
from homeostat.runtime.cli_build import WRITERS, build, progress, writer_of
from homeostat.runtime.cli_catalogue import list_features, show_feature
from homeostat.runtime.cli_shared import Group, session
from homeostat.runtime.cli_types import INSTANT, SETTING, typed

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from homeostat.core.durations import Micros
    from homeostat.declare.views import FeatureView

__all__ = ["features"]


@click.group(cls=Group, short_help="Catalogue, live and past values, profiles, skew audit.")
def features() -> None:
    """The catalogue of features, their values now and then, profiles and the skew audit."""


features.add_command(list_features)
features.add_command(show_feature)


@features.command()
@click.argument("view")
@click.argument("keys", nargs=-1, required=True, type=SETTING, metavar="KEY=VALUE...")
def read(view: str, keys: tuple[tuple[str, str], ...]) -> None:
    """Read the live features of one entity, as a request would see them now."""
    from homeostat.core.clock import from_micros

    here = session()
    with here.home() as (system, home):
        from homeostat.features.folded import read_after
        from homeostat.features.read import ViewReader
        from homeostat.runtime.applying import NotApplied, views_to_fill
        from homeostat.runtime.reading import present

        declared = system.view(view)
        if declared in views_to_fill(home, system):
            raise NotApplied(system.name, [f"view {view!r}"])
        parts = _entity(declared, dict(keys))
        with home.store.reader() as reader:
            at = max(present(home), read_after(reader, [declared.source.name]) + 1)
            not_exact: list[str] = []
            live = ViewReader(declared, not_exact.append)
            values = live.read(reader, [parts], at, None)[0].tolist()
    found = dict(zip((spec.name for spec in declared.features()), values, strict=True))
    body = {
        "view": view,
        "at": from_micros(at),
        "key": dict(zip(declared.entity.keys, parts, strict=True)),
        "features": found,
        "not_exact": not_exact,
    }

    def show(to: Console) -> None:
        from homeostat.runtime.cli_output import table

        table(to, [{"feature": name, "value": value} for name, value in found.items()])
        for name in not_exact:
            to.print(f"{name} is missing: its sum leaves the exact range (not_exact)")
        to.print(f"at {from_micros(at):%Y-%m-%d %H:%M:%S} UTC", style="dim")

    here.answer(body, show)


def _entity(view: FeatureView, given: dict[str, str]) -> tuple[object, ...]:
    names = view.entity.keys
    where = f"view {view.name!r}"
    for name in given:
        if name not in names:
            raise UnknownName("key", name, names, where)
    for name in names:
        if name not in given:
            raise HomeostatError(
                f"{where}: key {name!r} is not given; allowed: "
                f"{' '.join(n + '=...' for n in names)}; name every part of the key"
            )
    return tuple(typed(view.source.schema.field(n, where).kind, given[n]) for n in names)


features.add_command(build)


@features.command("training-set")
@click.argument("model")
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help=f"Where to: a {', '.join(WRITERS)} file.",
)
@click.option("--until", type=INSTANT, help="As it was known at this instant (default: now).")
def training_set(model: str, out: Path, until: Micros | None) -> None:
    """Write the labelled requests of MODEL with their features, point in time, to a file."""
    from homeostat.core.clock import from_micros

    writer = writer_of(out)
    here = session()
    with here.home() as (system, home):
        from homeostat.runtime.reading import present
        from homeostat.runtime.training import Trainer

        declared = system.model(model)
        instant = present(home) if until is None else until
        with progress(here) as told:
            trainer = Trainer(system, home.lake, home.registry, home.predictions)
            rows = trainer.table(declared, instant, told)
    getattr(rows, writer)(out)
    body = {
        "written": str(out),
        "until": from_micros(instant),
        "rows": rows.height,
        "positives": int(rows["label"].sum()),
        "features": list(declared.feature_names()),
    }
    here.answer(body, lambda to: _show_training_set(to, out, rows))


def _show_training_set(to: Console, out: Path, rows: pl.DataFrame) -> None:
    share = rows["label"].mean() if rows.height else None
    told = f", {share:.1%} of them true" if isinstance(share, float) else ""
    to.print(f"{rows.height:,} rows of {rows.width} columns in {out}{told}")
