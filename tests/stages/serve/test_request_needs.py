"""What requests must bring while versions of other declarations serve, and who is asked them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Annotated, Any

import numpy as np
import polars as pl
import pytest

import homeostat as hs
from homeostat.core.clock import ManualClock
from homeostat.core.hashing import plain
from homeostat.declare.system import System
from homeostat.features.assemble import Features
from homeostat.features.manifest import as_manifest, bind
from homeostat.serve.answer import Recent
from homeostat.serve.lookup import Lookup
from homeostat.serve.metrics import Metrics
from homeostat.serve.needs import needs_of_manifest
from homeostat.serve.openapi import describe
from homeostat.serve.ports import Broken
from homeostat.serve.predictor import Predictor
from homeostat.serve.requests import RequestInvalid, RequestReader
from homeostat.serve.routing import Arm, Route
from homeostat.serve.service import LocalService, ServiceParts
from homeostat.testing.drills import KeptLog
from homeostat.testing.memory_store import MemoryStore
from homeostat.testing.payments import NOON

FIELDS: dict[str, Any] = {"a": 1.5, "b": 2, "c": "x", "d": True, "e": 7, "k": "one", "m": "two"}
DEFAULTS: dict[str, Any] = {"e": 7}
WAS = "_was"
"""Ends the former name of a field that was renamed."""
GONE = ("f", "g")
"""Fields that earlier declarations had."""


class Outcome(hs.Event):
    """What became of it."""

    id: str
    k: str
    at: hs.Timestamp
    bad: bool


def drawn(draw: random.Random) -> tuple[System, dict[str, bool]]:
    """Return declarations, and by field that the model reads whether it may be null, as drawn."""
    nullable = {name: name not in "km" and draw.random() < 0.4 for name in FIELDS}
    kinds: dict[str, Any] = {
        n: type(v) | None if nullable[n] else type(v) for n, v in FIELDS.items()
    }
    kinds = dict(sorted(kinds.items(), key=lambda kind: kind[0] == "e"))
    kinds = {
        name: Annotated[kind, hs.Alias(name + WAS)] if draw.random() < 0.4 else kind
        for name, kind in kinds.items()
    }
    body: dict[str, Any] = {
        "__annotations__": {"id": str, **kinds, "at": hs.Timestamp},
        "__module__": __name__,
    }
    body |= DEFAULTS
    event = type("Asked", (hs.Event,), {"__doc__": "Somebody asks.", **body})
    asked = hs.EventSource("asked", event, event_id="id", event_time="at")
    outcomes = hs.EventSource("outcomes", Outcome, event_id="id", event_time="at")
    key = draw.choice("km")
    view = hs.FeatureView(f"by_{key}", hs.Entity(key, key=key), asked, (hs.count().over("1h"),))
    features: list[Any] = draw.sample("abcde", draw.randint(1, 5))
    reads = {name: nullable[name] for name in features}
    if draw.random() < 0.6:
        features += view.all()
        reads[key] = False
    made = hs.OnDemand("twice", ("a",), twice)
    if draw.random() < 0.5:
        features.append(made)
        reads["a"] = nullable["a"]
    label = hs.Label("bad", predicts=asked, outcome=outcomes, join_on="id",
                     value=hs.col("bad") == True, delay="1h", when_absent=False)  # noqa: E712  # fmt: skip
    model = hs.Model(
        "m", features=tuple(features), label=label, split=hs.Split(validation="1d", test="1d"),
        estimator=hs.Estimator("sklearn.linear_model:LogisticRegression", {}),
        requirements=hs.Requirements(false_positive_cost=1, false_negative_cost=5),
    )  # fmt: skip
    deployment = hs.Deployment(
        model=model, rollout=(hs.Shadow("1h"),), degradation=hs.Degradation(score=0.1)
    )
    system = System(
        "s", sources=(asked, outcomes), views=(view,), models=(model,),
        deployments=(deployment,), kept=() if made in features else (made,),
    )  # fmt: skip
    return system, reads


def twice(a: Any) -> Any:
    return a


def takes(reads: dict[str, bool], request: dict[str, Any]) -> bool:
    """Return whether a version can be asked so: the rule, read plainly."""
    for name, nullable in reads.items():
        if name not in request and name not in DEFAULTS:
            return False
        if name in request and request[name] is None and not nullable:
            return False
    return True


@dataclass
class Seeing:
    """Scores of one number; remembers whether it was given a missing value it cannot have."""

    number: float
    names: tuple[str, ...]
    reads: dict[str, bool]
    deprived: int = 0

    def score(self, features: Features) -> Any:
        for column, name in enumerate(self.names):
            if self.reads.get(name, True):
                continue
            if name in features.categories:
                self.deprived += sum(value is None for value in features.categories[name])
            else:
                self.deprived += int(np.isnan(features.matrix[:, column]).sum())
        return np.full(len(features.matrix), self.number)

    def contributions(self, features: Features) -> Any:
        raise AssertionError("no answer asked for reasons")


@dataclass
class Version:
    """A version in service, its score, and what it reads."""

    arm: Arm
    reads: dict[str, bool]
    answers: bool = True


class World:
    """Declarations of today, and versions of others that were trained before."""

    def __init__(self, seed: int) -> None:
        self.draw = draw = random.Random(seed)
        self.system, self.today = drawn(draw)
        self.model = self.system.models[0]
        self.seen: list[Seeing] = []
        self.versions = [self.version(number) for number in range(3)]
        self.broken = self.unreadable(9)
        self.route = Route()
        self.metrics, self.log = Metrics(), KeptLog()
        deployment = self.system.deployments[0]
        self.ids = map(str, count())
        self.parts = ServiceParts(
            system=self.system,
            predictors={"m": Predictor(self.system, deployment, faults=self.metrics.fault)},
            routes=lambda name: self.route, store=MemoryStore(), clock=ManualClock(NOON),
            ids=lambda: next(self.ids), log=self.log, metrics=self.metrics,
            former={"m": GONE},
        )  # fmt: skip
        self.service = LocalService(self.parts)
        self.sent: Counter[str] = Counter()
        self._reads: Any = (None, None)

    @property
    def reader(self) -> RequestReader:
        """What reads requests now."""
        service = self.service
        if service is not self._reads[0]:
            made = RequestReader(
                self.system, self.model, lambda: service.needs("m"), service.former("m")
            )
            self._reads = service, made
        return self._reads[1]  # type: ignore[no-any-return]

    def version(self, number: int) -> Version:
        """Return a version of declarations of its own; the last ones may be those of today."""
        if self.draw.random() < 0.15:
            lookup, reads, names = None, self.today, self.model.feature_names()
        else:
            then, reads = drawn(self.draw)
            bound = bind(plain(as_manifest(then, then.models[0])), self.system, self.model)
            lookup = Lookup(bound.system, bound.model, None, lambda part, error: None)
            names = lookup.names
        self.seen.append(Seeing((number + 1) / 8, names, reads))
        return Version(Arm(number, self.seen[-1], 0.5, lookup), reads)

    def unreadable(self, number: int) -> Version:
        """Return a version that cannot be loaded, but whose package says what it reads."""
        then, reads = drawn(self.draw)
        manifest = plain(as_manifest(then, then.models[0]))
        needs = needs_of_manifest(manifest, self.model)
        return Version(Arm(number, Broken("none"), 0.5, needs=needs), reads, answers=False)

    def request(self) -> dict[str, Any]:
        found = {n: v for n, v in FIELDS.items() if self.draw.random() < 0.85}
        return found | {n: None for n in found if self.draw.random() < 0.1}

    def spelled(self, request: dict[str, Any], is_counted: bool = True) -> dict[str, Any]:
        """Return a request as clients of earlier declarations send it: the same content."""
        schema = self.model.label.predicts.schema
        said: dict[str, Any] = {}
        for name, value in request.items():
            aliases = schema.field(name, "event").aliases
            says_nothing = value is None or value == DEFAULTS.get(name)
            match self.draw.randrange(3 if aliases else 1):
                case 1:
                    said[aliases[0]] = value
                case 2:  # both: the name counts, unless it says nothing
                    said[name] = value
                    said[aliases[0]] = value if says_nothing else FIELDS[name]
                case _:
                    said[name] = value
        said |= {
            n: self.draw.choice([None, 1, {"x": []}]) for n in GONE if self.draw.random() < 0.3
        }
        if is_counted:
            self.sent.update(name for name in said if name not in FIELDS and name != "id")
        return dict(self.draw.sample(sorted(said.items(), key=repr), len(said)))

    def as_event(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a request with the defaults of what its event does not say."""
        fields = {f.name: f for f in self.model.label.predicts.schema.fields}
        return request | {
            name: default
            for name, default in DEFAULTS.items()
            if request.get(name) is None and not (name in request and fields[name].nullable)
        }

    def routes(self) -> Iterator[tuple[Route, dict[str, Version]]]:
        """Yield routes, each with its versions by role."""
        one, two, three = self.versions
        for roles in (
            {},
            {"champion": one},
            {"champion": one, "challenger": two, "previous": three},
            {"champion": self.broken, "previous": one},
            {"challenger": two},
            {"previous": three},
        ):
            arms: dict[str, Any] = {role: version.arm for role, version in roles.items()}
            yield Route(**arms), roles
            if "challenger" in roles:
                yield Route(**arms, share=0.5, salt="s"), roles
                yield Route(**arms, shadow=True), roles


