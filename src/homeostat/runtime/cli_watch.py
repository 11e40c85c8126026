"""Commands that look at a running system: where it stands and what it decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from homeostat.core.errors import HomeostatError
from homeostat.runtime.cli_shared import Command, session
from homeostat.runtime.cli_types import INSTANT

if TYPE_CHECKING:
    from rich.console import Console

    from homeostat.core.decisions import Decision
    from homeostat.core.durations import Micros
    from homeostat.declare.system import System
    from homeostat.runtime.home import Home

__all__ = ["journal", "rollback", "silent_versions", "status"]

LATEST = 6
"""So many decisions are part of the status."""


class NoWayBack(HomeostatError):
    """A rollback with nothing to go back to."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"model {model!r}: there is nothing to go back to; allowed: a model with a challenger "
            "on its way, or with a previous champion; see `homeostat status`"
        )


@click.command(cls=Command, short_help="Show what answers, what is on its way, and what is wrong.")
@click.argument("model", required=False)
def status(model: str | None) -> None:
    """Show which versions answer, what is on its way, which alerts are open, and what is fresh."""
    from homeostat.runtime.cli_output import moment

    here = session()
    with here.home() as (system, home):
        from homeostat.monitor.findings import open_alerts
        from homeostat.runtime.cli_home import decision_row
        from homeostat.runtime.lock import owner_of
        from homeostat.runtime.reading import present
        from homeostat.runtime.restart import restart_note

        if model is not None:
            system.deployment(model)
        now = present(home)
        decisions = home.journal.decisions()
        alerts = list(open_alerts(decisions).values())
        done = [d for d in decisions if d.action not in ("alert", "clear")]
        of_model = [d for d in done if model in (None, d.model)]
        body: dict[str, Any] = {
            "system": system.name,
            "home": str(here.folder),
            "present": moment(now),
            "written_by": owner_of(here.folder),
            "restart": restart_note(here.folder),
            "models": _models(system, decisions, model),
            "silent": silent_versions(system, home, model),
            "sources": _sources(system, home, now),
            "alerts": [
                {"since": moment(a.at), "alert": a.evidence.get("key", a.model), "found": a.reason}
                for a in alerts
                if model in (None, a.model)
            ],
            "decisions": [decision_row(decision) for decision in of_model[-LATEST:]],
        }
    here.answer(body, lambda to: _show_status(to, body))


def _models(
    system: System, decisions: Sequence[Decision], wanted: str | None
) -> list[dict[str, Any]]:
    from homeostat.deploy.state import RolloutState, replayed
    from homeostat.runtime.cli_output import moment

    states = replayed(decisions)
    rows = []
    for deployment in system.deployments:
        name = deployment.model.name
        if wanted not in (None, name):
            continue
        state = states.get(name, RolloutState())
        rows.append(
            {
                "model": name,
                "champion": state.champion,
                "previous": state.previous,
                "challenger": state.challenger,
                "stage": state.stage.replace("_", " "),
                "share": state.share if state.rolling else None,
                "since": moment(state.since or None),
                "trained": moment(state.trained),
            }
        )
    return rows


def silent_versions(system: System, home: Home, wanted: str | None) -> list[dict[str, Any]]:
    """Return the versions in service that answer nothing, with the reason."""
    from homeostat.runtime.applying import serving
    from homeostat.runtime.plan import applied, plan
    from homeostat.runtime.restart import given_up_beside
    from homeostat.runtime.service_health import problems, silent

    served = [one for one in serving(home, system) if wanted in (None, one.model)]
    if plan(applied(home.folder), system):  # what this file would do is `homeostat plan`'s to say
        served = [one for one in served if one.bound is not None]
    why = problems(home, served)
    for one in served:
        if one.role == "champion" and one.name not in why:
            number = silent(home.predictions, one.model, one.version)
            if number:
                why[one.name] = f"it gave none of the last {number} answers; its fallbacks did"
    answering = given_up_beside(home.folder)
    return [
        {
            "version": one.name,
            "role": one.role,
            "answers_nothing": why[one.name],
            "given_up": one.given_up,
            "until_restart": one.name in answering,
        }
        for one in served
        if one.name in why
    ]


def _sources(system: System, home: Home, now: Micros) -> list[dict[str, Any]]:
    from homeostat.core.durations import format_duration
    from homeostat.declare.monitors import Freshness
    from homeostat.features.folded import folded_offset
    from homeostat.runtime.cli_output import moment
    from homeostat.runtime.feed_health import feed_states

    within = {m.source.name: m.within_us for m in system.monitors if isinstance(m, Freshness)}
    letters, feeds = home.letters.counts("open"), feed_states(home.folder)
    rows = []
    for source in system.sources:
        name, end = source.name, home.log.end(source.name)
        with home.store.reader() as reader:
            folded = folded_offset(reader, name)
        heard = None
        if folded >= 0:
            heard = int(home.log.read(name, folded - 1, 1).known[-1])
        limit = within.get(name)
        silent = limit is not None and (heard is None or now - heard > limit)
        rows.append(
            {
                "source": name,
                "records": end.next_offset,
                "waiting": end.next_offset - folded - 1,
                "dead_letters": sum(n for (s, _), n in letters.items() if s == name),
                "last_heard": moment(heard),
                "fresh_within": None if limit is None else format_duration(limit),
                "freshness": "" if limit is None else "silent" if silent else "fresh",
                "feed": feeds[name].told or "well" if name in feeds else "",
            }
        )
    return rows


