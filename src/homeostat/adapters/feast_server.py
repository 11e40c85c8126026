"""Feast's HTTP feature-server protocol over our live features.

A Feast client whose online store is `type: remote` sends its whole question here. Written after
Feast 0.67 (`feature_server.py`, `infra/online_stores/remote.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

import msgspec

from homeostat.core.clock import OrderedClock, from_micros
from homeostat.core.errors import UnknownName
from homeostat.declare.system import System, model_inputs
from homeostat.declare.views import FeatureRef, FeatureView
from homeostat.features.folded import read_after
from homeostat.features.keys import KeyCodec, KeyInvalid
from homeostat.features.read import ViewReader
from homeostat.serve.http import Mount
from homeostat.serve.wire import Refused, Reply

if TYPE_CHECKING:
    from homeostat.core.store import Reader, Store

__all__ = ["FeastRefused", "FeastServer", "whole_features"]

_WRITES = ("/write-to-online-store", "/materialize", "/materialize-incremental")

_NEVER = "1970-01-01T00:00:00Z"
"""What Feast says of a value that has no instant."""


class _Question(msgspec.Struct):
    """The body of /get-online-features."""

    entities: dict[str, list[Any]]
    features: list[str] = []
    feature_service: str | None = None
    full_feature_names: bool = False
    include_feature_view_version_metadata: bool = False


_decoder = msgspec.json.Decoder(_Question)


class FeastRefused(Refused):
    """A refusal in Feast's shape, which its client raises as the named exception of its own."""

    def __init__(self, message: str, status: int = 422, kind: str = "FeastError") -> None:
        self.kind = kind
        super().__init__(status, "feast", message)

    def reply(self) -> Reply:
        """Return a JSON text that holds the error as JSON: so Feast sends it."""
        error = {"module": "feast.errors", "class": self.kind, "message": str(self)}
        return Reply.of(json.dumps(error), self.status)


def whole_features(view: FeatureView) -> frozenset[str]:
    """Return the features that are whole numbers and never missing: Int64 to Feast."""
    return frozenset(spec.name for spec in view.features() if spec.operation == "count")


@dataclass(frozen=True, slots=True)
class _Asked:
    """One feature of a view: its column, and its name in the answer."""

    view: str
    column: int
    is_whole: bool
    shown: str


