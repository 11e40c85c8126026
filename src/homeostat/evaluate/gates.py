"""Judges a challenger by the declared gates; every answer comes with its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostat.declare.models import METRICS, Gate, Model
from homeostat.evaluate.calibration import ReliabilityBin, reliability
from homeostat.evaluate.metrics import (
    Costs,
    ScoresRefused,
    as_json,
    check_scored,
    evaluate,
    metric,
    slice_rows,
)

__all__ = ["GateResult", "Judgement", "Scored", "judge"]

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """One model's scores of n rows, float64[n], and the threshold it decides by."""

    scores: NDArray[np.float64]
    threshold: float


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate on all rows (`slice` "") or on one slice ("carrier=UA").

    `found` is the challenger's metric, `champion` the champion's on the same rows for a `within`
    gate; None is undefined. A gate that could not be judged is `skipped` and does not block.
    """

    metric: str
    comparison: str
    bound: float
    found: float | None
    champion: float | None
    slice: str
    rows: int
    passed: bool
    skipped: bool
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON types."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the test rows say about a challenger, and whether it may be deployed.

    `metrics` and `by_slice` (field, then value, then metric; "rows" among them) hold NaN where a
    metric is undefined.
    """

    passed: bool
    threshold: float
    rows: int
    metrics: Mapping[str, float]
    by_slice: Mapping[str, Mapping[str, Mapping[str, float]]]
    reliability: tuple[ReliabilityBin, ...]
    gates: tuple[GateResult, ...]

    @property
    def reason(self) -> str:
        """The sentences of the gates that failed, or one that says all held."""
        failed = [gate.sentence for gate in self.gates if not gate.passed]
        judged = sum(not gate.skipped for gate in self.gates)
        skipped = len(self.gates) - judged
        held = f"all {judged} judged gates held" + (f", {skipped} skipped" if skipped else "")
        return "; ".join(failed) or held

    def with_gate(self, result: GateResult) -> Judgement:
        """Return the judgement with one more gate."""
        passed = self.passed and result.passed
        return replace(self, passed=passed, gates=(*self.gates, result))

    def as_json(self) -> dict[str, Any]:
        """Return the judgement as JSON types; undefined metrics are null."""
        return {
            "passed": self.passed,
            "threshold": self.threshold,
            "rows": self.rows,
            "metrics": as_json(self.metrics),
            "by_slice": {
                name: {value: as_json(found) for value, found in values.items()}
                for name, values in self.by_slice.items()
            },
            "reliability": [
                {field.name: getattr(b, field.name) for field in fields(b)}
                for b in self.reliability
            ],
            "gates": [gate.as_json() for gate in self.gates],
        }


