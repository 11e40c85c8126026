"""What a request to a model must bring: what its champion reads.

The champion reads what it was trained with, whatever is declared today; without one, the model of
today says what is needed. Other versions in service are not asked where a request does not bring
what they read: no client need know of a version that answers nobody yet. A field that has a default
in the event may be left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from homeostat.core.errors import HomeostatError
from homeostat.declare.models import Model
from homeostat.declare.system import System, model_inputs

__all__ = [
    "FieldLacking", "Needs", "Unasked", "beyond", "lacking", "needs_of", "needs_of_manifest",
]  # fmt: skip

Needs: TypeAlias = Mapping[str, bool]
"""By field that a request must have, whether it may be null."""


class FieldLacking(HomeostatError):
    """A version was not asked, because the request did not bring a field that it reads."""

    def __init__(self, model: str, role: str, version: int, field: str) -> None:
        super().__init__(
            f"{role} of {model!r} (version {version}): the request does not bring {field!r}; "
            "allowed: a request with every field that the version reads; another one answers in "
            "its place until clients send the field"
        )


Unasked: TypeAlias = list[tuple[str, FieldLacking]]
"""Versions that were not asked for a request, by role, and for want of which field."""


def needs_of(system: System, model: Model) -> Needs:
    """Return the request fields without which a model cannot be asked, in order of the event.

    Those that it and the keys of its views read; not the event id and the clocks, as an answer
    brings an id and the present instant.
    """
    source = model.label.predicts
    read = {need for need in model_inputs(model) if isinstance(need, str)}
    for view in system.views_of(model):
        read.update(view.entity.keys)
    read -= {source.event_id, source.event_time, source.known_time}
    return {field.name: field.nullable for field in source.schema.fields if field.name in read}


def needs_of_manifest(manifest: Mapping[str, Any], model: Model) -> Needs:
    """Return what `needs_of` would for a manifest that cannot be bound to the model of today.

    A field that is gone from the event is left out: no request can have it.
    """
    source, then = model.label.predicts, manifest["label"]["predicts"]["schema"]["fields"]
    read = {name for feature in manifest["features"] for name in _fields_of(feature)}
    for view in manifest["views"]:
        key = view["entity"]["key"]
        read.update([key] if isinstance(key, str) else key)
    read -= {source.event_id, source.event_time, source.known_time}
    return {
        field["name"]: bool(field["nullable"])
        for field in then
        if field["name"] in read and source.schema.has(field["name"])
    }


def _fields_of(feature: Any) -> Iterator[str]:
    """Yield the request fields that a feature of a manifest is made of."""
    if isinstance(feature, str):
        yield feature
    elif feature["type"] == "OnDemand":
        for given in feature["inputs"]:
            yield from _fields_of(given)


def lacking(needs: Needs, request: Mapping[str, Any]) -> str | None:
    """Return the first needed field that a request does not bring, None if it brings all.

    >>> lacking({"amount": True, "card": False}, {"amount": None, "card": None})
    'card'
    """
    for name, nullable in needs.items():
        if name not in request or (request[name] is None and not nullable):
            return name
    return None


def beyond(needs: Needs, required: Needs) -> tuple[str, ...]:
    """Return the fields of `needs` that a request may lack though it brings what is required.

    >>> beyond({"amount": True, "zip": False}, {"amount": False})
    ('zip',)
    """
    return tuple(
        name
        for name, nullable in needs.items()
        if name not in required or (required[name] and not nullable)
    )
