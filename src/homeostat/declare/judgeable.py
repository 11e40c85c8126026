"""Quality monitors that nothing could ever judge, by what is declared alone.

A version is judged while it is champion, by its answers whose label is final. Retraining with
`every` replaces a champion on schedule, so a version's answers have a longest life; where a label
needs as long as that, no version in service ever has a final label, however many requests come and
however wide the window is. How many requests come is no declaration: windows that held too few are
warned of with counts of the home's events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

from homeostat.core.durations import Micros, format_duration
from homeostat.core.errors import DeclarationError
from homeostat.declare.deployments import BlueGreen, Canary, Deployment, Shadow
from homeostat.declare.models import METRICS
from homeostat.declare.monitors import Quality, Retrain

__all__ = ["longest_service", "never_judged"]


def never_judged(
    monitors: Sequence[object], deployments: Sequence[Deployment], retraining: Sequence[Retrain]
) -> Iterator[DeclarationError]:
    """Yield each quality monitor of which no instant can come at which it judges a label."""
    by_model = {deployment.model.name: deployment for deployment in deployments}
    renewed = {retrain.model.name: retrain for retrain in retraining}
    for monitor in monitors:
        if not isinstance(monitor, Quality):
            continue
        name, window = monitor.model.name, format_duration(monitor.window_us)
        where = f"quality of {name!r} ({monitor.metric} over {window})"
        if name not in by_model:
            yield DeclarationError(
                where,
                f"no deployment serves {name!r}, so it has no answers to judge",
                "models that are deployed",
                "add a Deployment of the model, or drop the monitor",
            )
            continue
        served = longest_service(by_model[name], renewed.get(name))
        delay = monitor.model.label.delay_us
        if served is not None and served <= delay:
            least = format_duration(delay + 1_000_000)
            yield DeclarationError(
                where,
                f"by retraining and rollout a version is replaced at most {format_duration(served)}"
                f" after its first answer, and labels are final only after {format_duration(delay)}"
                ": no version in service ever has a final label, in whatever window",
                f"a service longer than {format_duration(delay)}",
                f"write every='{least}' in Retrain, or a guard on a labelled metric, which holds a "
                "rollout until labels are final; or shorten the label's delay, or drop the monitor",
            )


def longest_service(deployment: Deployment, retrain: Retrain | None) -> Micros | None:
    """Return how long a version can answer before the next one replaces it, all going as declared.

    The first version answers from its training on, a later one from the end of its shadow; the next
    training is due `every` (or the cooldown) after its own, and its rollout ends in promotion. None
    is without bound: nothing is retrained by age, or a guard waits for final labels of the
    champion's time.
    """
    every = None if retrain is None else retrain.every_us
    if retrain is None or every is None or _waits_for_labels(deployment):
        return None
    spans = [_span(stage) for stage in deployment.rollout]
    hidden = takewhile(lambda stage: isinstance(stage, Shadow), deployment.rollout)
    unseen = sum(_span(stage) for stage in hidden)
    return sum(spans) + max(every, retrain.cooldown_us, sum(spans) - unseen)


def _span(stage: Shadow | Canary | BlueGreen) -> Micros:
    if isinstance(stage, Canary):
        return len(stage.shares) * stage.every_us
    return stage.span_us if isinstance(stage, Shadow) else stage.keep_us


def _waits_for_labels(deployment: Deployment) -> bool:
    """Return whether a step of the rollout lasts until labels of that step are final."""
    labelled = [guard for guard in deployment.guards if guard.signal in METRICS]
    return any(
        guard.within is None or not isinstance(stage, BlueGreen)
        for guard in labelled
        for stage in deployment.rollout
    )