def expected(
    roles: dict[str, Version], request: dict[str, Any], is_drawn: bool
) -> tuple[str, list[str]]:
    """Return who answers a request that was taken, and with which marks."""
    marks: list[str] = []
    if is_drawn:
        if takes(roles["challenger"].reads, request):
            return "challenger", marks
        marks.append("challenger_unasked")
    champion = roles.get("champion")
    if champion is not None and champion.answers:
        return "champion", marks
    marks.append("no_model" if champion is None else "model_broken")
    if "previous" in roles:
        if takes(roles["previous"].reads, request):
            return "previous", marks
        marks.append("previous_unasked")
    return "score", marks


@pytest.mark.parametrize("seed", range(40))
def test_a_request_brings_what_the_champion_reads_and_no_other_is_asked_without_its_fields(
    seed: int,
) -> None:
    world = World(seed)
    counted: Counter[str] = Counter()
    for route, roles in world.routes():
        world.route = route
        world.service = LocalService(replace(world.parts, recent=Recent()))
        champion = roles.get("champion")
        required = world.today if champion is None else champion.reads
        page = describe(world.system, world.service.needs, world.service.former)
        said = page["components"]["schemas"]["m_request"]
        either = [one["anyOf"] for one in said.get("allOf", ())]
        assert {*said["required"], *(names[0]["required"][0] for names in either)} == {
            name for name in required if name not in DEFAULTS
        }
        for name, *former in either:
            assert former == [{"required": [name["required"][0] + WAS]}]
        assert all(said["properties"][name] == {"deprecated": True} for name in GONE)
        taken = []
        for _ in range(12):
            request = world.request()
            sent = world.spelled(request, is_counted=False)
            one, many = json.dumps(sent).encode(), json.dumps({"requests": [sent]}).encode()
            ways: tuple[Callable[[], list[dict[str, Any]]], ...] = (
                lambda said=sent: world.reader.rows([said]),  # type: ignore[misc]
                lambda body=one: world.reader.read(body)[0],  # type: ignore[misc]
                lambda body=many: world.reader.read(body)[0],  # type: ignore[misc]
            )
            if takes(required, request):
                taken.append(request)
                for way in ways:
                    assert way() == [request]
                    world.sent.update(n for n in sent if n not in FIELDS)
                continue
            for way in ways:
                with pytest.raises(RequestInvalid) as refused:
                    way()
                named = {
                    problem.field.removeprefix("requests[0].").removesuffix(WAS)
                    for problem in refused.value.problems
                }
                assert named == {
                    name for name in required if not takes({name: required[name]}, request)
                }
        if not taken:
            continue
        asked = [{**one, "id": f"q{n}"} for n, one in enumerate(taken)]
        world.log.batches.clear()
        spelled = [world.spelled(one) for one in asked]
        answers = world.service.predict("m", world.reader.rows(spelled))
        again = [world.spelled(one) for one in asked]
        assert world.service.predict("m", world.reader.rows(again)) == answers
        world.service.close()  # the shadow has scored
        logged = pl.concat([kept.frame() for kept in world.log.batches], how="diagonal_relaxed")
        for request, answer, row in zip(
            map(world.as_event, asked), answers, logged.iter_rows(named=True), strict=True
        ):
            is_drawn = world.route.takes_challenger("m", request["id"])
            arm, marks = expected(roles, request, is_drawn)
            assert (answer.arm, answer.degraded) == (arm, marks)
            unasked = "challenger" in roles and not takes(roles["challenger"].reads, request)
            mark = "challenger_unasked" if is_drawn else "shadow_unasked"
            assert (mark in row["degraded"].split(",")) == unasked
            counted["challenger"] += is_drawn and unasked
            counted["previous"] += "previous_unasked" in marks
            if world.route.shadow:
                assert (row["shadow_score"] is None) == unasked
                counted["shadow"] += unasked
    assert not any(seen.deprived for seen in world.seen)
    text = world.metrics.text({})
    for name, number in world.sent.items():
        assert f'homeostat_former_fields_total{{model="m",field="{name}"}} {number}\n' in text
    for part, number in counted.items():  # once each, though rows are also asked again alone
        line = f'homeostat_faults_total{{part="{part}",error="FieldLacking"}}'
        assert (f"{line} {number}\n" in text) == bool(number)