def judge(
    model: Model,
    challenger: Scored,
    labels: NDArray[np.bool_],
    slices: Mapping[str, Sequence[object]],
    champion: Scored | None = None,
) -> Judgement:
    """Judge a challenger on the test rows.

    Args:
        model: declares the gates, the costs and the slices.
        challenger: its scores of the n rows, and its threshold chosen on other rows.
        labels: bool[n].
        slices: n values of every request field that a gate or the requirements slice by.
        champion: the present model's scores of the same rows; None before the first one.

    Returns:
        The metrics, and one result per gate and slice. A `within` gate without a champion, and a
        slice that is too small or leaves the metric undefined, are skipped and say so; a metric
        that is undefined over all rows fails its gate.

    Raises:
        ScoresRefused: scores, labels or slices do not have one value per row.
    """
    check_scored(challenger.scores, labels)
    if champion is not None:
        check_scored(champion.scores, labels)
    wanted = dict.fromkeys(
        (*model.requirements.slices, *(s for gate in model.gates for s in gate.slices))
    )
    parts = {name: _parts(name, slices, len(labels)) for name in wanted}
    costs = Costs.of(model.requirements)
    bench = _Bench(challenger, champion, labels, costs)
    results = tuple(result for gate in model.gates for result in _gate(gate, parts, bench))
    return Judgement(
        passed=all(result.passed for result in results),
        threshold=challenger.threshold,
        rows=len(labels),
        metrics=evaluate(challenger.scores, labels, challenger.threshold, costs),
        by_slice={
            name: {value: bench.all_metrics(rows) for value, rows in values.items()}
            for name, values in parts.items()
        },
        reliability=reliability(challenger.scores, labels),
        gates=results,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Bench:
    """Both models on the same rows."""

    challenger: Scored
    champion: Scored | None
    labels: NDArray[np.bool_]
    costs: Costs

    def measure(self, scored: Scored, name: str, rows: Rows) -> float:
        return metric(name, scored.scores[rows], self.labels[rows], scored.threshold, self.costs)

    def all_metrics(self, rows: Rows) -> dict[str, float]:
        scores, threshold = self.challenger.scores[rows], self.challenger.threshold
        found = evaluate(scores, self.labels[rows], threshold, self.costs)
        return {"rows": float(len(rows)), **found}


def _parts(name: str, slices: Mapping[str, Sequence[object]], rows: int) -> dict[str, Rows]:
    if name not in slices or len(slices[name]) != rows:
        found = f"{len(slices[name])} values" if name in slices else "no values"
        raise ScoresRefused(
            f"gates: slice field {name!r} has {found}; allowed: {rows}, one per row; pass the "
            "request field of the test rows."
        )
    groups = slice_rows(slices[name])
    missing = "missing"
    while missing in groups:  # a field whose text is "missing" is not a missing field
        missing = f"({missing})"
    return {missing if value is None else value: rows for value, rows in groups.items()}


def _gate(
    gate: Gate, parts: Mapping[str, Mapping[str, Rows]], bench: _Bench
) -> Iterator[GateResult]:
    if not gate.slices:
        yield _judged(gate, "", np.arange(len(bench.labels)), bench)
    for name in gate.slices:
        for value, rows in parts[name].items():
            yield _judged(gate, f"{name}={value}", rows, bench)


def _judged(gate: Gate, where: str, rows: Rows, bench: _Bench) -> GateResult:
    comparison, bound = next(
        (name.replace("_", " "), value)
        for name in ("at_least", "at_most", "within")
        if (value := getattr(gate, name)) is not None
    )
    found, rival = float("nan"), float("nan")
    too_few = bool(where) and len(rows) < gate.slice_rows
    if not too_few:
        found = bench.measure(bench.challenger, gate.metric, rows)
        if comparison == "within" and bench.champion is not None:
            rival = bench.measure(bench.champion, gate.metric, rows)
    place = f"{gate.metric} on {where or 'all rows'}"
    passed, skipped = True, True
    if too_few:
        said = f"skipped: {len(rows)} rows, fewer than {gate.slice_rows}"
    elif isnan(found):
        passed, skipped = bool(where), bool(where)
        said = f"undefined over {len(rows)} rows, {'skipped' if where else 'failed'}"
    elif comparison == "within" and bench.champion is None:
        said = f"{found:.6g}; skipped: no champion to compare with"
    elif comparison == "within" and isnan(rival):
        said = f"{found:.6g}; skipped: the champion's is undefined over {len(rows)} rows"
    else:
        passed, skipped = _holds(gate, found, rival), False
        against = f" of the champion's {rival:.6g}" if comparison == "within" else ""
        said = (
            f"{found:.6g} over {len(rows)} rows is {'' if passed else 'not '}"
            f"{comparison} {bound:.6g}{against}"
        )
    return GateResult(
        metric=gate.metric,
        comparison=comparison,
        bound=bound,
        found=None if isnan(found) else found,
        champion=None if isnan(rival) else rival,
        slice=where,
        rows=len(rows),
        passed=passed,
        skipped=skipped,
        sentence=f"{place}: {said}",
    )


def _holds(gate: Gate, found: float, rival: float) -> bool:
    if gate.at_least is not None:
        return found >= gate.at_least
    if gate.at_most is not None:
        return found <= gate.at_most
    worse = rival - found if METRICS[gate.metric] else found - rival
    return gate.within is not None and worse <= gate.within
