"""The one path from requests to predictions, for the replay and for live serving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from homeostat.core.durations import Micros
from homeostat.declare.deployments import Deployment
from homeostat.declare.system import System
from homeostat.features.assemble import Features
from homeostat.serve.awaited import Awaited
from homeostat.serve.draft import Draft
from homeostat.serve.lookup import FeatureParts, Lookup, Offsets, Read
from homeostat.serve.needs import FieldLacking, Needs, Unasked
from homeostat.serve.ports import UNASKED, Broken, Faults, Stopwatch
from homeostat.serve.predictions import Given, Latency, Predictions
from homeostat.serve.routing import ROLES, Arm, Route

if TYPE_CHECKING:
    from homeostat.core.store import Reader, Snapshot

__all__ = ["Batch", "Predictor", "Reads", "Shed"]

_UNASKED = {"champion": "model_unasked", "challenger": UNASKED[0], "previous": "previous_unasked"}

Request = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests of one model asked together.

    `began` is the stopwatch when they were received; with `timed` false no deadline holds them.
    """

    requests: Sequence[Request]
    at: Micros
    ids: Sequence[str]
    began: int | None = None
    timed: bool = True


@dataclass(frozen=True, slots=True)
class Shed:
    """Answer from this chain of fallbacks, without trying the model, because of `causes`.

    `late` says that the model was tried and did not answer in time: where the challenger was to
    answer, it is to blame.
    """

    causes: tuple[str, ...]
    chain: tuple[str, ...]
    late: bool = False


@dataclass(frozen=True, slots=True)
class Reads:
    """What one snapshot holds for the requests of a batch, by the look-up of each arm.

    `took_ns` is how long reading took; `alone` what the snapshot holds for each request by itself,
    where they could not be read together.
    """

    together: Mapping[Lookup, Read]
    took_ns: int
    alone: Sequence[Mapping[Lookup, Read]] = ()

    def row(self, row: int) -> Reads:
        """Return what it holds for one of the requests."""
        if self.alone:
            return Reads(self.alone[row], self.took_ns)
        return Reads({by: read.row(row) for by, read in self.together.items()}, self.took_ns)


class _Found:
    """The features of one batch, put together once for all arms that have the same ones.

    The first ones, those of the arm who is to answer, mark what failed in the draft.
    """

    def __init__(self, reads: Reads, rows: Sequence[Request], draft: Draft) -> None:
        self._reads, self._rows = reads.together, rows
        self._draft: Draft | None = draft
        self._known: dict[Lookup, Features | None] = {}
        self.offsets: Offsets = {}

    def of(self, lookup: Lookup) -> Features | None:
        """Return the features by one look-up, None where they cannot be put together."""
        if lookup not in self._known:
            draft, self._draft = self._draft, None
            marked = Draft(len(self._rows), 0.0) if draft is None else draft
            read = self._reads[lookup]
            features = lookup.features(read, self._rows, marked)
            if draft is None and any(marked.degraded):
                features = None  # another arm's, which could not be read
            self._known[lookup] = features
            self.offsets = {**read.offsets, **self.offsets}
        return self._known[lookup]

    def __len__(self) -> int:
        return len(self._rows)

    def lacking(self, lookup: Lookup) -> Mapping[int, str]:
        """Return the rows that do not bring what a look-up needs, each with a field it lacks."""
        read = self._reads.get(lookup)
        return lookup.lacking(self._rows) if read is None else read.lacking


