"""Commands on what was answered: one prediction done again, why it came out so, and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from homeostat.core.errors import HomeostatError
from homeostat.runtime.cli_shared import FOUND, Command, session

if TYPE_CHECKING:
    from rich.console import Console

    from homeostat.declare.system import System
    from homeostat.runtime.receipts import Explained, Receipt

__all__ = ["explain", "receipt", "report"]

SECRET = "***"


@click.command(cls=Command, short_help="Do one prediction again, bit for bit.")
@click.argument("prediction_id")
@click.option("--reveal", is_flag=True, help="Show fields that are tagged Personal.")
@click.pass_context
def receipt(context: click.Context, prediction_id: str, reveal: bool) -> None:
    """Do one prediction again from the log: features, score, and why that version answered.

    Exit status: 0 if everything comes out to the same bits, 3 if not.
    """
    here = session()
    with here.home() as (system, home):
        from homeostat.runtime.reading import Reading
        from homeostat.runtime.receipts import receipt as made_again

        found = made_again(system, home, prediction_id, Reading(system, home).events)
    hidden = set() if reveal else _hidden(system, found.logged["model"])
    logged = _logged(found.logged, hidden)
    features = {n: SECRET if n in hidden else v for n, v in found.features.items()}
    reasons = [_reason(reason, hidden) for reason in found.reasons]
    body = {
        "holds": found.holds,
        "logged": logged,
        "features": features,
        "score_again": found.score_again,
        "values_compared": found.audit.compared,
        "values_different": found.audit.different,
        "differing": found.audit.differing,
        "package_hash": found.package_hash,
        "promotion": None if found.promotion is None else found.promotion.as_json(),
        "reasons": reasons,
    }
    here.answer(body, lambda to: _show_receipt(to, found, logged, features, reasons))
    context.exit(0 if found.holds else FOUND)


def _hidden(system: System, model: str) -> set[str]:
    schema = system.model(model).label.predicts.schema
    return {field.name for field in schema.fields if field.is_personal}


def _logged(logged: Any, hidden: set[str]) -> dict[str, Any]:
    request = json.loads(logged["request"])
    shown = {k: SECRET if k in hidden and v is not None else v for k, v in request.items()}
    return {**logged, "request": shown}


def _reason(reason: Any, hidden: set[str]) -> dict[str, Any]:
    return {
        "feature": reason.feature,
        "value": SECRET if reason.feature in hidden else reason.value,
        "contribution": reason.contribution,
        "direction": reason.direction,
    }


def _show_receipt(
    to: Console,
    found: Receipt,
    logged: dict[str, Any],
    features: dict[str, Any],
    reasons: list[dict[str, Any]],
) -> None:
    from rich.text import Text

    from homeostat.core.clock import from_micros
    from homeostat.runtime.cli_output import cell, table

    _show_answer(to, logged)
    checked, again = found.audit, found.score_again
    same = checked.different == 0
    told = (
        f"features: {checked.compared} values computed again from the lake, "
        f"{checked.different or 'none'} of them different"
        if checked.compared
        else "features: none were logged, so there is nothing to compare"
    )
    to.print(told, style="green" if same else "bold red")
    if again is not None:
        equal = again == logged["score"]
        words = "the same bits" if equal else f"not the {logged['score']!r} that was answered"
        to.print(f"score: {again!r}, {words}", style="green" if equal else "bold red")
    if found.package_hash is not None:
        to.print(f"package: {found.package_hash}")
    if found.promotion is not None:
        chosen = found.promotion
        when = f"{from_micros(chosen.at):%Y-%m-%d %H:%M}"
        to.print(f"in service: {chosen.action} at {when}: {chosen.reason}")
    for d in checked.differing:
        to.print(Text(f"  {d.feature}: {d.logged!r} logged, {d.recomputed!r} now", "bold red"))
    for cause, evidence in dict.fromkeys((d.cause, d.evidence) for d in checked.differing):
        to.print(Text(f"  {cause.replace('_', ' ')}: {evidence}", "red"), soft_wrap=True)
    to.print()
    why = {reason["feature"]: reason["contribution"] for reason in reasons}
    table(
        to,
        [
            {
                "feature": name,
                "value": cell(value, piped=not to.is_terminal),
                "contribution": why.get(name),
            }
            for name, value in features.items()
        ],
    )


def _show_answer(to: Console, logged: dict[str, Any]) -> None:
    version = logged["version"]
    who = "the default score" if version is None else f"version {version} ({logged['arm']})"
    side = "at or above" if logged["decision"] else "below"
    to.print(
        f"{logged['model']}, request {logged['request_id']}, "
        f"{logged['at']:%Y-%m-%d %H:%M:%S} UTC, answered by {who}",
        style="bold",
        soft_wrap=True,
    )
    to.print(
        f"score {logged['score']:.6g}, {side} the threshold {logged['threshold']:.6g}: "
        f"{'yes' if logged['decision'] else 'no'}",
        soft_wrap=True,
    )
    if logged["degraded"]:
        to.print(f"degraded: {logged['degraded']}", style="yellow")


@click.command(cls=Command, short_help="Show what moved the score of one prediction.")
@click.argument("prediction_id")
@click.option("--reveal", is_flag=True, help="Show fields that are tagged Personal.")
def explain(prediction_id: str, reveal: bool) -> None:
    """Show which features moved one prediction's score, and how much."""
    here = session()
    with here.home() as (system, home):
        from homeostat.runtime.receipts import explain as explained

        found = explained(system, home, prediction_id)
    hidden = set() if reveal else _hidden(system, found.logged["model"])
    logged = _logged(found.logged, hidden)
    reasons = [_reason(reason, hidden) for reason in found.reasons]
    body = {
        "prediction_id": prediction_id, "model": logged["model"], "version": logged["version"],
        "score": logged["score"], "base": found.base, "reasons": reasons,
    }  # fmt: skip
    here.answer(body, lambda to: _show_explained(to, found, logged, reasons))