def _show_status(to: Console, body: dict[str, Any]) -> None:
    from rich.text import Text

    from homeostat.runtime.cli_home import ACTIONS
    from homeostat.runtime.cli_output import table

    owner = body["written_by"]
    line = Text.assemble((body["system"], "bold"), f" in {body['home']}, ")
    line.append(f"{body['present']:%Y-%m-%d %H:%M} UTC")
    line.append(f", {owner} runs it" if owner else ", nobody runs it", style="" if owner else "dim")
    to.print(line)
    if body["restart"]:
        to.print(body["restart"], style="yellow", soft_wrap=True)
    to.print()
    stages = {"shadow": "yellow", "canary": "yellow", "blue green": "yellow", "training": "blue"}
    table(to, body["models"], styles={"stage": stages})
    for one in body["silent"]:
        role = f"{one['role']}, given up" if one["given_up"] else one["role"]
        when = " after the next start, and answers until then" if one["until_restart"] else ""
        words = f"{one['version']} ({role}) answers nothing{when}: {one['answers_nothing']}"
        to.print(Text(words, "bold red"), soft_wrap=True)
    to.print()
    rows = [{k: v for k, v in row.items() if k != "feed"} for row in body["sources"]]
    table(to, rows, styles={"freshness": {"silent": "bold red", "fresh": "green"}})
    for row in body["sources"]:
        if row["feed"] not in ("", "well"):
            to.print(Text(f"feed of {row['source']}: {row['feed']}", "bold red"), soft_wrap=True)
    to.print()
    if body["alerts"]:
        table(to, body["alerts"], wide=("found",))
    else:
        to.print("no open alerts", style="green")
    if body["decisions"]:
        to.print()
        table(to, body["decisions"], wide=("reason",), styles={"action": ACTIONS})


@click.command(
    cls=Command, short_help="Withdraw the challenger, or go back to the champion before."
)
@click.argument("model")
@click.option("--reason", default="asked for by hand", help="Why, for the journal.")
def rollback(model: str, reason: str) -> None:
    """Withdraw the challenger of MODEL; with none on its way, go back to the champion before.

    Where a process runs the home, it is that process that carries it out, at once.
    """
    here = session()
    with here.home() as (system, _):
        system.deployment(model)
    from homeostat.runtime.cli_home import by_hand, show_decisions

    made = by_hand(here, "rollback", model, reason)
    if not made:
        raise NoWayBack(model)
    back = made[-1].evidence["back_to"]

    def show(to: Console) -> None:
        show_decisions(to, made)
        to.print(f"version {back} answers", style="green")

    here.answer(made[-1].as_json(), show)


@click.command(cls=Command, short_help="Show every decision with its reason.")
@click.option("--since", type=INSTANT, help="Decisions at this instant or later.")
@click.option("--model", help="Of this model, or other subject, only.")
@click.option("--action", help="Of this kind only: train, promote, rollback, alert ...")
@click.option("--evidence", is_flag=True, help="With the numbers each was decided on.")
def journal(since: Micros | None, model: str | None, action: str | None, evidence: bool) -> None:
    """Show every decision, with its reason, oldest first."""
    from homeostat.core.decisions import ACTIONS as KNOWN
    from homeostat.core.errors import UnknownName

    if action is not None and action not in KNOWN:
        raise UnknownName("action", action, KNOWN, "journal")
    here = session()
    with here.home() as (_, home):
        found = [
            decision
            for decision in home.journal.decisions()
            if decision.at >= (since or 0)
            and model in (None, decision.model)
            and action in (None, decision.action)
        ]
        digest = home.journal.hash()

    def show(to: Console) -> None:
        from homeostat.runtime.cli_home import show_decisions

        if not evidence:
            show_decisions(to, found)
        else:
            for decision in found:
                show_decisions(to, [decision])
                _show_evidence(to, decision)
        to.print(f"{len(found)} decisions; hash of the journal {digest or 'none'}", style="dim")

    here.answer({"decisions": [d.as_json() for d in found], "hash": digest}, show)


def _show_evidence(to: Console, decision: Decision) -> None:
    import json

    text = json.dumps(decision.evidence, indent=2, ensure_ascii=False)
    to.print("\n".join(f"    {line}" for line in text.splitlines()), style="dim")