class FeastServer:
    """Answers Feast's questions about the views of a system from its online store.

    A feature view has the name of ours and its features as fields; a model's name stands for the
    features of views that it needs, as a feature service.

    Args:
        system: the declarations, applied to the store.
        store: the online store.
        clock: the present.
    """

    def __init__(self, system: System, store: Store, clock: OrderedClock) -> None:
        self._system, self._store, self._clock = system, store, clock
        self._readers = {view.name: ViewReader(view) for view in system.views}
        self._codecs = {view.name: KeyCodec(view) for view in system.views}
        self._places = {
            view.name: {spec.name: place for place, spec in enumerate(view.features())}
            for view in system.views
        }

    def mounts(self) -> tuple[Mount, ...]:
        """Return the paths that a Feast client asks: the question, and every way of writing."""
        writes = [Mount(path, "Refused: events bring features", self.write) for path in _WRITES]
        return (
            Mount("/get-online-features", "Live features, as Feast asks", self.online_features),
            *writes,
        )

    def write(self, body: bytes) -> Reply:
        """Refuse: values come from events only, so that they are the same in training."""
        raise FeastRefused(
            "online store: a write of feature values; allowed: reads; send the events themselves "
            "to /events/{source}.",
            403,
        )

    def online_features(self, body: bytes) -> Reply:
        """Return the features of all entities of a question from one snapshot, in Feast's form."""
        try:
            question = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            raise FeastRefused(
                f"body: {wrong}; allowed: Feast's question, an object with `entities` (lists by "
                "join key) and `features` (texts) or `feature_service` (a text); send that.",
                422 if isinstance(wrong, msgspec.ValidationError) else 400,
            ) from None
        asked = self._asked(question)
        views = {one.view: self._system.view(one.view) for one in asked}
        joined = list(dict.fromkeys(key for view in views.values() for key in view.entity.keys))
        rows = _rows(question, joined)
        with self._store.reader() as reader:
            at = self._clock.after(read_after(reader, {v.source.name for v in views.values()}))
            found = {name: self._read(reader, view, rows, at) for name, view in views.items()}
        instant = from_micros(at).isoformat().replace("+00:00", "Z")
        results = [_vector(rows[key], ["PRESENT"] * len(rows[key]), _NEVER) for key in joined]
        results += [found[one.view].vector(one, instant) for one in asked]
        names = [*joined, *(one.shown for one in asked)]
        metadata: dict[str, Any] = {"feature_names": names}
        if question.include_feature_view_version_metadata:
            metadata["feature_view_metadata"] = [{"name": name} for name in views]
        return Reply.of({"results": results, "metadata": metadata, "status": True})

    def _asked(self, question: _Question) -> list[_Asked]:
        refs = self._refs(question)
        if not refs:
            raise FeastRefused(
                "features: none; allowed: names such as 'view:feature', or a feature_service that "
                "has some; ask for one."
            )
        asked = []
        for ref in refs:
            view, places = self._view(ref.view), self._places[ref.view]
            if ref.feature not in places:
                unknown = UnknownName(
                    "feature", ref.feature, tuple(places), f"features, view {ref.view!r}"
                )
                raise FeastRefused(str(unknown))
            shown = f"{ref.view}__{ref.feature}" if question.full_feature_names else ref.feature
            whole = ref.feature in whole_features(view)
            asked.append(_Asked(ref.view, places[ref.feature], whole, shown))
        names = [one.shown for one in asked]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise FeastRefused(
                f"features: {', '.join(map(repr, twice))} would be answered twice; allowed: "
                "different names; send full_feature_names=true, or leave out the second.",
                kind="FeatureNameCollisionError",
            )
        return asked

    def _refs(self, question: _Question) -> list[FeatureRef]:
        service = question.feature_service
        if service is None:
            return [_ref(text) for text in question.features]
        try:
            model = self._system.model(service)
        except UnknownName:
            known = tuple(model.name for model in self._system.models)
            unknown = UnknownName("model", service, known, "feature_service")
            raise FeastRefused(str(unknown), 404, "FeatureServiceNotFoundException") from None
        return [need for need in model_inputs(model) if isinstance(need, FeatureRef)]

    def _view(self, name: str) -> FeatureView:
        if name not in self._places:
            unknown = UnknownName("feature view", name, tuple(self._places), "features")
            raise FeastRefused(str(unknown), 404, "FeatureViewNotFoundException")
        return self._system.view(name)

    def _read(
        self, reader: Reader, view: FeatureView, rows: dict[str, list[Any]], at: int
    ) -> _Found:
        keys = list(zip(*(rows[key] for key in view.entity.keys), strict=True))
        try:
            values = self._readers[view.name].read(reader, keys, at, None).tolist()
        except KeyInvalid as invalid:
            raise FeastRefused(f"entities, {invalid}.") from None
        codec = self._codecs[view.name]
        known = [
            all(map(isfinite, found)) or _holds(reader, codec.key(key))
            for key, found in zip(keys, values, strict=True)
        ]
        return _Found(values, known)


@dataclass(frozen=True, slots=True)
class _Found:
    """The values of a view, one row per entity, and whether the store knows each entity."""

    values: list[list[float]]
    known: list[bool]

    def vector(self, asked: _Asked, at: str) -> dict[str, Any]:
        """Return a feature's values with their statuses, in the order of the entities."""
        values: list[float | int | None] = []
        statuses = []
        for row, known in zip(self.values, self.known, strict=True):
            value = row[asked.column]
            if isfinite(value):
                values.append(int(value) if asked.is_whole else value)
                statuses.append("PRESENT")
            else:
                values.append(None)
                statuses.append("NULL_VALUE" if known else "NOT_FOUND")
        return _vector(values, statuses, at)


def _vector(values: Sequence[Any], statuses: Sequence[str], at: str) -> dict[str, Any]:
    instants = [_NEVER if status == "NOT_FOUND" else at for status in statuses]
    return {"values": values, "statuses": statuses, "event_timestamps": instants}


def _holds(reader: Reader, key: bytes | None) -> bool:
    return key is not None and reader.get(key) is not None


def _ref(text: str) -> FeatureRef:
    view, _, feature = text.partition(":")
    if not view or not feature:
        raise FeastRefused(f"features: {text!r}; allowed: 'view:feature'; name both.")
    return FeatureRef(view, feature)


def _rows(question: _Question, joined: Sequence[str]) -> dict[str, list[Any]]:
    """Return the columns of the join keys; other entities are left alone, as Feast does."""
    missing = [key for key in joined if key not in question.entities]
    if missing:
        given = ", ".join(question.entities) or "none"
        raise FeastRefused(
            f"entities: {', '.join(map(repr, missing))} missing, found {given}; allowed: a list "
            f"for each of {', '.join(joined)}; send it."
        )
    lengths = {key: len(question.entities[key]) for key in joined}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise FeastRefused(
            f"entities: {told}; allowed: lists of one length; give every entity all its keys."
        )
    return {key: question.entities[key] for key in joined}
