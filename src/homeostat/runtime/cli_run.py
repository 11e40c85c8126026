"""Runs a system: events folded, requests answered, models kept in shape."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from homeostat.runtime.cli_shared import Command, Session, session
from homeostat.runtime.noted import Noted

if TYPE_CHECKING:
    from homeostat.declare.kafka import Kafka
    from homeostat.declare.models import Model
    from homeostat.declare.schema import Field
    from homeostat.runtime.app import App
    from homeostat.runtime.consuming import Consuming
    from homeostat.runtime.feeding import Feeding
    from homeostat.runtime.live import Ticked

__all__ = ["example_request", "run"]

PAUSE_S = 0.05
"""The rest between two looks at the log that found nothing."""

PATIENCE_S = 1.0
"""A stop that takes longer than this says why."""

CAUGHT_UP = 1_000
"""More records than this that waited in the log are worth a word."""

AGAIN_S = 600.0
"""A failure that goes on is told of again after so long."""

WAITING_THREADS = 32
"""So many calls may wait for the disk at once, and share a sync."""

PLAUSIBLE: dict[str, object] = {
    "string": "example", "integer": 1, "float": 1.0, "boolean": False,
    "timestamp": "2024-06-14T12:00:00Z",
}  # fmt: skip


@click.command(
    cls=Command, short_help="Answer over HTTP, take in events, watch, retrain, roll out."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The interface to listen on.")
@click.option("--port", default=8000, show_default=True, help="The port; 0 for any free one.")
@click.option(
    "--clock",
    type=click.Choice(("machine", "replay")),
    default="machine",
    show_default=True,
    help="Whose present: replay goes on from where one ended.",
)
def run(host: str, port: int, clock: str) -> None:
    """Run the system: take in events, answer over HTTP, watch, retrain and roll out.

    Its present is the machine's clock. A home that a replay filled lives on by that from its first
    run on, and what waits in its log is folded at once; --clock replay goes on from the instant
    that the replay has come to instead, if nothing that became known later waits.

    Ends on Ctrl-C or SIGTERM, after it has answered what it received.
    """
    from homeostat.adapters.feast_server import FeastServer
    from homeostat.core.allocators import bound_arenas
    from homeostat.runtime.one_present import require_one_present
    from homeostat.runtime.profile import load_profile
    from homeostat.runtime.training_process import TrainingProcess
    from homeostat.runtime.upkeep_process import UpkeepProcess
    from homeostat.serve.http import Application, Limits
    from homeostat.serve.server import serve

    bound_arenas()
    here = session()
    with here.app(new=True, runs=True, live=clock == "machine") as app:
        require_one_present(app.home, app.timeline)
        kafka = load_profile(here.path, app.system).kafka
        topics = None if kafka is None else _topics(kafka, app)
        _catch_up(here, app)
        limits = Limits()
        if app.live.service.waits:
            limits = Limits(threads=WAITING_THREADS, waits=True)
        application = Application(
            app.system, app.live.service, app.live.metrics, app.live.route, limits
        )
        for mount in FeastServer(app.system, app.home.store, app.clock).mounts():
            application.mount(mount)
        stop = Event()
        trainer = TrainingProcess(app.system, here.path, here.folder)
        apart = UpkeepProcess(app.system, here.path, here.folder)
        loop = Thread(
            target=app.live.run,
            args=(stop, PAUSE_S, _teller(here, app), trainer, apart),
            name="homeostat-loop",
        )

        feeding = _feeding(app)

        def started(address: str) -> None:
            feeding.start()
            _announce(here, app, address)
            loop.start()
            if topics is not None:
                topics.start()

        try:
            serve(application, host, port, started)
        finally:
            if topics is not None:
                topics.stop()
            stop.set()
            feeding.stop()
            if loop.ident is not None:
                loop.join(PATIENCE_S)
                if loop.is_alive():
                    here.note("finishing the step that is under way")
                loop.join()
    here.note("stopped; everything answered is in the home")


def _feeding(app: App) -> Feeding:
    from homeostat.runtime.feeding import Feeding

    return Feeding(app.system, app.home, app.clock, _say, app.live.feeds.fares)


def _say(words: str) -> None:
    click.echo(words, err=True)


def _topics(kafka: Kafka, app: App) -> Consuming:
    from homeostat.runtime.consuming import Consuming

    return Consuming(kafka, app.home, app.clock, _say, app.live.feeds.fares)


def _catch_up(here: Session, app: App) -> None:
    """Fold what waits in the log, and say how much is left while it takes long."""
    waiting = sum(app.live.waiting().values())
    with here.console(notes=True).status("reading what waits in the log") as status:

        def told(folded: int) -> None:
            status.update(f"reading what waits in the log: {folded:,} of {waiting:,} records")

        app.live.drain(told)
        _warm(app)
    if waiting > CAUGHT_UP:
        here.note(f"folded {waiting:,} records that waited in the log")


def _warm(app: App) -> None:
    """Score and explain one row by every model, so that the first request finds all loaded."""
    import numpy as np

    from homeostat.features.assemble import Features
    from homeostat.train.servable import ExplanationRefused, Servable

    app.live.service.warm()
    for deployment in app.system.deployments:
        champion = app.live.route(deployment.model.name).champion
        servable = None if champion is None else champion.servable
        explain = deployment.model.requirements.explain
        if isinstance(servable, Servable) and explain is not False:
            missing = np.full((1, len(servable.names)), np.nan)
            nothing = Features(missing, {name: [None] for name in servable.package.encodings})
            with suppress(ExplanationRefused):
                servable.contributions(nothing)


def _teller(here: Session, app: App) -> Callable[[Ticked | Exception], None]:
    """Return what tells of decisions, and of each kind of failure now and then."""
    said: dict[str, float] = {}
    noted = Noted()

    def told(done: Ticked | Exception) -> None:
        if isinstance(done, Exception):
            words, now = f"{type(done).__name__}: {done}", monotonic()
            if now - said.get(words, -AGAIN_S) >= AGAIN_S:
                said[words] = now
                click.echo(f"the loop failed, and will try again: {words}", err=True)
            return
        for line in noted.lines(app.live.service.ready().notes):
            click.echo(line, err=True)
        for decision in done.decisions:
            if here.json:
                click.echo(json.dumps(decision.as_json(), ensure_ascii=False))
            else:
                _tell(here, decision)

    return told


def _tell(here: Session, decision: Any) -> None:
    from rich.text import Text

    from homeostat.core.clock import from_micros
    from homeostat.runtime.cli_home import ACTIONS

    action = decision.action.replace("_", " ")
    version = "" if decision.version is None else f" v{decision.version}"
    here.console().print(
        Text.assemble(
            (f"{from_micros(decision.at):%Y-%m-%d %H:%M} ", "dim"),
            (action, ACTIONS.get(action, "")),
            f" {decision.model}{version}: {decision.reason}",
        ),
        soft_wrap=True,
    )


def _announce(here: Session, app: App, address: str) -> None:
    clock = app.timeline.describe()
    curl = None
    if app.system.deployments:
        model = app.system.deployments[0].model
        request = shlex.quote(json.dumps(example_request(app, model), ensure_ascii=False))
        asked = "" if model.requirements.explain is False else "?reasons=true"
        curl = f"curl -s '{address}/predict/{model.name}{asked}' -d {request}"
    champions = {d.model.name: app.state(d.model.name).champion for d in app.system.deployments}
    if here.json:
        body = {
            "address": address, "system": app.system.name, "home": str(here.folder),
            "clock": clock, "models": champions, "example": curl,
        }  # fmt: skip
        click.echo(json.dumps(body, ensure_ascii=False))
        return
    to = here.console()
    to.print(f"{app.system.name} answers on {address}", style="bold green", soft_wrap=True)
    for name, champion in champions.items():
        words = f"version {champion} answers" if champion else "no version yet: the default score"
        to.print(f"  {name}: {words}", soft_wrap=True)
    if clock:
        to.print(f"  clock: {clock}", soft_wrap=True)
    if curl:
        to.print(f"\n{curl}\n", style="cyan", soft_wrap=True)
    to.print("Ctrl-C stops it.", style="dim")


def example_request(app: App, model: Model) -> dict[str, Any]:
    """Return a request as a newcomer may send it: the last one that was answered, or heard of.

    Its clocks and its id are left out where they may be; personal fields have made-up values.
    """
    needed = app.live.service.needs(model.name)
    source = model.label.predicts
    left_out = {source.event_id, source.event_time, source.known_time} - set(needed)
    last = _last_request(app, model)
    return {
        field.name: _plausible(field, last.get(field.name), needed.get(field.name, field.nullable))
        for field in source.schema.fields
        if field.name not in left_out and (field.name in needed or last.get(field.name) is not None)
    }


def _last_request(app: App, model: Model) -> dict[str, Any]:
    from homeostat.runtime.cli_output import as_json

    frame = next((f for f in app.home.predictions.newest_first(model.name) if f.height), None)
    if frame is not None:
        asked: dict[str, Any] = json.loads(frame["request"][-1])
        return asked
    events = app.home.lake.read(model.label.predicts.name)
    heard: dict[str, Any] = as_json(events.row(-1, named=True)) if events.height else {}
    return heard


def _plausible(field: Field, last: object, nullable: bool) -> object:
    if last is not None and not field.is_personal:
        return last
    return None if nullable and not field.is_personal else PLAUSIBLE[field.kind]
