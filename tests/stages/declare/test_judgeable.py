"""A quality monitor that nothing could ever judge is refused; every other one is judged once.

The oracle runs the decisions of retraining and rollout hour by hour, with all going as declared,
and looks whether the champion ever has an answer whose label is final.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest

import homeostat as hs
from homeostat.core.decisions import Decision
from homeostat.core.errors import SystemInvalid
from homeostat.declare.mistakes import collecting
from homeostat.deploy.decide import Candidate, decide_candidate, decide_rollout
from homeostat.deploy.guards import ArmEvidence, RolloutEvidence
from homeostat.deploy.state import RolloutState, advance
from homeostat.retrain.decide import decide_retrain

HOUR = 3_600_000_000
GOOD = {"cost": 0.5, "mean_score": 0.5}


def judged_once(deployment: hs.Deployment, retrain: hs.Retrain, window: int) -> bool:
    """Whether the serving version ever has a final label, in hourly steps of one request each."""
    delay = deployment.model.label.delay_us
    answered: list[tuple[int, int | None]] = []
    state, versions = RolloutState(), 0
    for hour in range(150):
        now = hour * HOUR
        first = now - window - delay
        if any(v == state.champion and first <= at < now - delay for at, v in answered):
            return True
        while True:
            decision = None
            if state.rolling:
                known = 10**6 if state.since + delay < now else 0
                new, old = (
                    ArmEvidence(v or 0, 10**6, known, GOOD) for v in (versions, state.champion)
                )
                evidence = RolloutEvidence(new, old, way_back_ready=True)
                decision = decide_rollout(deployment, state, evidence, now)
            elif state.champion is None or decide_retrain(retrain, state, (), now):
                versions += 1
                state = advance(state, Decision(now, "fraud_model", "train", "due", None, {}))
                idle, good = replace(state, stage="idle"), Candidate(versions, True, "gates passed")
                decision = decide_candidate(deployment, idle, good, now)
            if decision is None:
                break
            state = advance(state, decision)
        answered += [(now, state.champion)] if state.stage != "blue_green" else []
        answered += [(now, state.challenger)] if state.stage in ("canary", "blue_green") else []
    return False


GUARDS = ((), (hs.Guard("mean_score", within=0.1),), (hs.Guard("cost", within=0.1),),
          (hs.Guard("cost", at_most=9.0),))  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    delay: int
    every: int
    cooldown: int
    rollout: tuple[Any, ...]
    guards: tuple[hs.Guard, ...] = ()
    window: int = 1


ON_THE_EDGE = [
    Drawn(delay, 2, 1, rollout)
    for rollout, longest in (
        ((hs.Shadow("7h"),), 9),
        ((hs.Canary((0.1, 0.5), every="4h"),), 16),
        ((hs.BlueGreen("4h"),), 8),
        ((hs.Shadow("3h"), hs.Canary((0.1,), every="4h")), 11),
    )
    for delay in (longest - 1, longest)
]


def drawn(seed: int) -> Drawn:
    draw = Random(seed)
    stages = [
        hs.Shadow(f"{draw.randint(1, 12)}h"),
        hs.Canary((0.1, 0.5)[: draw.randint(1, 2)], every=f"{draw.randint(1, 12)}h"),
        hs.BlueGreen(f"{draw.randint(1, 12)}h"),
    ]
    return Drawn(
        draw.randint(1, 45), draw.randint(1, 12), draw.randint(1, 12),
        tuple(draw.sample(stages, draw.randint(1, 3))), draw.choice(GUARDS), draw.randint(1, 20),
    )  # fmt: skip


def test_refused_is_what_no_instant_judges(world: Any) -> None:
    refused = 0
    for one in (*ON_THE_EDGE, *map(drawn, range(150))):
        model = replace(world.model, label=replace(world.label, delay=f"{one.delay}h"))
        deployment = replace(world.deployment, model=model, rollout=one.rollout, guards=one.guards)
        retrain = hs.Retrain(model, every=f"{one.every}h", cooldown=f"{one.cooldown}h")
        monitor = hs.Quality(model, "auc", worse_by=0.1, window=f"{one.window}h", rows=1)
        with collecting() as mistakes:
            replace(
                world.system, models=(model,), deployments=(deployment,), monitors=(monitor,),
                retraining=(retrain,),
            )  # fmt: skip
        assert bool(mistakes) != judged_once(deployment, retrain, one.window * HOUR), one
        refused += bool(mistakes)
    assert 30 < refused < 120


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w, m: {"deployments": ()}, "no deployment serves 'fraud_model'"),
        (
            lambda w, m: {
                "deployments": (replace(w.deployment, rollout=(hs.Shadow("2d"),), guards=()),),
                "retraining": (hs.Retrain(m, every="28d"),),
            },
            "replaced at most 30d after its first answer, and labels are final only after 30d",
        ),
    ],
)
def test_the_error_says_where_what_and_what_next(
    world: Any, change: Callable[[Any, Any], dict[str, Any]], said: str
) -> None:
    with pytest.raises(SystemInvalid, match="quality of 'fraud_model'") as refused:
        replace(world.system, **change(world, world.model))
    message = str(refused.value)
    assert said in message
    assert "auc over 14d" in message
    assert "allowed:" in message


def test_the_advice_of_the_error_works(world: Any) -> None:
    deployment = replace(world.deployment, rollout=(hs.Shadow("2d"),), guards=())
    retrain = hs.Retrain(world.model, every="28d")
    given: dict[str, Any] = {"deployments": (deployment,), "retraining": (retrain,)}
    with pytest.raises(SystemInvalid, match=r"every='30d1s'"):
        replace(world.system, **given)
    replace(world.system, **given | {"retraining": (replace(retrain, every="30d1s"),)})
    replace(world.system, **given | {"monitors": ()})
    guarded = replace(deployment, guards=(hs.Guard("cost", within=0.1),))
    replace(world.system, **given | {"deployments": (guarded,)})