class Predictor:
    """Looks up features, routes, scores and degrades for one deployed model.

    Every arm is given the features of its own package; arms with the same ones share a look-up.

    It holds nothing that changes, so threads may share it. Whatever fails, every request gets the
    answer that the deployment declares, marked with the cause in `degraded`: store_down,
    features_broken, model_broken, challenger_broken, no_model, and overloaded, with calls_held
    beside it where too many calls hang. A shadowed challenger that fails leaves shadow_broken in
    the log and touches no answer.

    A version is asked for no row that lacks a field which it reads: it would score a missing value
    that was never missing when it was trained. Where it was to answer, that is marked, too:
    challenger_unasked, previous_unasked, model_unasked. Where the challenger was not to answer, the
    log has shadow_unasked: so both are judged on requests that both could answer.

    Args:
        system: the declarations.
        deployment: of the model to serve.
        stopwatch: monotonic nanoseconds; a constant makes a replay repeatable.
        faults: told of every failure that a fallback covers.
        parts: the feature plan and readers; by default those of the system.
    """

    def __init__(
        self,
        system: System,
        deployment: Deployment,
        *,
        stopwatch: Stopwatch = perf_counter_ns,
        faults: Faults = lambda part, error: None,
        parts: FeatureParts | None = None,
    ) -> None:
        model = deployment.model
        self.model, self.deployment = model, deployment
        self._lookup = Lookup(system, model, parts, faults)
        self.sources = self._lookup.sources
        self._stopwatch, self._faults = stopwatch, faults
        request = model.label.predicts
        self._id_field, self._fields = request.event_id, request.schema.names()
        needs = model.requirements
        self._threshold = needs.false_positive_cost / (
            needs.false_positive_cost + needs.false_negative_cost
        )
        self._deadline_ns = deployment.deadline_us * 1000

    def predict(
        self,
        reader: Reader | None,
        requests: Sequence[Request],
        at: Micros,
        route: Route,
        ids: Sequence[str],
    ) -> Predictions:
        """Answer requests, and let a shadowed challenger score them too.

        Args:
            reader: one snapshot of the online store; None if there is none.
            requests: one mapping per request, fields of the label's request event.
            at: the instant of all of them, microseconds since 1970.
            route: which versions answer.
            ids: one prediction id per request.

        Returns:
            One prediction per request, in their order.
        """
        return self.shadow(self.answer(reader, Batch(requests, at, ids), route), route)

    def read(
        self, reader: Reader | None, batch: Batch, route: Route, shed: Shed | None = None
    ) -> Reads:
        """Read what the arms who may answer need, so that the snapshot can be let go.

        Requests that cannot be read together are read one by one. Nothing of the user's runs here.
        """
        began, rows = self._stopwatch(), batch.requests
        lookups = self._asked(route, shed)
        together = {lookup: lookup.read(reader, rows, batch.at) for lookup in lookups}
        failed = reader is not None and any(read.views is None for read in together.values())
        alone: list[dict[Lookup, Read]] = []
        if failed and len(rows) > 1:
            alone = [{one: one.read(reader, [row], batch.at) for one in lookups} for row in rows]
        return Reads(together, self._stopwatch() - began, alone)

    def answers(
        self, reads: Reads, batch: Batch, route: Route, shed: Shed | None = None
    ) -> list[Predictions]:
        """Answer requests so that none harms another: each as it would be answered alone.

        They are answered together; where features of them cannot be read or put together, one by
        one.
        """
        if not reads.alone:
            unasked: Unasked = []
            whole = self._answer(reads, batch, route, shed, unasked)
            harmed = {"features_broken"}
            if any(arm is not None and arm.lookup is not None for arm in route.arms):
                harmed |= {"model_broken", "challenger_broken"}  # one may lack its features
            if len(whole) < 2 or not any(harmed.intersection(causes) for causes in whole.degraded):
                self._tell(unasked)
                return [whole]
        alone = [
            replace(batch, requests=batch.requests[i : i + 1], ids=batch.ids[i : i + 1])
            for i in range(len(batch.ids))
        ]
        unasked = []
        found = [
            self._answer(reads.row(i), one, route, shed, unasked) for i, one in enumerate(alone)
        ]
        self._tell(unasked)
        return found

    def answer(
        self, reader: Reader | None, batch: Batch, route: Route, shed: Shed | None = None
    ) -> Predictions:
        """Answer requests; `shadow` is left to the caller, who may answer the user before it."""
        unasked: Unasked = []
        found = self._answer(self.read(reader, batch, route, shed), batch, route, shed, unasked)
        self._tell(unasked)
        return found

    def _tell(self, unasked: Unasked) -> None:
        """Count who was not asked, once the answers stand."""
        for role, lacking in unasked:
            self._faults(role, lacking)

    def _row(self, request: Request) -> dict[str, Any]:
        return {name: request.get(name) for name in self._fields}

    def _asked(self, route: Route, shed: Shed | None) -> list[Lookup]:
        """Return the look-ups of the arms who may be asked, the first one's first."""
        asked = [self._first(route)]
        if shed is not None and "previous" not in shed.chain:
            return []
        challenges = route.shadow or (shed is None and route.share > 0)
        for arm, may in ((route.champion, shed is None), (route.challenger, challenges),
                         (route.previous, True)):  # fmt: skip
            if arm is not None and may and self._of(arm) not in asked:
                asked.append(self._of(arm))
        return asked

    def _answer(
        self, reads: Reads, batch: Batch, route: Route, shed: Shed | None, unasked: Unasked
    ) -> Predictions:
        """Answer requests from what was read; add to `unasked` who could not be asked for one."""
        began = self._stopwatch() - reads.took_ns
        first = began if batch.began is None else batch.began
        rows = [self._row(request) for request in batch.requests]
        given = [row[self._id_field] for row in rows]
        names = [batch.ids[i] if name is None else str(name) for i, name in enumerate(given)]
        draft = Draft(len(rows), self._default_threshold(route), unasked)
        chain: tuple[str, ...] = ("score",) if shed is None else shed.chain
        found, lookup = _Found(reads, batch.requests, draft), self._first(route)
        features = found.of(lookup) if "previous" in chain or shed is None else None
        looked_up = self._stopwatch()
        if shed is not None:
            for cause in shed.causes:
                draft.mark(range(len(rows)), cause)
            drawn = self._drawn(route, names) if shed.late else []
            draft.mark(self._askable(draft, found, route, "challenger", drawn), "challenger_broken")
        elif features is not None and not self._stops_at_store(found.offsets):
            chain = self._route(draft, found, route, names, first if batch.timed else None)
        self._fall_back(draft, found if features is not None else None, route, chain)
        done = self._stopwatch()
        apart = self._apart(draft, found, route, lookup)
        shadowed = None if features is None else self._shadowed(found, route, lookup)
        return Predictions(
            model=self.model.name,
            at=batch.at,
            ids=batch.ids,
            request_ids=names,
            requests=rows,
            offsets={**dict.fromkeys(self.sources), **found.offsets},
            features=_nothing(len(rows)) if features is None else features,
            definitions=lookup.definitions,
            names=lookup.names,
            apart=apart,
            shadowed=shadowed,
            unasked=self._unasked(found, route),
            arms=draft.arms,
            versions=draft.versions,
            scores=draft.scores,
            thresholds=draft.thresholds,
            degraded=draft.degraded,
            latency=Latency(
                (looked_up - began) / 1000, (done - looked_up) / 1000, (done - first) / 1000
            ),
        )

    def shadow(self, predictions: Predictions, route: Route) -> Predictions:
        """Return the predictions with the shadowed challenger's scores, if there is one.

        Rows that the challenger could not be asked for are marked, shadowed or not.
        """
        arm = route.challenger
        unasked = predictions.unasked or [None] * len(predictions)
        if any(unasked):
            marked = [
                [*causes, UNASKED[1]] if left and UNASKED[0] not in causes else causes
                for causes, left in zip(predictions.degraded, unasked, strict=True)
            ]
            predictions = replace(predictions, degraded=marked)
        if not route.shadow or arm is None or not predictions.features.matrix.shape[1]:
            return predictions
        features: Features | None = predictions.features
        if self._of(arm) is not self._first(route):
            own = predictions.shadowed
            features = None if own is None else own.features
        scores: list[float | None] = [None] * len(predictions)
        trial = Draft(len(predictions), arm.threshold)
        for name in filter(None, unasked):
            self._faults("shadow", FieldLacking(self.model.name, "shadow", arm.version, name))
        asked = [row for row in trial.open() if unasked[row] is None]
        failed = set(self._attempt(trial, "shadow", arm, asked, features))
        for row in asked:
            scores[row] = None if row in failed else trial.scores[row]
        degraded = [
            [*causes, "shadow_broken"] if row in failed else causes
            for row, causes in enumerate(predictions.degraded)
        ]
        return replace(
            predictions, degraded=degraded, shadow_version=arm.version, shadow_scores=scores
        )

    def warm(self, route: Route, reader: Snapshot | None = None, at: Micros = 0) -> dict[str, bool]:
        """Read and score once by every arm, so that the first request finds all loaded.

        Views are read from the store by the look-up of each arm; what is scored is a row of missing
        values.

        Returns:
            By role, whether the arm gave a score.
        """
        if reader is not None:
            for lookup in {self._lookup, *(self._of(arm) for arm in route.arms if arm is not None)}:
                try:
                    lookup.warm(reader, at)
                except Exception as broken:  # noqa: BLE001 - requests are answered all the same
                    self._faults("store", broken)
        return {
            role: not self._attempt(
                Draft(1, arm.threshold), role, arm, [0], self._of(arm).absent(self._fields)
            )
            for role, arm in zip(ROLES, route.arms, strict=True)
            if arm is not None
        }

    def reads(self, route: Route) -> tuple[str, ...]:
        """Return the sources whose events the arms of a route are given."""
        own = [arm.lookup.sources for arm in route.arms if arm is not None and arm.lookup]
        return (*self.sources, *(source for sources in own for source in sources))

    def needs(self, route: Route) -> Needs:
        """Return what a request must bring, so that every arm of a route can answer it."""
        return route.needs(self._lookup.needs)

    def awaited(self) -> Awaited:
        """Return what watches the fields that requests to the model need not bring."""
        return Awaited(self.model, self._lookup.needs)

    def names_of(self, arm: Arm) -> tuple[str, ...]:
        """Return the names of an arm's features, in the order of its model."""
        return self._of(arm).names

    def _of(self, arm: Arm) -> Lookup:
        """Return what finds the features of an arm."""
        return self._lookup if arm.lookup is None else arm.lookup

    def _first(self, route: Route) -> Lookup:
        """Return what finds the features of the arm that answers unless something fails."""
        for arm in (route.champion, route.previous):
            if arm is not None and not isinstance(arm.servable, Broken):
                return self._of(arm)
        return self._lookup

    def _apart(self, draft: Draft, found: _Found, route: Route, first: Lookup) -> dict[int, Given]:
        """Return the features of the rows that an arm answered from its own, or nobody could."""
        nothing = Given((), first.definitions, _nothing(len(draft.arms)))
        apart = dict.fromkeys(found.lacking(first), nothing)
        for role, arm in zip(ROLES, route.arms, strict=True):
            if arm is None or self._of(arm) is first or role not in draft.arms:
                continue
            lookup = self._of(arm)
            features = found.of(lookup)
            if features is not None:
                given = Given(lookup.names, lookup.definitions, features)
                apart |= {row: given for row, by in enumerate(draft.arms) if by == role}
        return apart

    def _shadowed(self, found: _Found, route: Route, first: Lookup) -> Given | None:
        """Return the features that a shadowed challenger has of its own, from the same snapshot."""
        arm = route.challenger
        if not route.shadow or arm is None or self._of(arm) is first:
            return None
        lookup = self._of(arm)
        features = found.of(lookup)
        return None if features is None else Given(lookup.names, lookup.definitions, features)

    def _default_threshold(self, route: Route) -> float:
        """Return the threshold for the default score: the model's, or the one the costs choose."""
        for arm in (route.champion, route.previous):
            if arm is not None and not isinstance(arm.servable, Broken):
                return arm.threshold
        return self._threshold

    def _stops_at_store(self, offsets: Offsets) -> bool:
        return self.deployment.degradation.store_down == "score" and None in offsets.values()

    def _route(
        self, draft: Draft, found: _Found, route: Route, names: list[str], first: int | None
    ) -> tuple[str, ...]:
        """Try the challenger and the champion; return the fallbacks for the rows still open."""
        declared = self.deployment.degradation
        drawn = self._drawn(route, names)
        if self._is_late(first):
            draft.reopen("overloaded")
            return declared.overloaded
        asked = self._askable(draft, found, route, "challenger", drawn)
        if route.challenger is not None and asked:
            features = found.of(self._of(route.challenger))
            failed = self._attempt(draft, "challenger", route.challenger, asked, features)
            draft.mark(asked if self._is_late(first) else failed, "challenger_broken")
        rows = draft.open()
        if route.champion is None:
            draft.mark(rows, "no_model")
        else:
            rows = self._askable(draft, found, route, "champion", rows)
            features = found.of(self._of(route.champion))
            failed = self._attempt(draft, "champion", route.champion, rows, features)
            draft.mark(failed, "model_broken")
        if self._is_late(first):
            draft.reopen("overloaded")
            return declared.overloaded
        return declared.model_broken

    def _askable(
        self, draft: Draft, found: _Found, route: Route, role: str, rows: list[int]
    ) -> list[int]:
        """Return the rows that bring what an arm reads; the others are marked and counted."""
        arm = getattr(route, role)
        without = {} if arm is None or not rows else self._without(found, arm)
        if not without:
            return rows
        for row in rows:
            if row in without:
                told = FieldLacking(self.model.name, role, arm.version, without[row])
                draft.unasked.append((role, told))
                draft.mark([row], _UNASKED[role])
        return [row for row in rows if row not in without]

    def _without(self, found: _Found, arm: Arm) -> Mapping[int, str]:
        """Return the rows that lack a field which an arm reads; none if it answers nothing."""
        return {} if isinstance(arm.servable, Broken) else found.lacking(self._of(arm))

    def _unasked(self, found: _Found, route: Route) -> list[str | None] | None:
        """Return by row the field for want of which the challenger is not asked, if there is."""
        if route.challenger is None:
            return None
        without = self._without(found, route.challenger)
        return [without.get(row) for row in range(len(found))]

    def _drawn(self, route: Route, names: list[str]) -> list[int]:
        if route.challenger is None or route.share <= 0:
            return []
        model = self.model.name
        return [i for i, name in enumerate(names) if route.takes_challenger(model, name)]

    def _is_late(self, first: int | None) -> bool:
        return first is not None and self._stopwatch() - first > self._deadline_ns

    def _fall_back(
        self, draft: Draft, found: _Found | None, route: Route, chain: tuple[str, ...]
    ) -> None:
        for step in chain:
            rows = draft.open()
            if not rows:
                return
            if step == "score":
                draft.default(rows, self.deployment.degradation.score)
            elif route.previous is not None and found is not None:
                asked = self._askable(draft, found, route, "previous", rows)
                features = found.of(self._of(route.previous)) if asked else None
                self._attempt(draft, "previous", route.previous, asked, features)

    def _attempt(
        self, draft: Draft, role: str, arm: Arm, rows: list[int], features: Features | None
    ) -> list[int]:
        """Let one arm score rows, one by one where it fails together; return those it failed."""
        if not rows:
            return []
        if features is None:
            return rows
        whole = len(rows) == len(features.matrix)
        try:
            scores = arm.servable.score(features if whole else _take(features, rows))
            draft.fill(role, (arm.version, arm.threshold), rows, scores)
        except Exception as broken:  # noqa: BLE001 - a model may fail in any way; one answer
            self._faults(role, broken)
            left = [row for row in rows if draft.arms[row] != role]
            if len(rows) == 1 or len(left) < len(rows) or isinstance(arm.servable, Broken):
                return left
            return [row for row in rows if self._attempt(draft, role, arm, [row], features)]
        return []


def _take(features: Features, rows: list[int]) -> Features:
    picked = {name: [values[i] for i in rows] for name, values in features.categories.items()}
    return Features(features.matrix[rows], picked)


def _nothing(n: int) -> Features:
    return Features(np.empty((n, 0)), {})
