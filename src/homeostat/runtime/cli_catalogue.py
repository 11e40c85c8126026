"""`homeostat features list` and `show`: where a feature comes from, who uses it, what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from homeostat.runtime.cli_shared import Command, session

if TYPE_CHECKING:
    from rich.console import Console

    from homeostat.core.durations import Micros
    from homeostat.runtime.catalogue import Entry, Use
    from homeostat.runtime.lineage import Definition

__all__ = ["list_features", "show_feature"]


@click.command("list", cls=Command)
def list_features() -> None:
    """List every feature: what it is, who uses it, how important and how complete it is.

    What models made of it is told once there is a home.
    """
    from homeostat.runtime.catalogue import Catalogue
    from homeostat.runtime.lineage import definitions
    from homeostat.runtime.reading import present

    here = session()
    if (here.folder / "meta.db").exists():
        with here.home() as (system, home):
            entries = Catalogue(system, home, present(home)).entries()
        rows = [_listed(entry) for entry in entries]
        shown = [_line(entry) for entry in entries]
    else:
        found = definitions(here.system())
        rows = [_declared(one) for one in found]
        shown = [{**_named(one), "models": ", ".join(one.models)} for one in found]

    def show(to: Console) -> None:
        from homeostat.runtime.cli_output import table

        table(to, shown, wide=("definition", "models"))
        to.print("`homeostat features show FEATURE` tells all about one", style="dim")

    here.answer(rows, show)


def _named(found: Definition) -> dict[str, Any]:
    per = found.entity or "request"
    return {"feature": found.feature, "definition": found.text, "per": per, "from": found.source}


def _declared(found: Definition) -> dict[str, Any]:
    return {
        "feature": found.feature, "view": found.view, "entity": found.entity,
        "source": found.source, "definition": found.text, "hash": found.hash,
        "models": found.models,
    }  # fmt: skip


def _listed(entry: Entry) -> dict[str, Any]:
    """Return one feature of the list as JSON values."""
    return {
        **_declared(entry.definition), "applied": entry.is_applied,
        "last_known": _instant(entry.last_known), "age_us": entry.age_us, "uses": entry.uses,
    }  # fmt: skip


def _line(entry: Entry) -> dict[str, Any]:
    """Return one feature of the list as a person reads it; of several models, the best tells."""
    used = max(entry.uses, key=lambda use: use.importance or 0.0, default=None)
    return {
        **_named(entry.definition),
        "models": ", ".join(entry.definition.models),
        "gain": "" if used is None else _share(used.importance),
        "missing": "" if used is None else _share(_missing(used)),
        "newest": _age(entry.age_us),
    }


def _missing(use: Use) -> float | None:
    return use.missing_then if use.missing_now is None else use.missing_now


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _age(age: Micros | None) -> str:
    """Return an age in its two largest units."""
    from homeostat.core.durations import format_duration

    if age is None:
        return ""
    minute, hour, day = 60_000_000, 3_600_000_000, 86_400_000_000
    step = hour if age >= day else minute if age >= hour else 1_000_000
    return f"{format_duration(age - age % step)} ago" if age >= step else "now"


def _instant(at: Micros | None) -> object:
    from homeostat.runtime.cli_output import moment

    return moment(at)


@click.command("show", cls=Command)
@click.argument("feature")
def show_feature(feature: str) -> None:
    """Show all about FEATURE: where it comes from, its history, its models, its cost.

    The time of a read is measured on the spot, on entities of the newest events.
    """
    here = session()
    with here.home() as (system, home):
        from homeostat.runtime.catalogue import Catalogue
        from homeostat.runtime.reading import present

        entry = Catalogue(system, home, present(home)).entry(feature)
        source = entry.definition.source
        lateness = next((s.lateness_us for s in system.sources if s.name == source), None)
    history = [
        {"hash": h.hash, "versions": h.versions, "first": _instant(h.first),
         "last": _instant(h.last), "declared_now": h.is_declared}
        for h in entry.history
    ]  # fmt: skip
    body = {
        **_listed(entry), "lineage": entry.definition, "lateness_us": lateness,
        "history": history, "cost": entry.cost,
    }  # fmt: skip
    here.answer(body, lambda to: _show(to, entry, lateness))


def _show(to: Console, entry: Entry, lateness: Micros | None) -> None:
    from homeostat.runtime.cli_output import table

    to.print(entry.definition.feature, style="bold")
    lines = {**_lineage(entry.definition, lateness), **_present(entry)}
    for name, text in lines.items():
        to.print(f"  {name:10} {text}", soft_wrap=True)
    if entry.uses:
        to.print("\nused by", style="bold")
        table(to, [_used(use) for use in entry.uses], styles={"stands": {"champion": "green"}})
    if entry.history:
        to.print("\ntrained under", style="bold")
        rows = [
            {"definition": h.hash, "versions": ", ".join(h.versions),
             "first": _instant(h.first), "last": _instant(h.last),
             "": "as declared now" if h.is_declared else "another definition"}
            for h in entry.history
        ]  # fmt: skip
        table(to, rows, wide=("versions",))


def _lineage(found: Definition, lateness: Micros | None) -> Mapping[str, str]:
    from homeostat.core.durations import format_duration

    if not found.view:
        return {
            "is": found.text,
            "from": f"the request's {', '.join(found.fields)}" if found.fields else "features only",
            "definition": f"{found.hash}, which is the code of the function and of its inputs",
        }
    fields = ", ".join(f"{found.source}.{field}" for field in found.fields)
    late = "" if not lateness else f"; left out if known more than {format_duration(lateness)} late"
    told = {
        "is": found.text,
        "from": f"{fields}{late}",
        "per": f"{found.entity} ({', '.join(found.keys)}), in view {found.view}",
        "window": found.window + (f", its tail in steps of {found.hop}" if found.hop else ""),
    }
    if found.condition:
        told["where"] = found.condition
    return {**told, "definition": found.hash}


def _present(entry: Entry) -> Mapping[str, str]:
    from homeostat.core.clock import from_micros
    from homeostat.runtime.cli_output import size

    told: dict[str, str] = {}
    if not entry.is_applied:
        told["state"] = "its view is not kept up as declared: run `homeostat apply`"
    if entry.last_known is not None:
        instant = f"{from_micros(entry.last_known):%Y-%m-%d %H:%M:%S} UTC"
        told["newest"] = f"an event known {_age(entry.age_us)}, at {instant}"
    cost = entry.cost
    if cost is not None:
        records = "1 record" if cost.records == 1 else f"{cost.records:,} records"
        shared = "alone" if cost.features == 1 else f"shared by {cost.features} features"
        told["online"] = f"{size(cost.bytes)} in {records} of {cost.view}, {shared}"
        if cost.read_us is not None:
            entities = "1 entity" if cost.measured == 1 else f"{cost.measured} entities"
            told["read"] = f"{cost.read_us:.3g} us for all of {cost.view}: measured now, median "
            told["read"] += f"of {entities} of the newest events"
    return told


def _used(use: Use) -> dict[str, Any]:
    place = "" if use.rank is None else f"{use.rank} of {use.features}"
    return {
        "model": use.model, "version": use.version, "stands": use.stands,
        "gain": _share(use.importance), "place": place,
        "missing in training": _share(use.missing_then),
        f"missing in the last {use.predictions:,} answers" if use.predictions else "missing since":
            _share(use.missing_now),
    }  # fmt: skip
