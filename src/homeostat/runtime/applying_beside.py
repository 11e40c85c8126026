"""Makes declarations hold while a process runs the home: filled beside its fold, then switched.

The command that asks has read the new `system.py` and judged it; the process that runs the home
gets the views as JSON, so no code of a file that has changed is run in it. It fills them in short
transactions between those of its fold, folds into them from then on, and writes down in one step
that the new declarations hold. It goes on serving and training by those it was started with; the
next start is by the new ones, and finds their state whole. Killed in between, nothing holds that
did not before, and what was filled is swept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from threading import Event, RLock
from typing import Any

from homeostat.core.decisions import Decision
from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import canonical_json
from homeostat.declare.system import System
from homeostat.declare.views import FeatureView
from homeostat.deploy.state import replayed
from homeostat.features.code import Code, CodeGone
from homeostat.features.fold import ViewFold
from homeostat.features.folded import folded_offset
from homeostat.features.keys import view_stem
from homeostat.features.manifest import view_of
from homeostat.runtime.applying import Applied, NotApplied, require_applicable
from homeostat.runtime.backfill import chunks
from homeostat.runtime.engine import Engine
from homeostat.runtime.filled import begin_filling, clear, filled_stems, mark_filled
from homeostat.runtime.giving_up import GivingUp, as_decisions
from homeostat.runtime.home import Home
from homeostat.runtime.in_service import in_roles
from homeostat.runtime.loop import Loop
from homeostat.runtime.observe import Now
from homeostat.runtime.plan import applied, applied_body, plan, record_body
from homeostat.runtime.restart import note_given_up

__all__ = ["NotBeside", "ServiceMoved", "apply_beside", "asked_of_the_process"]

SLICE = 10_000
"""Events that are folded at most in one transaction, while the process's own fold waits."""

NEAR = 5_000
"""So few events are folded together with the switch."""


class NotBeside(HomeostatError):
    """A change that a running process cannot take."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"apply beside a running process: {found}; allowed: changes of views, models and what "
            "is about them; stop the process, run `homeostat apply`, and start it again"
        )


class ServiceMoved(HomeostatError):
    """A version came into service after the change was judged by those that were."""

    retryable = True

    def __init__(self, names: list[str]) -> None:
        super().__init__(
            f"apply beside a running process: {', '.join(names)} came into service after the "
            "change was judged; allowed: a change judged by all versions in service; run "
            "`homeostat apply` again"
        )


def asked_of_the_process(home: Home, system: System, giving_up: GivingUp) -> tuple[Applied, str]:
    """Return what will hold, and the order for the process that runs the home.

    Raises:
        NotBeside: a source changes: the process takes events in by the sources it was started with.
        SchemaIncompatible: a source's new schema would break readers.
        ServiceLost: a version in service cannot be given its features.
    """
    changes = plan(applied(home.folder), system)
    states = replayed(home.journal.decisions())
    served = require_applicable(home, system, giving_up.versions)
    moved = [change for change in changes if change.part == "sources"]
    if moved:
        raise NotBeside(f"{moved[0].subject} is {moved[0].kind}")
    given_up = as_decisions(home, served, giving_up, system.hash)
    body = {
        "views": [canonical_json(v) for v in system.views],
        "applied": applied_body(system),
        "given_up": [decision.as_json() for decision in given_up],
        "judged": {name: list(in_roles(state)) for name, state in states.items()},
    }
    return Applied(changes, given_up=given_up), json.dumps(body)


def apply_beside(
    home: Home, engine: Engine, lock: RLock, stopped: Event, order: str, now: Now
) -> list[Decision]:
    """Fill what the order needs, and write down that its declarations hold.

    From its begin on the loop rests from training, for what it trains is judged by nobody; until
    the process is started again, if then other declarations hold than it has.

    Args:
        home: the home that this process runs.
        engine: its fold; it follows the new views from the switch on.
        lock: held by the fold while it folds.
        stopped: set when the process ends: what is left is then not done.
        order: what `asked_of_the_process` gave.
        now: the present instant.

    Returns:
        The decisions on versions that are given up.

    Raises:
        ServiceMoved: a version is in service that was not when the order was made.
    """
    asked: dict[str, Any] = json.loads(order)
    if applied(home.folder) is None:
        raise NotApplied(home.system.name, ["nothing is applied yet"])
    engine.loop.rest(True)
    try:
        _require_judged(engine.system, engine.loop, asked["judged"])
        return _apply(home, engine, lock, stopped, asked, now)
    finally:
        engine.loop.rest(bool(plan(applied(home.folder), engine.system)))


def _require_judged(system: System, loop: Loop, judged: Mapping[str, list[int]]) -> None:
    models = [deployment.model.name for deployment in system.deployments]
    came = [
        f"{name}@{version}"
        for name in models
        for version in in_roles(loop.state(name))
        if version not in judged.get(name, ())
    ]
    if came:
        raise ServiceMoved(came)


def _apply(
    home: Home,
    engine: Engine,
    lock: RLock,
    stopped: Event,
    asked: Mapping[str, Any],
    now: Now,
) -> list[Decision]:
    code = Code.of(engine.system)
    try:
        views = tuple(view_of(json.loads(body), code) for body in asked["views"])
    except CodeGone as gone:
        raise NotBeside(gone.why) from gone
    with home.store.reader() as reader:
        there = filled_stems(reader)
    for view in views:
        if view_stem(view) not in there:
            _fill(home, engine, lock, stopped, view)
    given_up = [Decision(**body) for body in asked["given_up"]]
    for decision in given_up:
        engine.loop.give_up(decision, now)
    answering = [
        f"{d.model}@{d.version}" for d in given_up
        if d.version == engine.loop.state(d.model).champion
        and engine.loop.arms.loads(d.model, d.version)
    ]  # fmt: skip
    if answering:
        note_given_up(home.folder, answering)
    with lock:
        record_body(home.folder, asked["applied"])
        engine.precede(views)
    return given_up


def _fill(home: Home, engine: Engine, lock: RLock, stopped: Event, view: FeatureView) -> None:
    source, fold, done = view.source.name, ViewFold(view), -1
    with lock, home.store.writer() as writer:
        clear(writer, view)
        begin_filling(writer, view_stem(view))
        engine.filling.add(view_stem(view))
    while True:
        with home.store.reader() as reader:
            folded = folded_offset(reader, source)
        if folded - done <= NEAR:
            break
        engine.worker.lake.flush()
        _fold(home, lock, stopped, fold, (done, folded))
        done = folded
    with lock:  # nothing is folded meanwhile, so these are the last ones
        engine.worker.lake.flush()
        with home.store.writer() as writer:
            for events in chunks(home.lake, view, folded_offset(writer, source), done):
                fold.apply(writer, fold.prepare(events), 0, events.height)
            mark_filled(writer, view_stem(view))
        engine.filling.discard(view_stem(view))
        engine.precede((*engine.ahead, view))


def _fold(home: Home, lock: RLock, stopped: Event, fold: ViewFold, span: tuple[int, int]) -> None:
    """Fold the events of the lake after one offset, up to another."""
    after, upto = span
    for events in chunks(home.lake, fold.view, upto, after):
        prepared = fold.prepare(events)
        for begin in range(0, events.height, SLICE):
            if stopped.is_set():
                raise NotBeside("the process ends")
            with lock, home.store.writer() as writer:
                fold.apply(writer, prepared, begin, min(begin + SLICE, events.height))
