"""How far back a system looks into the events of a source, now and in every later moment."""

from __future__ import annotations

from dataclasses import dataclass

from homeostat.core.durations import Micros
from homeostat.declare.monitors import Quality
from homeostat.declare.system import System

__all__ = ["Need", "needed_span"]


@dataclass(frozen=True, slots=True)
class Need:
    """A span before now, in microseconds; None for the whole history. `why` is who needs it."""

    span: Micros | None
    why: str


def needed_span(system: System, source: str) -> Need:
    """Return how long after an event became known something may still ask for it.

    Features look back by their windows, late events and open labels are waited for, and monitors
    of quality join the outcomes of the predictions whose labels became final in their windows. What
    trainings learn from is not counted: how much history they have is the policy's to say.

    >>> from homeostat.testing.toy import toy_system
    >>> need = needed_span(toy_system(), "payments")
    >>> need.span // 3_600_000_000, need.why
    (25, "count_1d of view 'cards', with the lateness,")
    """
    declared = system.source(source)
    found = Need(declared.lateness_us, "the lateness")
    for view in system.views:
        for spec in view.features() if view.source.name == source else ():
            if spec.window is None:
                return Need(None, f"{spec.name} of view {view.name!r}")
            span = spec.reach + declared.lateness_us
            if found.span is None or span > found.span:
                found = Need(span, f"{spec.name} of view {view.name!r}, with the lateness,")
    for model in system.models:
        label = model.label
        if source in (label.predicts.name, label.outcome.name):
            span = label.delay_us + declared.lateness_us
            if found.span is None or span > found.span:
                found = Need(span, f"label {label.name!r}, with the lateness,")
    for monitor in system.monitors:
        if isinstance(monitor, Quality) and monitor.model.label.outcome.name == source:
            label = monitor.model.label
            # Asked `delay` before it became final; an own outcome may be known `delay` before that.
            back = label.delay_us * (2 if label.completes_request else 1)
            span = monitor.window_us + back + declared.lateness_us
            if found.span is None or span > found.span:
                why = f"quality of {monitor.model.name!r}, with the label's delay and the lateness,"
                found = Need(span, why)
    return found