def _show_explained(
    to: Console, found: Explained, logged: dict[str, Any], reasons: list[dict[str, Any]]
) -> None:
    from homeostat.runtime.cli_output import cell, table

    _show_answer(to, logged)
    if found.base is None:
        to.print(
            "no contributions: a fallback answered, its features were missing, the estimator has "
            "none that are exact, or the model declares explain=False",
            style="dim",
        )
        return
    to.print()
    piped = not to.is_terminal
    table(
        to,
        [{**reason, "value": cell(reason["value"], piped=piped)} for reason in reasons],
        styles={"direction": {"raises": "red", "lowers": "blue"}},
    )
    to.print(
        f"contributions are in log-odds; without any feature they are {found.base:.4g}",
        style="dim",
        soft_wrap=True,
    )


class NothingToReport(HomeostatError):
    """A home without a deployed model, or that has not lived yet."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"report: {found}; allowed: a home in which a deployed model has answered; run "
            "`homeostat replay` or `homeostat run` first"
        )


@click.command(cls=Command, short_help="Write a page on what the home has lived through.")
@click.option("--out", default="report.html", show_default=True, help="The page to write.",
              type=click.Path(dir_okay=False, writable=True, path_type=Path))  # fmt: skip
@click.option("--zone", default="UTC", show_default=True, help="Whose calendar gives the months.")
def report(out: Path, zone: str) -> None:
    """Write a page on what the home has lived through: quality, drift, decisions, latency.

    Every prediction is audited on the way, so this takes a while on a large home.
    """
    import zoneinfo

    if zone not in zoneinfo.available_timezones():
        raise click.BadParameter(f"{zone!r}; write it as Europe/Berlin", param_hint="--zone")
    here = session()
    with here.home() as (system, home):
        from homeostat.console.report import render
        from homeostat.runtime.reading import present
        from homeostat.runtime.replay import Schedule
        from homeostat.runtime.summary import summarize
        from homeostat.runtime.timeline import Timeline

        timeline = Timeline.load(here.folder)
        if not system.deployments or timeline is None:
            raise NothingToReport("no deployment" if timeline else "it has not lived yet")
        end = max(present(home), timeline.start + 1)
        schedule = Schedule(timeline.start, end, timeline.every)
        with here.console(notes=True).status("auditing every prediction"):
            summary = summarize(system, home, schedule, zone=zone)
    out.write_text(render(summary), encoding="utf-8")

    def show(to: Console) -> None:
        from homeostat.console.terminal import print_summary

        print_summary(summary, to)
        to.print(f"{out}", style="cyan")

    here.answer({**summary, "written": str(out)}, show)
