"""Commands on the models: train, list, judge and rebuild."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from homeostat.core.durations import format_duration
from homeostat.core.errors import HomeostatError
from homeostat.runtime.cli_shared import FOUND, Command, session

if TYPE_CHECKING:
    from rich.console import Console

    from homeostat.declare.system import System
    from homeostat.deploy.state import RolloutState
    from homeostat.runtime.home import Home
    from homeostat.train.package import Package
    from homeostat.train.rebuild import Rebuilt

__all__ = ["evaluate", "models", "rebuild", "train"]

METRICS = (
    "auc", "cost", "calibration_error", "relative_calibration_error", "precision", "recall",
    "log_loss",
)  # fmt: skip


@click.command(cls=Command, short_help="Train a model now and begin its rollout.")
@click.argument("model")
@click.pass_context
def train(context: click.Context, model: str) -> None:
    """Train MODEL now, judge it at its gates, and begin its rollout.

    Exit status: 0, or 3 if it was rejected.
    """
    from homeostat.runtime.cli_home import by_hand, show_decisions, standing

    here = session()
    with here.home() as (system, home):
        system.deployment(model)
        state = standing(home, model)
    if state.rolling:
        raise RolloutUnderWay(model, state)
    with here.console(notes=True).status(f"training {model}"):
        made = by_hand(here, "train", model, "asked for by hand")
    here.answer([d.as_json() for d in made], lambda to: show_decisions(to, made))
    outcome = [d.action for d in made if d.action not in ("alert", "clear")][-1]
    context.exit(FOUND if outcome == "reject" else 0)


class RolloutUnderWay(HomeostatError):
    """A model that is trained while a challenger is on its way."""

    def __init__(self, model: str, state: RolloutState) -> None:
        super().__init__(
            f"model {model!r}: version {state.challenger} is in {state.stage.replace('_', '-')}; "
            "allowed: one challenger at a time; wait for it, or withdraw it with "
            f"`homeostat rollback {model}`"
        )


@click.command(cls=Command, short_help="List the versions in the registry.")
@click.argument("model", required=False)
def models(model: str | None) -> None:
    """List the versions in the registry: what they are, where they stand, how good they were."""
    here = session()
    with here.home() as (system, home):
        if model is not None:
            system.model(model)
        rows = _versions(system, home, model)

    def show(to: Console) -> None:
        from homeostat.runtime.cli_output import table

        if not rows:
            to.print("no version is registered; `homeostat run` or `replay` trains the first")
        shown = [{**row, "hash": str(row["hash"])[:12]} for row in rows]
        table(to, shown, wide=("stands",), styles={"stands": {"champion": "bold green"}})

    here.answer(rows, show)


def _versions(system: System, home: Home, model: str | None) -> list[dict[str, Any]]:
    from homeostat.deploy.state import RolloutState, replayed
    from homeostat.runtime.cli_output import moment

    states = replayed(home.journal.decisions())
    rows = []
    for found in home.registry.list(model):
        stands = _stands(states.get(found.model, RolloutState()), found.version)
        row: dict[str, Any] = {
            "model": found.model,
            "version": found.version,
            "stands": stands,
            "trained": moment(found.at),
            "auc": None,
            "cost": None,
            "rows": None,
            "threshold": None,
            "between": None,
            "hash": found.hash,
        }
        try:
            package = home.registry.load(found.model, found.version)
            test, chosen = package.metrics["test"], package.metrics.get("threshold")
        except HomeostatError:
            row["stands"] = f"{stands}, damaged"
        else:
            row |= {name: test["metrics"][name] for name in ("auc", "cost")}
            row["rows"], row["threshold"] = test["rows"], package.threshold
            if chosen is not None:  # a package of an earlier release has no interval
                row["between"] = f"{chosen['low']:.4g} .. {chosen['high']:.4g}"
        rows.append(row)
    return rows


def _stands(state: RolloutState, version: int) -> str:
    if version == state.champion:
        return "champion"
    if version == state.challenger:
        share = f" at {state.share:.0%}" if state.share else ""
        return f"{state.stage.replace('_', '-')}{share}"
    if version == state.previous:
        return "previous"
    return "withdrawn" if version in state.withdrawn else ""


@click.command(cls=Command, short_help="Judge the answers by the labels that came since.")
@click.argument("model")
@click.option("--by", type=click.Choice(["day", "week", "month"]), default="week",
              show_default=True, help="The periods.")  # fmt: skip
def evaluate(model: str, by: str) -> None:
    """Judge the answers MODEL gave to users, by the labels that have become final since."""
    here = session()
    with here.home() as (system, home):
        from homeostat.evaluate.metrics import Costs
        from homeostat.monitor.labels import matured
        from homeostat.monitor.quality import logged_metrics, quality_by
        from homeostat.runtime.cli_home import predictions_of
        from homeostat.runtime.reading import Reading, present
        from homeostat.runtime.record import JUDGED

        declared = system.deployment(model).model
        asked = predictions_of(home, declared, columns=JUDGED)
        outcomes = Reading(system, home).events(declared.label.outcome.name)
        final = matured(asked, outcomes, declared.label, present(home))
        costs = Costs.of(declared.requirements)
        rows = [
            {"period": p.period, "rows": p.rows, "positives": p.positives, **_picked(p.metrics)}
            for p in quality_by(by, final, costs)
        ]
        total = logged_metrics(final, costs) if final.height else None
    if total is not None:
        positives = int(final["label"].sum())
        rows.append(
            {"period": "all", "rows": final.height, "positives": positives, **_picked(total)}
        )
    waiting = asked.height - final.height
    body = {"model": model, "periods": rows, "labels_not_final": waiting}

    def show(to: Console) -> None:
        from homeostat.runtime.cli_output import table

        table(to, rows, styles={"period": {"all": "bold"}})
        if waiting or not rows:
            to.print(
                f"{waiting:,} predictions wait for their labels, which are final "
                f"{format_duration(declared.label.delay_us)} after the question",
                style="dim",
            )

    here.answer(body, show)


def _picked(metrics: Any) -> dict[str, float]:
    return {name: metrics[name] for name in METRICS}


@click.command(cls=Command, short_help="Prove a version by training it again from its lineage.")
@click.argument("version", metavar="MODEL@VERSION")
@click.pass_context
def rebuild(context: click.Context, version: str) -> None:
    """Train a version again from its lineage, and prove that the same model comes out.

    The lake is read at the versions that the training saw. Nothing is registered.
    Exit status: 0 for the same content hash, 3 for another.
    """
    name, _, number = version.rpartition("@")
    if not name or not number.isdigit():
        raise click.BadParameter(
            f"{version!r}; write it as late_order@2", param_hint="MODEL@VERSION"
        )
    here = session()
    with here.home() as (system, home):
        from homeostat.core.hashing import content_hash
        from homeostat.runtime.training import Trainer
        from homeostat.train.rebuild import rebuild as rebuilt

        model = system.model(name)
        package = home.registry.load(name, int(number))
        trainer = Trainer(system, home.lake, home.registry)
        with here.console(notes=True).status(f"training {version} again"):
            found = rebuilt(package, lambda lineage: trainer.again(model, lineage))
        redeclared = content_hash(model) != package.lineage.model
    body = {
        "model": name, "version": int(number), "same": found.is_same, "expected": found.expected,
        "found": found.found, "differing": found.differing, "libraries": found.libraries,
        "declared_otherwise": redeclared,
    }  # fmt: skip
    here.answer(body, lambda to: _show_rebuilt(to, version, package, found, redeclared))
    context.exit(0 if found.is_same else FOUND)


def _show_rebuilt(
    to: Console, version: str, package: Package, found: Rebuilt, redeclared: bool
) -> None:
    from homeostat.core.clock import from_micros

    if found.is_same:
        to.print(f"{version} came out the same: {found.found}", style="green")
    else:
        to.print(f"{version} came out different", style="bold red")
        to.print(f"expected {found.expected}\nfound    {found.found}")
        to.print(f"different: {', '.join(found.differing)}")
    if redeclared:
        to.print("its model is declared otherwise now than when it was trained", style="yellow")
    for name, (then, now) in found.libraries.items():
        to.print(f"{name} {then} then, {now} now", style="yellow")
    at = from_micros(package.lineage.at)
    to.print(f"trained as of {at:%Y-%m-%d %H:%M} UTC", style="dim")
    for table, number in package.lineage.tables.items():
        to.print(f"  {table} at version {number}", style="dim")