@pytest.mark.parametrize("seed", range(12))
def test_ready_says_who_waits_for_which_field_until_clients_send_it(seed: int) -> None:
    world = World(seed)
    for route, roles in world.routes():
        world.route = route
        world.service = LocalService(replace(world.parts, recent=Recent()))
        champion = roles.get("champion")
        readers = {"the model as it is declared": world.today}
        for role, words in (("challenger", "the challenger"), ("previous", "the way back")):
            if role in roles:
                readers[words] = roles[role].reads
        for brought in (False, True):
            notes = "; ".join(note for note in world.service.ready().notes if "waits for" in note)
            for words, reads in readers.items():
                awaited = {n for n in reads if champion is not None and n not in DEFAULTS and (
                    n not in champion.reads or (champion.reads[n] and not reads[n]))}  # fmt: skip
                told = [one for one in notes.split("; ") if one.startswith(f"m: {words}")]
                for name in FIELDS:
                    expected = name in awaited and not brought
                    assert (
                        any(repr(name) in one.partition(" in req")[0] for one in told) == expected
                    )
            if not brought:
                world.service.predict("m", world.reader.rows([dict(FIELDS) for _ in range(50)]))
        world.service.close()
        if champion is not None and "challenger" in roles and champion.answers:
            lacks = {n: v for n, v in FIELDS.items() if n in champion.reads}
            world.service.predict("m", world.reader.rows([lacks]))
            notes = " ".join(world.service.ready().notes)
            waits = not takes(roles["challenger"].reads, lacks)
            assert ("the challenger (version 1) waits for" in notes) == waits
